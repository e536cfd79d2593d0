"""Replies as Redis frames them, cut anywhere, and bytes that are no Redis at all."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall.redislink import LinkError, Refusal, Reply, read_reply, render_command

pytestmark = pytest.mark.unit

REPLIES: list[tuple[bytes, Reply]] = [
    (b"+OK\r\n", "OK"),
    (b":-17\r\n", -17),
    (b"$5\r\na\r\nbc\r\n", "a\r\nbc"),
    (b"$0\r\n\r\n", ""),
    (b"$-1\r\n", None),
    (b"*-1\r\n", None),
    (b"*0\r\n", []),
    (b"*3\r\n:1\r\n*1\r\n$1\r\nx\r\n$-1\r\n", [1, ["x"], None]),
    (b"$2\r\n\xff\xfe\r\n", "\ufffd\ufffd"),
]


def read(data: bytes) -> Reply:
    return read_reply(io.BufferedReader(io.BytesIO(data)))  # type: ignore[arg-type]


@pytest.mark.parametrize(("data", "meant"), REPLIES)
def test_a_reply_is_read_whole_and_no_further(data: bytes, meant: Reply) -> None:
    stream = io.BufferedReader(io.BytesIO(data + b"+next\r\n"))  # type: ignore[arg-type]

    assert read_reply(stream) == meant
    assert stream.read() == b"+next\r\n"


@pytest.mark.parametrize(("data", "_meant"), REPLIES)
def test_a_reply_that_is_cut_is_no_reply(data: bytes, _meant: Reply) -> None:
    for length in range(len(data)):
        with pytest.raises(LinkError):
            read(data[:length])


def test_an_error_of_redis_is_a_reply_like_others() -> None:
    reply = read(b"-NOPERM not yours\r\n")

    assert isinstance(reply, Refusal) and str(reply) == "NOPERM not yours"


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"$17179869184\r\n",
        b"*99999999\r\n",
        b"*1\r\n" * 20 + b":1\r\n",
        b":" + b"1" * 30 + b"\r\n",
        b"$2\r\nabcd",
        b"$-2\r\n",
        b"+" + b"x" * 70_000 + b"\r\n",
    ],
)
def test_what_redis_would_never_say_is_refused(data: bytes) -> None:
    with pytest.raises(LinkError):
        read(data)


@given(st.binary(max_size=80))
def test_random_bytes_are_a_reply_or_refused(data: bytes) -> None:
    try:
        read(data)
    except LinkError:
        pass


def test_a_command_is_bulk_strings_whatever_is_in_it() -> None:
    rendered = render_command(("ZADD", "k", 1.5, "a\r\n\ud800ä", 2**40))

    assert rendered == (
        b"*5\r\n$4\r\nZADD\r\n$1\r\nk\r\n$3\r\n1.5\r\n$6\r\na\r\n?\xc3\xa4\r\n$13\r\n1099511627776\r\n"
    )
