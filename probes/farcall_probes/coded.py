"""Columns of texts of which many rows have the same: each text once, and of every row which one it has."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import overload

import numpy as np
import numpy.typing as npt

Texts = Sequence[str | None]


class Coded(Sequence[str | None]):
    """Reads like any column. `names` may hold some that no row has."""

    __slots__ = ("names", "which")

    def __init__(self, names: Texts, which: npt.NDArray[np.intp]) -> None:
        self.names = names
        self.which = which

    def __len__(self) -> int:
        return len(self.which)

    @overload
    def __getitem__(self, at: int) -> str | None: ...
    @overload
    def __getitem__(self, at: slice) -> "Coded": ...
    def __getitem__(self, at: int | slice) -> "str | Coded | None":
        if isinstance(at, slice):
            return Coded(self.names, self.which[at])
        return self.names[int(self.which[at])]

    def __iter__(self) -> Iterator[str | None]:
        return map(self.names.__getitem__, self.which.tolist())

    def drop_unused(self) -> "Coded":
        is_used = np.zeros(len(self.names), dtype=np.bool_)
        is_used[self.which] = True
        if is_used.all():
            return self
        places = np.cumsum(is_used) - 1
        return Coded(
            [self.names[at] for at in np.flatnonzero(is_used).tolist()], places[self.which]
        )


def join(columns: Sequence[Texts]) -> Texts:
    """Their rows, one column after the other."""
    if len(columns) == 1:
        return columns[0]
    if not any(isinstance(column, Coded) for column in columns):
        return list(chain.from_iterable(columns))
    coded = [column if isinstance(column, Coded) else _code(column) for column in columns]
    begins = np.cumsum([0, *(len(column.names) for column in coded)])
    which = [column.which + begin for column, begin in zip(coded, begins[:-1], strict=True)]
    return Coded([name for column in coded for name in column.names], np.concatenate(which))


def _code(column: Texts) -> Coded:
    return Coded(column, np.arange(len(column), dtype=np.intp))
