"""Real servers for the clients: databases, Kafka, HTTP of both versions, gRPC, TLS, and one of a protocol that nobody knows."""

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from farcall_operator import certificates
from naming.network import INSIDE, RESOLVER, SELF, SELF_LOOPBACK, UNTRUSTED, Network
from naming.protocols import PORTS
from support_jvm import find_server, java
from support_kafka import prepare_kafka

HERE = Path(__file__).parent
START_WITHIN_S = 120.0  # Kafka on a busy machine
TESTS = HERE.parent.parent / "tests"
KAFKA_NAME = "broker.kafka.example.com"  # where the broker sends its clients


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
        self.http2_peer = ""  # the program, which is a client as well

    def start(self, protocols: set[str]) -> None:
        """Those that rows of `protocols` need. Raises LabError."""
        self._make_certificate()
        starts: list[Callable[[], None]] = [self._start_web, self._start_inside]
        starts += [s for p, s in self._databases().items() if p in protocols]
        if protocols & {"http2", "grpc", "https2"}:
            starts.append(self._start_http2)
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

    def _databases(self) -> dict[str, Callable[[], None]]:
        return {
            "redis": self._start_redis,
            "postgresql": self._start_postgres,
            "mysql": self._start_mariadb,
            "memcached": self._start_memcached,
            "mongodb": self._start_mongodb,
            "kafka": self._start_kafka,
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

    def _start_http2(self) -> None:
        """Outside, and one inside."""
        self.http2_peer = run_quietly(TESTS / "build-go.sh", TESTS / "peers/http2").strip()
        web, calls = f":{PORTS['http2']}", f":{PORTS['grpc']}"
        secure = (f":{PORTS['https2']}", self.certificate)
        words = (self.http2_peer, "serve")
        self._start_talking("far", "http2", *words, web, calls, *secure, says=None)
        self._start_talking("pods", "inside-http2", *words, INSIDE + web, INSIDE + calls, says=None)

    def _start_mongodb(self) -> None:
        server = find_jvm_server("mongodb")
        self._run("far", "mongodb", *java(server, "-Xmx64m", "Serve", str(PORTS["mongodb"]), "::"))
        self._wait_listening("mongodb")

    def _start_kafka(self) -> None:
        find_jvm_server("kafka")
        folder = self._folder / "kafka"
        folder.mkdir()
        port = PORTS["kafka"]
        make, serve = prepare_kafka(
            folder, address="0.0.0.0", port=port, advertised=f"{KAFKA_NAME}:{port}"
        )
        run_quietly(*make, cwd=folder)
        self._run("far", "kafka", *serve)
        self._wait_listening("kafka")

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

    def _start_talking(
        self, space: str, name: str, *command: object, says: str | None = "ready\n"
    ) -> "subprocess.Popen[str]":
        """A program that says `ready`, or, with None, anything."""
        process = self._spawn(space, name, command, text=True)
        said = "" if process.stdout is None else process.stdout.readline()
        if not said or said != (says or said):
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


def find_jvm_server(name: str) -> Path:
    """Raises LabError."""
    try:
        return find_server(name)
    except AssertionError as e:
        raise LabError(str(e)) from e


def run_quietly(*command: object, cwd: Path | str = "/") -> str:
    """What it prints. Raises LabError."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, cwd=cwd
    )
    if done.returncode:
        raise LabError(f"{command[0]}: {done.stderr[-500:]}")
    return done.stdout


def end(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
