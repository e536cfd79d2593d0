"""Who a process is, with real processes: services by name, clients over fork and not over exec, reused numbers never."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from farcall_probes import procfs
from farcall_probes.cgroups import CgroupTree, PodLogs
from farcall_probes.identity import (
    Identities,
    Identity,
    Seen,
    name_of_program,
    service_of_arguments,
    service_of_environment,
)

pytestmark = pytest.mark.unit

PROC = Path("/proc")
# Says its child's number and waits; the child sleeps in the same program, forked and not exec'd.
FORKS = """
import os, sys, time
child = os.fork()
if not child:
    os.close(1)
    time.sleep(60)
print(child, flush=True)
sys.stdin.read()
os.kill(child, 9)
"""


@contextmanager
def started(*argv: str, env: dict[str, str] | None = None) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
    )
    try:
        yield process
    finally:
        process.communicate(timeout=60)


def seen(tgid: int) -> Seen:
    stat = procfs.read_stat(PROC, tgid)
    assert stat is not None
    return Seen(
        tgid=tgid,
        start_ns=stat.start_ticks * procfs.NS_PER_TICK,
        parent_tgid=stat.parent_tgid,
        cgroup_id=1,
        comm=b"python",
    )


def make(tmp_path: Path, **kwargs: Path) -> Identities:
    return Identities(node="n1", cgroups=CgroupTree(tmp_path), pods=PodLogs(tmp_path), **kwargs)


def find(identities: Identities, tgid: int) -> Identity:
    return identities.find(seen(tgid), now_ns=0)


def test_a_forked_worker_is_its_parents_client(tmp_path: Path) -> None:
    with started(sys.executable, "-c", FORKS) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        of_child = find(make(tmp_path), child)  # asked first: the parent is found by walking up
        of_parent = find(make(tmp_path), parent.pid)

    assert of_child.client_key == of_parent.client_key
    assert of_parent.client_key == f"p:n1:{parent.pid}:{of_parent.client_started_ns // 10**7}"
    assert of_child.client_started_ns == of_parent.client_started_ns


def test_two_programs_of_one_parent_share_nothing(tmp_path: Path) -> None:
    identities = make(tmp_path)
    wait = "import sys; print(1, flush=True); sys.stdin.read()"
    with (
        started(sys.executable, "-c", wait) as one,
        started(sys.executable, "-c", wait) as two,
    ):
        for process in (one, two):
            assert process.stdout is not None and process.stdout.readline()
        keys = {find(identities, pid).client_key for pid in (one.pid, two.pid, os.getpid())}

    assert len(keys) == 3


def test_a_worker_whose_parent_ended_stays_with_its_client(tmp_path: Path) -> None:
    identities = make(tmp_path)
    orphans = FORKS.replace("os.kill(child, 9)", "")
    with started(sys.executable, "-c", orphans) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        of_parent = find(identities, parent.pid)
    try:
        assert find(identities, child).client_key == of_parent.client_key
    finally:
        os.kill(child, 9)


def test_a_script_is_named_after_its_file_and_the_environment_wins(tmp_path: Path) -> None:
    script = tmp_path / "inventory.py"
    script.write_text("import sys; print(1, flush=True); sys.stdin.read()")
    with (
        started(sys.executable, str(script)) as plain,
        started(sys.executable, str(script), env={"OTEL_SERVICE_NAME": "shop"}) as named,
    ):
        for process in (plain, named):
            assert process.stdout is not None and process.stdout.readline()
        of_plain, of_named = find(make(tmp_path), plain.pid), find(make(tmp_path), named.pid)

    assert of_plain.service == "inventory"
    assert of_plain.executable.startswith("python3")
    assert of_named.service == "shop"


def test_a_process_that_ended_is_known_by_its_record(tmp_path: Path) -> None:
    identities = make(tmp_path)
    gone = Seen(tgid=4_000_000, start_ns=5 * 10**9, parent_tgid=1, cgroup_id=1, comm=b"curl")
    identity = identities.find(gone, now_ns=0)

    assert (identity.executable, identity.service) == ("curl", "curl")
    assert identity.client_key == "p:n1:4000000:500"
    assert identities.gone == 1


def test_a_reused_number_is_another_process(tmp_path: Path) -> None:
    me = seen(os.getpid())
    before = me._replace(start_ns=me.start_ns - 10 * procfs.NS_PER_TICK)
    identities = make(tmp_path)

    assert identities.find(before, now_ns=0).service == "python"  # its comm
    assert identities.find(before, now_ns=0).client_key != find(identities, os.getpid()).client_key


def test_what_was_known_stays_known_after_the_end(tmp_path: Path) -> None:
    identities = make(tmp_path)
    with started(sys.executable, "-c", "import sys; print(1, flush=True); sys.stdin.read()") as p:
        assert p.stdout is not None and p.stdout.readline()
        record = seen(p.pid)
        alive = identities.find(record, now_ns=0)
    deadline = time.monotonic() + 60
    while procfs.read_stat(PROC, p.pid) is not None and time.monotonic() < deadline:
        time.sleep(0.01)

    assert identities.find(record, now_ns=10**12) == alive


def test_a_container_is_the_client_whatever_runs_in_it(tmp_path: Path) -> None:
    container = "e" * 64
    group = tmp_path / "unified" / "docker" / container
    group.mkdir(parents=True)
    (group / "cgroup.procs").write_text(f"{os.getpid()}\n")
    gone = Seen(
        tgid=4_000_000,
        start_ns=10**18,
        parent_tgid=1,
        cgroup_id=os.stat(group).st_ino,
        comm=b"curl",
    )
    identity = make(tmp_path).find(gone, now_ns=0)

    assert identity.client_key == f"c:{container}"
    # Another process of it is older: it could have asked before this one began.
    assert identity.client_started_ns == seen(os.getpid()).start_ns


@pytest.mark.parametrize(
    ("executable", "arguments", "service"),
    [
        ("python3.11", ["python3", "inventory.py"], "inventory"),
        ("python3", ["python3", "-u", "-W", "error", "/srv/app/main.py", "x"], "main"),
        ("python3", ["python3", "-m", "http.server"], "http.server"),
        ("python3", ["python3", "-c", "print()"], "python3"),
        ("python3", ["python3"], "python3"),
        ("node", ["node", "--require", "./otel.js", "server.mjs"], "server"),
        ("java", ["java", "-Xmx1g", "-jar", "/opt/orders.jar"], "orders"),
        ("bash", ["/bin/bash", "/run/job.sh"], "job"),
        ("nginx", ["nginx: worker process"], "nginx"),
        ("redis-server", ["redis-server *:6379"], "redis-server"),
    ],
)
def test_services_of_command_lines(executable: str, arguments: list[str], service: str) -> None:
    assert service_of_arguments(executable, arguments) == service


@pytest.mark.parametrize(
    ("executable", "comm", "arguments", "name"),
    [
        ("redis-check-rdb", "redis-server", ["redis-server *:6379"], "redis-server"),
        ("busybox", "wget", ["wget", "-q"], "wget"),
        ("python3.11", "python3", ["python3", "x.py"], "python3.11"),
        ("node", "MainThread", ["node", "x.js"], "node"),
        (
            "a-program-with-a-long-name",
            "a-program-with-",
            ["/opt/a-program"],
            "a-program-with-a-long-name",
        ),
        ("nginx", "nginx", ["nginx: worker process"], "nginx"),
        (None, "kworker", [], "kworker"),
        ("thing", "", [], "thing"),
    ],
)
def test_names_of_programs(
    executable: str | None, comm: str, arguments: list[str], name: str
) -> None:
    assert name_of_program(executable, comm, arguments) == name


def test_services_of_environments() -> None:
    attributes = {"OTEL_RESOURCE_ATTRIBUTES": "a=b, service.name = shop ,c=d"}
    assert service_of_environment(attributes) == "shop"
    assert service_of_environment({**attributes, "OTEL_SERVICE_NAME": "cart"}) == "cart"
    assert service_of_environment({"OTEL_SERVICE_NAME": ""}) is None
