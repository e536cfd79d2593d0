"""Real requests and responses of Kafka, MongoDB and Cassandra (tests/corpus/wire), and what is read in them and shown of them.

`UPDATE_GOLDEN=1` writes the texts anew; the difference belongs in the review.
"""

from pathlib import Path
from typing import TypeVar

import pytest

from farcall_probes.kafkatopics import KafkaTopics
from farcall_probes.statements import CassandraStatements
from farcall_probes.wire import cassandra, kafka, mongodb
from farcall_probes.wire.outcomes import Outcome, Truncated
from support_corpus import Pair, read_corpus
from support_ground import check_golden

pytestmark = pytest.mark.golden

DIRECTORY = Path(__file__).parent / "multiplexed"
CAPTURED = 824  # bytes of a message that leave the kernel at most
CASSANDRA = ("cassandra-v3", "cassandra-v4", "cassandra-v4-lz4", "cassandra-v5", "cassandra-v5-lz4")
T = TypeVar("T")


def take(outcome: T | Truncated[T] | Outcome) -> T:
    assert not isinstance(outcome, Outcome), outcome
    return outcome.partial if isinstance(outcome, Truncated) else outcome


def render(**fields: object) -> str:
    """What there is of it, one request a line."""
    return "  ".join(f"{name}={value}" for name, value in fields.items() if value not in (None, ""))


def render_kafka(pairs: list[Pair]) -> list[str]:
    topics, lines = KafkaTopics(), []
    for pair in pairs:
        request = take(kafka.parse_request(pair.request[:CAPTURED], cut=True))
        response = None
        if pair.response is not None:
            answer = kafka.parse_response(pair.response[:CAPTURED], request, cut=True)
            response = take(answer)
            topics.learn(response)
        lines.append(
            render(
                operation=f"{request.operation} {request.version}",
                target="?" if request.topic_ids else topics.find(request),
                numbers=len(request.topic_ids) or None,
                group=request.group,
                client=request.client_id,
                answered=None if request.is_answered else "no",
                error=response.error if response else None,
                learnt=", ".join(name for _, name in response.topics) if response else None,
            )
        )
    return lines


def render_mongodb(pairs: list[Pair]) -> list[str]:
    lines = []
    for pair in pairs:
        request = take(mongodb.parse_request(pair.request[:CAPTURED], cut=True))
        response = None
        if pair.response is not None:
            response = take(mongodb.parse_response(pair.response[:CAPTURED], request, cut=True))
        lines.append(
            render(
                operation=request.operation,
                database=request.database,
                target=request.target,
                documents=request.documents or None,
                answered=None if request.is_answered else "no",
                error=response.error if response else None,
                text=mongodb.render_text(request),
            )
        )
    return lines


def render_cassandra(pairs: list[Pair]) -> list[str]:
    statements, lines = CassandraStatements(masking=True), []
    for pair in pairs:
        request = take(cassandra.parse_request(pair.request[:CAPTURED], cut=True))
        response = None
        if pair.response is not None:
            response = take(cassandra.parse_response(pair.response[:CAPTURED], request, cut=True))
        call = statements.find(1, request, response)
        lines.append(
            render(
                operation=call.operation,
                keyspace=call.namespace,
                table=call.collection,
                executions=call.executions,
                compressed="yes" if request.is_compressed else None,
                error=response.error if response else None,
                text=call.text,
            )
        )
    return lines


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("kafka", render_kafka),
        ("mongodb", render_mongodb),
        *((n, render_cassandra) for n in CASSANDRA),
    ],
)
def test_what_is_read_in_the_bytes_of_real_clients_and_servers(name: str, lines: object) -> None:
    assert callable(lines)
    rendered = "\n".join(lines(read_corpus(name))) + "\n"
    check_golden(f"{name}.txt", rendered, folder=DIRECTORY)
    assert "secret" not in rendered
