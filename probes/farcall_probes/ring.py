"""One BPF ring buffer, read in batches. Its memory is the kernel's: mapped here only while records are copied out of it.

A page of a ring that stays mapped counts in this process' memory, whether anything lies in it or not, and a ring goes through
all of its pages: 12 MB of them would be a fifth of what the agent holds. Mapping what is to be read costs 8 us and 0.3 us a page,
so 0.08 us a large record where a drain finds a thousand (measured). Behind a ring's end the kernel has its data once more, so
that a batch may go on over the end.

With records of one power-of-two stride each lies where arithmetic says. Nobody waits here: the caller has a timer.
"""

import ctypes
import mmap
import os

import numpy as np

from farcall_probes import events
from farcall_probes.capture import Frames, Records
from farcall_probes.events import RING_HEADER
from farcall_probes.giveway import give_way
from farcall_probes.records import begin

_BUSY = np.uint32(1 << 31)  # reserved, not yet submitted
_DISCARDED = np.uint32(1 << 30)
_PAGE = mmap.PAGESIZE
_AT_ONCE = 256  # records that are copied in one piece; some 100 µs
_DATA = 2 * _PAGE  # behind the consumer's page and the producer's
# Not Python's own mmap, which takes a descriptor for each mapping: when those run out, rings must be read all the same.
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_FAILED = ctypes.c_void_p(-1).value


class _Room:
    """Records that were copied, one behind the other."""

    def __init__(self, layout: np.dtype[np.void]) -> None:
        self._layout = layout
        # As opaque bytes: with its fields numpy would copy one field at a time.
        self.opaque = np.dtype((np.void, layout.itemsize))
        self._rows = self._nothing = np.zeros(0, self.opaque)
        self.count = 0

    def add(self, records: Records, most: int) -> None:
        """`most`: so many may come in all."""
        wanted = self.count + len(records)
        if wanted > len(self._rows):
            # Pages that no record is written to are never the process'.
            roomy = np.empty(max(wanted, most, 2 * len(self._rows)), self.opaque)
            roomy[: self.count] = self._rows[: self.count]
            self._rows = roomy
        self._rows[self.count : wanted] = records
        self.count = wanted

    def take(self) -> Records:
        """All; it owns its memory."""
        records, self._rows = self._rows[: self.count], self._nothing
        self.count = 0
        return records.view(self._layout)


class Ring:
    """Single reader of the ring behind `fd`, whose records are all `layout`. The descriptor stays the caller's, and open."""

    def __init__(self, fd: int, size: int, layout: np.dtype[np.void]) -> None:
        self._fd = fd
        self._size = size
        self._stride = RING_HEADER + layout.itemsize
        if size & (size - 1) or self._stride & (self._stride - 1) or size < _PAGE:
            raise ValueError(f"ring of {size} bytes with a stride of {self._stride}")
        self._consumer_map = mmap.mmap(fd, _PAGE, offset=0)
        self._producer_map = mmap.mmap(fd, _PAGE, prot=mmap.PROT_READ, offset=_PAGE)
        # Not as arrays: these are read after each sleep, when no code is in a cache, and numpy's is much.
        self._consumer = memoryview(self._consumer_map).cast("Q")
        self._producer = memoryview(self._producer_map).cast("Q")
        self._room = _Room(layout)
        self._position = self._consumer[0]  # nobody else moves it
        self._window = ctypes.c_ubyte * (size + _PAGE)  # as large as a mapping can be

    def read_end(self) -> int:
        """Position behind the last record reserved so far."""
        return self._producer[0]

    def measure_fill(self) -> float:
        """0..1"""
        return (self.read_end() - self._position) / self._size

    @property
    def gathered(self) -> int:
        """Records that the next `take` gives out."""
        return self._room.count

    def gather(self, end: int, most: int | None = None) -> None:
        """Copies the records up to `end`, or up to the first that is not submitted yet, behind those that were gathered before, no
        more than `most` with those; frees their room."""
        start = self._position
        n = (end - start) // self._stride
        if most is not None:
            n = min(n, most - self.gathered)
        if n <= 0:
            return
        first = start & (self._size - 1)
        before = first % _PAGE
        copied = self._copy(_DATA + first - before, before, n, most or self.gathered + n)
        self._position = start + copied * self._stride
        self._consumer[0] = self._position

    def take(self) -> Records:
        """What was gathered; it owns its memory."""
        return self._room.take()

    def _keep(self, records: Records, most: int) -> None:
        """A few records, as opaque bytes, that still lie in the ring. `most`: so many may be gathered in all."""
        self._room.add(records, most)

    def _copy(self, offset: int, before: int, n: int, most: int) -> int:
        """The records that begin `before` bytes behind this place in the map; how many of them were submitted. Raises OSError."""
        room = before + n * self._stride
        address = _LIBC.mmap(None, room, mmap.PROT_READ, mmap.MAP_SHARED, self._fd, offset)
        if address == _FAILED:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        try:
            give_way()
            return self._copy_from(memoryview(self._window.from_address(address)), before, n, most)
        finally:
            _LIBC.munmap(address, room)

    def _copy_from(self, window: "memoryview[int]", at: int, n: int, most: int) -> int:
        """Headers first: what one says is submitted was written before it said so."""
        stride = (self._stride,)
        header = np.ndarray(n, "<u4", window, at, stride).copy()
        give_way()
        busy = np.flatnonzero(header & _BUSY)
        if len(busy):
            header = header[: busy[0]]
        n = len(header)
        records = np.ndarray(n, self._room.opaque, window, at + RING_HEADER, stride)
        discarded = (header & _DISCARDED) != 0
        if discarded.any():
            records = records[~discarded]
        give_way()
        for first in range(0, len(records), _AT_ONCE):
            self._keep(records[first : first + _AT_ONCE], most)
            give_way()
        return n

    def has_read_to(self, end: int) -> bool:
        return self._position >= end

    def close(self) -> None:
        """Views go first: a map with views on it cannot be closed."""
        self._consumer.release()
        self._producer.release()
        self._consumer_map.close()
        self._producer_map.close()


class LargeRing(Ring):
    """The ring of events.LARGE. Of segments of HTTP/2 only the beginnings are copied, as far as that is all: of two of them less than
    of one exchange, so they count as one."""

    def __init__(self, fd: int, size: int) -> None:
        super().__init__(fd, size, events.LARGE)
        self._beginnings, self._whole = _Room(events.SHORT), _Room(events.LARGE)

    @property
    def gathered(self) -> int:
        return self._room.count + (self._beginnings.count + 1) // 2

    def take_frames(self) -> Frames:
        """To be called with each `take`."""
        count = self._beginnings.count
        parts = self._beginnings.take(), self._whole.take()
        return Frames(b"".join(part.data for part in parts), count)

    def _keep(self, records: Records, most: int) -> None:
        fields = records.view(events.LARGE)
        is_frame = fields["proto"] == events.PROTO_HTTP2
        if not is_frame.any():  # nearly always all are, or none
            self._room.add(records, most)
            return
        is_frame &= fields["segment"] != events.SEGMENT_NONE
        frames, beginnings = records, begin(records)
        if not is_frame.all():
            self._room.add(records[~is_frame], most)
            frames, beginnings = records[is_frame], beginnings[is_frame]
        self._beginnings.add(beginnings, 2 * most)
        is_long = frames.view(events.LARGE)["req_cap"] > events.SHORT_REQ
        if is_long.any():
            self._whole.add(frames[is_long], 0)
