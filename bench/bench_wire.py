"""What the parsers of Kafka, MongoDB and Cassandra cost: µs of CPU for an exchange, from captured bytes to what is shown of it.

Real messages (tests/corpus/wire), cut as the kernel side cuts them. Processor time of the fastest of several rounds: the machine's other
work costs rounds, not figures. Beside the recorded ones a request that a hostile peer made to be as dear as it can be.

    make bench-wire             figures go to bench/results/wire.json; QUICK=1 for fewer rounds
"""

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from farcall_probes.kafkatopics import KafkaTopics
from farcall_probes.statements import CassandraStatements
from farcall_probes.wire import cassandra, kafka, mongodb
from farcall_probes.wire.outcomes import Outcome, Truncated
from support_corpus import Pair, read_corpus

RESULTS = Path(__file__).parent / "results" / "wire.json"
ROUNDS = 5 if os.environ.get("QUICK") == "1" else 30
TIMES = 200
CAPTURED = 824  # bytes of a message that leave the kernel at most
T = TypeVar("T")
Read = Callable[[bytes, bytes], tuple[str | None, str | None]]


def make_readers() -> dict[str, Read]:
    """Corpus → (request, response) to what it is called and what is shown."""
    topics = KafkaTopics()
    statements = CassandraStatements(masking=True)

    def read_kafka(data: bytes, answer: bytes) -> tuple[str | None, str | None]:
        request = take(kafka.parse_request(data, cut=True))
        if answer:
            topics.learn(take(kafka.parse_response(answer, request, cut=True)))
        return request.operation, topics.find(request)

    def read_mongodb(data: bytes, answer: bytes) -> tuple[str | None, str | None]:
        request = take(mongodb.parse_request(data, cut=True))
        if answer:
            take(mongodb.parse_response(answer, request, cut=True))
        return request.operation, mongodb.render_text(request)

    def read_cassandra(data: bytes, answer: bytes) -> tuple[str | None, str | None]:
        request = take(cassandra.parse_request(data, cut=True))
        response = take(cassandra.parse_response(answer, request, cut=True)) if answer else None
        call = statements.find(1, request, response)
        return call.operation, call.text

    return {
        "kafka": read_kafka,
        "mongodb": read_mongodb,
        "cassandra-v4": read_cassandra,
        "cassandra-v4-lz4": read_cassandra,
    }


def take(outcome: T | Truncated[T] | Outcome) -> T:
    if isinstance(outcome, Outcome):
        raise SystemExit(f"the corpus has a message that is none: {outcome}")
    return outcome.partial if isinstance(outcome, Truncated) else outcome


def measure(read: Read, data: bytes, answer: bytes) -> float:
    """µs of one, in the fastest round."""
    fastest = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(TIMES):
            read(data, answer)
        fastest = min(fastest, time.process_time() - began)
    return fastest / TIMES * 1e6


def make_hostile() -> bytes:
    """Kafka: a claim of millions of elements, of one byte each."""
    body = b"\0" + b"\xff\xff\xff\x07" + b"\1" * CAPTURED
    header = (42).to_bytes(2, "big") + (2).to_bytes(2, "big") + bytes(4) + b"\xff\xff"
    return ((1 << 20).to_bytes(4, "big") + header + body)[:CAPTURED]


def main() -> int:
    figures: dict[str, dict[str, float]] = {}
    for name, read in make_readers().items():
        pairs = [
            Pair(p.request[:CAPTURED], (p.response or b"")[:CAPTURED]) for p in read_corpus(name)
        ]
        costs: dict[str, list[float]] = {}
        for pair in pairs:
            operation, _ = read(pair.request, pair.response or b"")
            cost = measure(read, pair.request, pair.response or b"")
            costs.setdefault(operation or "", []).append(cost)
        figures[name] = {o: round(sum(c) / len(c), 1) for o, c in sorted(costs.items())}
        figures[name]["all"] = round(sum(map(sum, costs.values())) / len(pairs), 1)
    readers = make_readers()
    figures["kafka"]["hostile"] = round(measure(readers["kafka"], make_hostile(), b""), 1)
    for name, own in figures.items():
        for operation, cost in own.items():
            print(f"{name:18}{operation:28}{cost:8.1f} µs")
    machine = {
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"machine": machine, "us": figures}, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
