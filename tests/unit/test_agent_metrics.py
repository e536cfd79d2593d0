"""The agent's numbers as Prometheus reads them, over a real socket."""

import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from farcall.envelope import AgentStatus, Capability
from farcall_probes import metrics
from farcall_probes.metrics import MetricsServer, render_metrics

pytestmark = pytest.mark.unit

STATUS = AgentStatus(
    node='n"1\\',
    boot_id="0" * 32,
    version="1.2.3",
    time_ns=5,
    started_ns=1_500_000_000,
    config_generation=7,
    config_revision="r",
    dns_ttl_s=3600,
    dns_ttl_overridden=False,
    kernel="6.18",
    capabilities=(
        Capability(name="kernel/sys_exit_read", on=True),
        Capability(name="self-test/ipv6", on=False, why="no IPv6", cost="-"),
    ),
    counters={"kernel_small_lost": 3},
    gauges={"ring_fill": 0.25, "cpu_seconds": 1.5},
)
LINE = re.compile(r'farcall_agent_[a-z0-9_]+(\{([a-z]+="(\\.|[^"\\])*",?)*\})? [0-9.e+-]+')


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    made = MetricsServer("http://127.0.0.1:0", lambda: render_metrics(STATUS))
    made.start()
    yield made
    made.stop()


def fetch(server: MetricsServer, path: str = "/metrics", method: str = "GET") -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()


def test_every_number_is_a_metric_with_its_kind(server: MetricsServer) -> None:
    status, text = fetch(server)
    lines = text.splitlines()

    assert status == 200
    assert 'farcall_agent_info{node="n\\"1\\\\",version="1.2.3",kernel="6.18"} 1' in lines
    assert "farcall_agent_kernel_small_lost_total 3" in lines
    assert "farcall_agent_ring_fill 0.25" in lines
    assert "farcall_agent_cpu_seconds_total 1.5" in lines
    assert 'farcall_agent_capability{name="self-test/ipv6"} 0' in lines
    assert "farcall_agent_start_time_seconds 1.5" in lines
    assert "farcall_agent_config_generation 7" in lines
    values = [line for line in lines if not line.startswith("#")]
    assert all(LINE.fullmatch(line) for line in values)
    named = {line.partition(" ")[0].partition("{")[0] for line in values}
    assert named == {line.split()[2] for line in lines if line.startswith("# TYPE")}


def test_there_is_nothing_else_there(server: MetricsServer) -> None:
    assert fetch(server, "/")[0] == 404
    assert fetch(server, "/metrics", "POST")[0] == 405
    assert fetch(server, "/metrics", "HEAD") == (200, "")
    assert fetch(server, "/metrics?x=1")[0] == 200


@pytest.mark.parametrize(
    "request_",
    [b"", b"\r\n\r\n", b"GET", b"\0" * 100 + b"\r\n\r\n", b"GET /" + b"x" * 100_000],
)
def test_what_is_no_request_is_answered_or_not_and_the_next_is(
    server: MetricsServer, request_: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 10) as sock:
        try:
            sock.sendall(request_)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
        except OSError:
            pass  # reset: more was sent than anybody reads

    assert fetch(server)[0] == 200


def test_a_slow_caller_keeps_others_waiting_for_a_bounded_time(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "ANSWER_WITHIN_S", 0.2)
    slow = socket.create_connection(("127.0.0.1", server.port))
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.05):
            try:
                slow.send(b"x")
            except OSError:
                return

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        time.sleep(0.05)
        assert fetch(server)[0] == 200
    finally:
        stop.set()
        thread.join()
        slow.close()


def test_a_port_that_is_taken_is_an_error_of_the_system(server: MetricsServer) -> None:
    with pytest.raises(OSError, match="in use"):
        MetricsServer(f"http://127.0.0.1:{server.port}", lambda: b"")


def test_everywhere_is_ipv4_and_ipv6() -> None:
    server = MetricsServer("http://0.0.0.0:0", lambda: b"x 1\n")
    server.start()
    try:
        assert fetch(server) == (200, "x 1\n")
        if socket.has_dualstack_ipv6():
            with socket.create_connection(("::1", server.port), 10) as sock:
                sock.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
                assert sock.recv(4096).startswith(b"HTTP/1.1 200")
    finally:
        server.stop()
