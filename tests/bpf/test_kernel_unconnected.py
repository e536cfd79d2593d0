"""Connects that fail: told of once, with who, where to and why, however the caller waits for them."""

import errno
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from farcall_probes import events
from farcall_probes.events import Flag
from support_ports import find_free_port
from support_probes import Seen, Watch

pytestmark = pytest.mark.bpf

# Nobody answers there: RFC 5737. In a network namespace of its own the route decides what happens.
NOWHERE = "192.0.2.1"


def wait(sock: socket.socket, address: tuple[str, int]) -> None:
    sock.connect(address)


def poll(sock: socket.socket, address: tuple[str, int]) -> None:
    """As programs with a time-out do it."""
    sock.setblocking(False)
    if error := sock.connect_ex(address):
        if error != errno.EINPROGRESS:
            raise OSError(error, os.strerror(error))
        select.select([], [sock], [], 10)
        if error := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(error, os.strerror(error))


def ask_twice(sock: socket.socket, address: tuple[str, int]) -> None:
    """The second connect tells what became of the first."""
    sock.setblocking(False)
    sock.connect_ex(address)
    select.select([], [sock], [], 10)
    if error := sock.connect_ex(address):
        raise OSError(error, os.strerror(error))


def failures(watch: Watch, port: int) -> list[Seen]:
    return [s for s in watch.exchanges(port) if s.flags & Flag.UNCONNECTED]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("connect", [wait, poll, ask_twice])
def test_a_port_where_nobody_listens_refuses(
    watch: Watch, connect: Callable[[socket.socket, tuple[str, int]], None], host: str
) -> None:
    port = find_free_port()
    before = time.monotonic_ns()
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        with pytest.raises(ConnectionRefusedError):
            connect(sock, (host, port))
    (seen,) = failures(watch, port)

    assert (seen.proto, seen.role, seen.record["end"]) == (
        events.PROTO_TCP,
        events.ROLE_CLIENT,
        events.END_REFUSED,
    )
    assert seen.rport == port and seen.tgid == os.getpid()
    family, mapped = (socket.AF_INET6, host) if ":" in host else (socket.AF_INET6, f"::ffff:{host}")
    assert bytes(seen.record["raddr"]) == socket.inet_pton(family, mapped)
    assert before <= seen.ts_req_ns <= seen.ts_resp_ns <= time.monotonic_ns()
    assert int(seen.record["conn_open_ns"]) == seen.ts_req_ns
    assert seen.conn_id and (seen.request_bytes, seen.response_bytes) == (0, 0)
    assert watch.count("unconnected") >= 1


def test_each_failure_is_told_once_and_a_success_never(watch: Watch) -> None:
    port = find_free_port()
    for _ in range(23):
        with socket.socket() as sock:
            sock.connect_ex(("127.0.0.1", port))
    with socket.create_server(("127.0.0.1", port)) as listener:
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", port)):
                listener.accept()[0].close()
    told = failures(watch, port)

    assert len(told) == 23
    assert len({s.conn_id for s in told}) == 23


def test_other_errors_and_other_sockets_are_no_failed_connects(watch: Watch) -> None:
    port = find_free_port()
    with socket.socket(socket.AF_UNIX) as sock:
        assert sock.connect_ex("/nonexistent/socket") == errno.ENOENT
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        sock.send(b"x")
        with pytest.raises(ConnectionRefusedError):
            sock.recv(1)

    assert failures(watch, port) == []


NAMESPACE = """
import errno, os, socket, subprocess, sys, time
def run(*words): subprocess.run(words, check=True, capture_output=True)
run("ip", "link", "set", "lo", "up")
{setup}
def attempt(timeout, host="192.0.2.1", family=socket.AF_INET):
    sock = socket.socket(family)
    sock.settimeout(timeout)
    try: sock.connect((host, {port}))
    except OSError as e: print(type(e).__name__, e.errno, flush=True)
    sock.close()
{code}
"""


def in_namespace(port: int, setup: str, code: str) -> str:
    program = NAMESPACE.format(port=port, setup=setup, code=code)
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# A cable into nothing: whoever is asked for there does not answer to ARP.
CABLE = (
    'run("ip", "link", "add", "d0", "type", "veth", "peer", "name", "d1"); run("ip", "link", "set", "d1", "up");'
    'run("ip", "addr", "add", "192.0.2.9/24", "dev", "d0"); run("ip", "link", "set", "d0", "up");'
)
# And here somebody seems to be there, but says nothing.
SILENT = (
    CABLE + 'run("ip", "neigh", "add", "192.0.2.1", "lladdr", "02:00:00:00:00:01", "dev", "d0")'
)


def test_without_a_route_it_is_unreachable(watch: Watch) -> None:
    port = find_free_port()
    assert "101" in in_namespace(port, "", "attempt(None)")
    (seen,) = failures(watch, port)

    assert seen.record["end"] == events.END_UNREACHABLE
    assert bytes(seen.record["raddr"])[12:] == socket.inet_aton(NOWHERE)


def test_a_gateway_that_knows_no_way_is_unreachable(watch: Watch) -> None:
    """Without an answer to ARP the kernel itself says so, three seconds later."""
    port = find_free_port()
    assert "113" in in_namespace(port, CABLE, "attempt(None)\nattempt(20)")
    told = failures(watch, port)

    assert [s.record["end"] for s in told] == [events.END_UNREACHABLE] * 2


def test_a_caller_that_gives_up_after_a_second_has_timed_out(watch: Watch) -> None:
    port = find_free_port()
    in_namespace(port, SILENT, "attempt(1.2)")
    (seen,) = failures(watch, port)

    assert seen.record["end"] == events.END_CONNECT_TIMEOUT
    assert seen.ts_resp_ns - seen.ts_req_ns >= 1_000_000_000
    assert bytes(seen.record["laddr"])[12:] == socket.inet_aton("192.0.2.9")


def test_a_kernel_that_gives_up_has_timed_out(watch: Watch) -> None:
    port = find_free_port()
    setup = SILENT + "\nopen('/proc/sys/net/ipv4/tcp_syn_retries', 'w').write('1')"
    setup += "\nopen('/proc/sys/net/ipv4/tcp_syn_linear_timeouts', 'w').write('0')"
    assert "TimeoutError 110" in in_namespace(port, setup, "attempt(None)\nattempt(30)")
    told = failures(watch, port)

    assert [s.record["end"] for s in told] == [events.END_CONNECT_TIMEOUT] * 2


def test_the_loser_of_a_race_is_counted_and_not_told(watch: Watch) -> None:
    port = find_free_port()
    in_namespace(port, SILENT, "attempt(0.1)")

    assert failures(watch, port) == []
    assert watch.count("connect_untold") >= 1


def test_ipv6_that_is_not_there_is_counted_and_not_told(watch: Watch) -> None:
    port = find_free_port()
    assert "101" in in_namespace(port, "", 'attempt(None, "2001:db8::1", socket.AF_INET6)')

    assert failures(watch, port) == []
    assert watch.count("connect_untold") >= 1


def test_no_free_local_port_is_told(watch: Watch) -> None:
    port = find_free_port()
    setup = SILENT + "\nopen('/proc/sys/net/ipv4/ip_local_port_range', 'w').write('40000 40001')"
    code = (
        "kept = []\n"
        "for _ in range(4):\n"
        "    sock = socket.socket(); sock.setblocking(False); kept.append(sock)\n"
        f"    print(sock.connect_ex(('192.0.2.1', {port})))\n"
    )
    assert "99" in in_namespace(port, setup, code)
    ends = [int(s.record["end"]) for s in failures(watch, port)]

    assert set(ends) == {events.END_NO_PORT}
