"""Messages of the protocols that answer out of order, as their specifications have them, and the segments they leave."""

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from farcall_probes import events
from farcall_probes.events import Flag
from farcall_probes.selftest import Pair
from farcall_probes.wire import cassandra
from support_probes import CLIENT, SERVER, Watch, port_of, receive

REQUEST, RESPONSE, CLOSED = (
    events.SEGMENT_REQUEST,
    events.SEGMENT_RESPONSE,
    events.SEGMENT_CLOSED,
)
CAPTURED = events.LARGE_REQ + events.LARGE_RESP


def kafka_request(
    correlation: int, *, key: int = 3, version: int = 9, name: bytes = b"rdkafka", body: bytes = b""
) -> bytes:
    head = struct.pack(">hhih", key, version, correlation, len(name)) + name
    return struct.pack(">i", len(head) + len(body)) + head + body


def kafka_response(correlation: int, body: bytes = b"\0" * 20) -> bytes:
    return struct.pack(">ii", 4 + len(body), correlation) + body


def mongodb_message(
    number: int, answers: int = 0, body: bytes = b"\0" * 30, opcode: int = 2013
) -> bytes:
    flags = b"\0\0\0\0" if opcode == 2013 else b""
    size = 16 + len(flags) + len(body)
    return struct.pack("<iiii", size, number, answers, opcode) + flags + body


def mongodb_request(number: int, body: bytes = b"\0" * 30) -> bytes:
    return mongodb_message(number, 0, body)


def mongodb_response(number: int, body: bytes = b"\0" * 30) -> bytes:
    return mongodb_message(number + 100_000, number, body)


def cassandra_request(
    stream: int, opcode: int = 7, body: bytes = b" FROM t\0\1\0", version: int = 4
) -> bytes:
    body = struct.pack(">i", len(body)) + body if opcode == 7 else body
    return struct.pack(">BBhBi", version, 0, stream, opcode, len(body)) + body


def cassandra_response(
    stream: int, opcode: int = 8, body: bytes = b"\0\0\0\1", version: int = 4
) -> bytes:
    return struct.pack(">BBhBi", version | 0x80, 0, stream, opcode, len(body)) + body


def cassandra_frame(*messages: bytes, whole: bool = True, packed: bool = False) -> bytes:
    """An outer frame of version 5. `packed`: as those of connections that compress, though this one says that it is not."""
    payload = b"".join(messages)
    head = (len(payload) | whole << 17).to_bytes(3, "little")
    if packed:
        head = (len(payload) | whole << 34).to_bytes(5, "little")
    return head + cassandra._crc24(head).to_bytes(3, "little") + payload + b"\0" * 4


Make = Callable[..., bytes]
# By protocol: the request of a number, and its response.
MAKERS: dict[int, tuple[Make, Make]] = {
    events.PROTO_KAFKA: (kafka_request, kafka_response),
    events.PROTO_MONGODB: (mongodb_request, mongodb_response),
    events.PROTO_CASSANDRA: (cassandra_request, cassandra_response),
}
each_protocol = pytest.mark.parametrize(
    ("ask", "answer"), MAKERS.values(), ids=("kafka", "mongodb", "cassandra")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    role: int
    kind: int
    proto: int
    seq: int
    data: bytes
    length: int
    responses: int
    request_seq: int
    flags: int
    ts_ns: int
    conn_id: int
    record: np.void


def see_segment(record: np.void) -> Segment:
    captured = bytes(record["req"]) + bytes(record["resp"])
    return Segment(
        role=int(record["role"]),
        kind=int(record["segment"]),
        proto=int(record["proto"]),
        seq=int(record["seq"]),
        data=captured[: int(record["req_cap"])],
        length=int(record["req_bytes"]),
        responses=int(record["resp_bytes"]),
        request_seq=int(record["request_seq"]),
        flags=int(record["flags"]),
        ts_ns=int(record["ts_req_ns"]),
        conn_id=int(record["conn_id"]),
        record=record,
    )


def list_segments(watch: Watch, *ports: int, role: int | None = None) -> list[Segment]:
    """In the order of submission."""
    found = [see_segment(record) for record in watch.segments(*ports)]
    return [s for s in found if role is None or s.role == role]


def texts(segments: list[Segment], kind: int) -> list[bytes]:
    """Of messages: the records of their ends have no length."""
    return [s.data for s in segments if s.kind == kind and s.length]


def check(
    segments: list[Segment], requests: list[bytes], responses: list[bytes], proto: int
) -> None:
    """What one end left behind, exactly."""
    assert texts(segments, REQUEST) == [r[:CAPTURED] for r in requests]
    assert texts(segments, RESPONSE) == [r[:CAPTURED] for r in responses]
    for kind, messages in ((REQUEST, requests), (RESPONSE, responses)):
        of_kind = [s for s in segments if s.kind == kind]
        assert [s.seq for s in of_kind] == list(range(len(of_kind)))
        of_kind = [s for s in of_kind if s.length]
        assert [s.length for s in of_kind] == [len(m) for m in messages]
        assert [bool(s.flags & Flag.CUT) for s in of_kind] == [len(m) > CAPTURED for m in messages]
        starts = [s.request_seq - of_kind[0].request_seq & 0xFFFFFFFF for s in of_kind]
        assert starts == [sum(map(len, messages[:i])) for i in range(len(messages))]
    assert {s.proto for s in segments} == {proto}


def check_both(
    watch: Watch, pair: Pair, requests: list[bytes], responses: list[bytes], proto: int
) -> None:
    port = port_of(pair)
    for role in (CLIENT, SERVER):
        segments = list_segments(watch, port, role=role)
        check([s for s in segments if s.kind != CLOSED], requests, responses, proto)


def send(pair: Pair, data: bytes) -> None:
    pair.client.sendall(data)
    receive(pair.server, len(data))


def answer(pair: Pair, data: bytes) -> None:
    pair.server.sendall(data)
    receive(pair.client, len(data))
