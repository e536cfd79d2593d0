"""Writes the seeds anew, from the bytes of real clients and servers in tests/corpus/wire and tests/golden/wire, and from what the
tests' own builders make where there are none: python tests/corpus/fuzz/write_seeds.py, with tests/ on PYTHONPATH.

What a fuzzer found (`found-…`) is left as it is.
"""

import json
import ssl
import struct
import sys
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hpack import Encoder

import support_amqp as amqp
from farcall_probes.wire import cassandra, http2
from farcall_probes.wire.outcomes import Outcome
from support_agent import a_answer, dns_message, dns_record
from support_corpus import read_corpus
from support_exporter import batch, exchange, identified, redis_exchange
from support_fuzz import CORPUS, join
from support_ground import ROOT
from support_http2 import frame, get_headers, grpc_headers

GOLDEN = ROOT / "tests/golden/wire"
PER_TARGET = 16  # the shortest that differ: longer ones say the same with more bytes


def write(target: str, seeds: list[bytes]) -> None:
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("seed-*"):
        old.unlink()
    for number, seed in enumerate(sorted(set(seeds), key=len)[:PER_TARGET]):
        (folder / f"seed-{number:02}").write_bytes(seed)


def corpus(*names: str) -> list[bytes]:
    pairs = [pair for name in names for pair in read_corpus(name)]
    first = {pair.request[:14]: join(pair.request, pair.response or b"") for pair in pairs}
    return list(first.values())


def packet(payload: bytes, sequence: int = 0) -> bytes:
    return struct.pack("<I", len(payload))[:3] + bytes((sequence,)) + payload


def message(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack(">I", len(content) + 4) + content


def golden(pattern: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(GOLDEN.glob(pattern))]


def shipped(*frames: tuple[int, bytes]) -> bytes:
    return b"".join(bytes((len(data) << 1 | direction,)) + data for direction, data in frames)


def http2_seeds() -> list[bytes]:
    asks, answers = Encoder(), Encoder()

    def ask(stream: int, headers: list[tuple[str, str]]) -> tuple[int, bytes]:
        return 0, frame(http2.HEADERS, 5, stream, asks.encode(headers))

    def answer(stream: int, flags: int, *headers: tuple[str, str]) -> tuple[int, bytes]:
        return 1, frame(http2.HEADERS, 4 | flags, stream, answers.encode(list(headers)))

    plain = [ask(1, list(get_headers())), answer(1, 1, (":status", "200"))]
    again = [ask(3, list(get_headers())), answer(3, 1, (":status", "404"))]
    call = [
        ask(5, list(grpc_headers())),
        answer(5, 0, (":status", "200"), ("content-type", "application/grpc")),
        answer(5, 1, ("grpc-status", "5"), ("grpc-message", "no%20such")),
    ]
    ends = [(1, frame(http2.RST_STREAM, 0, 7, b"\0\0\0\x08")), (1, frame(7, 0, 0, bytes(8)))]
    settings = [(0, frame(http2.SETTINGS, 0, 0, b"\0\1\0\0\x10\0"))]
    return [shipped(*plain), shipped(*plain, *again), shipped(*settings, *call), shipped(*ends)]


def span(**more: object) -> dict[str, object]:
    named = {"traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331"}
    times = {"startTimeUnixNano": "1700000000000000000", "endTimeUnixNano": "1700000000000000009"}
    attributes = [{"key": "n", "value": {"intValue": "7"}}]
    return {**named, "name": "order", "kind": 2, **times, "attributes": attributes, **more}


def main() -> None:
    text = [
        b"set k 0 0 5\r\nvalue\r\nget k\r\n",
        b"get a b\r\n",
        b"ms k 2\r\nab\r\n",
        b"incr k 1\r\n",
    ]
    binary = struct.pack(">BBHBBHIIQ", 0x80, 0, 3, 0, 0, 0, 3, 0, 0) + b"key"
    write(
        "http1",
        [join(data, b"HTTP/1.1 200 OK\r\n\r\n") for data in golden("curl*") + golden("python*")],
    )
    write(
        "redis",
        [
            join(d, b"-WRONGTYPE no\r\n")
            for d in [*golden("redis*"), b"PING\r\n", b"*1\r\n$4\r\nPING\r\n"]
        ],
    )
    query = message(b"Q", b"SELECT 'x', 1 FROM t /* c */\0")
    bind = message(b"P", b"s\0INSERT INTO t VALUES ($1)\0\0\0") + message(
        b"B", b"\0s\0\0\0\0\1\0\0\0\1x\0\0"
    )
    error = message(b"E", b"SERROR\0C23505\0MKey exists\0\0")
    run = message(b"E", b"\0\0\0\0\0") + message(b"S", b"")
    write("postgresql", [join(query, error), join(bind + run, error), join(run, b"Z\0\0\0\5I")])
    failed = packet(b"\xff\x7a\x04#42S02no table", 1)
    prepared = packet(b"\0\7\0\0\0\1\0\1\0\0\0\0", 1)
    attributes = b"\x03\1\1\0\1\xfe\0\4user\7hunter2SELECT 1"
    write(
        "mysql",
        [
            join(packet(p), r)
            for p, r in [
                (b"\x03SELECT 'a'", failed),
                (attributes, failed),
                (b"\x16SELECT ?", prepared),
                (b"\x17\7\0\0\0\0\1\0\0\0", failed),
                (b"\x02shop", failed),
            ]
        ],
    )
    write("memcached", [join(data, b"CLIENT_ERROR no\r\n") for data in [*text, binary]])
    names = ("api.example.com", "a.test", None)
    write("tls", [join(say_hello(name), b"") for name in names])
    write("kafka", corpus("kafka"))
    write("mongodb", corpus("mongodb"))
    write(
        "cassandra",
        corpus("cassandra-v3", "cassandra-v4-lz4", "cassandra-v4")[:8] + frames_of_cassandra(),
    )
    traced = b"NATS/1.0\r\ntraceparent: 00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01\r\n\r\n"
    sizes = b"%d %d" % (len(traced), len(traced) + 5)
    denied = b"-ERR 'Permissions Violation for Publish to \"orders.new\"'\r\n"
    write(
        "nats",
        [
            b"PUB orders.new 5\r\nhello\r\n",
            b"MSG orders.new 1 _INBOX.a.b 5\r\nhello\r\n",
            b"HPUB orders.new " + sizes + b"\r\n" + traced + b"hello\r\n",
            b"HMSG orders.new 1 _INBOX.a " + sizes + b"\r\n" + traced + b"hello\r\n",
            denied,
        ],
    )
    traceparent = amqp.table(
        {"traceparent": amqp.long_text("00-" + "a" * 32 + "-" + "b" * 16 + "-01")}
    )
    asked = [
        amqp.declare("q"),
        amqp.declared("q"),
        amqp.consume("q", "t"),
        amqp.deliver("t", "ex", "k") + amqp.content(2),
    ]
    write(
        "amqp",
        [
            amqp.publish("ex", "k") + amqp.message(b"hello", traceparent),
            amqp.deliver("t", "ex", "k") + amqp.message(b"hello", traceparent),
            amqp.get_ok("ex", "k") + amqp.message(b"hello"),
            amqp.close(404, (60, 40)),
            # As a call's pieces, a frame each.
            b"".join(bytes((len(piece),)) + piece for piece in asked),
        ],
    )
    write("http2", http2_seeds())
    cname = dns_record(b"\xc0\x0c", 5, b"\1b\xc0\x0e")
    write(
        "dns",
        [*golden("dnsmasq*"), a_answer("a.test", "203.0.113.7"), dns_message("a.test", [cname])],
    )
    rows = [[exchange()], [identified(seq=1), identified(seq=2)], [redis_exchange()], []]
    write("arrow", [batch(r, number=1) for r in rows])
    write_otlp()
    status = {"node": "n1", "boot_id": "b" * 32}
    write(
        "agent-status",
        [json.dumps(s).encode() for s in (status, {}, [1], {**status, "counters": {"x": -1}})],
    )
    specs = sorted((ROOT / "tests/corpus/tracingconfigs").glob("*/*.yaml"))
    write("spec", [path.read_bytes() for path in specs])


def say_hello(name: str | None) -> bytes:
    """What OpenSSL sends."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.check_hostname = name is not None
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def frames_of_cassandra() -> list[bytes]:
    """What one side has sent, from its first outer frame on."""
    rows = (ROOT / "tests/corpus/wire/cassandra-frames.ndjson").read_text().splitlines()
    found = []
    for sent in (bytes.fromhex(value) for row in rows for value in json.loads(row).values()):
        at = 0
        while at < len(sent) and isinstance(cassandra.parse_outer_frame(sent[at:]), Outcome):
            at += cassandra.HEADER + int.from_bytes(sent[at + 5 : at + 9], "big")
        found.append(join(sent[at : at + 1200], b""))
    return found


def write_otlp() -> None:
    from google.protobuf.json_format import ParseDict
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "cart"}}]}
    link, event = {"traceId": "0a" * 16, "spanId": "0b" * 8}, {"timeUnixNano": "1", "name": "e"}
    spans = [[span()], [span(links=[link], events=[event], status={"code": 2})], []]
    traces = [
        {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": s}]}]} for s in spans
    ]
    bodies = [
        {"stringValue": "x"},
        {"kvlistValue": {"values": [{"key": "k", "value": {"boolValue": True}}]}},
        {},
    ]
    records = [
        [{"timeUnixNano": "1700000000000000000", "severityNumber": 9, "body": b}] for b in bodies
    ]
    logs = [
        {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": r}]}]}
        for r in records
    ]
    for name, requests, kind in (
        ("traces", traces, ExportTraceServiceRequest),
        ("logs", logs, ExportLogsServiceRequest),
    ):
        write(f"otlp-{name}-json", [json.dumps(r).encode() for r in requests])
        write(f"otlp-{name}", [ParseDict(r, kind()).SerializeToString() for r in requests])


if __name__ == "__main__":
    main()
