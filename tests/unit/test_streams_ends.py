"""HTTP/2 exchanges last to the end of their response and count its body; where its end is not known, it is not said."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pytest

from farcall_probes import events
from farcall_probes.capture import Records
from farcall_probes.streamrows import Exchanges
from farcall_probes.streams import UNENDED_NS, Streams
from support_agent import make_segment
from support_frames import make_frames
from support_http2 import Talk, get_headers, grpc_headers

pytestmark = pytest.mark.unit

ASKED_US, TOLD_BYTES = 4, 1_500


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    first_ns: int
    last_ns: int
    request_bytes: int
    response_bytes: int
    asked_us: int
    error: str | None
    status: int


def see(found: Exchanges | None) -> list[Row]:
    if found is None:
        return []
    block, columns = found.block, found.columns
    assert columns.ended_ns is not None
    return [
        Row(
            first_ns=int(record["ts_resp_ns"] - record["ts_req_ns"]),
            last_ns=int(last - record["ts_req_ns"]),
            request_bytes=int(record["req_bytes"]),
            response_bytes=int(record["resp_bytes"]),
            asked_us=int(record["asked_us"]),
            error=columns.error[at],
            status=int(columns.status[at]),
        )
        for at, (record, last) in enumerate(zip(block, columns.ended_ns, strict=True))
    ]


def take(streams: Streams, *records: Sequence[Records]) -> list[Row]:
    block = np.concatenate(list(chain(*records)))
    return see(streams.take(make_frames(block)))


def size_of(records: Sequence[Records]) -> int:
    return sum(int(record["req_bytes"][0]) for record in records)


def test_a_response_lasts_to_the_end_of_its_body_and_is_as_long() -> None:
    talk, streams = Talk(), Streams()
    asked, answered = talk.ask(1, get_headers(), end=True), talk.answer(1, end=False)
    assert take(streams, asked, answered) == []
    assert take(streams, talk.body(1, 1, 900, end=False)) == []
    (row,) = take(streams, talk.body(1, 1, 100))

    assert (row.first_ns, row.last_ns) == (1_000, 3_000)
    assert row.response_bytes == size_of(answered) + 1_000
    assert (row.request_bytes, row.asked_us, row.error) == (size_of(asked), 0, None)
    assert len(streams) == 0


def test_a_body_that_came_with_its_headers_is_told_by_their_record() -> None:
    talk, streams = Talk(), Streams()
    whole = {"ended": events.ENDED_STREAM, "ts_resp_ns": TOLD_BYTES}
    asked = talk.ask(1, get_headers(), **whole)
    answered = talk.headers(1, 1, [(":status", "200")], **whole)
    (row,) = take(streams, asked, answered)

    assert (row.first_ns, row.last_ns, row.asked_us) == (1_000, 1_000, 0)
    assert row.request_bytes == size_of(asked) + TOLD_BYTES
    assert row.response_bytes == size_of(answered) + TOLD_BYTES


@pytest.mark.parametrize("drains", [1, 4])
def test_a_grpc_stream_lasts_to_its_trailers_with_the_first_byte_apart(drains: int) -> None:
    talk, streams = Talk(), Streams()
    asked = talk.ask(1, grpc_headers())
    talk.now_ns += 5_000
    counted = {"cause_conn_id": 25, "asked_us": ASKED_US}
    kind = ("content-type", "application/grpc")
    answered = talk.headers(1, 1, [(":status", "200"), kind], ts_resp_ns=40, **counted)
    talk.now_ns += 10_000_000_000
    trailers = talk.headers(1, 1, [("grpc-status", "0")], end=True, ts_resp_ns=60)
    rows = []
    for piece in (
        [[asked, answered, trailers]] if drains == 1 else [[asked], [answered], [trailers]]
    ):
        rows += take(streams, *piece)
    (row,) = rows

    assert (row.first_ns, row.last_ns) == (6_000, 10_000_007_000)
    assert row.asked_us == 6 - ASKED_US
    assert row.request_bytes == size_of(asked) + 25
    assert row.response_bytes == size_of(answered) + size_of(trailers) + 100


def test_a_request_that_ends_by_a_record_of_its_own_tells_when() -> None:
    talk, streams = Talk(), Streams()
    asked = talk.ask(1, get_headers())
    uploaded = talk.body(0, 1, 700, end=False) + talk.body(0, 1, 70)
    (row,) = take(streams, asked, uploaded, talk.answer(1))

    assert (row.request_bytes, row.asked_us) == (size_of(asked) + 770, 2)


def test_a_reset_in_the_middle_says_so_and_what_came_until_then() -> None:
    talk, streams = Talk(), Streams()
    answered = talk.ask(1, get_headers()) + talk.answer(1, end=False)
    reset = talk.reset(0, 1, 8)
    reset[0]["ts_resp_ns"], reset[0]["cause_conn_id"] = 30, 4_000
    (row,) = take(streams, answered, reset)

    assert (row.status, row.error, row.first_ns, row.last_ns) == (200, "CANCEL", 1_000, 2_000)
    assert row.request_bytes == size_of(answered[:1]) + 30
    assert row.response_bytes == size_of(answered[1:]) + 4_000


def test_a_close_in_the_middle_says_so_and_what_was_counted_until_then() -> None:
    talk, streams = Talk(), Streams()
    begun = talk.ask(1, get_headers()) + talk.answer(1, end=False) + talk.ask(3, get_headers())
    (closed,) = talk.close()
    tables = np.zeros((2, events.BODIES, 3), dtype="<u4")
    tables[0, 1] = 3, 500, int(closed["ts_req_ns"][0]) // 1000 - 1
    tables[1, 0] = 1, 8_000, 0
    tables[1, 7] = 77, 9_999, 0  # nobody's
    raw = tables.tobytes()
    bodies = make_segment(raw, segment=events.SEGMENT_CLOSED)
    for name in ("req", "req_cap"):
        closed[name] = bodies[name]
    answered, silent = take(streams, begun, [closed])

    assert (answered.status, answered.error, answered.last_ns) == (200, "reset", 3_000)
    assert answered.response_bytes == size_of(begun[1:2]) + 8_000
    assert (silent.error, silent.request_bytes) == ("no_response", size_of(begun[2:]) + 500)


def test_a_response_that_does_not_end_is_told_as_it_stands_after_a_while() -> None:
    talk, streams = Talk(), Streams()
    take(streams, talk.ask(1, get_headers()), talk.answer(1, end=False))
    take(streams, talk.ask(3, grpc_headers()), talk.grpc_answer(3))
    begin_ns = talk.now_ns
    assert see(streams.tell_late(begin_ns + UNENDED_NS // 2, UNENDED_NS * 10)) == []
    (row,) = see(streams.tell_late(begin_ns + UNENDED_NS + 1, UNENDED_NS * 10))

    assert (row.first_ns, row.last_ns, row.error) == (1_000, 1_000, None)
    assert streams.counters["http2_unended"] == 1 and len(streams) == 1
    assert take(streams, talk.body(1, 1, 100)) == []
    assert len(take(streams, talk.trailers(3))) == 1


def test_what_was_answered_before_a_gap_is_told_as_it_stands() -> None:
    talk, streams = Talk(), Streams()
    take(streams, talk.ask(1, get_headers()), talk.answer(1, 503, end=False))
    take(streams, talk.ask(3, get_headers()))
    talk.body(1, 1, 100)  # lost
    (row,) = take(streams, talk.answer(3))

    assert (row.status, row.first_ns, row.last_ns) == (503, 1_000, 1_000)
    assert (streams.counters["http2_unended"], streams.counters["http2_streams_lost"]) == (1, 1)


def test_what_was_answered_is_told_as_it_stands_when_the_agent_ends() -> None:
    talk, streams = Talk(), Streams()
    take(streams, talk.ask(1, get_headers()), talk.answer(1, end=False), talk.ask(3, get_headers()))
    (row,) = see(streams.let_go())

    assert row.status == 200 and len(streams) == 1


def test_the_answer_to_connect_is_the_whole_answer() -> None:
    talk, streams = Talk(), Streams()
    tunnel = [(":method", "CONNECT"), (":authority", "db.example.com:5432")]
    (row,) = take(streams, talk.ask(1, tunnel), talk.answer(1, end=False))

    assert (row.first_ns, row.last_ns) == (1_000, 1_000)
    assert take(streams, talk.body(1, 1, 10_000)) == []
