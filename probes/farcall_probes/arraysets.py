"""Arrays as sets. numpy has the same, and imports `numpy.ma` for it, which the agent would keep: 1 MB."""

from typing import TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T", bound=np.generic)


def distinct(values: npt.NDArray[T]) -> npt.NDArray[T]:
    """Each value once, ascending."""
    ordered = np.sort(values)
    is_first = np.ones(len(ordered), dtype=np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
    return ordered[is_first]


def is_among(values: npt.NDArray[T], others: npt.NDArray[T]) -> npt.NDArray[np.bool_]:
    """Of each value whether the others have it."""
    if not len(others):
        return np.zeros(len(values), dtype=np.bool_)
    ordered = np.sort(others)
    at = np.searchsorted(ordered, values)
    at[at == len(ordered)] = 0
    return np.asarray(ordered[at] == values, dtype=np.bool_)
