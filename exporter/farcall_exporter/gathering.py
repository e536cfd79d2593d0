"""When batches that came in are written: at once while one agent is all there is, together once several send.

Nothing here asks the store or waits. The worker asks whether it is time, and for how long it may wait for more.
"""

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from farcall.exchange import BatchHeader
from farcall_exporter.asgi import Answer
from farcall_exporter.groups import Member

# Between the beginnings of two commits. An agent sends its three kinds one after the other, each once a second, and waits for
# every answer: three waits must be less than that second, or it falls behind.
EVERY_S = 0.25
ENOUGH_ROWS = 2_000  # such an insert costs more for its rows than for itself: it waits for nobody
MAX_ROWS = 20_000  # of one commit, beyond the batch that passes it
COMPANY_S = 2.0  # an agent that has sent within this is expected to send again


@dataclass(slots=True, eq=False)
class Pending:
    """A batch whose rows are built, and who waits for its answer."""

    header: BatchHeader
    member: Member
    answer: "Future[Answer] | None" = None  # None: nobody does
    failures: int = 0  # of earlier tries
    is_built: bool = False
    is_new: bool = True  # not yet compared with what is stored


class Gathering:
    def __init__(self, *, is_alone: bool, clock: Callable[[], float]) -> None:
        """`is_alone`: each batch is written for itself, whatever comes. `clock`: monotonic seconds."""
        self._is_alone = is_alone
        self._clock = clock
        self._pending: list[Pending] = []
        self._rows = 0
        self._next_at = 0.0
        self._heard: OrderedDict[str, float] = OrderedDict()

    def add(self, pending: Pending) -> None:
        self._pending.append(pending)
        self._rows += pending.member.rows
        now = self._clock()
        self._heard[pending.header.sender] = now
        self._heard.move_to_end(pending.header.sender)
        while now - next(iter(self._heard.values())) > COMPANY_S:
            self._heard.popitem(last=False)

    def holds(self, token: str) -> bool:
        return any(pending.member.token == token for pending in self._pending)

    @property
    def is_full(self) -> bool:
        """No more may be added before it is taken."""
        return bool(self._pending) and (self._is_alone or self._rows >= MAX_ROWS)

    def wait_s(self) -> float | None:
        """For how long more may come; 0 when it is time, None when there is nothing to write."""
        if not self._pending:
            return None
        if self._is_alone or len(self._heard) == 1 or self._rows >= ENOUGH_ROWS:
            return 0.0
        return max(0.0, self._next_at - self._clock())

    def take(self) -> list[Pending]:
        taken, self._pending, self._rows = self._pending, [], 0
        self._next_at = self._clock() + EVERY_S
        return taken
