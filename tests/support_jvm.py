"""Real servers that run on a JVM: fetched by `make servers`, started on free ports of loopback, each ended by its process."""

import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

BUILD = Path(__file__).resolve().parent / "jvm/build-servers.sh"
START_S = 180  # two loaded cores start Cassandra in a minute

# A test's server lives for seconds: what makes a JVM start soon counts, not what makes it fast later.
SMALL = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xss512k",
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
)


def find_server(name: str) -> Path:
    """Its folder. Raises AssertionError with the command that makes it."""
    done = subprocess.run([BUILD, "--check", name], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr.strip()
    return Path(done.stdout.strip())


def java(folder: Path, *words: str) -> list[str]:
    return ["java", *SMALL, "-cp", f"{folder}/classes:{folder}/jars/*", *words]


@contextmanager
def running_java(command: Sequence[str], *, folder: Path, port: int) -> Iterator[int]:
    """Its process ID once it listens, which all of them do last. `folder` gets its log, whose end an error shows.

    It dies with the tests, however those end.
    """
    log = folder / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
        )
    try:
        deadline = time.monotonic() + START_S
        while not _listens(port):
            assert server.poll() is None, f"{command[-1]} ended: {_tail(log)}"
            assert time.monotonic() < deadline, f"{command[-1]} does not listen: {_tail(log)}"
            time.sleep(0.1)
        yield server.pid
    finally:
        # Nothing it holds is wanted again, and an orderly end takes up to half a minute.
        server.kill()
        server.wait(60)


@contextmanager
def talking(name: str, *words: str | Path, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """The program `Peer` of those of `name`, run in `folder`, which is told and tells by lines. It dies with the tests, however those end."""
    program = java(find_server(name), "Peer", *map(str, words))
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *program],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def read_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-3000:]
