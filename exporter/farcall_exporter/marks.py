"""Which batches of an agent's boot are committed: what makes retries harmless.

Agents number their batches and send them in order, with gaps where they dropped some. The store keeps the highest
number; within one run of the exporter every number is remembered, so that even two requests that overtake each other
lose nothing.
"""

from collections import OrderedDict

from farcall.storeport import Writer

MAX_BOOTS = 4_096
MAX_NUMBERS = 4_096  # of one boot; below the oldest of them everything counts as known


class Marks:
    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._floors: OrderedDict[str, int] = OrderedDict()
        self._done: dict[str, set[int]] = {}

    def is_known(self, boot_id: str, number: int) -> bool:
        """Raises StoreError when the store must be asked and cannot be."""
        if boot_id not in self._floors:
            self._floors[boot_id] = self._writer.read_high_water(boot_id)
            self._done[boot_id] = set()
            while len(self._floors) > MAX_BOOTS:
                oldest, _ = self._floors.popitem(last=False)
                del self._done[oldest]
        self._floors.move_to_end(boot_id)
        return number <= self._floors[boot_id] or number in self._done[boot_id]

    def add(self, boot_id: str, number: int) -> int:
        """Remembers that it is committed; the highest number of the boot that is."""
        done = self._done[boot_id]
        done.add(number)
        if len(done) > MAX_NUMBERS:
            lowest = min(done)
            done.remove(lowest)
            self._floors[boot_id] = max(self._floors[boot_id], lowest)
        return max(self._floors[boot_id], max(done))
