"""What components last said of themselves, until it is written: one insert for all of them, and a moment between two."""

from farcall.api import ComponentStatus
from farcall.storeport import Writer

WRITE_EVERY_S = (
    2.0  # agents say it every 3 s, and a reader takes one for gone only after many times that
)
MAX_STATUSES = 10_000  # a cluster's nodes, twice


class StatusBook:
    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._unwritten: dict[tuple[str, str], ComponentStatus] = {}
        self._write_at = 0.0

    def add(self, status: ComponentStatus) -> bool:
        """Replaces what the same component said before. False when there is no room for one more."""
        key = status.kind, status.name
        has_room = key in self._unwritten or len(self._unwritten) < MAX_STATUSES
        if has_room:
            self._unwritten[key] = status
        return has_room

    def is_due(self, now: float) -> bool:
        return bool(self._unwritten) and now >= self._write_at

    def write(self, now: float) -> None:
        """Raises StoreError; then it is due again a moment later."""
        self._write_at = now + WRITE_EVERY_S
        self._writer.write_statuses(list(self._unwritten.values()))
        self._unwritten = {}
