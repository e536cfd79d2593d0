"""No parser of a protocol that answers out of order takes another protocol's messages for its own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from farcall_probes.wire import cassandra, kafka, mongodb
from farcall_probes.wire.outcomes import NOT_MINE
from support_corpus import read_corpus

pytestmark = pytest.mark.unit

PARSERS: dict[str, Callable[..., object]] = {
    "kafka": kafka.parse_request,
    "mongodb": mongodb.parse_request,
    "cassandra": cassandra.parse_request,
}
CORPORA = ("kafka", "mongodb", "cassandra-v3", "cassandra-v4", "cassandra-v5")
OTHERS = sorted((Path(__file__).parents[1] / "golden/wire").glob("*.bin"))
# PostgreSQL's StartupMessage and SSLRequest, a MySQL query, memcached's binary get, HTTP/2's preface, AMQP's
MADE = (
    b"\0\0\0\x26\0\3\0\0user\0farcall\0database\0orders\0\0",
    b"\0\0\0\x08\x04\xd2\x16\x2f",
    b"\x12\0\0\0\x03SELECT a FROM t...",
    b"\x80\0\0\x03\0\0\0\0\0\0\0\x03\0\0\0\x2a\0\0\0\0\0\0\0\0key",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"AMQP\0\0\x09\x01" + bytes(8),
)


@pytest.mark.parametrize("protocol", PARSERS)
def test_requests_of_other_protocols_are_not_ours(protocol: str) -> None:
    others = [path.read_bytes() for path in OTHERS] + list(MADE)
    for name in CORPORA:
        if not name.startswith(protocol):
            others += [pair.request[:824] for pair in read_corpus(name)]
    assert [
        data.hex() for data in others if PARSERS[protocol](data, cut=True) is not NOT_MINE
    ] == []


def test_cassandras_responses_are_no_requests() -> None:
    answers = [pair.response for name in CORPORA[2:] for pair in read_corpus(name)]
    assert {cassandra.parse_request(data, cut=True) for data in answers if data} == {NOT_MINE}
