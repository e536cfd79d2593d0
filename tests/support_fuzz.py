"""Every entrance where others' bytes come in, as a function of bytes that must raise nothing: the kept seeds and what is made of them.

Records of exchanges are fuzzed where the agent reads them (parser, masking, columns), as one request and its response:
`length of the request (2 bytes, big-endian), request, response`. `make fuzz` runs the same functions for as long as wanted.
"""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from farcall.envelope import parse_agent_status
from farcall.exchange import BatchError
from farcall.tracingconfig import InvalidConfigError, parse_tracingconfig
from farcall_exporter.batches import build_batch
from farcall_exporter.decode import decode_batch
from farcall_exporter.otlpin import OtlpError, parse_logs, parse_traces
from farcall_probes import events
from farcall_probes.dnsreading import DnsReader
from farcall_probes.heads import Heads
from farcall_probes.pairing import PAIRED, Pairer
from farcall_probes.readcolumns import Columns
from farcall_probes.reading import Reader
from farcall_probes.segments import Segments
from farcall_probes.streams import Streams
from farcall_probes.wire import (
    amqp,
    clienthello,
    dns,
    http1,
    memcached,
    mysql,
    nats,
    postgresql,
    redis,
)
from farcall_probes.wire.outcomes import MAX_TEXT, NEED_MORE
from support_agent import make_dns, make_record, make_segment
from support_exporter import make_context
from support_frames import make_frames
from support_ground import ROOT

CORPUS = ROOT / "tests/corpus/fuzz"
MAX_BYTES = 16_384  # of an input: more shows nothing new, and costs
Target = Callable[[bytes], None]


def join(request: bytes, response: bytes) -> bytes:
    return len(request).to_bytes(2, "big") + request + response


def split(data: bytes) -> tuple[bytes, bytes]:
    size = int.from_bytes(data[:2], "big")
    return data[2 : 2 + size], data[2 + size :]


# ---- exchanges ------------------------------------------------------------------------------------------------------


def _check_columns(columns: Columns) -> None:
    """Texts are bounded and printable, columns as long as their rows."""
    rows = len(columns.rows)
    for name in columns.__slots__:
        column = getattr(columns, name)
        if column is None:
            continue
        assert len(column) == rows, name
        for value in column if isinstance(column, list | tuple) else ():
            if isinstance(value, str):
                assert value.isprintable() and len(value.encode()) <= MAX_TEXT, (name, value)


def _read(code: int, dtype: "np.dtype[np.void]", request: bytes, response: bytes) -> None:
    request_room, response_room = dtype["req"].itemsize, dtype["resp"].itemsize
    record = make_record(
        dtype,
        proto=code,
        conn_id=7,
        req=request[:request_room],
        req_cap=min(len(request), request_room),
        req_bytes=len(request),
        resp=response[:response_room],
        resp_cap=min(len(response), response_room),
        resp_bytes=len(response),
    )
    for masking in (True, False):
        reader = Reader(masking=masking, headers=("x-request-id",), heads=Heads())
        _check_columns(reader.read(code, record))


def _exchange(code: int, *parsers: Callable[..., Any], dtype: Any = events.LARGE) -> Target:
    """`parsers`: of requests, which know no cut of their own when told that there is none."""

    def run(data: bytes) -> None:
        request, response = split(data)
        for parse in parsers:
            parse(request)
            assert parse(request, cut=True) is not NEED_MORE
        _read(code, dtype, request, response)

    return run


def _segments(code: int) -> Target:
    """Also in the order in which the kernel side ships them, as they are and in outer frames."""

    def run(data: bytes) -> None:
        request, response = split(data)
        _read(code, PAIRED, request, response)
        for wrapped in (0, 1):
            pairer = Pairer(max_in_flight=4, max_connections=4)
            for kind, message in (
                (events.SEGMENT_REQUEST, request),
                (events.SEGMENT_RESPONSE, response),
            ):
                room = events.LARGE_REQ + events.LARGE_RESP
                values = {"segment": kind, "proto": code, "wrapped": wrapped}
                ended = pairer.take(make_segment(message[:room], **values))
                if ended is not None:
                    reader = Reader(masking=True, headers=(), heads=Heads())
                    _check_columns(reader.read(code, ended))
            assert len(pairer) <= 4

    return run


def _nats(data: bytes) -> None:
    nats.parse_message(data)
    assert nats.parse_message(data, cut=True) is not NEED_MORE
    _tell(events.PROTO_NATS, [data])


def _amqp(data: bytes) -> None:
    """Also as records of a call's pieces, which are a length and as many bytes."""
    amqp.parse_method(data)
    assert amqp.parse_method(data, cut=True) is not NEED_MORE
    amqp.count_message(data, len(data))
    pieces, at = [], 0
    while at < len(data) and len(pieces) < 64:
        end = at + 1 + data[at]
        pieces.append(data[at + 1 : end])
        at = end
    _tell(events.PROTO_AMQP, [data])
    _tell(events.PROTO_AMQP, pieces)


def _tell(code: int, pieces: list[bytes]) -> None:
    """Each as a record, of either direction in turn and then all of one."""
    room = events.LARGE_REQ + events.LARGE_RESP
    for kinds in ((1, 2), (1, 1), (2, 2)):
        segments = Segments()
        reader = Reader(masking=True, headers=(), heads=Heads())
        seqs = [0, 0, 0]
        for at, piece in enumerate(pieces):
            kind = kinds[at % 2]
            values = {"segment": kind, "proto": code, "seq": seqs[kind]}
            seqs[kind] += 1
            done = segments.take(make_segment(piece[:room], **values))
            if done is not None:
                _check_columns(reader.read(code, done))
        segments.let_go()
        segments.tell_late(1 << 60, 0)
        assert len(segments) == 0


def _http2(data: bytes) -> None:
    """Frames, one after the other; the first byte of each says how long it is and whose."""
    streams = Streams(max_sessions=2, max_in_flight=4)
    seqs, at = [0, 0], 0
    while at < len(data):
        size, direction = data[at] >> 1, data[at] & 1
        frame = data[at + 1 : at + 1 + size]
        at += 1 + size
        kind = events.SEGMENT_RESPONSE if direction else events.SEGMENT_REQUEST
        record = make_segment(frame, segment=kind, seq=seqs[direction], resp_bytes=0)
        seqs[direction] += 1
        ended = streams.take(make_frames(record))
        if ended is not None:
            _check_columns(ended.columns)


def _dns(data: bytes) -> None:
    for cut in (False, True):
        dns.parse_answer(data, cut=cut)
    list(DnsReader().read(make_dns(data[: events.DNS_DATA])))


# ---- the exporter's entrances, and the resource ---------------------------------------------------------------------


def _arrow(data: bytes) -> None:
    try:
        decoded = decode_batch(data)
    except BatchError:
        return
    build_batch(decoded, make_context())


def _otlp(parse: Callable[..., Any], *, is_json: bool) -> Target:
    def run(data: bytes) -> None:
        try:
            parse(data, is_json=is_json)
        except OtlpError:
            pass

    return run


def _status(data: bytes) -> None:
    try:
        parse_agent_status(json.loads(data))
    except (ValueError, RecursionError):  # the listener answers both with 400
        pass


def _spec(data: bytes) -> None:
    try:
        parse_tracingconfig(data, source="fuzz")
    except InvalidConfigError:
        pass


TARGETS: dict[str, Target] = {
    "http1": _exchange(events.PROTO_HTTP1, http1.RequestParser().parse),
    "redis": _exchange(events.PROTO_REDIS, redis.parse_commands, dtype=events.SMALL),
    "postgresql": _exchange(events.PROTO_POSTGRES, postgresql.parse_request),
    "mysql": _exchange(events.PROTO_MYSQL, mysql.parse_request),
    "memcached": _exchange(events.PROTO_MEMCACHED, memcached.parse_request, dtype=events.SMALL),
    "tls": _exchange(events.PROTO_TCP, clienthello.parse_client_hello),
    "kafka": _segments(events.PROTO_KAFKA),
    "mongodb": _segments(events.PROTO_MONGODB),
    "cassandra": _segments(events.PROTO_CASSANDRA),
    "nats": _nats,
    "amqp": _amqp,
    "http2": _http2,
    "dns": _dns,
    "arrow": _arrow,
    "otlp-traces": _otlp(parse_traces, is_json=False),
    "otlp-traces-json": _otlp(parse_traces, is_json=True),
    "otlp-logs": _otlp(parse_logs, is_json=False),
    "otlp-logs-json": _otlp(parse_logs, is_json=True),
    "agent-status": _status,
    "spec": _spec,
}


# ---- seeds ----------------------------------------------------------------------------------------------------------


def seed_files(target: str) -> list[Path]:
    return sorted((CORPUS / target).iterdir())


@cache
def read_seeds(target: str) -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in seed_files(target))


@st.composite
def mutated(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """A seed with a few changes: what a parser takes for its own, and then finds odd."""
    data = bytearray(draw(st.sampled_from(seeds)))
    chance = random.Random(draw(st.integers(0, 2**64 - 1)))
    for _ in range(draw(st.integers(1, 6))):
        _change(data, chance, seeds)
    return bytes(data[:MAX_BYTES])


_ODD = (b"\0", b"\xff", b"\x80", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\r\n")


def _change(data: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    at = chance.randint(0, len(data))
    size = chance.choice((1, 1, 2, 4, 8, 64))
    match chance.randint(0, 5):
        case 0:
            del data[at:]
        case 1:
            del data[at : at + size]
        case 2:
            data[at:at] = chance.randbytes(size)
        case 3:
            data[at : at + size] = chance.choice(_ODD)
        case 4:
            data[at:at] = data[at : at + size] * chance.randint(1, 8)
        case 5:
            other = chance.choice(seeds)
            data[at:] = other[min(at, len(other)) :]


def run_all(target: str, inputs: Iterator[bytes]) -> None:
    for data in inputs:
        TARGETS[target](data[:MAX_BYTES])
