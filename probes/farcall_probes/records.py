"""Records copied whole. numpy copies a record field by field, unless it does not know of the fields: a tenth of the time."""

import mmap
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from farcall_probes import events
from farcall_probes.capture import Records

_BEGINNING = np.dtype(
    {
        "names": ["bytes"],
        "formats": [f"V{events.SHORT.itemsize}"],
        "offsets": [0],
        "itemsize": events.LARGE.itemsize,
    }
)


def make_room(count: int, layout: np.dtype[np.void]) -> Records:
    """Zeroes, of which only those that are used take memory. The C library would cut them out of what it has free, and write them."""
    memory = mmap.mmap(-1, count * layout.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(memory, dtype=layout)


class Slots:
    """Rows of such a room that are free. The lowest are given out first: few pages are touched."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._next = 0  # of those that were never used: a list of all of them would be as large as hundreds of records
        self._back: list[int] = []

    def __len__(self) -> int:
        return self._count - self._next + len(self._back)

    def take(self, count: int) -> list[int]:
        """No more than there are."""
        kept = max(0, len(self._back) - count)
        self._back, again = self._back[:kept], self._back[kept:]
        first, self._next = self._next, self._next + count - len(again)
        return again + list(range(first, self._next))

    def give_back(self, slots: Iterable[int]) -> None:
        self._back.extend(slots)


def pack(block: Records) -> Records:
    """A copy without what lies between the records."""
    return _whole(block).copy().view(block.dtype)


def pick(
    block: Records, rows: npt.NDArray[np.intp] | npt.NDArray[np.bool_] | Sequence[int]
) -> Records:
    """These records, in this order."""
    return _whole(block)[rows].view(block.dtype)


def join(blocks: Sequence[Records]) -> Records:
    """Of one layout; at least one."""
    return np.concatenate([_whole(block) for block in blocks]).view(blocks[0].dtype)


def cut(block: Records, layout: np.dtype[np.void]) -> Records:
    """A view of the first fields of each record, as `layout` has them."""
    return np.ndarray(len(block), dtype=layout, buffer=block, strides=(block.dtype.itemsize,))


def begin(block: Records) -> Records:
    """A view of the beginnings of records as events.LARGE, each as events.SHORT, but opaque."""
    return block.view(_BEGINNING)["bytes"]


def as_bytes(block: Records) -> npt.NDArray[np.uint8]:
    """A view of each record as a row of bytes, of a block that lies in one piece."""
    return block.view(np.uint8).reshape(len(block), block.dtype.itemsize)


def _whole(block: Records) -> Records:
    return block.view(np.dtype((np.void, block.dtype.itemsize)))
