"""At start: which connections are open already, and what names the DNS cache holds of them. One bounded step a call.

The name of a connection that is older than this agent is in Redis alone, and would be gone for good with a Redis that keeps
nothing on disk. What is read back here the agent holds as it holds what it saw itself, and writes it again when Redis comes
back empty: bindings (bindings.py), and where a connection was too young for one, all that its client was told of its address.
Called by dnswriter's thread between its writes; the loop takes what was found.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from farcall.cacheexpiry import Life, Runner
from farcall.cacherecall import BATCH, Asked, Ends, read_answers, read_bindings
from farcall.dnscache import Answer, Binding
from farcall_probes.cgroups import CgroupTree
from farcall_probes.identity import Identities
from farcall_probes.opensockets import OpenSocket, OpenSockets

MAX_ASKED = 100_000  # connections: 200 round trips
MAX_RECALLED = 32_768  # bindings, as many as the agent holds of its own; 350 bytes each (measured)
MAX_TOLD = 32_768  # names that clients were told; 300 bytes each at most
# Of this thread's processor time, so that a busy machine, where all takes longer, does not need more steps as well. An
# answer waits no longer than one step and its round trip.
STEP_S = 0.02
REST = 0.5  # of a step's, between two; the loop has the same interpreter


class Recall:
    def __init__(
        self,
        sockets: OpenSockets,
        find_client: Callable[[int], str | None],
        *,
        clock: Callable[[], float],
        cpu: Callable[[], float],
        max_asked: int = MAX_ASKED,
        max_recalled: int = MAX_RECALLED,
    ) -> None:
        """`find_client`: the client of a process, None when it is gone. `clock`: monotonic; `cpu`: what this
        thread has used of a processor; both in seconds."""
        self._sockets = sockets
        self._find_client = find_client
        self._clock = clock
        self._cpu = cpu
        self._room = max_recalled
        self._left_to_ask = max_asked
        self._clients: dict[int, str | None] = {}
        # Forked processes share their sockets, and are one client. Hashes: the texts of 100,000 would be 25 MB.
        self._asked: set[int] = set()
        self._open: Iterator[OpenSocket | None] | None = sockets.find()
        self._portion: list[Ends] = []
        self._found: list[Binding] = []
        self._told: dict[Asked, list[Answer]] = {}
        self._room_for_told = MAX_TOLD
        self._again: list[Asked] = []  # to be written
        self._lock = threading.Lock()
        self._due = 0.0
        # All there from the start: another thread copies them.
        self.counters: Counter[str] = Counter(
            cache_bindings_asked=0,
            cache_bindings_recalled=0,
            cache_answers_recalled=0,
            bindings_unrecalled_dropped=0,
        )

    @property
    def is_done(self) -> bool:
        return self._open is None and not self._portion

    def due_in_s(self) -> float | None:
        """When `step` wants to be called; None for never again."""
        return None if self.is_done else max(0.0, self._due - self._clock())

    def take(self) -> list[Binding]:
        """What was found since the last call; for another thread."""
        with self._lock:
            found, self._found = self._found, []
        return found

    def step(self, cache: Runner, life: Life) -> None:
        """Raises CacheUnavailableError; the same connections are asked for again then."""
        if self.is_done or self._clock() < self._due:
            return
        begun = self._cpu()
        self._list_some(begun + STEP_S)
        if len(self._portion) >= BATCH or self._open is None:
            self._ask(cache, life)
        if self.is_done:
            self._forget()
        self._due = self._clock() + REST * (self._cpu() - begun)

    def _list_some(self, until: float) -> None:
        """Until a portion is full, all sockets are listed, or the time is over."""
        while self._open is not None and len(self._portion) < BATCH:
            try:
                found = next(self._open)
            except StopIteration:
                self._open = None
                self.counters["bindings_unrecalled_dropped"] += self._sockets.left_out
                return
            if found is not None:
                self._add(found)
            elif self._cpu() >= until:
                return

    def _add(self, found: OpenSocket) -> None:
        if found.tgid not in self._clients:
            self._clients[found.tgid] = self._find_client(found.tgid)
        client = self._clients[found.tgid]
        if client is None:
            return
        ends = Ends(client_key=client, local=found.local, peer=found.peer)
        number = hash(ends)
        if number in self._asked:
            return
        if not self._left_to_ask or not self._room:
            self.counters["bindings_unrecalled_dropped"] += 1
            return
        self._left_to_ask -= 1
        self._asked.add(number)
        self._portion.append(ends)

    def _ask(self, cache: Runner, life: Life) -> None:
        found = read_bindings(cache, self._portion, life)
        bound = {(b.client_key, b.local, b.peer) for b in found}
        others = [e for e in self._portion if (e.client_key, e.local, e.peer) not in bound]
        asked = list(dict.fromkeys(e.asked for e in others if e.asked not in self._told))
        told = read_answers(cache, asked)
        self._keep_told(dict(zip(asked, told, strict=True)))
        self.counters["cache_bindings_asked"] += len(self._portion)
        self._portion = []
        kept = found[: self._room]
        self._room -= len(kept)
        self.counters["cache_bindings_recalled"] += len(kept)
        self.counters["bindings_unrecalled_dropped"] += len(found) - len(kept)
        with self._lock:
            self._found += kept

    def _keep_told(self, told: dict[Asked, list[Answer]]) -> None:
        for asked, answers in told.items():
            if len(answers) > self._room_for_told:
                self.counters["bindings_unrecalled_dropped"] += 1
            elif answers:
                self._room_for_told -= len(answers)
                self._told[asked] = answers
                self.counters["cache_answers_recalled"] += len(answers)

    # ---- a cache that lost its memory ---------------------------------------------------------------------------

    def write_again(self) -> None:
        """All that clients were told is due."""
        self._again = list(self._told)

    @property
    def is_due_again(self) -> bool:
        return bool(self._again)

    def next_told(self, now: float, ttl_s: int) -> list[Answer]:
        """Those of some clients; `now`: Unix seconds. Where one name is older than the time to live nothing is said: the others
        alone would be more certain than what was known."""
        answers = []
        for asked in self._again[:BATCH]:
            told = self._told[asked]
            if all(now - answer.answered_at < ttl_s for answer in told):
                answers += told
        return answers

    def wrote_told(self) -> None:
        del self._again[:BATCH]

    def _forget(self) -> None:
        self._clients.clear()
        self._asked.clear()


def make_recall(node: str, proc: Path, cgroups: Path) -> Recall:
    """Over this machine. Identities of its own: the loop's are read by the loop's thread alone."""
    identities = Identities(node=node, proc=proc, cgroups=CgroupTree(cgroups))
    return Recall(
        OpenSockets(proc), identities.find_client, clock=time.monotonic, cpu=time.thread_time
    )
