"""HTTPS over real connections: what a TLS library writes and reads is seen once at each end, and nothing of what is sealed."""

import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from farcall_probes.doctortls import check_tls
from farcall_probes.events import PROTO_HTTP1, PROTO_TCP, Flag
from farcall_probes.probes import KernelCapture
from support_probes import OK, Watch, connection, make_request, port_of
from support_rests import CHUNKED, LAST_CHUNK, chunk, pass_on, tell
from support_tlsbio import talk_by_asyncio
from support_tlslib import (
    TlsPair,
    check_both_ends,
    find_own_libssl,
    open_tls_pair,
    probed,
)

pytestmark = pytest.mark.bpf


@pytest.fixture
def reading(capture: KernelCapture) -> Iterator[None]:
    with probed(capture, find_own_libssl().path):
        yield


@pytest.fixture(autouse=True)
def alone(request: pytest.FixtureRequest, capture: KernelCapture) -> Iterator[None]:
    """Only this process is recorded: what others on the machine do must not fill the rings."""
    capture.enable(only_own="curl" not in request.node.name)
    yield
    capture.enable()


@pytest.mark.parametrize("at_copies", [True, False])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_every_exchange_is_seen_at_both_ends_with_one_key(
    watch: Watch,
    capture: KernelCapture,
    certificate: tuple[Path, Path],
    version: ssl.TLSVersion,
    at_copies: bool,
) -> None:
    requests = [make_request(f"/{i}") for i in range(23)]
    pair = open_tls_pair(certificate, version)
    with probed(capture, find_own_libssl().path, at_copies=at_copies):
        for request in requests:
            pair.exchange(request, OK)
    pair.close()

    check_both_ends(watch, pair.port, requests)
    assert watch.count("tls") == 4 * 23
    assert watch.count("tls_unowned") == watch.count("tls_lost") == 0


def test_a_response_in_several_pieces_lasts_to_its_last_one(
    watch: Watch, reading: None, certificate: tuple[Path, Path]
) -> None:
    pieces = (CHUNKED, chunk(b"body" * 100), LAST_CHUNK)
    pair = open_tls_pair(certificate)
    pass_on(pair.client, pair.server, make_request("/"))
    last = [pass_on(pair.server, pair.client, piece) for piece in pieces][-1]
    pair.close()

    for side in tell(watch, pair.port):
        assert [t.size for t in side] == [sum(map(len, pieces))]
        assert side[0].first_ns < last[0] <= side[0].last_ns <= last[1]


def test_a_connection_that_is_read_is_not_told_of_as_unknown_bytes_too(
    watch: Watch, reading: None, certificate: tuple[Path, Path]
) -> None:
    pair = open_tls_pair(certificate)
    pair.exchange(make_request("/"), OK)
    pair.close()

    assert {s.proto for s in watch.exchanges(pair.port)} == {PROTO_HTTP1}


def test_a_connection_older_than_the_probes_is_read_from_its_next_call_on(
    watch: Watch, capture: KernelCapture, certificate: tuple[Path, Path]
) -> None:
    pair = open_tls_pair(certificate)
    pair.exchange(make_request("/before"), OK)
    requests = [make_request(f"/{i}") for i in range(5)]
    with probed(capture, find_own_libssl().path):
        for request in requests:
            pair.exchange(request, OK)
    pair.exchange(make_request("/after"), OK)
    pair.close()

    check_both_ends(watch, pair.port, requests)


def test_without_probes_a_tls_connection_is_bytes_with_a_name(
    watch: Watch, certificate: tuple[Path, Path]
) -> None:
    pair = open_tls_pair(certificate)
    pair.exchange(make_request("/sealed"), OK)
    pair.close()

    client, server = watch.sides(pair.port)
    assert [s.proto for s in client] == [s.proto for s in server] == [PROTO_TCP]
    assert b"localhost" in client[0].request
    assert not client[0].flags & Flag.TLS


def test_one_connection_is_read_while_a_plain_one_goes_on(
    watch: Watch, reading: None, certificate: tuple[Path, Path]
) -> None:
    requests = [make_request(f"/{i}") for i in range(5)]
    pair = open_tls_pair(certificate)
    with connection() as plain:
        for request in requests:
            pair.exchange(request, OK)
            plain.exchange(request, OK)
        pair.close()

        check_both_ends(watch, pair.port, requests)
        for side in watch.sides(port_of(plain)):
            assert [s.request for s in side] == requests
            assert not any(s.flags & Flag.TLS for s in side)


def test_a_request_in_three_writes_and_reads_of_seven_bytes_is_one(
    watch: Watch, reading: None, certificate: tuple[Path, Path]
) -> None:
    request = make_request("/pieces", body=b"x" * 40)
    pair = open_tls_pair(certificate)
    for _ in range(5):
        for piece in (request[:10], request[10:40], request[40:]):
            pair.client.sendall(piece)
        left = len(request)
        while left:
            left -= len(pair.server.recv(min(7, left)))
        pair.server.sendall(OK)
        assert pair.client.recv(4096) == OK
    pair.close()

    check_both_ends(watch, pair.port, [request] * 5)


def test_a_body_of_many_records_is_counted_whole(
    watch: Watch, reading: None, certificate: tuple[Path, Path]
) -> None:
    request = make_request("/upload", body=b"x" * 100_000)
    pair = open_tls_pair(certificate)
    for _ in range(3):
        pair.exchange(request, OK)
    pair.close()

    check_both_ends(watch, pair.port, [request] * 3)


def test_what_is_pending_when_the_connection_closes_has_no_response(
    watch: Watch, reading: None, certificate: tuple[Path, Path]
) -> None:
    pair = open_tls_pair(certificate)
    pair.client.sendall(make_request("/never"))
    assert pair.server.recv(4096)
    pair.close()

    for side in watch.sides(pair.port):
        assert [s.path for s in side] == ["/never"]
        assert all(s.flags & Flag.NO_RESPONSE and s.flags & Flag.TLS for s in side)


def test_no_byte_of_what_is_sealed_becomes_an_exchange(
    watch: Watch, reading: None, certificate: tuple[Path, Path]
) -> None:
    pair = open_tls_pair(certificate)
    for i in range(200):
        pair.exchange(make_request(f"/{i}"), OK)
    pair.close()
    seen = watch.exchanges(pair.port)

    assert len(seen) == 400
    assert {s.proto for s in seen} == {PROTO_HTTP1}
    assert watch.count("orphan") == watch.count("overwritten") == 0


def test_closing_the_attachment_takes_the_probes_out(
    watch: Watch, capture: KernelCapture, certificate: tuple[Path, Path]
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    pair = open_tls_pair(certificate)
    with probed(capture, find_own_libssl().path):
        pair.exchange(make_request("/"), OK)
    grown = watch.count("tls")
    pair.exchange(make_request("/"), OK)
    pair.close()

    assert grown == watch.count("tls") == 4
    # The programs stay loaded for the next file; the probes' descriptors are gone.
    with probed(capture, find_own_libssl().path):
        during = len(os.listdir("/proc/self/fd"))
    assert len(os.listdir("/proc/self/fd")) < during
    assert len(os.listdir("/proc/self/fd")) <= before + 20


def test_probes_on_one_file_twice_do_not_count_twice(
    watch: Watch, capture: KernelCapture, reading: None, certificate: tuple[Path, Path]
) -> None:
    requests = [make_request(f"/{i}") for i in range(5)]
    pair = open_tls_pair(certificate)
    with probed(capture, find_own_libssl().path):
        for request in requests:
            pair.exchange(request, OK)
    pair.close()

    check_both_ends(watch, pair.port, requests)


def test_a_library_that_fills_buffers_is_read_too(
    watch: Watch, reading: None, certificate: tuple[Path, Path]
) -> None:
    """asyncio keeps the socket to itself: the library makes no system call at all."""
    requests = [make_request(f"/{i}") for i in range(20)]
    port = talk_by_asyncio([[request] for request in requests], certificate)

    check_both_ends(watch, port, requests)


def test_curl_and_a_forked_server_are_processes_of_their_own(
    watch: Watch, reading: None, certificate: tuple[Path, Path]
) -> None:
    code = (
        "import http.server, ssl, sys\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "    protocol_version = 'HTTP/1.1'\n"
        "    def do_GET(self):\n"
        "        self.send_response(200); self.send_header('Content-Length', '2'); self.end_headers()\n"
        "        self.wfile.write(b'hi')\n"
        "    def log_message(self, *a): pass\n"
        "s = http.server.HTTPServer(('127.0.0.1', 0), H)\n"
        "c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); c.load_cert_chain(*sys.argv[1:3])\n"
        "s.socket = c.wrap_socket(s.socket, server_side=True)\n"
        "print(s.server_port, flush=True); s.serve_forever()\n"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, certificate)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        urls = [f"https://localhost:{port}/{i}" for i in range(7)]
        subprocess.run(
            ["curl", "-sf", "--cacert", str(certificate[0]), *urls], check=True, timeout=30
        )
    finally:
        server.kill()
        server.communicate()

    client, at_server = watch.sides(port)
    assert watch.count("large_lost") == 0
    http = [[s for s in side if s.proto == PROTO_HTTP1] for side in (client, at_server)]
    for side in http:
        assert [s.path for s in side] == [f"/{i}" for i in range(7)]
        assert all(b"\r\nHost: localhost:" in s.request for s in side)
    assert {s.tgid for s in http[1]} == {server.pid}
    assert [s.key for s in http[0]] == [s.key for s in http[1]]


def test_pairs_in_many_threads_are_told_apart(
    watch: Watch, reading: None, certificate: tuple[Path, Path]
) -> None:
    import threading

    pairs = [open_tls_pair(certificate) for _ in range(8)]
    requests = [make_request(f"/{i}") for i in range(20)]

    def run(pair: TlsPair) -> None:
        for request in requests:
            pair.exchange(request, OK)

    threads = [threading.Thread(target=run, args=(pair,)) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for pair in pairs:
        check_both_ends(watch, pair.port, requests)
        pair.close()


def test_the_doctor_says_what_a_hit_costs_and_which_libraries_are_read(
    capture: KernelCapture,
) -> None:
    rows = {f.name: f for f in check_tls(capture.tls)}

    assert rows["TLS probes"].on and "µs a hit" in rows["TLS probes"].note
    assert rows["TLS: OpenSSL and BoringSSL"].on
    assert "files" in rows["TLS: OpenSSL and BoringSSL"].note  # libssl stands in its usual place
    assert "TLS: Go's crypto/tls" in rows


# What the agent's container has, and as there no more: a perf event for a uprobe would want SYS_ADMIN.
CAPABILITIES = "-all,+bpf,+perfmon,+sys_ptrace,+dac_read_search,+checkpoint_restore"


def test_libraries_are_read_with_no_more_capabilities_than_a_pod_has() -> None:
    command = ["setpriv", "--bounding-set", CAPABILITIES, "--inh-caps", "-all"]
    doctor = [sys.executable, "-m", "farcall.commands", "doctor"]
    done = subprocess.run([*command, *doctor], capture_output=True, text=True, timeout=120)

    rows = {line.split("  ")[0]: line for line in done.stdout.splitlines()}
    assert rows["TLS probes"].split()[2] == "on", done.stdout + done.stderr
    assert rows["TLS: OpenSSL and BoringSSL"].split()[4] == "on", done.stdout
