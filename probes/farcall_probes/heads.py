"""Request heads that were too long for their exchange's record: kept until that record comes, then handed over once.

The kernel ships such a head at request time, in one part per call, and the exchange at response time, so a head may wait for
as long as the server thinks. Bounded by bytes; what is given up is counted, and its exchange is flagged as cut.
"""

from collections import OrderedDict

from farcall_probes.capture import Records

MAX_BYTES = 4 * 1024 * 1024  # 500 whole heads of 8 KiB in flight
MAX_PARTS = 16
Key = tuple[int, int, int]  # conn_id, seq, role


class Heads:
    def __init__(self, *, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._parts: OrderedDict[Key, list[tuple[int, bytes]]] = OrderedDict()
        self._bytes = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._parts)

    def add(self, records: Records) -> None:
        names = ["conn_id", "seq", "role", "part", "cap", "data"]
        for conn_id, seq, role, part, cap, data in records[names].tolist():
            self._add((conn_id, seq, role), part, data[:cap])
        while self._bytes > self._max_bytes:
            _, parts = self._parts.popitem(last=False)
            self._bytes -= sum(len(d) for _, d in parts)
            self.dropped += 1

    def _add(self, key: Key, part: int, data: bytes) -> None:
        parts = self._parts.setdefault(key, [])
        if len(parts) < MAX_PARTS:
            parts.append((part, data))
            self._bytes += len(data)

    def take(self, conn_id: int, seq: int, role: int) -> bytes | None:
        """The head's bytes as far as its parts follow each other from 0; None when none came."""
        parts = self._parts.pop((conn_id, seq, role), None)
        if parts is None:
            return None
        self._bytes -= sum(len(d) for _, d in parts)
        parts.sort(key=lambda p: p[0])
        whole = [data for expected, (part, data) in enumerate(parts) if part == expected]
        return b"".join(whole) if whole else None
