"""A crowd on loopback: so many processes with so many connections each, which ask when they are told to (tests/crowd/main.c)."""

import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SOURCE = Path(__file__).parent / "crowd" / "main.c"


class Crowd:
    def __init__(self, process: "subprocess.Popen[str]", processes: int, connections: int) -> None:
        self._process = process
        self.connections = processes * connections
        self.answered = 0
        self.port = int(self._read("ready"))

    def ask(self) -> None:
        """One request on each connection, and its answer."""
        self._tell("ask")

    def hold(self) -> None:
        """The same, but all of them are in flight at once."""
        self._tell("hold")

    def close(self) -> None:
        self._tell("close")

    def _tell(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        self.answered = int(self._read(word))

    def _read(self, word: str) -> str:
        assert self._process.stdout is not None
        said, _, number = self._process.stdout.readline().partition(" ")
        assert said == word, "the crowd ended; its message is above"
        return number


@contextmanager
def running_crowd(directory: Path, processes: int, connections: int) -> Iterator[Crowd]:
    """`connections`: of each process."""
    program = directory / "crowd"
    subprocess.run(["cc", "-O2", "-static", "-o", program, _SOURCE], check=True)
    net = f"127.{random.randint(10, 250)}.{random.randint(1, 250)}"
    with subprocess.Popen(
        [program, net, str(processes), str(connections)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Crowd(process, processes, connections)
        finally:
            process.kill()
