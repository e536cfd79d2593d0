"""Server's sights of an exporter that is gone: one of those that live keeps them.

Sights wait in the store too (decision 003). Alone, an exporter reads them back when it starts. Where there are several, those
of the living are theirs; of the gone, the living exporter whose name comes first takes care. Who lives is read from the
statuses that each writes: silent for a while, and replaced under the same name, both mean gone.
"""

import time
from collections.abc import Callable

from farcall.api import ComponentStatus
from farcall.journal import get_log
from farcall.storeport import StoreError, Writer
from farcall_exporter.counters import Counters
from farcall_exporter.sights import Sight, SightError, parse_sight
from farcall_exporter.waiting import MAX_HOLD_S

NS = 10**9
LOOK_EVERY_S = 10.0
ALIVE_S = 20.0  # statuses come every 5 s
# Nobody who lives lets a sight wait for longer; twice that, so that one who stalls is not overtaken.
WAITED_NS = int(2 * MAX_HOLD_S * NS)
WITHIN_NS = 600 * NS
MAX_EXPORTERS = 1_000
log = get_log("exporter")


def render_run(name: str, started_ns: int | str) -> str:
    """One process of all the exporters that were and will be."""
    return f"{name}/{started_ns}"


class Orphans:
    def __init__(
        self, run: str, counters: Counters, *, wall_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._run = run
        self._counters = counters
        self._wall_ns = wall_ns
        self._look_at = 0.0
        self._failed_at_ns = 0
        self._search_until_ns = wall_ns() + WITHIN_NS  # those from before us
        self._lived: set[str] = set()

    def take(self, writer: Writer, now: float) -> list[Sight]:
        """Those that are to be kept or joined by us, at once."""
        if now < self._look_at:
            return []
        self._look_at = now + LOOK_EVERY_S
        wall_ns = self._wall_ns()
        try:
            alive = _list_alive(writer, wall_ns)
            if self._lived - alive:
                self._search_until_ns = wall_ns + WITHIN_NS
            self._lived = alive
            is_first = min(alive, default="") == self._run
            # What a store that was away had not taken yet may still be settled by its exporter.
            is_settled = wall_ns - self._failed_at_ns > WAITED_NS
            if wall_ns > self._search_until_ns or not is_first or not is_settled:
                return []
            rows = writer.read_waiting_sights(since_ns=wall_ns - WITHIN_NS)
        except StoreError as e:
            self._failed_at_ns = wall_ns
            log.warning("sights of other exporters are not known", error=str(e))
            return []
        return self._parse(rows, alive, wall_ns - WAITED_NS)

    def _parse(self, rows: list[tuple[str, str]], alive: set[str], before_ns: int) -> list[Sight]:
        found = []
        for key, text in rows:
            try:
                sight = parse_sight(key, text)
            except SightError as e:
                self._counters.add("sights_unreadable_lost", 1)
                log.warning("a waiting sight cannot be read", error=str(e))
                continue
            if sight.run not in alive and sight.came_ns < before_ns:
                found.append(sight)
        self._counters.add("sights_adopted", len(found))
        return found


def _list_alive(writer: Writer, wall_ns: int) -> set[str]:
    since_ns = wall_ns - int(ALIVE_S * NS)
    said: list[ComponentStatus] = writer.read_statuses(
        kind="exporter", since_ns=since_ns, limit=MAX_EXPORTERS
    )
    return {render_run(status.name, status.started_ns) for status in said}
