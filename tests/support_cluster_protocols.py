"""Servers of many protocols in pods of the second node and outside the cluster, and one pod of the first that calls them all.

The images are built by tests/cluster/build-protocols.sh; the calls are those of tests/cluster/protocols.py.
"""

import base64
import os
import re
import shlex
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from farcall.api import Span, SpanQuery, Window
from farcall.client import ApiClient
from farcall_operator import certificates
from farcall_operator.transport import find_tls_child
from support_cassandra import prepare_cassandra
from support_cluster import (
    DOCKER,
    NAMESPACE,
    NS_PER_S,
    ROOT,
    WORKLOAD,
    Cluster,
    Object,
    docker,
    run_outside,
    wait_until,
)
from support_cluster_shop import CONFIG, SHOP, ZONE, Shop, deployment, head, pod_spec
from support_jvm import find_server, java
from support_kafka import kafka_commands, render_kafka

CLIENT = "buyer"
COUNT = 23
BUILD_WITHIN_S = 900
IN_IMAGE = Path("/opt/servers")
DATA = Path("/tmp/data")  # in a container of its own
OUTSIDE = f"pay.{ZONE}"  # which the zone has already; the servers share the network of the one that it leads to
PEM, AUTHORITY = "server.pem", "ca.crt"
Images = tuple[str, str]  # the servers', the clients'


@dataclass(frozen=True)
class Case:
    """`url`: whom the client calls, by what protocol. `word`: the attribute that holds what tells a counted call from an
    early one. `said`: what its spans say besides."""

    url: str
    word: str
    said: dict[str, str]
    words: tuple[str, str] = ("early", "counted")

    @property
    def host(self) -> str:
        return self.url.partition("://")[2].rpartition(":")[0]

    @property
    def port(self) -> str:
        return self.url.rpartition(":")[2]

    def has(self, span: Span, word: str) -> bool:  # not what Kafka's client asks of a topic first
        name = "messaging.operation.name"
        is_ours = span.attributes.get(name) == self.said.get(name)
        return is_ours and word in span.attributes.get(self.word, "").replace("/", " ").split()


def sql(system: str, **more: str) -> dict[str, str]:
    return {"db.system.name": system, "db.operation.name": "SELECT", **more}


INSIDE = {
    "postgresql": Case("postgresql://ledger-db:5432", "db.query.text", sql("postgresql")),
    "mysql": Case("mysql://stock-db:3306", "db.query.text", sql("mysql")),
    "memcached": Case(
        "memcached://baskets:11211",
        "db.operation.name",
        {"db.system.name": "memcached"},
        ("set", "get"),
    ),
    "mongodb": Case(
        "mongodb://documents:27017",
        "db.collection.name",
        {"db.system.name": "mongodb", "db.operation.name": "insert", "db.namespace": "shop"},
    ),
    "kafka": Case(
        "kafka://events:9092",
        "messaging.destination.name",
        {
            "messaging.system": "kafka",
            "messaging.operation.name": "Produce",
            "messaging.operation.type": "send",
        },
    ),
    "http2": Case("http2://go-web:8081", "url.path", {"http.response.status_code": "200"}),
    "grpc": Case(
        "grpc://go-web:9090",
        "rpc.method",
        {
            "rpc.system": "grpc",
            "rpc.service": "farcall.test.Echo",
            "rpc.grpc.status_code": "0",
        },
        ("Stream", "Unary"),
    ),
    "https in Go": Case(
        "https2://go-web:8444",
        "url.path",
        {
            "url.scheme": "https",
            "network.protocol.version": "2",
            "http.response.status_code": "200",
        },
    ),
    "https in Python": Case(
        "https://python-web:8443",
        "url.path",
        {"url.scheme": "https", "http.request.method": "GET", "http.response.status_code": "200"},
    ),
    "cassandra": Case(
        "cassandra://orders-db:9042",
        "db.query.text",
        sql("cassandra", **{"db.namespace": "system", "db.collection.name": "local"}),
    ),
}
BEYOND = {
    "postgresql outside": Case(
        f"postgresql://{OUTSIDE}:5433", "db.query.text", sql("postgresql")
    ),
    "https outside": Case(
        f"https://{OUTSIDE}:8445",
        "url.path",
        {"url.scheme": "https", "http.request.method": "GET", "http.response.status_code": "200"},
    ),
}  # fmt: skip
# A part of farcall's own, which no agent traces: only the caller's sight is there.
EXPORTER = f"{CONFIG}-exporter-headless"
OWN = {
    "farcall's exporter": Case(
        f"https://{EXPORTER}.{NAMESPACE}.svc:8440",
        "url.path",
        {"url.scheme": "https", "http.request.method": "GET"},
    )
}
CASES = INSIDE | BEYOND | OWN


@dataclass
class Market:
    """The servers stand, and the client calls."""

    cluster: Cluster
    api: ApiClient
    since_ns: int = field(default_factory=time.time_ns)

    def call(self, name: str) -> list[Span]:
        """Spans of the counted calls, once there are as many, each with the server's sight where its server is a pod.

        The client makes them when an early one was seen so, which says that all agents know both ends.
        """
        case = CASES[name]
        is_joined = name in INSIDE
        early, counted = case.words

        def look_early() -> bool:
            found = self._list(case)
            seen = [s for s in found if case.has(s, early)]
            assert [s for s in seen if has_both(s)] if is_joined else seen, self._tell(name, found)
            return True

        def look() -> list[Span]:
            found = self._list(case)
            spans = [s for s in found if case.has(s, counted)]
            settled = [s for s in spans if has_both(s)] if is_joined else spans
            assert len(settled) >= self.count_sent(name), self._tell(name, found)
            return spans

        wait_until(look_early, f"{name} is seen")
        self.cluster.kubectl(
            *("-n", SHOP, "exec", f"deploy/{CLIENT}", "--", "touch", f"/tmp/go/{slug(name)}")
        )
        return wait_until(look, f"every call of {name} is seen")

    def count_sent(self, name: str) -> int:
        """What the client sent, once it is done: Kafka's sends again by itself what a broker could not take yet."""
        done = re.search(rf"^{slug(name)}: done, (\d+) sent again$", self._read_log(), re.MULTILINE)
        assert done is not None, f"the client is not done with {name}"
        return COUNT + int(done[1])

    def _list(self, case: Case) -> list[Span]:
        """Newest first, whichever side."""
        window = Window(from_ns=self.since_ns, to_ns=time.time_ns() + NS_PER_S)
        query = SpanQuery(q=f"server.port:{case.port}", window=window, limit=1000)
        return list(self.api.list_spans(query).items)

    def describe(self, name: str, spans: Sequence[Span]) -> str:
        """What tells one of them from another, in order of time, and what the client says."""
        keys = ("error.type", "farcall.join", "farcall.connection.id", "server.address")
        lines = sorted((s.start_ns, s.duration_ns, s.kind, s.span_id, *map(s.attributes.get, keys)) for s in spans)  # fmt: skip
        return "\n".join(map(str, [*lines, *self._read_said(name)]))

    def _read_said(self, name: str) -> list[str]:
        return [line for line in self._read_log().splitlines() if line.startswith(f"{slug(name)}:")]

    def _tell(self, name: str, found: list[Span]) -> str:
        sides = [(s.name, s.service, s.destination, s.attributes.get("farcall.join")) for s in found[:5]]  # fmt: skip
        return f"{len(found)} spans: {sides}; the client says {self._read_said(name)[-3:]}"

    def _read_log(self) -> str:
        return self.cluster.kubectl("-n", SHOP, "logs", f"deploy/{CLIENT}", "--tail=-1")


def has_both(span: Span) -> bool:
    return span.attributes.get("farcall.join") in ("exact", "overlap")


def slug(name: str) -> str:
    return re.sub(r"\W+", "-", name).lower()


@contextmanager
def open_market(cluster: Cluster, shop: Shop, images: Images, folder: Path) -> Iterator[Market]:
    servers, clients = images
    first, second = shop.nodes[:2]
    names = ("go-web", "python-web", OUTSIDE)
    certificate, authority = make_certificate(names)
    (folder / PEM).write_text(certificate)
    cluster.wait_current(CONFIG)
    own = cluster.get("secret", find_tls_child(CONFIG, "exporter"))["data"][AUTHORITY]
    objects = [
        build_files(certificate, authority + base64.b64decode(own).decode()),
        *build_servers(servers, second),
        build_client(clients, first),
    ]
    with ExitStack() as stack:
        cluster.apply(*objects)
        stack.callback(remove, cluster, objects)
        network = "container:farcall-e2e-web"
        stack.enter_context(
            run_outside(
                *("farcall-e2e-ledger", "sh", "-c", postgresql(5433)),
                image=servers,
                network=network,
                files=(),
            )
        )
        serve = ("python3", "/app/workload.py", "serve", "8445", f"/app/{PEM}")
        files = (ROOT / "tests/cluster/workload.py", folder / PEM)
        stack.enter_context(run_outside("farcall-e2e-secure", *serve, network=network, files=files))
        api = stack.enter_context(cluster.open_api(CONFIG))
        yield Market(cluster, api)


def remove(cluster: Cluster, objects: list[Object]) -> None:
    names = [f"{o['kind'].lower()}/{o['metadata']['name']}" for o in objects]
    cluster.kubectl("-n", SHOP, "delete", "--wait=false", *names)


# ---- images -------------------------------------------------------------------------------------------------------------


def bring_images(nodes: Sequence[str]) -> Images:
    """Builds them and loads each into the node that needs it."""
    done = subprocess.run(
        [ROOT / "tests/cluster/build-protocols.sh"],
        capture_output=True, text=True, check=False, timeout=BUILD_WITHIN_S,
        env={**os.environ, "DOCKER_HOST": DOCKER},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    servers, clients = done.stdout.split()
    load_image(servers, nodes[1])
    load_image(clients, nodes[0])
    return servers, clients


def load_image(name: str, node: str) -> None:
    """Into that node alone, unless it is there."""
    ctr = ("exec", "--interactive", node, "ctr", "--namespace", "k8s.io", "images")
    if f"docker.io/{name}" in docker(*ctr, "list", "--quiet").split():
        return
    save = ["docker", "--host", DOCKER, "save", name]
    with subprocess.Popen(save, stdout=subprocess.PIPE) as saving:
        command = ["docker", "--host", DOCKER, *ctr, "import", "--digests", "-"]
        done = subprocess.run(command, stdin=saving.stdout, capture_output=True, check=False)
    assert (saving.returncode, done.returncode) == (0, 0), done.stderr.decode(errors="replace")


# ---- what runs ----------------------------------------------------------------------------------------------------------


def make_certificate(names: tuple[str, ...]) -> tuple[str, str]:
    """One for all of them with its key, and the authority that vouches for it."""
    now = datetime.now(UTC)
    authority = certificates.make_authority("market", now)
    serving = certificates.issue_certificate(authority.current, names, now)
    return serving.certificate_pem + serving.key_pem, authority.bundle


def build_files(certificate: str, authority: str) -> Object:
    kafka = render_kafka(
        address="0.0.0.0", port=9092, controller=9093, advertised="events:9092", data=DATA / "kafka"
    )
    cassandra, _ = prepare_cassandra(DATA, port=9042, storage=7000, listens="rpc_interface: eth0")
    scripts = [ROOT / "tests/cluster" / name for name in ("protocols.py", "workload.py")]
    files = {
        **{script.name: script.read_text() for script in scripts},
        **cassandra,
        "server.properties": kafka,
        PEM: certificate,
        AUTHORITY: authority,
    }
    return {**head("v1", "ConfigMap", "market"), "data": files}


def build_servers(image: str, node: str) -> list[Object]:
    """A Deployment and a Service for each host."""
    made = {
        "ledger-db": (postgresql(5432), 128),
        "stock-db": (mariadb(), 256),
        "baskets": ("exec memcached -l 0.0.0.0 -p 11211 -U 0 -m 16", 64),
        "documents": (mongodb(), 256),
        "events": (kafka(), 640),
        "orders-db": (cassandra(), 1024),
        # It serves until its standard input ends.
        "go-web": (
            f"sleep infinity | exec {IN_IMAGE}/http2peer serve :8081 :9090 :8444 /app/{PEM}",
            64,
        ),
        "python-web": (f"exec python3 /app/workload.py serve 8443 /app/{PEM}", 64),
    }
    objects: list[Object] = []
    for name, (script, mebibytes) in made.items():
        used = WORKLOAD if name == "python-web" else image
        spec = with_image(pod_spec(node, ["sh", "-c", script]), used, mebibytes)
        ports = sorted({int(case.port) for case in INSIDE.values() if case.host == name})
        objects.append(deployment(name, name, spec))
        objects.append(
            {
                **head("v1", "Service", name),
                "spec": {
                    "selector": {"app": name},
                    "ports": [{"name": f"p{port}", "port": port} for port in ports],
                },
            }
        )
    return objects


def build_client(image: str, node: str) -> Object:
    urls = [f"{slug(name)}={case.url}" for name, case in CASES.items()]
    command = ["python3", "/app/protocols.py", str(COUNT), *urls]
    return deployment(CLIENT, CLIENT, with_image(pod_spec(node, command), image, 512))


def with_image(spec: Object, image: str, mebibytes: int) -> Object:
    (main,) = spec["containers"]
    main |= {"image": image, "resources": {"limits": {"memory": f"{mebibytes}Mi"}}}
    (volume,) = spec["volumes"]
    volume["configMap"] = {"name": "market"}
    return spec


def postgresql(port: int) -> str:
    options = ("listen_addresses=*", "unix_socket_directories=", "fsync=off", "jit=off", "shared_buffers=16MB")  # fmt: skip
    settings = " ".join(f"-c '{option}'" for option in options)
    return (
        f"bin=$(echo /usr/lib/postgresql/*/bin) && $bin/initdb -D {DATA} -U postgres -A trust -N --no-instructions"
        f" && echo 'host all all 0.0.0.0/0 trust' >>{DATA}/pg_hba.conf && exec $bin/postgres -D {DATA} -p {port} {settings}"
    )


def mariadb() -> str:
    network = "--bind-address=0.0.0.0 --port=3306 --socket=/tmp/socket --skip-name-resolve --skip-networking=0"
    own = f"--no-defaults --datadir={DATA}"
    return (
        f"mariadb-install-db {own} --auth-root-authentication-method=normal --skip-test-db"
        f" && exec mariadbd {own} {network} --skip-grant-tables --innodb-buffer-pool-size=16M"
    )


def mongodb() -> str:
    return f"exec {shlex.join(java(IN_IMAGE / 'mongodb', '-Xmx64m', 'Serve', '27017', '0.0.0.0'))}"


def kafka() -> str:
    make, serve = kafka_commands(IN_IMAGE / "kafka", Path("/app/server.properties"))
    return f"cd /tmp && {shlex.join(make)} && exec {shlex.join(serve)}"


def cassandra() -> str:
    _, command = prepare_cassandra(DATA, port=9042, storage=7000)
    here = shlex.join(command).replace(str(find_server("cassandra")), str(IN_IMAGE / "cassandra"))
    return (
        f"mkdir {DATA} && cp /app/cassandra.yaml /app/logback.xml {DATA} && cd /tmp && exec {here}"
    )
