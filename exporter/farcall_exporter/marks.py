"""Which batches of an agent are committed: what makes retries harmless.

Agents number their batches and send them in order, with gaps where they dropped some; to each of several exporters in
numbers of its own (BatchHeader.sender), which go on counting where a batch is handed to another. The store keeps the highest
number; within one run of the exporter every number is remembered, so that even two requests that overtake each other
lose nothing.

The numbers of all agents are written together and at most every 3 s, because an insert costs the store the same for one
number as for a thousand. A batch that is committed and not yet marked when the exporter ends, and comes once more, is
recognised by its rows (pipeline), or by the token of its first time, which the store knows for much longer than that.
"""

from collections import OrderedDict

from farcall.storeport import Writer

MAX_SENDERS = 4_096
WRITE_EVERY_S = 3.0
MAX_NUMBERS = 4_096  # of one sender; below the oldest of them everything counts as known


class Marks:
    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._floors: OrderedDict[str, int] = OrderedDict()
        self._done: dict[str, set[int]] = {}
        self._unwritten: dict[str, int] = {}
        self._write_at = 0.0

    def is_known(self, sender: str, number: int) -> bool:
        """Raises StoreError when the store must be asked and cannot be."""
        if sender not in self._floors:
            self._floors[sender] = self._writer.read_high_water(sender)
            self._done[sender] = set()
            while len(self._floors) > MAX_SENDERS:
                oldest, _ = self._floors.popitem(last=False)
                del self._done[oldest]
        self._floors.move_to_end(sender)
        return number <= self._floors[sender] or number in self._done[sender]

    def has_met(self, sender: str) -> bool:
        """A batch of this sender was committed by this exporter."""
        return bool(self._done.get(sender))

    def add(self, sender: str, number: int) -> None:
        """Remembers that it is committed."""
        done = self._done[sender]
        done.add(number)
        if len(done) > MAX_NUMBERS:
            lowest = min(done)
            done.remove(lowest)
            self._floors[sender] = max(self._floors[sender], lowest)
        self._unwritten[sender] = max(self._floors[sender], max(done))

    def is_due(self, now: float) -> bool:
        return bool(self._unwritten) and now >= self._write_at

    def write(self, now: float) -> None:
        """Raises StoreError; then it is due again a moment later."""
        self._write_at = now + WRITE_EVERY_S
        self._writer.set_high_water(self._unwritten)
        self._unwritten = {}
