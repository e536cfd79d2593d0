"""Answers of Redis and memcached that come in several calls: when they ended and how long they are, at both ends, or not said."""

import struct
import time
from collections.abc import Iterator

import pytest

from farcall_probes.probes import KernelCapture
from farcall_probes.rests import ASK_FIRST_NS
from farcall_probes.selftest import Pair
from support_probes import Watch, connection, port_of
from support_rests import Told, pass_on, tell

pytestmark = pytest.mark.bpf


@pytest.fixture(autouse=True)
def alone(capture: KernelCapture) -> Iterator[None]:
    """Only this process is recorded: what others on the machine do must not fill the rings."""
    capture.enable(only_own=True)
    yield
    capture.enable()


def answer(pair: Pair, *pieces: bytes) -> tuple[int, int]:
    """Each in a call of its own at both ends; when the last one was (before, after)."""
    return [pass_on(pair.server, pair.client, piece) for piece in pieces][-1]


def close(pair: Pair) -> None:
    pair.server.close()
    assert pair.client.recv(1) == b""
    pair.client.close()


def check(sides: tuple[list[Told], list[Told]], size: int, last: tuple[int, int]) -> None:
    for side in sides:
        assert [t.size for t in side] == [size]
        assert side[0].first_ns < last[0] <= side[0].last_ns <= last[1]


def bulk(size: int) -> bytes:
    return b"$%d\r\n%s\r\n" % (size, b"v" * size)


GET = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"
LRANGE = b"*4\r\n$6\r\nLRANGE\r\n$1\r\nk\r\n$1\r\n0\r\n$2\r\n-1\r\n"
VALUE = b"VALUE k 0 3000\r\n" + b"v" * 3000 + b"\r\n"
META = b"VA 3000 f0\r\n" + b"v" * 3000 + b"\r\n"
BINARY = b"\x81\0\0\0\4" + bytes(3) + struct.pack(">I", 3004) + bytes(12) + b"v" * 3004
ASK_BINARY = b"\x80\0\0\1" + bytes(4) + struct.pack(">I", 1) + bytes(12) + b"k"
IN_PIECES = {
    "value": (GET, (bulk(5000)[:1500], bulk(5000)[1500:3000], bulk(5000)[3000:])),
    "head apart": (GET, (b"$5000\r\n", b"v" * 5000, b"\r\n")),
    "head of a short one apart": (GET, (b"$50\r\n", b"v" * 50 + b"\r\n")),
    "array's head apart": (LRANGE, (b"*3\r\n", bulk(2) * 3)),
    "array": (LRANGE, (b"*4\r\n" + bulk(300) + bulk(1200)[:-1], b"\n" + bulk(9), bulk(9))),
    "pipeline": (GET * 5, (bulk(700) + bulk(700)[:-1], b"\n" + bulk(700), bulk(700) * 2)),
    "get": (b"get key\r\n", (VALUE[:1400], VALUE[1400:] + b"E", b"ND\r\n")),
    "get of several": (b"get key l\r\n", (VALUE, VALUE, b"END\r\n")),
    "meta": (b"mg k v f\r\n", (META[:1400], META[1400:])),
    "binary": (ASK_BINARY, (BINARY[:24], BINARY[24:2000], BINARY[2000:])),
}


@pytest.mark.parametrize("go_on", ["next", "closed", "quiet"])
@pytest.mark.parametrize(("query", "pieces"), IN_PIECES.values(), ids=IN_PIECES)
def test_a_caches_answer_lasts_to_its_last_byte(
    watch: Watch, query: bytes, pieces: tuple[bytes, ...], go_on: str
) -> None:
    with connection() as pair:
        port = port_of(pair)
        pass_on(pair.client, pair.server, query)
        last = answer(pair, *pieces)
        if go_on == "next":
            pass_on(pair.client, pair.server, query)
        elif go_on == "closed":
            close(pair)
        else:
            wait_until_quiet(last)

        check(tell(watch, port, ask=go_on == "quiet"), sum(map(len, pieces)), last)


@pytest.mark.parametrize("go_on", ["next", "quiet"])
def test_of_a_long_array_nothing_but_what_follows_tells_its_reader_that_it_is_whole(
    watch: Watch, go_on: str
) -> None:
    """Its writer knows at once: an answer is made whole before it is written."""
    array = b"*4\r\n" + bulk(600) * 4
    with connection() as pair:
        pass_on(pair.client, pair.server, LRANGE)
        wait_until_quiet(answer(pair, array))
        if go_on == "next":
            pass_on(pair.client, pair.server, LRANGE)

        client, server = tell(watch, port_of(pair), ask=go_on == "quiet")
        assert [t.size for t in client] == [len(array)] and not server


def wait_until_quiet(last: tuple[int, int]) -> None:
    while time.monotonic_ns() < last[1] + ASK_FIRST_NS:
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("query", "pieces"),
    [
        (GET, (b"$5000\r\n", b"v" * 4000)),
        (LRANGE, (b"*2\r\n" + bulk(700), b"$700\r\nvv")),
        (b"get key\r\n", (VALUE[:1400], VALUE[1400:])),
    ],
)
def test_a_caches_answer_that_is_not_whole_has_no_end_however_quiet_it_is(
    watch: Watch, query: bytes, pieces: tuple[bytes, ...]
) -> None:
    with connection() as pair:
        pass_on(pair.client, pair.server, query)
        wait_until_quiet(answer(pair, *pieces))

        assert not any(t.last_ns for s in tell(watch, port_of(pair), ask=True) for t in s)


@pytest.mark.parametrize(
    ("query", "whole"),
    [
        (GET, bulk(5)),
        (GET, bulk(90)),
        (GET, bulk(1000)),
        (GET, b"$-1\r\n"),
        (GET, b"$0\r\n\r\n"),
        (GET, b"-ERR " + b"long " * 30 + b"\r\n"),
        (LRANGE, b"*0\r\n"),
        (LRANGE, b"*-1\r\n"),
        (LRANGE, b"*2\r\n:1\r\n_\r\n"),
        (LRANGE, b"*12\r\n" + bulk(60) * 12),
        (GET * 3, b"+OK\r\n" * 3),
        (b"get key\r\n", VALUE + b"END\r\n"),
        (b"get key\r\n", b"END\r\n"),
        (b"mg k v\r\n", META),
        (b"set k 0 0 1\r\nv\r\n", b"STORED\r\n"),
        (ASK_BINARY, BINARY),
    ],
)
def test_a_caches_answer_in_one_call_has_no_rest(watch: Watch, query: bytes, whole: bytes) -> None:
    with connection() as pair:
        for _ in range(2):
            pair.exchange(query, whole)

        assert len(watch.exchanges(port_of(pair))) == 4
        assert tell(watch, port_of(pair), ask=True) == ([], [])
        assert len(watch.rests(port_of(pair))) == 0
