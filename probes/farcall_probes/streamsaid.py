"""What header blocks say, each thing once: most calls of a drain say the same, and what follows from it is looked at once."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from farcall_probes.coded import Coded
from farcall_probes.wire.hpackfields import Fields

T = TypeVar("T")


class Said(NamedTuple):
    """Row by row."""

    fields: list[Fields]  # each once
    which: npt.NDArray[np.intp]  # of each row

    def pick(self, rows: npt.NDArray[np.intp]) -> "Said":
        return Said(self.fields, self.which[rows])

    def drop_unused(self) -> "Said":
        is_used = np.zeros(len(self.fields), dtype=np.bool_)
        is_used[self.which] = True
        used = np.flatnonzero(is_used).tolist()
        if len(used) == len(self.fields):
            return self
        return Said([self.fields[at] for at in used], (np.cumsum(is_used) - 1)[self.which])

    def say(self, read: Callable[[Fields], T]) -> list[T]:
        """What is read of each row."""
        return self.spread([read(fields) for fields in self.fields])

    def write(self, read: Callable[[Fields], str | None]) -> Coded:
        """A column of what is read of each row."""
        return Coded([read(fields) for fields in self.fields], self.which)

    def spread(self, values: Sequence[T]) -> list[T]:
        """Of each row the one that belongs to what it says."""
        return list(map(values.__getitem__, self.which.tolist()))


def number(fields: Sequence[Fields]) -> Said:
    """Those of many rows, which may share them."""
    each = {id(one): one for one in fields}
    places = dict(zip(each, range(len(each)), strict=True))
    which = [places[id(one)] for one in fields]
    return Said(list(each.values()), np.array(which, dtype=np.intp))


def join(one: Said, other: Said) -> Said:
    """Rows of both."""
    which = np.concatenate((one.which, other.which + len(one.fields)))
    return Said(one.fields + other.fields, which)


def judge(say: Callable[..., tuple[bool, ...]], *said: Said) -> npt.NDArray[np.bool_]:
    """What follows from several things that each row says: columns of truths."""
    names = said[0].which
    for more in said[1:]:
        names = names * len(more.fields) + more.which
    _, first, which = np.unique(names, return_index=True, return_inverse=True)
    places = zip(*(one.which[first].tolist() for one in said), strict=True)
    found = [say(*(one.fields[at] for one, at in zip(said, row, strict=True))) for row in places]
    return np.array(found, dtype=np.bool_)[which].T
