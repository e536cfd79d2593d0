"""DNS answers: the question's name wins, chains are followed, cut captures keep what was there, nothing loops."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_probes.wire.dns import DnsAddress, DnsAnswer, answers_question, parse_answer
from farcall_probes.wire.outcomes import NEED_MORE, NOT_MINE, Outcome, Truncated
from support_agent import a_answer, dns_message, dns_name, dns_record, packed

pytestmark = pytest.mark.unit

POINTER = b"\xc0\x0c"


def parse(data: bytes) -> DnsAnswer:
    answer = parse_answer(data)
    assert isinstance(answer, DnsAnswer)
    return answer


def addresses(answer: DnsAnswer) -> list[bytes]:
    return [a.address for a in answer.addresses]


def test_a_and_aaaa_lead_to_the_question() -> None:
    answer = parse(a_answer("Cache.Example.COM", "203.0.113.10", "203.0.113.11"))
    assert answer.question == "cache.example.com"
    assert answer.addresses == (
        DnsAddress(packed("203.0.113.10"), 60),
        DnsAddress(packed("203.0.113.11"), 60),
    )
    assert addresses(parse(a_answer("x.example", "2001:db8::1"))) == [packed("2001:db8::1")]


def test_a_chain_of_aliases_keeps_the_name_that_was_asked() -> None:
    message = dns_message(
        "www.shop.example",
        [
            dns_record(dns_name("lb.cdn.example"), 1, packed("203.0.113.9")[12:]),
            dns_record(POINTER, 5, dns_name("edge.cdn.example")),
            dns_record(dns_name("edge.cdn.example"), 5, dns_name("lb.cdn.example")),
        ],
    )
    answer = parse(message)
    assert answer.question == "www.shop.example"
    assert answer.canonical_name == "lb.cdn.example"
    assert addresses(answer) == [packed("203.0.113.9")]


def test_records_of_names_that_were_not_asked_are_ignored() -> None:
    message = dns_message(
        "a.example", [dns_record(dns_name("bank.example"), 1, packed("203.0.113.66")[12:])]
    )
    assert parse(message).addresses == ()


ASKED = dns_name("shop.example") + b"\0\1\0\1"
ANSWER = a_answer("shop.example", "203.0.113.9")


@pytest.mark.parametrize(
    "asked",
    [
        ASKED,
        ASKED + bytes.fromhex("0000291000000000000000"),  # EDNS behind the question
        ASKED[:9],  # captured no further
        ASKED.upper(),
        dns_name("ShOp.ExAmPlE") + b"\0\1\0\1",
    ],
)
def test_an_answer_to_the_question_is_known_by_it(asked: bytes) -> None:
    assert answers_question(ANSWER, asked)


@pytest.mark.parametrize(
    "asked",
    [
        b"",
        ASKED[:4],  # too little to tell
        dns_name("bank.example") + b"\0\1\0\1",
        dns_name("shop.example") + b"\0\x1c\0\1",  # AAAA
        dns_name("example") + b"\0\1\0\1",
        dns_name("shop.example.com") + b"\0\1\0\1",
    ],
)
def test_an_answer_to_something_else_is_none(asked: bytes) -> None:
    assert not answers_question(ANSWER, asked)


@given(st.binary(max_size=300), st.binary(max_size=120))
def test_any_bytes_can_be_held_against_any_question(data: bytes, asked: bytes) -> None:
    assert answers_question(data, asked) in (True, False)


def test_an_alias_loop_ends() -> None:
    message = dns_message(
        "a.example",
        [
            dns_record(POINTER, 5, dns_name("b.example")),
            dns_record(dns_name("b.example"), 5, dns_name("a.example")),
            dns_record(POINTER, 1, packed("203.0.113.1")[12:]),
        ],
    )
    assert parse(message).canonical_name == "b.example"


def test_hints_of_https_records_are_addresses() -> None:
    hints = struct.pack("!HH", 4, 8) + packed("203.0.113.1")[12:] + packed("203.0.113.2")[12:]
    hints += struct.pack("!HH", 6, 16) + packed("2001:db8::2")
    alpn = struct.pack("!HH", 1, 3) + b"\x02h2"
    data = struct.pack("!H", 1) + b"\0" + alpn + hints
    answer = parse(dns_message("h.example", [dns_record(POINTER, 65, data)], kind=65))
    assert addresses(answer) == [
        packed("203.0.113.1"),
        packed("203.0.113.2"),
        packed("2001:db8::2"),
    ]


def test_an_answer_without_addresses_is_an_event_with_its_code() -> None:
    answer = parse(dns_message("nope.example", flags=0x8183))
    assert (answer.rcode, answer.addresses) == (3, ())
    assert parse(dns_message("big.example", flags=0x8380)).truncated_by_server


def test_other_records_between_are_stepped_over() -> None:
    records = [
        dns_record(POINTER, 46, b"signature"),
        dns_record(POINTER, 1, packed("203.0.113.7")[12:]),
    ]
    assert addresses(parse(dns_message("a.example", records))) == [packed("203.0.113.7")]


def test_bytes_behind_the_answers_are_left_alone() -> None:
    message = a_answer("a.example", "203.0.113.7")
    assert parse(message + b"\0\0\x29\x10\0\0\0\0\0\0\0") == parse(message)


def test_a_capture_that_is_cut_at_any_length_keeps_what_was_there() -> None:
    message = a_answer("a.example", *[f"203.0.113.{n}" for n in range(60)])
    whole = parse(message)
    question_end = len(dns_message("a.example"))
    for end in range(len(message)):
        outcome = parse_answer(message[:end], cut=True)
        if end < question_end:
            assert outcome is NOT_MINE, end
        else:
            assert isinstance(outcome, Truncated), end
            kept = outcome.partial.addresses
            assert kept == whole.addresses[: (end - question_end) // 16]


def test_a_message_that_grows_byte_by_byte_needs_more_until_it_is_whole() -> None:
    message = a_answer("a.example", "203.0.113.7")
    assert {parse_answer(message[:end]) for end in range(len(message))} == {NEED_MORE}


def test_pointers_that_loop_or_point_forward_are_not_mine() -> None:
    head = struct.pack("!HHHHHH", 7, 0x8180, 1, 0, 0, 0)
    for name in (b"\xc0\x0c", b"\xc0\x0e\xc0\x0c", b"\xc0\xff", b"\x80a\0"):
        assert parse_answer(head + name + struct.pack("!HH", 1, 1)) is NOT_MINE


def test_a_name_longer_than_the_limit_is_not_mine() -> None:
    assert parse_answer(dns_message(".".join(["a" * 60] * 5))) is NOT_MINE


def test_questions_updates_and_several_questions_are_not_mine() -> None:
    assert parse_answer(dns_message("a.example", flags=0x0100)) is NOT_MINE
    assert parse_answer(dns_message("a.example", flags=0xA800)) is NOT_MINE
    two = bytearray(dns_message("a.example"))
    two[5] = 2
    assert parse_answer(bytes(two)) is NOT_MINE


def test_odd_bytes_of_a_name_are_escaped() -> None:
    head = struct.pack("!HHHHHH", 7, 0x8180, 1, 0, 0, 0)
    data = head + b"\x04a.\x1bB\x03com\0" + struct.pack("!HH", 1, 1)
    assert parse(data).question == "a\\046\\027b.com"


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_give_a_declared_outcome(data: bytes, cut: bool) -> None:
    outcome = parse_answer(data, cut=cut)
    assert isinstance(outcome, DnsAnswer | Truncated | Outcome)
    assert not (cut and outcome is NEED_MORE)


@given(st.binary(max_size=200), st.integers(0, 20), st.booleans())
def test_any_records_behind_a_proper_question_give_a_declared_outcome(
    records: bytes, count: int, cut: bool
) -> None:
    message = bytearray(dns_message("a.example") + records)
    message[7] = count
    assert isinstance(parse_answer(bytes(message), cut=cut), DnsAnswer | Truncated | Outcome)
