"""Redis commands and replies: whole, byte by byte, cut at every length, pipelined, and any bytes at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_probes.wire.outcomes import NEED_MORE, NOT_MINE, Outcome, Truncated
from farcall_probes.wire.redis import (
    MAX_KEPT,
    RedisCommand,
    RedisReply,
    parse_commands,
    parse_reply,
)

pytestmark = pytest.mark.unit


def command(*words: bytes) -> bytes:
    bulks = (b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
    return b"*%d\r\n" % len(words) + b"".join(bulks)


SET = command(b"set", b"cart:9", b"a value")


def test_a_whole_command_is_read() -> None:
    assert parse_commands(SET) == RedisCommand("SET", 2, (b"cart:9", b"a value"), 1)
    assert parse_commands(command(b"PING")) == RedisCommand("PING", 0, (), 1)
    assert parse_commands(command(b"FT.SEARCH", b"idx")) == RedisCommand(
        "FT.SEARCH", 1, (b"idx",), 1
    )


@pytest.mark.parametrize("value", [b"", b"\r\n", b"*1\r\n$4\r\nPING\r\n", b"\x00\xff" * 20])
def test_arguments_may_hold_anything(value: bytes) -> None:
    assert parse_commands(command(b"SET", b"k", value)) == RedisCommand("SET", 2, (b"k", value), 1)


def test_a_command_that_grows_byte_by_byte_needs_more_until_it_is_whole() -> None:
    assert {parse_commands(SET[:end]) for end in range(len(SET))} == {NEED_MORE}


def test_a_command_that_is_cut_keeps_what_was_there() -> None:
    name_end = SET.index(b"set\r\n") + 5
    for end in range(len(SET)):
        outcome = parse_commands(SET[:end], cut=True)
        if end < name_end:
            assert outcome is NOT_MINE, end
        else:
            assert isinstance(outcome, Truncated)
            assert outcome.partial[:2] == ("SET", 2)
            assert set(outcome.partial.kept) <= {b"cart:9", b"a value"}


def test_a_pipeline_is_counted() -> None:
    pipeline = SET * 16
    first = RedisCommand("SET", 2, (b"cart:9", b"a value"), 16)
    assert parse_commands(pipeline) == first
    assert parse_commands(pipeline[:-3]) is NEED_MORE
    assert parse_commands(pipeline[:-3], cut=True) == Truncated(first)
    assert parse_commands(SET + b"\x00rubbish") == first._replace(commands=1)


def test_many_arguments_are_counted_and_few_kept() -> None:
    many = command(b"MGET", *[b"k%d" % n for n in range(100)])
    outcome = parse_commands(many)
    assert isinstance(outcome, RedisCommand)
    assert (outcome.arguments, len(outcome.kept)) == (100, MAX_KEPT)


def test_inline_commands_are_read() -> None:
    assert parse_commands(b"PING\r\n") == RedisCommand("PING", 0, (), 1)
    assert parse_commands(b"set a b\r\nget a\r\n") == RedisCommand("SET", 2, (b"a", b"b"), 2)
    assert parse_commands(b"PIN") is NEED_MORE


@pytest.mark.parametrize(
    "data",
    [
        b"*0\r\n",
        b"*-1\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$4\r\nPINGxx",
        b"*99999999\r\n$1\r\na\r\n",
        b"*1\r\n$3\r\n\x00\x01\x02\r\n",
        b"\x16\x03\x01",
        b"*2\r\n:1\r\n",
        b"\r\n",
    ],
)
def test_other_bytes_are_not_mine(data: bytes) -> None:
    assert parse_commands(data) is NOT_MINE


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_give_a_declared_outcome(data: bytes, cut: bool) -> None:
    outcome = parse_commands(data, cut=cut)
    assert isinstance(outcome, RedisCommand | Truncated | Outcome)
    assert not (cut and outcome is NEED_MORE)
    assert isinstance(parse_reply(data, cut=cut), RedisReply | Truncated | Outcome)


@given(st.lists(st.binary(max_size=20), max_size=20), st.integers(1, 3))
def test_what_a_client_would_send_is_read_back(arguments: list[bytes], times: int) -> None:
    outcome = parse_commands(command(b"EVAL", *arguments) * times)
    expected = RedisCommand("EVAL", len(arguments), tuple(arguments[:MAX_KEPT]), times)
    assert outcome == expected


@pytest.mark.parametrize(
    ("reply", "kind", "error"),
    [
        (b"+OK\r\n", "+", None),
        (b"$-1\r\n", "$", None),
        (b"-ERR unknown command 'x'\r\n", "-", "ERR"),
        (b"-WRONGTYPE Operation against a key\r\n", "-", "WRONGTYPE"),
        (b"-MOVED 3999 10.0.0.1:6381\r\n", "-", "MOVED"),
        (b"-lower case\r\n", "-", "ERR"),
        (b"!21\r\nSYNTAX invalid syntax\r\n", "!", "SYNTAX"),
        (b"%1\r\n+a\r\n:1\r\n", "%", None),
    ],
)
def test_replies(reply: bytes, kind: str, error: str | None) -> None:
    assert parse_reply(reply) == RedisReply(kind, error)


def test_a_reply_that_is_cut_still_has_its_code_when_the_word_is_whole() -> None:
    assert parse_reply(b"-WRONGTYPE Oper", cut=True) == Truncated(RedisReply("-", "WRONGTYPE"))
    assert parse_reply(b"-WRONGTY", cut=True) == Truncated(RedisReply("-", "ERR"))
    assert parse_reply(b"-WRONGTY") is NEED_MORE
    assert parse_reply(b"") is NEED_MORE
    assert parse_reply(b"HTTP/1.1") is NOT_MINE
