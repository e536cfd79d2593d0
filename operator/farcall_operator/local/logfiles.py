"""The components' log files: bounded, and their last words when one has ended.

A component writes to its file directly, so that its lines survive whatever happens to the supervisor. The file is
bounded by copying it away and cutting it; lines written in between (microseconds, every 8 MiB) may be lost.
"""

import json
import os
import shutil
from pathlib import Path

from farcall.terminal import escape_text

MAX_BYTES = 8 * 1024 * 1024  # and as much again in `.1`
TAIL_BYTES = 8_192
MAX_WORDS = 300
SAID_BY_A_COMPONENT = ("event", "error", "exception")


def open_log(path: Path) -> int:
    """A handle that appends, for the child; a later cut of the file does not leave a hole."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def bound_log(path: Path, *, max_bytes: int = MAX_BYTES) -> bool:
    """Whether it had grown too large and was cut."""
    try:
        if path.stat().st_size <= max_bytes:
            return False
        shutil.copyfile(path, path.with_suffix(".log.1"))
        os.truncate(path, 0)
    except OSError:
        return False  # a full disk: the next round tries again
    return True


def read_last_words(path: Path, *, since: int = 0) -> str:
    """The last thing the component said after byte `since`, on one line, fit for a terminal. "" for nothing."""
    try:
        size = path.stat().st_size
        start = max(size - TAIL_BYTES, since if since <= size else 0)
        with open(path, "rb") as file:
            file.seek(start)
            text = file.read(TAIL_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line for line in text.splitlines() if line.strip()]
    return summarise(lines[-1]) if lines else ""


def summarise(line: str) -> str:
    """A JSON line as `event: error`, any other as it is; escaped and cut."""
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if isinstance(event, dict):
        said = [str(event[key]) for key in SAID_BY_A_COMPONENT if event.get(key)]
        line = ": ".join(" ".join(part.split()) for part in said) or line
    text = escape_text(line.strip())
    return text if len(text) <= MAX_WORDS else text[: MAX_WORDS - 1] + "…"


class Follower:
    """Complete lines of a growing file, each once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""

    def read_lines(self) -> list[str]:
        try:
            with open(self._path, "rb") as file:
                file.seek(self._offset)
                new = file.read()
        except OSError:
            return []
        self._offset += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        return [line.decode("utf-8", "replace") for line in lines]
