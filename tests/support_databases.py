"""Real MariaDB and memcached for tests, of Debian's packages, on free ports of loopback."""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from support_ports import find_free_port


def wait_until_it_listens(
    port: int, server: "subprocess.Popen[bytes]", seconds: float = 60
) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert server.poll() is None, f"{server.args} ended"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"{server.args} does not listen on {port}")


@contextmanager
def running(port: int, *words: str | Path, env: Mapping[str, str] | None = None) -> Iterator[None]:
    assert shutil.which(str(words[0])), f"needs {words[0]}: run `make setup-test`"
    server = subprocess.Popen(
        [str(word) for word in words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env=env,
    )
    try:
        wait_until_it_listens(port, server)
        yield
    finally:
        server.terminate()
        server.wait(60)


@contextmanager
def running_mariadb() -> Iterator[int]:
    """Its port; user `root` has no password."""
    folder = Path(tempfile.mkdtemp(prefix="farcall-mariadb-"))
    port = find_free_port()
    data = folder / "data"
    make = ["mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={data}"]
    own = ["--auth-root-authentication-method=normal", "--skip-test-db"]
    try:
        subprocess.run([*make, *own], check=True, capture_output=True, cwd="/")
        words = ["mariadbd", "--no-defaults", "--user=root", f"--datadir={data}", f"--port={port}"]
        network = ["--bind-address=127.0.0.1", f"--socket={folder}/socket", "--skip-name-resolve"]
        with running(port, *words, *network, "--skip-grant-tables", "--skip-networking=0"):
            yield port
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_memcached() -> Iterator[int]:
    port = find_free_port()
    with running(port, "memcached", "-u", "nobody", "-l", "127.0.0.1", "-p", str(port), "-U", "0"):
        yield port
