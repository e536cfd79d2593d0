"""Which processes began and ended since the last look, without reading all of /proc each time: that takes 8 µs a process.

Numbers are given in order, to threads too, and /proc/loadavg says which was the last: those in between are asked for one by
one. The kernel does so for the number space of who reads; where /proc is another's, or shows something else under that name,
all of it is listed each time.
"""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

from farcall_probes.procfs import read_bounded

MAX_PROCESSES = 100_000
LIST_EVERY_S = 5.0  # all of them: who ended is not asked for one by one
_FEW = 256  # numbers that are asked for one by one, 2 µs each

_UNASKED = frozenset((errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EMFILE, errno.ENFILE))

Change = tuple[set[int], set[int]]


class Processes:
    def __init__(
        self,
        proc: Path,
        *,
        own_tgid: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._proc = proc
        self._own = own_tgid
        self._clock = clock
        self._known: set[int] = set()
        self._counts = _is_own_space(proc)
        # The last number as of two looks ago and of one: a process whose number was given a moment ago is not there yet.
        self._before = self._last = -1
        self._recent: set[int] = set()  # found by their numbers in the last look
        self._list_due = 0.0

    def look(self) -> Change:
        """(those that began, those that ended). One whose number was another's that is not known to have ended is both."""
        now = self._clock()
        last = self._read_last_number() if self._counts else None
        first, self._before, self._last = self._before, self._last, -1 if last is None else last
        if last is None or first < 0 or now >= self._list_due or not 0 <= last - first <= _FEW:
            self._list_due = now + LIST_EVERY_S
            return self._list(first, self._last)
        try:
            given = {n for n in range(first + 1, last + 1) if _is_process(n)} - {self._own}
        except OSError:  # not allowed to ask
            self._counts = False
            return self._list(-1, -1)
        began, self._recent = given - self._recent, given
        ended = began & self._known
        self._known |= began
        return began, ended

    def _list(self, first: int, last: int) -> Change:
        """`first`, `last`: numbers that were given behind the one up to the other; -1: not known."""
        names = [n for n in os.listdir(self._proc) if n.isdigit()]
        alive = {int(n) for n in names[:MAX_PROCESSES]} - {self._own}
        began, ended = alive - self._known, self._known - alive
        if 0 <= first <= last and any(n <= first for n in began):
            self._counts = False  # these should have been found by their numbers
        self._known = alive
        self._recent = {n for n in alive if first < n <= last}
        return began, ended

    def _read_last_number(self) -> int | None:
        fields = (read_bounded(self._proc / "loadavg", 256) or b"").split()
        return int(fields[4]) if len(fields) == 5 and fields[4].isdigit() else None


def _is_own_space(proc: Path) -> bool:
    try:
        return os.readlink(proc / "self") == str(os.getpid())
    except OSError:
        return False


def _is_process(number: int) -> bool:
    """False for a thread and for nobody. Raises OSError where it may not be asked."""
    try:
        os.close(os.pidfd_open(number))
    except ProcessLookupError:
        return False
    except OSError as e:
        if e.errno in _UNASKED:
            raise
        return False  # EINVAL, by newer kernels ENOENT: a thread
    return True
