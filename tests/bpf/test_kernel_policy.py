"""What the policy excludes never produces a record, in the kernel already; every loss is counted, one by one."""

import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from farcall_probes.events import POLICY_DROP, POLICY_KEEP
from farcall_probes.maps import MapSizes
from farcall_probes.probes import KernelCapture, open_probes
from support_probes import OK, SERVER, Watch, connection, make_request, port_of

pytestmark = pytest.mark.bpf

# N exchanges, both ends in one process, after it moved to the cgroup given.
_WORKLOAD = """
import os, socket, sys
cgroup, kind, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
open(cgroup + "/cgroup.procs", "w").write(str(os.getpid()))
if kind == "dns":
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.53.71.20", 53))
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.connect(("127.53.71.20", 53))
else:
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
for i in range(n):
    if kind == "dns":
        client.send(bytes(20))
        server.sendto(b"\\0\\1\\x81\\x80" + bytes(40), server.recvfrom(512)[1])
        client.recv(512)
        continue
    asked = {"http": b"GET /%d HTTP/1.1\\r\\nHost: a.test\\r\\n\\r\\n" % i,
             "head": b"GET /%d HTTP/1.1\\r\\nA: %s\\r\\n\\r\\n" % (i, b"a" * 1000),
             "redis": b"*2\\r\\n$3\\r\\nGET\\r\\n$1\\r\\nk\\r\\n"}[kind]
    client.sendall(asked)
    assert server.recv(8192) == asked
    server.sendall(b"+OK\\r\\n" if kind == "redis" else b"HTTP/1.1 200 OK\\r\\n\\r\\n")
    client.recv(8192)
"""


@contextmanager
def own_cgroup() -> Iterator[Path]:
    """A cgroup of the hierarchy that identities are taken from on this machine."""
    root = Path("/sys/fs/cgroup")
    memory = root / "memory"
    directory = (memory if memory.is_dir() else root) / f"farcall-test-{secrets.token_hex(4)}"
    directory.mkdir()
    try:
        yield directory
    finally:
        directory.rmdir()


def run_workload(cgroup: Path, kind: str, n: int) -> None:
    subprocess.run([sys.executable, "-c", _WORKLOAD, str(cgroup), kind, str(n)], check=True)


@pytest.fixture
def plain(capture: KernelCapture) -> Iterator[KernelCapture]:
    yield capture
    capture.set_policy({}, default=POLICY_KEEP)


def read_own_cgroup(watch: Watch) -> int:
    with connection() as pair:
        pair.exchange(make_request("/"), OK)
        return int(watch.exchanges(port_of(pair))[0].record["cgroup_id"])


def count_own(watch: Watch) -> int:
    with connection() as pair:
        for _ in range(3):
            pair.exchange(make_request("/"), OK)
        return len(watch.exchanges(port_of(pair)))


def test_an_excluded_cgroup_leaves_no_record(watch: Watch, plain: KernelCapture) -> None:
    own = read_own_cgroup(watch)

    plain.set_policy({own: POLICY_DROP}, default=POLICY_KEEP)
    watch.restart()

    assert count_own(watch) == 0
    assert watch.count("policy") > 0


def test_only_known_cgroups_are_kept_where_the_default_is_to_drop(
    watch: Watch, plain: KernelCapture
) -> None:
    own = read_own_cgroup(watch)

    plain.set_policy({}, default=POLICY_DROP)
    dropped = count_own(watch)
    plain.set_policy({own: POLICY_KEEP}, default=POLICY_DROP)

    assert (dropped, count_own(watch)) == (0, 6)


def test_a_policy_change_reaches_connections_that_are_open(
    watch: Watch, plain: KernelCapture
) -> None:
    with connection() as pair:
        pair.exchange(make_request("/before"), OK)
        own = int(watch.exchanges(port_of(pair))[0].record["cgroup_id"])
        plain.set_policy({own: POLICY_DROP}, default=POLICY_KEEP)
        pair.exchange(make_request("/excluded"), OK)
        paths = [s.path for s in watch.exchanges(port_of(pair))]

    assert paths == ["/before", "/before"]


def test_the_agents_own_calls_leave_no_record() -> None:
    opened = open_probes()
    try:
        opened.forget_own_process()
        watch = Watch(opened)
        assert count_own(watch) == 0
    finally:
        opened.close()


def test_nothing_is_recorded_before_the_first_policy_where_asked_so() -> None:
    opened = open_probes(default_policy=POLICY_DROP)
    try:
        assert count_own(Watch(opened)) == 0
    finally:
        opened.close()


def test_a_cgroups_identity_is_its_directorys_inode() -> None:
    opened = open_probes(default_policy=POLICY_DROP)
    try:
        with own_cgroup() as cgroup:
            opened.set_policy({cgroup.stat().st_ino: POLICY_KEEP}, default=POLICY_DROP)
            run_workload(cgroup, "http", 7)
            records = opened.drain().large
            assert [int(r["cgroup_id"]) for r in records] == [cgroup.stat().st_ino] * 14
    finally:
        opened.close()


@pytest.mark.parametrize("path", ["/healthz", "/a" + "b" * 50, "/ab" + "b" * 50, "/abc"])
def test_health_checks_are_counted_and_not_recorded(watch: Watch, path: str) -> None:
    """Wherever the words stand, to the byte: the search goes in steps of four."""
    with connection() as pair:
        pair.exchange(make_request(path, "User-Agent: kube-probe/1.31\r\n"), OK)
        assert watch.exchanges(port_of(pair)) == []
    assert watch.count("health") == 2


@pytest.mark.parametrize(
    "agent", ["kube-prometheus/1", "tube-probe/1", "kube-probe", "wire-probe/"]
)
@pytest.mark.parametrize("pad", ["", "a", "ab", "abc"])
def test_what_only_resembles_a_health_check_is_recorded(watch: Watch, agent: str, pad: str) -> None:
    with connection() as pair:
        pair.exchange(make_request(f"/{pad}", f"User-Agent: {agent}\r\n"), OK)

        assert len(watch.exchanges(port_of(pair), role=SERVER)) == 1


@pytest.mark.parametrize(
    ("kind", "ring", "per_exchange", "submitted", "lost"),
    [
        ("http", {"ring_large": 16_384}, 2, "large", "large_lost"),
        ("redis", {"ring_small": 16_384}, 2, "small", "small_lost"),
        ("head", {"ring_head": 32_768}, 2, "head", "head_lost"),
        ("dns", {"ring_dns": 16_384}, 1, "dns", "dns_lost"),
    ],
)
def test_every_record_that_finds_the_ring_full_is_counted(
    kind: str, ring: dict[str, int], per_exchange: int, submitted: str, lost: str
) -> None:
    n = 200
    opened = open_probes(MapSizes(**ring), default_policy=POLICY_DROP)
    try:
        with own_cgroup() as cgroup:
            opened.set_policy({cgroup.stat().st_ino: POLICY_KEEP}, default=POLICY_DROP)
            watch = Watch(opened)
            run_workload(cgroup, kind, n)
            first = (watch.count(submitted), watch.count(lost))
            drained = opened.drain()
            run_workload(cgroup, kind, 1)
            after = watch.count(submitted) - first[0]
    finally:
        opened.close()

    assert sum(first) == per_exchange * n
    assert first[1] > 0
    assert after == per_exchange  # it recovers at once
    records = {"large": drained.large, "small": drained.small, "head": drained.heads}
    assert len(records.get(submitted, drained.dns)) == first[0]
