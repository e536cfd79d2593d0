"""One BPF ring buffer, mapped once and read in batches.

Mapping the data twice, as libraries do so that a record may straddle the end, doubles its part in the process' memory.
With records of one power-of-two stride none straddles, and once is enough. Nobody waits here: the caller has a timer.
"""

import mmap

import numpy as np
import numpy.typing as npt

from farcall_probes.events import RING_HEADER

_BUSY = np.uint32(1 << 31)  # reserved, not yet submitted
_DISCARDED = np.uint32(1 << 30)
_PAGE = mmap.PAGESIZE

Records = npt.NDArray[np.void]


class Ring:
    """Single reader of the ring behind `fd`, whose records are all `layout`."""

    def __init__(self, fd: int, size: int, layout: np.dtype[np.void]) -> None:
        self._size = size
        self._stride = RING_HEADER + layout.itemsize
        if size & (size - 1) or self._stride & (self._stride - 1):
            raise ValueError(f"ring of {size} bytes with a stride of {self._stride}")
        frame = np.dtype([("header", "<u4"), ("page", "<u4"), ("record", layout)])
        self._consumer_map = mmap.mmap(fd, _PAGE, offset=0)
        self._data_map = mmap.mmap(fd, _PAGE + size, prot=mmap.PROT_READ, offset=_PAGE)
        self._consumer = np.frombuffer(self._consumer_map, np.uint64, 1)
        self._producer = np.frombuffer(self._data_map, np.uint64, 1)
        self._frames = np.frombuffer(self._data_map, frame, size // self._stride, offset=_PAGE)
        self._empty = np.zeros(0, layout)

    def read_end(self) -> int:
        """Position behind the last record reserved so far."""
        return int(self._producer[0])

    def measure_fill(self) -> float:
        """0..1"""
        return (self.read_end() - int(self._consumer[0])) / self._size

    def read(self, end: int) -> Records:
        """Copies of the records up to `end`, or up to the first that is not submitted yet; frees their room."""
        start = int(self._consumer[0])
        n = (end - start) // self._stride
        if n <= 0:
            return self._empty
        first = start // self._stride % len(self._frames)
        wrap = first + n - len(self._frames)
        frames = (
            self._frames[first : first + n].copy()
            if wrap <= 0
            else np.concatenate((self._frames[first:], self._frames[:wrap]))
        )
        header = frames["header"]
        busy = np.flatnonzero(header & _BUSY)
        if len(busy):
            frames, header = frames[: busy[0]], header[: busy[0]]
        self._consumer[0] = start + len(frames) * self._stride
        records = frames["record"]
        discarded = (header & _DISCARDED) != 0
        return records[~discarded] if discarded.any() else records

    def has_read_to(self, end: int) -> bool:
        return int(self._consumer[0]) >= end

    def close(self) -> None:
        """Views go first: a map with views on it cannot be closed."""
        del self._consumer, self._producer, self._frames
        self._consumer_map.close()
        self._data_map.close()
