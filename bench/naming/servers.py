"""Real servers for the clients: Redis, PostgreSQL, MariaDB, memcached, HTTP, TLS, and one of a protocol that nobody knows."""

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from farcall_operator import certificates
from naming.network import INSIDE, RESOLVER, SELF, SELF_LOOPBACK, UNTRUSTED, Network
from naming.protocols import PORTS

HERE = Path(__file__).parent
START_WITHIN_S = 40.0


class LabError(Exception):
    """The lab cannot be built here; the message says why."""


class Servers:
    """Starts all, ends all. `folder` holds their data and what they say.

    What a killed run leaves is ended by the next one, with its namespaces: a signal at the parent's death would come at the
    end of the thread that started them.
    """

    def __init__(self, network: Network, folder: Path) -> None:
        self._network = network
        self._folder = folder
        self._undo = contextlib.ExitStack()
        self.certificate = folder / "server.pem"

    def start(self, protocols: set[str]) -> None:
        """Those that rows of `protocols` need. Raises LabError."""
        self._make_certificate()
        starts = [self._start_web, self._start_inside]
        starts += [s for p, s in self._databases().items() if p in protocols]
        with ThreadPoolExecutor() as pool:
            for started in [pool.submit(start) for start in starts]:
                started.result()

    def start_dns(self) -> "subprocess.Popen[str]":
        """The one that speaks for all names; a zone's lines go to its standard input."""
        return self._start_talking(
            "far",
            "dns",
            sys.executable,
            HERE / "dnsserver.py",
            self.certificate,
            RESOLVER,
            UNTRUSTED,
        )

    def start_own_dns(self) -> "subprocess.Popen[str]":
        """A pod that answers itself."""
        command = (sys.executable, HERE / "dnsserver.py", "-", SELF, SELF_LOOPBACK)
        return self._start_talking("pods", "own-dns", *command)

    def start_dnsmasq(self, space: str, address: str) -> None:
        options = ("--no-resolv", "--no-hosts", "--no-daemon", "--conf-file=/dev/null")
        self._run(
            space,
            f"dnsmasq-{space}",
            *("dnsmasq", *options, "--bind-interfaces", f"--listen-address={address}"),
            f"--server={RESOLVER}",
        )

    def stop(self) -> None:
        self._undo.close()

    def _databases(self) -> dict[str, object]:
        return {
            "redis": self._start_redis,
            "postgresql": self._start_postgres,
            "mysql": self._start_mariadb,
            "memcached": self._start_memcached,
        }

    def _make_certificate(self) -> None:
        now = datetime.now(UTC)
        made = certificates.make_authority("naming score", now)
        serving = certificates.issue_certificate(made.current, ("example.com",), now)
        self.certificate.write_text(serving.certificate_pem + serving.key_pem, encoding="ascii")

    def _start_web(self) -> None:
        ports = (PORTS["http"], PORTS["tls"], self.certificate, PORTS["tcp"])
        self._start_talking("far", "web", sys.executable, HERE / "webserver.py", "::", *ports)

    def _start_inside(self) -> None:
        command = (sys.executable, HERE / "webserver.py", INSIDE, PORTS["http"])
        self._start_talking("pods", "inside-web", *command)

    def _start_redis(self) -> None:
        options = ("--bind", "0.0.0.0", "::", "--protected-mode", "no", "--save", "")
        self._run("far", "redis", "redis-server", "--port", PORTS["redis"], *options)
        self._wait_listening("redis")

    def _start_memcached(self) -> None:
        self._run("far", "memcached", *("memcached", "-u", "nobody", "-l", "0.0.0.0,::"))
        self._wait_listening("memcached")

    def _start_postgres(self) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        if not found:
            raise LabError("needs postgresql: run `make setup-test`")
        folder = self._folder / "postgres"
        folder.mkdir()
        shutil.chown(folder, "postgres")
        as_user = ("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--")
        make = (found[-1].parent / "initdb", "-D", folder / "data", "-A", "trust", "-N")
        run_quietly(*as_user, *make, "--no-instructions")
        with open(folder / "data/pg_hba.conf", "a", encoding="ascii") as file:
            file.write("host all all 0.0.0.0/0 trust\nhost all all ::/0 trust\n")
        settings = [
            f"-c{s}"
            for s in ("listen_addresses=*", "fsync=off", "ssl=off", "unix_socket_directories=")
        ]
        self._run("far", "postgres", *as_user, found[-1], "-D", folder / "data", *settings)
        self._wait_listening("postgresql")

    def _start_mariadb(self) -> None:
        data = self._folder / "mariadb"
        own = ("--auth-root-authentication-method=normal", "--skip-test-db", f"--datadir={data}")
        run_quietly("mariadb-install-db", "--no-defaults", "--user=root", *own)
        words = ("mariadbd", "--no-defaults", "--user=root", f"--datadir={data}")
        network = (f"--socket={data}/socket", "--skip-name-resolve")
        self._run("far", "mariadb", *words, *network, "--skip-grant-tables", "--skip-networking=0")
        self._wait_listening("mysql")

    def _run(self, space: str, name: str, *command: object) -> None:
        self._spawn(space, name, command, text=False)

    def _start_talking(self, space: str, name: str, *command: object) -> "subprocess.Popen[str]":
        """A program of ours, which says `ready`."""
        process = self._spawn(space, name, command, text=True)
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise LabError(f"{name} did not start: {self.read_log(name)}")
        return process

    def _spawn(
        self, space: str, name: str, command: Sequence[object], *, text: bool
    ) -> "subprocess.Popen[str]":
        with open(self._folder / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                [
                    *self._network.enter(space),
                    "env",
                    f"OTEL_SERVICE_NAME={name}",
                    *map(str, command),
                ],
                stdin=subprocess.PIPE if text else subprocess.DEVNULL,
                stdout=subprocess.PIPE if text else log,
                stderr=log,
                cwd=self._folder,
                text=text,
                bufsize=1 if text else -1,
            )
        self._undo.callback(end, process)
        return process  # type: ignore[return-value]

    def read_log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text(errors="replace")[-500:]

    def _wait_listening(self, protocol: str) -> None:
        deadline = time.monotonic() + START_WITHIN_S
        probe = "import socket, sys; socket.create_connection(('203.0.113.1', int(sys.argv[1])), 1)"
        command = [*self._network.enter("far"), sys.executable, "-c", probe, str(PORTS[protocol])]
        while subprocess.run(command, capture_output=True, check=False).returncode:
            if time.monotonic() > deadline:
                raise LabError(f"the server for {protocol} does not listen")
            time.sleep(0.3)


def run_quietly(*command: object) -> None:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, cwd="/"
    )
    if done.returncode:
        raise LabError(f"{command[0]}: {done.stderr[-500:]}")


def end(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
