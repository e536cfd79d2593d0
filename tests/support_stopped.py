"""A process that stands still for a while, as on a node that freezes."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_WITHIN_S = 60


def stop(tgid: int) -> None:
    """SIGSTOP, until it has come to each thread: one of them has to run to pass it on, and on a busy machine the others go on
    answering until then."""
    os.kill(tgid, signal.SIGSTOP)
    deadline = time.monotonic() + _WITHIN_S
    while not _stands_still(tgid):
        assert time.monotonic() < deadline, f"{tgid} does not stop"
        time.sleep(0.01)


@contextmanager
def stopped(tgid: int) -> Iterator[None]:
    try:
        stop(tgid)
        yield
    finally:
        os.kill(tgid, signal.SIGCONT)


def _stands_still(tgid: int) -> bool:
    try:
        stats = [stat.read_text() for stat in Path(f"/proc/{tgid}/task").glob("*/stat")]
    except (FileNotFoundError, ProcessLookupError):  # a thread has ended meanwhile
        return False
    return all(stat.rpartition(") ")[2].startswith("T") for stat in stats)
