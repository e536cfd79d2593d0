"""What the agent's own code costs: synthetic records through parse, name, batch and lz4, process time. No kernel, no network."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from costs.grpcrecords import Rounds
from costs.report import Metric, make_metric, tell
from farcall.exchange import BatchHeader
from farcall.footprint import collect_seldom
from farcall_probes.batches import render_batch
from farcall_probes.capture import Drained
from farcall_probes.clocks import read_offsets
from farcall_probes.identity import Identities
from farcall_probes.policy import Policy
from farcall_probes.tracer import Tracer
from support_agent import a_answer, make_config, make_dns, make_drained, make_http, make_redis

_RECORDS = 4096
_CALLS = 1024  # a drain of 100 ms at 10,000 calls/s; a call is three records
_HEAD = (
    b"GET /api/v1/items/%d?page=%d&q=abc HTTP/1.1\r\nHost: api.example.com:8080\r\n"
    b"User-Agent: python-requests/2.31\r\nAccept-Encoding: gzip, deflate\r\nAccept: */*\r\n"
    b"Connection: keep-alive\r\nAuthorization: Bearer abcdefghijklmnopqrstuvwxyzabcdefghijklmnop\r\n"
    b"X-Request-Id: %032x\r\ntraceparent: 00-%032x-%016x-01\r\n\r\n"
)


def measure_code(*, quick: bool) -> list[Metric]:
    tell("code")
    rounds = 3 if quick else 15
    collect_seldom()  # as the agent does
    return [
        make_metric("code per HTTP/1 record", _measure(_http, rounds), "µs", 6),
        make_metric("code per Redis record", _measure(_redis, rounds), "µs", 4),
        make_metric("code per DNS answer", _measure(_dns, rounds), "µs"),
        make_metric("code per gRPC call", _measure(Rounds(_CALLS).make, rounds, _CALLS), "µs", 10),
    ]


def _http() -> Drained:
    """Every head is different: request IDs and trace contexts are in real traffic."""
    return make_drained(
        large=[
            make_http(
                _HEAD % (i, i % 7, i, i + 1, i + 1),
                **_connection(i),
                seq=i,
                ts_req_ns=10_000 + i * 1_000,
                ts_resp_ns=20_000 + i * 1_000,
            )
            for i in range(_RECORDS)
        ]
    )


def _connection(i: int) -> dict[str, int]:
    """Of 64, each with ends of its own."""
    number = i % 64
    return {"conn_id": 100 + number, "lport": 40_000 + number, "conn_open_ns": 1_000 + number}


def _redis() -> Drained:
    def command(i: int) -> bytes:
        key = b"session:%d" % i
        if i % 2:
            return b"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" % (len(key), key)
        return b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$10\r\n0123456789\r\n" % (len(key), key)

    return make_drained(
        small=[
            make_redis(command(i), **_connection(i), seq=i, ts_req_ns=10_000 + i * 1_000)
            for i in range(_RECORDS)
        ]
    )


def _dns() -> Drained:
    return make_drained(
        dns=[
            make_dns(a_answer(f"api{i % 50}.example.com", f"203.0.113.{i % 250}"), ts_ns=i)
            for i in range(_RECORDS)
        ]
    )


def _measure(make: Callable[[], Drained], rounds: int, records: int = _RECORDS) -> list[float]:
    """µs per record, of each round but the first."""
    with tempfile.TemporaryDirectory() as directory:
        config = make_config(Path(directory))
    policy = Policy(config.capture, mode="local", ids_below=lambda _: set(), apply=lambda _: None)
    tracer = Tracer(
        config,
        identities=Identities(node="bench"),
        policy=policy,
        offsets=read_offsets(),
        watched_since_ns=1,
        trusted=frozenset(),
    )
    costs = []
    for number in range(1, rounds + 2):
        drained = make()
        begin = time.process_time_ns()
        tracer.take(drained, now_ns=time.monotonic_ns())
        for kind, batch in tracer.take_batches():
            header = BatchHeader(
                kind=kind, node="bench", boot_id="0" * 32, number=number, dns_watched_since_ns=1
            )
            render_batch(batch, header)
        tracer.take_cache_writes()
        costs.append((time.process_time_ns() - begin) / 1_000 / records)
    return costs[1:]
