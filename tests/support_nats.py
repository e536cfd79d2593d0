"""A real nats-server for tests, and what its messages leave."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from support_databases import running
from support_ports import find_free_port

HERE = Path(__file__).resolve().parent
SERVER = ("nats-server", "github.com/nats-io/nats-server/v2")


def find_nats_server() -> str:
    """Its program. Raises AssertionError with the command that makes it."""
    env = {**os.environ, "FARCALL_BUILD": "no"}
    words = [HERE / "build-go.sh", HERE / SERVER[0], SERVER[1]]
    done = subprocess.run(words, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stderr.strip()}: `make servers` builds it"
    return done.stdout.strip()


@contextmanager
def running_nats(words: Sequence[str | Path] = ()) -> Iterator[int]:
    """The port of one that listens on loopback."""
    port = find_free_port()
    command = [find_nats_server(), "-a", "127.0.0.1", "-p", str(port), *map(str, words)]
    with running(port, *command):
        yield port
