"""Proxies that have the kernel move bytes from socket to socket (splice), and files that are sent without a head (sendfile)."""

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from farcall_probes.events import PROTO_HTTP1, PROTO_TCP, Flag
from farcall_probes.selftest import Pair
from support_databases import running, wait_until_it_listens
from support_ports import find_free_port
from support_probes import (
    CLIENT,
    SERVER,
    Seen,
    Watch,
    connection,
    make_request,
    port_of,
    read_sizes,
    receive,
)

pytestmark = pytest.mark.bpf

BODY = 300_000
ROUNDS = 3

# io.Copy from a TCP connection to another is splice(2) on Linux.
GO = """
package main

import ("io"; "net"; "os")

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil { panic(err) }
	for {
		front, err := listener.Accept()
		if err != nil { panic(err) }
		go func() {
			back, err := net.Dial("tcp", "127.0.0.1:"+os.Args[2])
			if err != nil { panic(err) }
			go func() { io.Copy(back, front); back.(*net.TCPConn).CloseWrite() }()
			io.Copy(front, back)
			front.Close()
			back.Close()
		}()
	}
}
"""
HAPROXY = """
defaults
  mode http
  timeout connect 60s
  timeout client 60s
  timeout server 60s
  option splice-request
  option splice-response
frontend in
  bind 127.0.0.1:{port}
  default_backend out
backend out
  server one 127.0.0.1:{target}
"""


@contextmanager
def two_connections() -> Iterator[tuple[Pair, Pair]]:
    """A client's to a proxy, and the proxy's to a server; the proxy is the test."""
    with connection() as front, connection() as back:
        for sock in (front.client, front.server, back.client, back.server):
            sock.setblocking(True)
        yield front, back


def splice(source: socket.socket, target: socket.socket, n: int) -> None:
    out, into = os.pipe()
    try:
        while n:
            moved = os.splice(source.fileno(), into, n)
            assert moved, "the peer closed"
            n -= moved
            while moved:
                moved -= os.splice(out, target.fileno(), moved)
    finally:
        os.close(out)
        os.close(into)


@contextmanager
def sending(sock: socket.socket, data: bytes) -> Iterator[None]:
    thread = threading.Thread(target=sock.sendall, args=(data,))
    thread.start()
    yield
    thread.join()


@contextmanager
def moving(source: socket.socket, target: socket.socket, n: int) -> Iterator[None]:
    thread = threading.Thread(target=splice, args=(source, target, n))
    thread.start()
    yield
    thread.join()


def measure_head(message: bytes) -> int:
    return message.index(b"\r\n\r\n") + 4


def make_response(body: int) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {body}\r\n\r\n".encode() + b"r" * body


def pass_on(source: socket.socket, target: socket.socket, head: int) -> None:
    target.sendall(receive(source, head))


def test_bodies_that_a_proxy_splices_count_whole_at_all_four_ends(watch: Watch) -> None:
    requests = [make_request(f"/{n}", body=b"b" * (BODY + n)) for n in range(ROUNDS)]
    responses = [make_response(BODY + 7 * n) for n in range(ROUNDS)]
    with two_connections() as (front, back):
        for n, (request, response) in enumerate(zip(requests, responses, strict=True)):
            bodies = BODY + n, BODY + 7 * n
            with sending(front.client, request):
                pass_on(front.server, back.client, len(request) - bodies[0])
                with moving(front.server, back.client, bodies[0]):
                    assert receive(back.server, len(request)) == request
            with sending(back.server, response):
                pass_on(back.client, front.server, len(response) - bodies[1])
                with moving(back.client, front.server, bodies[1]):
                    assert receive(front.client, len(response)) == response
        sides = [*watch.sides(port_of(front)), *watch.sides(port_of(back))]

    for side in sides:
        assert [s.path for s in side] == ["/0", "/1", "/2"]
        assert [s.status for s in side] == [200] * ROUNDS
        assert [s.request_bytes for s in side] == [len(r) for r in requests]
        assert read_sizes(side) == [len(r) for r in responses]


def test_what_begins_as_http_and_is_then_spliced_is_no_wrong_pair(watch: Watch) -> None:
    """A proxy that looks at the first request and moves all that follows: the answer is not to be seen."""
    requests = [make_request(f"/{n}") for n in range(ROUNDS)]
    responses = [make_response(n) for n in range(ROUNDS)]
    with two_connections() as (front, back):
        ports = port_of(front), port_of(back)
        for n, (request, response) in enumerate(zip(requests, responses, strict=True)):
            front.client.sendall(request)
            if n:
                splice(front.server, back.client, len(request))
            else:
                pass_on(front.server, back.client, len(request))
            assert receive(back.server, len(request)) == request
            back.server.sendall(response)
            splice(back.client, front.server, len(response))
            assert receive(front.client, len(response)) == response
    (asked, passed), (asking, answered) = (watch.sides(port) for port in ports)

    for side in (asked, answered):
        assert [(s.path, s.status) for s in side] == [(f"/{n}", 200) for n in range(ROUNDS)]
    check_passed(passed + asking, sum(map(len, requests)), sum(map(len, responses)))
    assert [s.role for s in passed + asking] == [SERVER, CLIENT]
    assert watch.count("no_response") == 0


def check_passed(seen: list[Seen], sent: int, received: int) -> None:
    assert [s.proto for s in seen] == [PROTO_TCP] * 2
    assert [(s.request_bytes, s.response_bytes) for s in seen] == [(sent, received)] * 2
    assert all(s.request == b"" and not s.flags & Flag.LATE for s in seen)


@pytest.fixture(scope="module")
def go_proxy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("proxy")
    (directory / "main.go").write_text(GO)
    built = directory / "proxy"
    subprocess.run(["go", "build", "-o", built, directory / "main.go"], check=True)
    return built


def test_a_proxy_that_only_splices_has_two_connections_with_their_bytes(
    watch: Watch, go_proxy: Path
) -> None:
    request, response = make_request("/passed", body=b"b" * BODY), make_response(2 * BODY)
    port = find_free_port()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = listener.getsockname()[1]
        proxy = subprocess.Popen([go_proxy, str(port), str(target)])
        try:
            wait_until_it_listens(port, proxy)
            listener.accept()[0].close()
            watch.restart()
            with socket.create_connection(("127.0.0.1", port)) as client:
                server, _ = listener.accept()
                with server:
                    with sending(client, request):
                        assert receive(server, len(request)) == request
                    with sending(server, response):
                        assert receive(client, len(response)) == response
                    client.shutdown(socket.SHUT_WR)
                    assert server.recv(1) == b""
                assert client.recv(1) == b""
        finally:
            proxy.terminate()
            proxy.wait(60)
    seen = watch.exchanges(port, target)

    ours = [s for s in seen if s.tgid == os.getpid()]
    assert [(s.proto, s.path, s.status) for s in ours] == [(PROTO_HTTP1, "/passed", 200)] * 2
    passed = sorted((s for s in seen if s.tgid == proxy.pid), key=lambda s: s.role)
    assert [s.role for s in passed] == sorted((CLIENT, SERVER))
    check_passed(passed, len(request), len(response))


def test_a_real_proxy_that_splices_bodies_has_their_sizes_at_both_of_its_ends(
    watch: Watch, tmp_path: Path
) -> None:
    request, response = make_request("/through", body=b"b" * BODY), make_response(2 * BODY)
    port = find_free_port()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = listener.getsockname()[1]
        (tmp_path / "conf").write_text(HAPROXY.format(port=port, target=target))
        with running(port, "haproxy", "-db", "-f", tmp_path / "conf"):
            watch.restart()
            server_end: list[socket.socket] = []

            def serve() -> None:
                server, _ = listener.accept()
                server_end.append(server)
                while True:
                    got = b""
                    while not got.endswith(b"b" * BODY):
                        piece = server.recv(65536)
                        if not piece:
                            return
                        got += piece
                    server.sendall(response)

            serving = threading.Thread(target=serve)
            serving.start()
            with socket.create_connection(("127.0.0.1", port)) as client:
                for _ in range(ROUNDS):
                    with sending(client, request):
                        answer = b""
                        while not answer.endswith(b"r" * 2 * BODY):
                            answer += client.recv(65536)
            seen = watch.exchanges(port, target)
        serving.join()
        server_end[0].close()

    assert len(seen) == 4 * ROUNDS
    by_end = {(s.tgid == os.getpid(), s.role, s.lport in (port, target)) for s in seen}
    assert len(by_end) == 4
    for end in by_end:
        side = [
            s for s in seen if (s.tgid == os.getpid(), s.role, s.lport in (port, target)) == end
        ]
        assert [(s.path, s.status) for s in side] == [("/through", 200)] * ROUNDS
        # HAProxy writes heads anew
        assert [s.request_bytes for s in side] == [measure_head(s.request) + BODY for s in side]
        assert read_sizes(side) == [measure_head(s.response) + 2 * BODY for s in side]


def test_a_file_sent_without_a_head_is_a_connection_with_its_bytes(
    watch: Watch, tmp_path: Path
) -> None:
    """As FTP's data connections."""
    (tmp_path / "file").write_bytes(b"\x05" * BODY)
    with connection() as pair:
        pair.server.setblocking(True)
        with (tmp_path / "file").open("rb") as file:

            def send() -> None:
                left = BODY
                while left:
                    left -= os.sendfile(pair.server.fileno(), file.fileno(), None, left)

            sender = threading.Thread(target=send)
            sender.start()
            receive(pair.client, BODY)
            sender.join()
        port = port_of(pair)
    client, server = watch.sides(port)

    assert [(s.proto, s.request_bytes, s.response_bytes) for s in client + server] == [
        (PROTO_TCP, 0, BODY)
    ] * 2
