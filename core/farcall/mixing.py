"""Words of 64 bits, mixed: rows are told apart, and divided, by what several columns hold. For rooms that have numpy."""

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]


def mix(words: Words) -> Words:
    """splitmix64's finaliser: a bijection that spreads every bit."""
    x = words.copy()
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x
