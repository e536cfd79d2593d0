"""Connections of unknown protocols over real sockets: one record when they close, with the bytes of both directions."""

import os
import socket
import ssl
import threading

import pytest

from farcall_probes.events import PROTO_HTTP1, PROTO_TCP, Flag
from farcall_probes.selftest import HTTP_REQUEST, HTTP_RESPONSE
from farcall_probes.wire.clienthello import ClientHello, parse_client_hello
from farcall_probes.wire.outcomes import Truncated
from support_local import wait_until
from support_probes import CLIENT, SERVER, Watch, connection, port_of

pytestmark = pytest.mark.bpf


def test_a_connection_is_one_record_at_each_end_with_its_bytes(watch: Watch) -> None:
    with connection() as pair:
        port = port_of(pair)
        for size in (10, 2000, 70000):
            pair.client.sendall(b"\x05" * size)
            left = size
            while left:
                left -= len(pair.server.recv(65536))
            pair.server.sendall(b"\x06" * 7)
            pair.client.recv(64)
        watch.drain()
        assert watch.exchanges(port) == []
    watch.drain()
    client, served = watch.sides(port)

    assert len(client) == len(served) == 1
    for seen in (client[0], served[0]):
        assert seen.proto == PROTO_TCP
        assert (seen.request_bytes, seen.response_bytes) == (72010, 21)
        assert seen.flags & Flag.IDENTITY and not seen.flags & Flag.LATE
        assert seen.ts_resp_ns > seen.ts_req_ns
    assert client[0].key == served[0].key
    assert (client[0].role, served[0].role) == (CLIENT, SERVER)


@pytest.mark.parametrize("first", ["client", "server"])
def test_ends_that_close_one_after_the_other_count_no_byte_more(watch: Watch, first: str) -> None:
    """A FIN has a number in TCP's sequence space as bytes have."""
    with connection() as pair:
        port = port_of(pair)
        pair.exchange(b"\x05" * 10, b"\x06" * 7)
        ends = [pair.client, pair.server]
        one, other = ends if first == "client" else reversed(ends)
        one.shutdown(socket.SHUT_WR)
        assert other.recv(1) == b""
        other.sendall(b"\x07" * 9)
        other.close()
        assert one.recv(64) == b"\x07" * 9
        assert one.recv(1) == b""
    client, served = watch.sides(port)

    sizes = (10, 16) if first == "client" else (19, 7)
    assert [(s.request_bytes, s.response_bytes) for s in client + served] == [sizes] * 2


def test_a_connection_whose_last_bytes_nobody_reads_is_told_of_too(watch: Watch) -> None:
    with connection() as pair:
        port = port_of(pair)
        pair.exchange(b"\x05" * 10, b"\x06" * 7)
        pair.client.shutdown(socket.SHUT_WR)
        assert pair.server.recv(1) == b""
        pair.server.sendall(b"\x07" * 9)
        pair.server.close()
        wait_until(lambda: len(watch.exchanges(port)) == 2, what="both ends' records")
    client, served = watch.sides(port)

    assert [(s.request_bytes, s.response_bytes) for s in client + served] == [(10, 16)] * 2


def test_what_a_known_protocol_was_spoken_on_is_not_told_again(watch: Watch) -> None:
    with connection() as pair:
        port = port_of(pair)
        pair.exchange(b"\0greeting", b"\0welcome")
        pair.exchange(HTTP_REQUEST, HTTP_RESPONSE)
    watch.drain()
    client, served = watch.sides(port)

    assert [s.proto for s in client] == [s.proto for s in served] == [PROTO_HTTP1]


def test_a_connection_without_bytes_is_none(watch: Watch) -> None:
    with connection() as pair:
        port = port_of(pair)
    watch.drain()
    assert watch.exchanges(port) == []


def test_tls_begins_with_the_name_and_the_protocols_that_the_client_asked_for(watch: Watch) -> None:
    with connection() as pair:
        port = port_of(pair)
        context = ssl.create_default_context()
        context.set_alpn_protocols(["h2", "http/1.1"])

        def shake() -> None:
            with pytest.raises((ssl.SSLError, OSError)):
                context.wrap_socket(pair.client, server_hostname="payments.example.com")

        client = threading.Thread(target=shake)
        client.start()
        pair.server.recv(8192)
        pair.server.sendall(b"\x15\x03\x03\0\2\x02\x28")  # an alert: the handshake ends here
        client.join(20)
    watch.drain()
    (seen,) = watch.exchanges(port, role=CLIENT)
    hello = parse_client_hello(seen.request, cut=True)
    if isinstance(hello, Truncated):
        hello = hello.partial

    assert seen.proto == PROTO_TCP
    assert isinstance(hello, ClientHello)
    assert hello == ("payments.example.com", ("h2", "http/1.1"))


def test_a_reset_connection_is_told_of_too(watch: Watch) -> None:
    with connection() as pair:
        port = port_of(pair)
        pair.exchange(b"\1\2\3\4\5\6\7\x08\x09", b"\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11")
        linger = b"\1\0\0\0\0\0\0\0"
        pair.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    watch.drain()

    assert {s.proto for s in watch.exchanges(port)} == {PROTO_TCP}
    assert {s.tgid for s in watch.exchanges(port)} == {os.getpid()}
