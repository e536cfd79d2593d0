"""Keeps the process small: the C library's settings that matter for a Python process with a few threads, and pages of code that
only the start needed. Linux and glibc; elsewhere nothing."""

import ctypes
import gc
import re
from collections.abc import Iterator
from pathlib import Path

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8  # mallopt(3)
# Above all that a drain makes: a block that is mapped for itself costs a fault a page, each time.
_LARGE = 4 * 1024 * 1024
# Of freed memory so much stays for the next drain: given back at once it is faulted in anew each time.
_SPARE = 8 * 1024 * 1024
_MARGIN = 1024 * 1024  # above it: not each small block that is freed gives something back
_MADV_DONTNEED = 4  # madvise(2)
_COLLECTED_OBJECTS = (
    30_000  # some 4 MB; of a batch's rows, before it is sent, fewer are alive at once
)
_SMAPS = Path("/proc/self/smaps")
# A mapping of a file, not writable; and how much of it is no longer the file's: relocations were written into it.
_CONSTANT = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) r-[-x]p [0-9a-f]+ [0-9a-f]+:[0-9a-f]+ [1-9]")
_OWN = re.compile(rb"^Anonymous: +([0-9]+) kB")


def keep_memory_small() -> None:
    """One arena for all threads: each would keep what it freed. And large blocks are mapped each for itself, so that they go back
    when they are freed: by itself the C library takes for large what is larger than any block that was ever freed, and after
    the kernel's types were read those are 6 MB."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        libc.mallopt(_M_TRIM_THRESHOLD, _SPARE + _MARGIN)
        libc.mallopt(_M_TOP_PAD, _SPARE)  # or all of it is given back, once it is more


def trim_memory() -> None:
    """Gives freed memory back to the kernel."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def release_code() -> None:
    """Takes code and constants of programs and libraries out of this process' memory: a start runs through much that is never
    needed again. What is used comes back from the page cache at its next use, 64 kB at a time; nothing is lost, and nobody
    waits for a disk that did not before."""
    libc = ctypes.CDLL(None)
    for begin, end in list(_list_constant(_SMAPS)):
        libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), _MADV_DONTNEED)


def _list_constant(smaps: Path) -> Iterator[tuple[int, int]]:
    """Mappings that hold exactly what their file holds. Those with a page of their own are left out: DONTNEED would undo what
    was written there."""
    found: tuple[int, int] | None = None
    try:
        lines = smaps.read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        if match := _CONSTANT.match(line):
            found = int(match[1], 16), int(match[2], 16)
        elif found is not None and (own := _OWN.match(line)):
            if own[1] == b"0":
                yield found
            found = None
        elif b"-" in line.split(b" ", 1)[0]:
            found = None  # another mapping


def collect_seldom() -> None:
    """For a process that makes thousands of objects at a time and is done with them soon, none in a cycle: Python looks for
    cycles whenever there are 700 more than before, and there nearly always are. What the start made is not looked at again."""
    gc.freeze()
    gc.set_threshold(_COLLECTED_OBJECTS, 10, 10)
