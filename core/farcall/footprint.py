"""Keeps the process small: the C library's settings that matter for a Python process with a few threads. Linux and glibc; elsewhere nothing."""

import ctypes

_M_ARENA_MAX = -8  # mallopt(3)


def keep_memory_small() -> None:
    """One arena for all threads: each would keep what it freed."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_ARENA_MAX, 1)


def trim_memory() -> None:
    """Gives freed memory back to the kernel."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
