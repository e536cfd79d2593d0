"""A process that stands still for a while, as on a node that freezes."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support_local import wait_until


def stop(tgid: int) -> None:
    """SIGSTOP, until it has come to each thread: one of them has to run to pass it on, and on a busy machine the others go on
    answering until then."""
    os.kill(tgid, signal.SIGSTOP)
    wait_until(lambda: _stands_still(tgid), what=f"{tgid} stands still")


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
