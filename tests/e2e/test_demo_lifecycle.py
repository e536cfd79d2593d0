"""`farcall demo` as its supervisor sees it: ready, stopped, killed, started twice. Nobody watches; nothing is judged."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from farcall.effective import Endpoints, write_effective
from farcall.meaning import build_effective
from farcall.rundir import RunDir
from farcall.secretfiles import API_TOKEN
from farcall.tracingconfig import read_tracingconfig
from farcall_demo import network
from farcall_demo.plan import NAMES, DemoError, name_instance, read_plan
from support_e2e import EXAMPLES, ROOT, farcall, wait_until

pytestmark = pytest.mark.e2e
WITHIN_S = 60
REMOVE_LEFTOVERS = ROOT / "deploy" / "remove-demo-leftovers.sh"


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[RunDir]:
    """Of an instance whose other components are away."""
    made = RunDir(tmp_path / f"e2e{tmp_path.name[-20:].replace('_', '-')}")
    made.make()
    (made.secrets / API_TOKEN).write_text("t" * 32)
    endpoints = Endpoints(
        exporter_ingest="http://127.0.0.1:9",
        exporter_otlp_http="http://127.0.0.1:9",
        redis=f"unix://{made.redis_socket}",
        store="http://127.0.0.1:9",
        console="http://127.0.0.1:9",
    )
    config = build_effective(
        read_tracingconfig(EXAMPLES / "hobby.yaml"),
        mode="local",
        endpoints=endpoints,
        secrets_dir=str(made.secrets),
        state_dir="/nonexistent",
    )
    write_effective(config, made.effective)
    try:
        yield made
    finally:
        network.remove_network(name_instance(made))


def command(run_dir: RunDir) -> list[str]:
    ready = str(run_dir.ready_file("demo"))
    return farcall(
        *("demo", "--config", str(run_dir.effective), "--ready-file", ready),
        *("--run-dir", str(run_dir.path)),
    )


@contextmanager
def demo(run_dir: RunDir) -> Iterator[subprocess.Popen[bytes]]:
    run_dir.ready_file("demo").unlink(missing_ok=True)
    with subprocess.Popen(command(run_dir), stderr=subprocess.PIPE) as process:
        try:
            wait_until(run_dir.ready_file("demo").exists, WITHIN_S, lambda: "not ready")
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(WITHIN_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_demo_leaves_nothing(run_dir: RunDir, how: signal.Signals) -> None:
    with demo(run_dir) as process:
        assert len(network.list_namespaces(name_instance(run_dir))) == len(read_plan(run_dir).hosts)
        process.send_signal(how)

        assert process.wait(WITHIN_S) == 0

    assert network.list_namespaces(name_instance(run_dir)) == []
    assert not list(network.ETC_NETNS.glob(f"{NAMES}{run_dir.instance}-*"))
    with pytest.raises(DemoError):
        read_plan(run_dir)


def test_a_killed_demos_leftovers_do_not_stop_the_next(run_dir: RunDir) -> None:
    with demo(run_dir) as process:
        process.kill()
        process.wait()
    assert network.list_namespaces(name_instance(run_dir)) != []

    with demo(run_dir):
        assert read_plan(run_dir).slot >= 0
    assert network.list_namespaces(name_instance(run_dir)) == []


def test_a_killed_demos_leftovers_can_be_removed_by_a_command(run_dir: RunDir) -> None:
    """What `make uninstall` calls; while the demo runs it removes nothing."""
    prefix = f"{NAMES}{name_instance(run_dir)}-"
    with demo(run_dir) as process:
        assert subprocess.run([REMOVE_LEFTOVERS, prefix], capture_output=True).returncode == 1
        assert network.list_namespaces(name_instance(run_dir)) != []
        process.kill()
        process.wait()
    wait_until(
        lambda: subprocess.run([REMOVE_LEFTOVERS, prefix], capture_output=True).returncode == 0,
        WITHIN_S,
        lambda: "its processes live on",
    )

    assert network.list_namespaces(name_instance(run_dir)) == []
    assert not list(network.ETC_NETNS.glob(f"{prefix}*"))


def test_a_second_demo_of_an_instance_is_refused(run_dir: RunDir) -> None:
    with demo(run_dir):
        second = subprocess.run(command(run_dir), capture_output=True, text=True, check=False)

        assert second.returncode == 2
        assert "runs already" in second.stderr
        assert network.list_namespaces(name_instance(run_dir)) != []
