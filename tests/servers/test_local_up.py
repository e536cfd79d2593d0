"""`farcall up` as a user starts it, over a real Redis and stand-ins for our own components (support_local)."""

import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

import support_local
from farcall.cacheacl import AGENT
from farcall.cachereader import CacheReader, connect_redis
from farcall.dnscache import Answer, CacheQuestion, CacheWriter
from farcall.effective import read_effective
from farcall.redislink import RedisLink
from farcall.rundir import RunDir
from farcall.secretfiles import ALL, COOKIE_KEY, MIN_LENGTH, read_secret
from farcall_operator.local.cgroup import open_own_cgroup
from support_local import is_alive, read_pid, wait_until

pytestmark = pytest.mark.servers

EXAMPLES = Path(__file__).parents[2] / "examples"
COMPONENTS = ("redis", "store", "exporter", "console", "agent")


class Up:
    """One `farcall up`; its output is kept."""

    def __init__(self, root: Path, *options: str, environment: dict[str, str] | None = None):
        self.root = root
        self.output = ""
        self.process = subprocess.Popen(
            [
                *(sys.executable, support_local.__file__, "up"),
                *("--run-root", str(root / "run"), "--state-root", str(root / "state")),
                *options,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )

    def run_dir(self, instance: str) -> RunDir:
        return RunDir(self.root / "run" / instance)

    def read(self, wait_s: float = 0.0) -> str:
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as ready:
            ready.register(self.process.stdout, selectors.EVENT_READ)
            while ready.select(wait_s):
                more = os.read(self.process.stdout.fileno(), 65_536)
                if not more:
                    break
                self.output += more.decode()
                wait_s = 0.0
        return self.output

    def wait_for(self, *words: str) -> None:
        wait_until(
            lambda: all(word in self.read() for word in words), what=f"{words} in {self.output}"
        )

    def wait_ready(self, *components: str) -> None:
        self.wait_for(*(f"farcall: {name} is ready" for name in components or COMPONENTS))

    def end(self, how: int = signal.SIGINT) -> int:
        self.process.send_signal(how)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(support_local.DEADLINE_S)
        self.read()
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)  # kill -9 would leave its cgroup behind
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(support_local.DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


Start = Callable[..., Up]


@pytest.fixture
def root() -> Iterator[Path]:
    # Not tmp_path: its name would be too long for a Unix socket.
    with tempfile.TemporaryDirectory(prefix="fc-", dir="/tmp") as path:
        yield Path(path)


@pytest.fixture
def start(root: Path) -> Iterator[Start]:
    started: list[Up] = []

    def start_one(*options: str, environment: dict[str, str] | None = None) -> Up:
        started.append(Up(root, *options, environment=environment))
        return started[-1]

    yield start_one
    for up in started:
        up.close()


def name_instance(root: Path) -> str:
    """Its cgroup has this name too, and other tests run beside this one."""
    return root.name.replace("_", "0").lower()


def list_pids(up: Up, instance: str) -> dict[str, int]:
    folder = up.run_dir(instance).path / "pids"
    pids = {path.name: read_pid(path) for path in folder.iterdir()}
    return {name: pid for name, pid in pids.items() if pid is not None}


def test_everything_starts_and_ctrl_c_leaves_nothing(root: Path, start: Start) -> None:
    name = name_instance(root)
    up = start("-f", str(EXAMPLES / "hobby.yaml"), "--instance", name)
    up.wait_ready()
    up.wait_for("/login?token=")
    pids = list_pids(up, name)
    cgroup = open_own_cgroup(up.run_dir(name).path).path

    assert set(pids) == {*COMPONENTS, "up"}
    assert read_effective(up.run_dir(name).effective).capture.own_cgroups == [str(cgroup.parent)]
    assert set(pids.values()) <= {int(pid) for pid in (cgroup / "cgroup.procs").read_text().split()}
    assert up.end() == 0
    assert not any(is_alive(pid) for pid in pids.values())
    assert not cgroup.exists()
    assert not (root / "run").exists()


def test_secrets_are_random_private_and_only_the_cookie_key_is_kept(
    root: Path, start: Start
) -> None:
    name = name_instance(root)
    kept: list[dict[str, str]] = []
    for _ in range(2):
        up = start("--instance", name)
        up.wait_ready("store")
        folder = up.run_dir(name).secrets
        kept.append({secret: read_secret(folder, secret) for secret in ALL})
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
        up.end(signal.SIGTERM)
        assert not any(secret in up.output for secret in kept[-1].values())

    first, second = kept
    assert {secret for secret in ALL if first[secret] == second[secret]} == {COOKIE_KEY}
    assert len(set(first.values())) == len(ALL)
    assert min(len(secret) for secret in first.values()) >= MIN_LENGTH


def test_each_component_comes_back_after_kill_9(root: Path, start: Start) -> None:
    name = name_instance(root)
    up = start("--instance", name, "--demo")
    up.wait_ready(*COMPONENTS, "demo")
    for component in (*COMPONENTS, "demo"):
        pid_file = up.run_dir(name).pid_file(component)
        killed = read_pid(pid_file)
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        up.wait_for(f"{component} was killed by SIGKILL", f"{component} is ready again")
        assert read_pid(pid_file) not in (None, killed)
        assert up.run_dir(name).ready_file(component).exists()

    assert up.end() == 0


def test_kill_9_of_up_takes_the_components_and_the_next_up_cleans_after_it(
    root: Path, start: Start
) -> None:
    name = name_instance(root)
    up = start("--instance", name)
    up.wait_ready()
    pids = list_pids(up, name)
    up.process.kill()
    wait_until(lambda: not any(map(is_alive, pids.values())), what="the components ended")

    assert up.run_dir(name).effective.exists()

    again = start("--instance", name)
    again.wait_ready()
    assert again.end() == 0
    assert not (root / "run").exists()
    assert not open_own_cgroup(up.run_dir(name).path).path.exists()


def test_a_second_up_of_the_same_instance_is_refused_and_harms_nothing(
    root: Path, start: Start
) -> None:
    name = name_instance(root)
    first = start("--instance", name)
    first.wait_ready()
    second = start("--instance", name)

    assert second.wait() == 2
    assert f"runs already as pid {first.process.pid}" in second.output
    assert f"kill {first.process.pid}" in second.output
    assert first.process.poll() is None
    assert first.run_dir(name).effective.exists()


def test_two_instances_run_side_by_side_on_ports_of_their_own(root: Path, start: Start) -> None:
    name = name_instance(root)
    ups = [start("--instance", f"{name}-{i}") for i in (1, 2)]
    for up in ups:
        up.wait_ready()
    endpoints = [
        read_effective(up.run_dir(f"{name}-{i}").effective).endpoints for i, up in enumerate(ups, 1)
    ]

    addresses = [{value for value in asdict(e).values() if value is not None} for e in endpoints]
    assert not addresses[0] & addresses[1]
    for up in ups:
        assert up.end() == 0


def test_one_name_in_two_run_roots_is_two_instances(root: Path, start: Start) -> None:
    """The second ended the first, when a cgroup was known by the instance's name alone."""
    name = name_instance(root)
    first = start("--instance", name)
    first.wait_ready()
    second = start(
        "--instance", name, "--run-root", str(root / "r"), "--state-root", str(root / "s")
    )
    second.wait_ready()

    assert first.end() == 0
    assert second.end() == 0


def test_a_taken_port_that_was_asked_for_is_refused_with_its_holder(
    root: Path, start: Start
) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        up = start("--instance", name_instance(root), "--console-port", str(port))

        assert up.wait() == 2
    assert f"port {port} is taken by " in up.output
    assert f"(pid {os.getpid()})" in up.output
    assert "--console-port" in up.output
    assert not (root / "run").exists()


def test_a_taken_default_port_gives_way_to_the_next_free_one(root: Path, start: Start) -> None:
    name = name_instance(root)
    first = start("--instance", f"{name}-1")
    first.wait_ready("redis")
    second = start("--instance", f"{name}-2")
    second.wait_ready("redis")
    second.wait_for("not on the usual 8430", "not on the usual 4318")


@pytest.mark.parametrize("code", [0, 1])
def test_once_ends_with_the_demos_exit_code_and_prints_its_table(
    root: Path, start: Start, code: int
) -> None:
    name = name_instance(root)
    up = start("--instance", name, "--once", environment={"STAND_IN_EXIT": str(code)})

    assert up.wait() == code
    assert "the table of expectations" in up.output
    assert not (root / "run").exists()


def test_a_component_that_lacks_something_stops_everything_and_says_what(
    root: Path, start: Start
) -> None:
    name = name_instance(root)
    up = start("--instance", name, environment={"STAND_IN_AGENT": "refuse"})

    assert up.wait() == 1
    assert "agent ended with exit code 2; its last words: farcall agent: it lacks" in up.output
    assert not (root / "run").exists()


def test_a_crash_loop_is_called_one_and_does_not_keep_others_from_running(
    root: Path, start: Start
) -> None:
    name = name_instance(root)
    up = start("--instance", name, environment={"STAND_IN_CONSOLE": "crash"})
    up.wait_ready("redis", "store", "exporter", "agent")
    up.wait_for("it is in a crash loop", "its last words: broken: no luck")

    assert up.end() == 0


def test_a_deaf_component_and_its_child_are_killed_at_a_second_ctrl_c(
    root: Path, start: Start
) -> None:
    name = name_instance(root)
    up = start("--instance", name, environment={"STAND_IN_STORE": "deaf child"})
    up.wait_ready()
    store = list_pids(up, name)["store"]
    child_file = up.run_dir(name).path / "child-store"
    child = read_pid(child_file)
    assert child is not None
    up.process.send_signal(signal.SIGINT)
    wait_until(lambda: not list_pids(up, name).get("exporter"), what="the exporter stopped")
    assert is_alive(store)

    assert up.end() == 0
    assert not is_alive(store)
    assert not is_alive(child)


def test_the_demo_runs_outside_of_farcalls_own_cgroup(root: Path, start: Start) -> None:
    name = name_instance(root)
    up = start("--instance", name, "--demo")
    up.wait_ready(*COMPONENTS, "demo")
    run_dir = up.run_dir(name).path

    assert f"/farcall/{name}." in (run_dir / "cgroup-agent").read_text()
    assert f"/farcall/{name}." not in (run_dir / "cgroup-demo").read_text()


def test_a_killed_redis_remembers_whatever_the_tier(root: Path, start: Start) -> None:
    """An agent that was killed before it holds nothing that it could write again."""
    name = name_instance(root)
    up = start("--instance", name)
    up.wait_ready("redis")
    run_dir = up.run_dir(name)
    password = read_secret(run_dir.secrets, AGENT.password_file)
    url = f"unix://{run_dir.redis_socket}"
    answer = Answer(
        client_key="c",
        ip="203.0.113.7",
        name="a.example.com",
        answered_at=time.time(),
        trusted=True,
    )
    link = RedisLink(url, username=AGENT.name, password=password)
    CacheWriter(link).write([answer], [], ttl_s=3_600, now=time.time())
    killed = read_pid(run_dir.pid_file("redis"))
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    up.wait_for("redis is ready again")
    question = CacheQuestion(
        client_key="c", ip="203.0.113.7", local="10.0.0.1:1", peer="10.0.0.2:2"
    )
    with connect_redis(url, username=AGENT.name, password=password) as client:
        (entry,) = CacheReader(client).read([question])

    assert [found.name for found in entry.client_names] == ["a.example.com"]


@pytest.mark.parametrize(("example", "persistent"), [("hobby", False), ("scale", True)])
def test_redis_is_private_bounded_and_as_persistent_as_the_tier_says(
    root: Path, start: Start, example: str, persistent: bool
) -> None:
    name = name_instance(root)
    up = start("-f", str(EXAMPLES / f"{example}.yaml"), "--instance", name)
    up.wait_ready("redis")
    state = root / "state" / name / "redis"
    text = (up.run_dir(name).path / "redis.conf").read_text()

    assert any(state.iterdir()) is persistent
    assert "port 0\n" in text
    assert not any(read_secret(up.run_dir(name).secrets, s) in text for s in ALL)
    socket_mode = up.run_dir(name).redis_socket.stat().st_mode & 0o777
    assert socket_mode == 0o600
    with connect_redis(
        f"unix://{up.run_dir(name).redis_socket}", username=None, password=None
    ) as r:
        with pytest.raises(Exception, match="Authentication required"):
            r.ping()
