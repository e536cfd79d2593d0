"""HTTP/2 over real connections: when streams end and how long their bodies are, at both ends and however they are cut."""

import os
import time
from dataclasses import dataclass

import numpy as np
import pytest

from farcall_probes import events
from farcall_probes.selftest import Pair
from farcall_probes.streams import Streams
from farcall_probes.wire import http2
from support_frames import make_frames
from support_http2 import HELLO, SETTINGS, Peers, data
from support_probes import CLIENT, SERVER, Watch, connection, port_of, receive
from support_segments import REQUEST, RESPONSE, list_segments

pytestmark = pytest.mark.bpf

SIDES = (CLIENT, SERVER)
END_OF_STREAM = http2.END_HEADERS | http2.END_STREAM


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    asked_ns: int  # last byte of the request
    first_ns: int
    last_ns: int
    asked: int
    answered: int
    error: str | None


def tell(watch: Watch, port: int, role: int) -> dict[int, Ended]:
    """What the agent makes of one end's records, by stream."""
    records = [s.record for s in list_segments(watch, port, role=role)]
    block = np.array(records, dtype=events.LARGE)
    found = Streams().take(make_frames(block))
    if found is None:
        return {}
    ends = found.columns.ended_ns
    assert ends is not None
    return {
        2 * int(r["seq"]) + 1: Ended(
            asked_ns=int(r["ts_req_ns"]) + 1_000 * int(r["asked_us"]),
            first_ns=int(r["ts_resp_ns"]),
            last_ns=int(last),
            asked=int(r["req_bytes"]),
            answered=int(r["resp_bytes"]),
            error=error,
        )
        for r, last, error in zip(found.block, ends, found.columns.error, strict=True)
    }


def begin(pair: Pair) -> Peers:
    peers = Peers(pair)
    peers.send(REQUEST, HELLO)
    peers.send(RESPONSE, SETTINGS)
    return peers


def is_within(ns: int, call: tuple[int, int]) -> bool:
    return call[0] - 1_000 <= ns <= call[1]  # times of requests' ends are told in microseconds


def cut(frame: bytes, *places: int) -> list[bytes]:
    return [frame[a:b] for a, b in zip((0, *places), (*places, len(frame)), strict=True)]


@pytest.mark.parametrize(
    "places", [(), (9,), (4,), (9, 500), (4, 11, 12, 999)], ids=lambda p: "-".join(map(str, p))
)
def test_a_stream_ends_with_the_last_byte_of_its_last_frame(
    watch: Watch, places: tuple[int, ...]
) -> None:
    with connection() as pair:
        peers = begin(pair)
        asked = peers.ask(1)
        peers.send(REQUEST, asked)
        uploaded = peers.send(REQUEST, data(1, 700), *cut(data(1, 1_000, end=True), *places))
        answer = peers.answer(1)
        first = peers.send(RESPONSE, answer)
        last = peers.send(RESPONSE, data(1, 20_000), *cut(data(1, 1_000, end=True), *places))
        port = port_of(pair)
        found = [tell(watch, port, role)[1] for role in SIDES]

    for end in found:
        assert (end.asked, end.answered) == (len(asked) + 1_718, len(answer) + 21_018)
        assert end.error is None and is_within(end.first_ns, first)
        assert is_within(end.last_ns, last) and is_within(end.asked_ns, uploaded)


def test_what_comes_in_one_call_takes_no_further_record(watch: Watch) -> None:
    with connection() as pair:
        peers = begin(pair)
        for stream in (1, 3, 5):
            asked = peers.ask(stream) + data(stream, 100) + data(stream, 11, end=True)
            peers.send(REQUEST, asked)
            call = peers.answer(stream) + data(stream, 5_000) + data(stream, 0, end=True)
            peers.send(RESPONSE, call)
        port = port_of(pair)
        for role in SIDES:
            kinds = [s.data[3] for s in list_segments(watch, port, role=role)]
            assert kinds == [http2.HEADERS] * 6
            assert {end.last_ns - end.first_ns for end in tell(watch, port, role).values()} == {0}
        assert tell(watch, port, CLIENT)[5].answered == len(call)
        assert tell(watch, port, SERVER)[5].asked == len(asked)


def test_an_answer_with_its_trailers_is_one_record_when_one_call_brings_both(watch: Watch) -> None:
    with connection() as pair:
        peers = begin(pair)
        streams = range(1, 200, 2)
        sizes = []
        for stream in streams:
            peers.send(REQUEST, peers.ask(stream))
            parts = [peers.answer(stream), data(stream, 300), data(stream, 0)]
            trailers = [("grpc-status", "0"), ("x", "y" * stream)]
            parts.append(peers.headers(RESPONSE, stream, trailers, END_OF_STREAM))
            answer = b"".join(parts)
            at = stream * 3 % len(answer)
            peers.send(RESPONSE, *([answer] if stream % 4 == 1 else cut(answer, at)))
            sizes.append(len(answer))
        port = port_of(pair)
        for role in SIDES:
            found = tell(watch, port, role)
            assert [found[stream].answered for stream in streams] == sizes
            segments = [s for s in list_segments(watch, port, role=role) if s.kind == RESPONSE]
            beside = [s.record for s in segments if s.record["resp_cap"]]
            assert 50 <= len(beside) < 100 and len(segments) == 200 - len(beside)
            assert {int(r["ended"]) for r in beside} == {events.ENDED_STREAM}
            assert [s.seq for s in segments] == list(range(len(segments)))


def test_the_end_of_a_request_takes_no_further_record(watch: Watch) -> None:
    """Of a unary call in gRPC libraries that write the headers and the message apart."""
    with connection() as pair:
        peers = begin(pair)
        asked = peers.ask(1)
        peers.send(REQUEST, asked)
        uploaded = peers.send(REQUEST, data(1, 30, end=True))
        trailers = peers.headers(RESPONSE, 1, [("grpc-status", "0")], 5)
        peers.send(RESPONSE, peers.answer(1) + data(1, 60), trailers)
        port = port_of(pair)
        for role in SIDES:
            kinds = [s.data[3] for s in list_segments(watch, port, role=role)]
            (end,) = tell(watch, port, role).values()
            assert kinds == [http2.HEADERS] * 3
            assert end.asked == len(asked) + 39 and is_within(end.asked_ns, uploaded)
            assert end.answered == len(peers.sent[RESPONSE]) - len(SETTINGS)


def test_bodies_of_many_streams_at_once_are_each_counted(watch: Watch) -> None:
    """More than there is room for: what is pushed out is told of by a record of its own."""
    streams = range(1, 101, 2)
    with connection() as pair:
        peers = begin(pair)
        heads = {stream: peers.ask(stream) for stream in streams}
        peers.send(REQUEST, *heads.values())
        for last in (False, True):
            peers.send(REQUEST, b"".join(data(s, 10 + s, end=last) for s in streams))
        answers = {stream: peers.answer(stream) for stream in streams}
        peers.send(RESPONSE, *answers.values())
        for last in (False, True):
            peers.send(RESPONSE, *(data(s, 1_000 + s, end=last) for s in streams))
        port = port_of(pair)
        for role in SIDES:
            found = tell(watch, port, role)
            assert sorted(found) == list(streams)
            for s, end in found.items():
                assert end.asked == len(heads[s]) + 2 * (19 + s)
                assert end.answered == len(answers[s]) + 2 * (1_009 + s)
                assert end.last_ns > end.first_ns >= end.asked_ns > 0


def test_a_body_that_the_kernel_sends_ends_where_it_does(watch: Watch) -> None:
    with connection() as pair:
        peers = begin(pair)
        peers.send(REQUEST, peers.ask(1))
        body = os.memfd_create("body")
        os.write(body, b"x" * 16_000)
        answer = peers.answer(1)
        peers.send(RESPONSE, answer + data(1, 16_000, end=True)[:9])
        before_ns = time.monotonic_ns()
        assert os.sendfile(pair.server.fileno(), body, 0, 16_000) == 16_000
        os.close(body)
        receive(pair.client, 16_000)
        after_ns = time.monotonic_ns()
        for role in SIDES:
            (end,) = tell(watch, port_of(pair), role).values()
            assert end.answered == len(answer) + 16_009
            assert is_within(end.last_ns, (before_ns, after_ns))


def test_a_connection_that_closes_in_the_middle_tells_what_came_until_then(watch: Watch) -> None:
    with connection() as pair:
        peers = begin(pair)
        asked, answer = peers.ask(1), peers.answer(1)
        peers.send(REQUEST, asked, data(1, 200))
        peers.send(RESPONSE, answer, data(1, 4_000))
        port = port_of(pair)
    for role in SIDES:
        (end,) = tell(watch, port, role).values()
        assert (end.asked, end.answered) == (len(asked) + 209, len(answer) + 4_009)
        assert end.error == "reset" and end.last_ns > end.first_ns
