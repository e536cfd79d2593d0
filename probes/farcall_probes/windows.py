"""Bytes that lie at many places of one array, taken at once. No I/O."""

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]  # two-dimensional
Places = npt.NDArray[np.intp]


def read_windows(data: npt.NDArray[np.generic], starts: Places, width: int) -> Bytes:
    """So many bytes from each of these places on, of an array that lies in one piece."""
    windows = np.ndarray(max(0, data.nbytes - width + 1), f"V{width}", data, 0, (1,))
    return windows[starts].view(np.uint8).reshape(len(starts), width)


def read_items(data: npt.NDArray[np.generic], starts: Places, lengths: Places) -> list[bytes]:
    """From each of these places on so many bytes, of an array where as many as the most of these may be read from each."""
    width = int(lengths.max(initial=0))
    if not width:
        return [b""] * len(starts)
    items = read_windows(data, starts, width).tobytes()
    begins = range(0, len(items), width)
    return [items[at : at + size] for at, size in zip(begins, lengths.tolist(), strict=True)]
