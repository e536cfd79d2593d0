"""What is not Kafka, MongoDB or Cassandra is not taken for it, and two threads may use a connection's directions at once."""

import random
import socket
import struct
import threading

import pytest

from farcall_probes.events import PROTO_KAFKA
from support_probes import Watch, connection, port_of, receive
from support_segments import (
    answer,
    cassandra_request,
    check_both,
    kafka_request,
    kafka_response,
    list_segments,
    mongodb_request,
    send,
)

pytestmark = pytest.mark.bpf

OTHERS = [
    # A startup of PostgreSQL reads as Metadata, version 0.
    struct.pack(">ii", 180, 196_608) + b"user\0application_with_a_name\0" + b"o" * 142 + b"\0",
    # ZooKeeper: connect, getData, ping
    struct.pack(">iiqiq", 44, 0, 0, 30_000, 0) + struct.pack(">i", 16) + b"\0" * 16,
    struct.pack(">iiii", 14, 1, 4, 5) + b"/path\0"[:6],
    struct.pack(">iii", 8, -2, 11),
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x11" * 506,
    b"\x17\x03\x03\x00\x40" + b"\x05" * 64,
    b"\x05\0\0\0\x03SLEE",
    b"\x04\0\0\0\x05name",
    b"*1\r\n$4\r\nPING\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"Q\0\0\0\x0dSELECT 1\0",
    b"\x80\0\0\x03\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\0\0\0\0\0key",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\x04\0\0\0\0\0",
    b"\0\0\x08\x06\0\0\0\0\0" + b"\0" * 8,
    b"\0\0\x04\x08\0\0\0\0\0\0\x0f\0\x01",
    b"\0\0\x2a\x00\x00\0\0\0\x01" + b"\0\0\0\0\x25" + b"p" * 37,
    b"AMQP\0\0\x09\x01",
    b"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\0\x80\0",
    b"\0\0\0\x1c\x80\x01\0\x01\0\0\0\x04ping\0\0\0\0\0",
    b"\x05\x01\0",
    b"\x04\x01\0\x50\x7f\0\0\x01user\0",
]


@pytest.mark.parametrize("first", OTHERS, ids=range(len(OTHERS)))
def test_other_protocols_are_not_mistaken_for_them(watch: Watch, first: bytes) -> None:
    with connection() as pair:
        for _ in range(3):
            send(pair, first)
            answer(pair, first[::-1])
        assert list_segments(watch, port_of(pair)) == []


def test_random_bytes_are_no_messages(watch: Watch) -> None:
    shape = random.Random(64)
    with connection() as pair:
        for _ in range(400):
            data = shape.randbytes(64)
            send(pair, data)
            answer(pair, data)
        assert list_segments(watch, port_of(pair)) == []


def test_only_the_end_that_connected_asks(watch: Watch) -> None:
    with connection() as pair:
        answer(pair, kafka_request(1))
        answer(pair, mongodb_request(1))
        answer(pair, cassandra_request(1))
        assert list_segments(watch, port_of(pair)) == []


def test_two_threads_may_use_both_directions_at_once(watch: Watch) -> None:
    count = 600
    requests = [kafka_request(i + 1, body=b"%d" % i * 30) for i in range(count)]
    responses = [kafka_response(i + 1, body=b"%d" % i * 30) for i in range(count)]

    def serve(server: socket.socket) -> None:
        for request, response in zip(requests, responses, strict=True):
            receive(server, len(request))
            server.sendall(response)

    def read(client: socket.socket) -> None:
        for response in responses:
            receive(client, len(response))

    with connection() as pair:
        threads = [
            threading.Thread(target=serve, args=(pair.server,)),
            threading.Thread(target=read, args=(pair.client,)),
        ]
        for thread in threads:
            thread.start()
        for request in requests:
            pair.client.sendall(request)
        for thread in threads:
            thread.join()
        check_both(watch, pair, requests, responses, PROTO_KAFKA)
