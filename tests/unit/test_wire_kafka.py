"""Kafka's requests and responses: real ones whole, byte by byte, cut at every length, with bytes behind them, and any bytes at all."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.protocol.api_message import ApiMessage

from farcall_probes import kafkatopics
from farcall_probes.kafkatopics import KafkaTopics
from farcall_probes.wire import kafka
from farcall_probes.wire.kafka import (
    APIS,
    KafkaRequest,
    KafkaResponse,
    find_correlation,
    find_fields,
    parse_request,
    parse_response,
)
from farcall_probes.wire.outcomes import NEED_MORE, NOT_MINE, Outcome, Truncated
from support_corpus import Pair, check_each_length, read_corpus, says_less
from support_kafka_messages import FAILED, GROUP, NUMBER, TOPIC, all_messages, encode

pytestmark = pytest.mark.unit

CORPUS = read_corpus("kafka")
MESSAGES = sorted(all_messages(), key=lambda made: made.__name__)


def message(key: int, version: int, body: bytes, *, client: bytes = b"\0\4shop") -> bytes:
    content = struct.pack(">HHi", key, version, 7) + client + body
    return struct.pack(">I", len(content)) + content


def answer(body: bytes, correlation: int = 7) -> bytes:
    return struct.pack(">Ii", len(body) + 4, correlation) + body


def text(value: bytes) -> bytes:
    return struct.pack(">h", len(value)) + value


def read(data: bytes) -> KafkaRequest:
    request = parse_request(data)
    assert isinstance(request, KafkaRequest)
    return request


def whole(request: bytes) -> bool:
    return len(request) == 4 + int.from_bytes(request[:4], "big")


PRODUCE = message(
    0, 3, b"\xff\xff" + b"\0\1" + bytes(4) + struct.pack(">i", 1) + text(b"orders") + bytes(4)
)


def test_a_request_says_its_api_client_and_topics() -> None:
    request = read(PRODUCE)

    assert request == KafkaRequest("Produce", 7, 0, 3, "shop", ("orders",))
    assert request.target == "orders"
    assert read(message(255, 0, b"")).operation == "Api255"
    assert read(message(11, 0, text(b"billing") + bytes(6))).group == "billing"
    assert read(message(18, 0, b"", client=b"\xff\xff")).client_id is None


def test_a_produce_without_acknowledgement_is_never_answered() -> None:
    assert read(PRODUCE).is_answered
    assert not read(PRODUCE.replace(b"\xff\xff\0\1", b"\xff\xff\0\0")).is_answered


def test_versions_that_are_not_in_the_table_are_named_and_their_bodies_left_alone() -> None:
    for version in (2, 14, 63):
        request = read(message(0, version, b"\xff\xff\xff\xff\xff\xff\xff"))
        assert (request.operation, request.topics) == ("Produce", ())


@pytest.mark.parametrize("pair", CORPUS, ids=lambda p: read(p.request).operation)
def test_real_messages_are_read_at_each_length(pair: Pair) -> None:
    request = read(pair[0])
    check_each_length(pair[0], parse_request, header=12, agrees=agrees)
    if pair[1] is not None and whole(pair[1]):
        assert find_correlation(pair[1]) == request.correlation

        def parse(data: bytes, *, cut: bool = False) -> object:
            return parse_response(data, request, cut=cut)

        check_each_length(pair[1], parse, header=8, agrees=says_less)


def agrees(partial: KafkaRequest, entire: KafkaRequest) -> bool:
    """Until it is seen that nobody wants an answer, one is expected."""
    return says_less(partial._replace(is_answered=entire.is_answered), entire)


def test_names_of_each_api_are_those_of_kafka() -> None:
    names = {key: api.name for key, api in APIS.items()}
    assert len(names) == 93 and sorted(names) == list(range(93))
    assert [names[key] for key in (0, 1, 3, 18, 68, 78)] == (
        ["Produce", "Fetch", "Metadata", "ApiVersions", "ConsumerGroupHeartbeat", "ShareFetch"]
    )


@pytest.mark.parametrize("response", [False, True])
def test_each_line_of_the_table_can_be_read_in_each_of_its_versions(response: bool) -> None:
    for key, api in APIS.items():
        for version in range(api.lowest, api.highest + 1):
            fields = find_fields(key, version, response=response)
            assert fields or not (api.response if response else api.request).strip(), (key, version)


@pytest.mark.parametrize("made", MESSAGES, ids=lambda made: made.__name__)
def test_what_another_implementation_writes_is_read_in_each_version(made: type[ApiMessage]) -> None:
    """kafka-python's messages, every field filled, in each version that both know: the table skips what it must, and no other
    string is taken for a topic or a group."""
    key = made.API_KEY
    checked = 0
    for version in range(APIS[key].lowest, APIS[key].highest + 1):
        if not made.min_version <= version <= made.max_version:
            continue
        checked += 1
        if made.is_request():
            request = read(encode(made, version, failed=0))
            assert request[:5] == (APIS[key].name, 7, key, version, "shop")
            assert set(request.topics) <= {TOPIC} and set(request.topic_ids) <= {NUMBER.bytes}
            assert request.group in (None, GROUP)
        else:
            asked = KafkaRequest("", 7, key, version, None)
            for failed, error in ((0, None), (FAILED, "UNKNOWN_TOPIC_OR_PARTITION")):
                response = parse_response(encode(made, version, failed=failed), asked)
                assert isinstance(response, KafkaResponse), version
                assert response.error == error, version
                assert set(response.topics) <= {(NUMBER.bytes, TOPIC)}
    assert checked


def test_topics_of_another_implementations_produce_and_fetch_are_found() -> None:
    made = {message.__name__: message for message in MESSAGES}
    for name, named in (("ProduceRequest", range(3, 13)), ("FetchRequest", range(4, 13))):
        highest = APIS[made[name].API_KEY].highest
        for version in range(named.start, highest + 1):
            request = read(encode(made[name], version, failed=0))
            assert bool(request.topics) == (version in named)
            assert bool(request.topic_ids) == (version not in named)


def test_what_a_broker_calls_a_number_is_learnt_and_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kafkatopics, "MAX_TOPICS", 2)
    known = KafkaTopics()
    fetch = KafkaRequest("Fetch", 7, 1, 13, "shop", topic_ids=(b"a" * 16, b"b" * 16))
    known.learn(KafkaResponse(7, topics=((b"a" * 16, "orders"),)))
    assert known.find(fetch) == "orders, unknown topic (YmJiYmJiYmJiYmJiYmJiYg)"

    known.learn(KafkaResponse(7, topics=((b"b" * 16, "payments"), (b"c" * 16, "carts"))))
    assert known.find(fetch) == "unknown topic (YWFhYWFhYWFhYWFhYWFhYQ), payments"
    assert known.find(fetch._replace(topic_ids=(), topics=("x",))) == "x"
    assert known.find(fetch._replace(topic_ids=())) is None


def test_many_topics_are_shown_up_to_a_number() -> None:
    many = read(
        message(3, 0, struct.pack(">i", 40) + b"".join(text(b"t%d" % n) for n in range(40)))
    )
    assert len(many.topics) == kafka.MAX_TOPICS
    assert many.target == "t0, t1, t2, t3, t4, t5, t6, t7, …"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00\x00",
        b"\0\0\0\x09" + bytes(20),  # shorter than any header
        message(2000, 0, b""),
        message(0, 64, b""),
        message(0, 3, b"", client=b"\x7f\xff"),
        message(3, 0, b"\0\0\0\1\0\x7fx"),  # whole, and a name that reaches beyond it
        message(3, 0, b"\xff\xff\xff\xf0"),
    ],
)
def test_others_and_malformed_ones_are_not_ours(data: bytes) -> None:
    assert parse_request(data, cut=True) is NOT_MINE


def test_an_answer_to_another_request_is_not_ours() -> None:
    request = read(PRODUCE)
    assert parse_response(answer(bytes(4), correlation=8), request) is NOT_MINE
    assert parse_response(answer(b"\0\0\0\1"), request) is NOT_MINE  # one topic that is not there


def test_errors_have_the_names_that_kafka_gives_them() -> None:
    heartbeat = read(message(12, 0, text(b"billing") + bytes(6)))
    names = {
        code: parse_response(answer(struct.pack(">h", code)), heartbeat)
        for code in (0, 27, -1, 500)
    }
    assert {
        code: response.error
        for code, response in names.items()
        if isinstance(response, KafkaResponse)
    } == {
        0: None,
        27: "REBALANCE_IN_PROGRESS",
        -1: "UNKNOWN_SERVER_ERROR",
        500: "ERROR_500",
    }


def test_claims_of_a_billion_elements_end_with_the_bytes() -> None:
    claim = b"\x7f\xff\xff\xff"
    for key, api in APIS.items():
        for version in {api.lowest, api.highest} & set(range(64)):
            data = message(key, version, claim * 200)
            assert parse_request(data[:824], cut=True) in (NOT_MINE,) or parse_request(
                data, cut=True
            )
            asked = KafkaRequest(api.name, 7, key, version, None)
            assert parse_response(answer(claim * 200)[:400], asked, cut=True) is not NEED_MORE


@given(st.binary(max_size=400), st.booleans(), st.integers(0, 300), st.integers(0, 64))
def test_any_bytes_have_an_outcome(data: bytes, cut: bool, key: int, version: int) -> None:
    for made in (data, message(key, version, data), message(key, version, data)[:-3]):
        outcome = parse_request(made, cut=cut)
        assert isinstance(outcome, KafkaRequest | Truncated | Outcome)
        assert not cut or outcome is not NEED_MORE
    asked = KafkaRequest("", 7, key, version, None)
    for made in (data, answer(data), answer(data)[:-3]):
        reply = parse_response(made, asked, cut=cut)
        assert isinstance(reply, KafkaResponse | Truncated | Outcome)
        assert not cut or reply is not NEED_MORE


@given(st.sampled_from(CORPUS), st.data())
def test_real_messages_with_wrong_bytes_have_an_outcome(pair: Pair, data: st.DataObject) -> None:
    broken = bytearray(pair.request)
    for _ in range(3):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    outcome = parse_request(bytes(broken), cut=True)
    assert isinstance(outcome, KafkaRequest | Truncated) or outcome is NOT_MINE
