"""HTTP/2 segments become exchanges: every stream meets its own answer, and what was lost makes nothing wrong."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall.exchange import ExchangeFlag
from farcall_probes import events
from farcall_probes.capture import Records
from farcall_probes.streamrows import Exchanges
from farcall_probes.streams import Streams
from support_agent import make_drained
from support_agent_room import Room
from support_frames import make_frames
from support_http2 import TRACE, Talk, get_headers, grpc_headers, list_fixed

pytestmark = pytest.mark.unit


def take(streams: Streams, *records: Sequence[Records]) -> Exchanges | None:
    block = np.concatenate(list(chain(*records)))
    return streams.take(make_frames(block))


def rows_of(exchanges: Exchanges | None) -> list[dict[str, Any]]:
    if exchanges is None:
        return []
    columns, block = exchanges.columns, exchanges.block
    assert columns.ended_ns is not None
    return [
        {
            "grpc": block["proto"][at] == events.PROTO_GRPC,
            "seq": int(block["seq"][at]),
            "ns": int(columns.ended_ns[at] - block["ts_req_ns"][at]),
            "flags": int(block["flags"][at]),
            "method": columns.operation[at],
            "path": columns.target[at],
            "query": columns.query[at],
            "host": columns.host[at],
            "status": int(columns.status[at]),
            "error": columns.error[at],
            "rpc": columns.rpc_status[at] if columns.rpc_status else None,
            "message": columns.message[at] if columns.message else None,
        }
        for at in range(len(block))
    ]


def test_an_exchange_without_a_body_ends_with_the_answers_headers() -> None:
    talk, streams = Talk(), Streams()
    (row,) = rows_of(take(streams, talk.ask(1, get_headers(), end=True), talk.answer(1, 404)))

    assert row == {
        "grpc": False,
        "seq": 0,
        "ns": 1_000,
        "flags": 0,
        "method": "GET",
        "path": "/a",
        "query": "b=c",
        "host": "api.example.com",
        "status": 404,
        "error": None,
        "rpc": None,
        "message": None,
    }


def test_a_user_in_the_authority_is_left_out() -> None:
    talk, streams = Talk(), Streams()
    names = [(n, "me:hunter2@a.example" if n == ":authority" else v) for n, v in get_headers()]
    (row,) = rows_of(take(streams, talk.ask(1, names, end=True), talk.answer(1, 404)))

    assert row["host"] == "a.example"


def test_a_grpc_call_ends_at_its_trailers_and_has_their_status() -> None:
    talk, streams = Talk(), Streams()
    asked = talk.ask(1, grpc_headers("/shop.Cart/AddItem", ("traceparent", TRACE)))
    assert take(streams, asked, talk.grpc_answer(1)) is None
    found = take(streams, talk.trailers(1, 5, "no%20such%20cart%F0%9F%90%88"))
    (row,) = rows_of(found)

    assert row["grpc"] and (row["status"], row["rpc"], row["error"]) == (200, "5", None)
    assert row["message"] == "no such cart🐈" and row["ns"] == 2_000
    assert found is not None and list_fixed(found.columns.trace_id)[0] == bytes.fromhex(TRACE[3:35])


@pytest.mark.parametrize(
    ("headers", "flag"),
    [
        ([("b3", f"{TRACE[3:35]}-{'b' * 16}-1")], ExchangeFlag.TRACE_B3),
        ([("x-b3-traceid", TRACE[3:35]), ("x-b3-spanid", "b" * 16)], ExchangeFlag.TRACE_B3),
        ([("uber-trace-id", f"{TRACE[3:35]}:{'b' * 16}:0:1")], ExchangeFlag.TRACE_JAEGER),
        ([("b3", f"{'c' * 32}-{'b' * 16}-1"), ("traceparent", TRACE)], 0),
    ],
)
def test_the_trace_of_a_stream_is_read_in_each_format(
    headers: list[tuple[str, str]], flag: int
) -> None:
    talk, streams = Talk(), Streams()
    found = take(streams, talk.ask(1, [*get_headers("/"), *headers]), talk.answer(1, 200))
    assert found is not None

    assert list_fixed(found.columns.trace_id)[0] == bytes.fromhex(TRACE[3:35])
    formats = ExchangeFlag.TRACE_B3 | ExchangeFlag.TRACE_JAEGER
    assert int(found.columns.flags[0]) & formats == flag


@pytest.mark.parametrize(
    ("headers", "state", "invalid"),
    [
        ([("traceparent", TRACE), ("tracestate", "rojo=1"), ("tracestate", "congo=2")], "rojo=1,congo=2", 0),
        ([("traceparent", TRACE), ("tracestate", "Rojo")], None, 1),
        ([("traceparent", TRACE)], None, 0),
        ([("tracestate", "rojo=1")], None, 0),
    ],
)  # fmt: skip
def test_the_tracestate_of_a_stream_is_kept_beside_its_traceparent(
    headers: list[tuple[str, str]], state: str | None, invalid: int
) -> None:
    talk, streams = Talk(), Streams()
    for number in (1, 3):  # the second time from the dynamic table
        asked = talk.ask(number, [*get_headers("/"), *headers])
        found = take(streams, asked, talk.answer(number, 200))
        assert found is not None and list(found.columns.trace_state or [None]) == [state]
    assert streams.counters["http2_contexts_invalid"] == 2 * invalid


def test_a_stream_whose_b3_is_there_twice_names_no_trace() -> None:
    talk, streams = Talk(), Streams()
    twice = [("b3", f"{digit * 32}-{'b' * 16}") for digit in "12"]
    found = take(streams, talk.ask(1, [*get_headers("/"), *twice]), talk.answer(1, 200))

    assert found is not None and list_fixed(found.columns.trace_id)[0] is None
    assert streams.counters["http2_contexts_invalid"] == 1


def test_trailers_without_a_head_before_them_are_the_whole_answer() -> None:
    talk, streams = Talk(), Streams()
    only = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "12")]
    (row,) = rows_of(take(streams, talk.ask(1, grpc_headers()), talk.headers(1, 1, only, end=True)))

    assert row["grpc"] and (row["status"], row["rpc"], row["ns"]) == (200, "12", 1_000)


def test_streams_that_are_answered_in_another_order_meet_their_own_answers() -> None:
    talk, streams = Talk(), Streams()
    asked = [talk.ask(2 * n + 1, get_headers(f"/{n}")) for n in range(100)]
    answers = [talk.answer(2 * n + 1, 200 + n) for n in reversed(range(100))]
    rows = rows_of(take(streams, *asked, *answers))

    assert {row["path"]: row["status"] for row in rows} == {f"/{n}": 200 + n for n in range(100)}


def test_interim_answers_and_the_clients_trailers_end_nothing() -> None:
    talk, streams = Talk(), Streams()
    asked = talk.ask(1, get_headers())
    interim = talk.answer(1, 100, end=False)
    end = talk.headers(0, 1, [("x-checksum", "1")], end=True)
    assert take(streams, asked, interim, end) is None
    (row,) = rows_of(take(streams, talk.answer(1, 200)))

    assert row["status"] == 200 and row["ns"] == 3_000


@pytest.mark.parametrize(
    ("code", "error"), [(8, "CANCEL"), (7, "REFUSED_STREAM"), (0, "reset"), (99, "UNKNOWN_ERROR")]
)
@pytest.mark.parametrize("direction", [0, 1])
def test_a_stream_that_is_reset_has_the_codes_name(code: int, error: str, direction: int) -> None:
    talk, streams = Talk(), Streams()
    (row,) = rows_of(take(streams, talk.ask(1, grpc_headers()), talk.reset(direction, 1, code)))

    assert (row["error"], row["flags"]) == (error, 0)


def test_requests_of_this_drain_and_of_earlier_ones_end_with_their_own_record() -> None:
    talk, streams = Talk(tid=1), Streams()
    asked = [talk.ask(number, get_headers(f"/{number}")) for number in range(1, 61, 2)]
    assert take(streams, *asked) is None
    talk._common["tid"] = 2
    padded = talk.ship(0, b"\0\0\3\1\x0c\0\0\0\x63\1\x82\0")  # a frame that is walked with care
    late = talk.ask(61, get_headers("/61"))
    answers = [talk.answer(number) for number in (61, 99, 59, 1)]
    found = take(streams, padded, late, *answers)

    assert found is not None
    rows = zip(found.columns.target, found.block["tid"], found.block["seq"], strict=True)
    assert list(rows) == [("/61", 2, 30), (None, 2, 49), ("/59", 1, 29), ("/1", 1, 0)]


def test_streams_beyond_a_goaway_were_never_looked_at() -> None:
    talk, streams = Talk(), Streams()
    asked = [talk.ask(number, get_headers(f"/{number}")) for number in (1, 3, 5)]
    rows = rows_of(take(streams, *asked, talk.goaway(3), talk.answer(1), talk.answer(3)))

    assert [(r["path"], r["error"]) for r in rows] == [("/5", "goaway"), ("/1", None), ("/3", None)]


def test_a_stream_whose_answer_does_not_begin_in_time_is_told_of_once() -> None:
    talk, streams = Talk(), Streams()
    asked = talk.ask(1, get_headers()) + talk.ask(3, grpc_headers())
    # The trailers of one that has begun may come whenever they like.
    assert not rows_of(take(streams, asked, talk.grpc_answer(3)))
    assert streams.tell_late(talk.now_ns, 10_000_000) is None
    (row,) = rows_of(streams.tell_late(talk.now_ns + 10_000_000, 9_000_000))
    assert streams.tell_late(talk.now_ns + 20_000_000, 9_000_000) is None

    assert (row["path"], row["error"]) == ("/a", "timeout")
    assert row["flags"] & ExchangeFlag.NO_RESPONSE
    assert streams.counters["http2_timeouts"] == 1
    assert not rows_of(take(streams, talk.answer(1)))


def test_what_is_in_flight_when_the_connection_closes_has_no_response() -> None:
    talk, streams = Talk(), Streams()
    asked = talk.ask(1, get_headers()) + talk.ask(3, grpc_headers()) + talk.grpc_answer(3)
    rows = rows_of(take(streams, asked, talk.close()))

    assert [r["error"] for r in rows] == ["no_response", "reset"]
    assert [bool(r["flags"] & ExchangeFlag.NO_RESPONSE) for r in rows] == [True, False]


def test_a_close_behind_lost_answers_says_nothing_of_them() -> None:
    talk, streams = Talk(), Streams()
    asked = talk.ask(1, get_headers())
    talk.answer(1)  # lost
    assert take(streams, asked, talk.close()) is None
    assert streams.counters["http2_streams_lost"] == 1


def test_a_head_longer_than_a_record_and_one_in_continuations_are_read_whole() -> None:
    talk, streams = Talk(), Streams()
    token = ("authorization", "x" * 3_000)
    rows = rows_of(take(streams, talk.ask(1, get_headers("/1", token)), talk.answer(1)))
    rows += rows_of(take(streams, talk.ask(3, get_headers("/3", token)), talk.answer(3)))

    assert [(r["path"], r["flags"]) for r in rows] == [("/1", 0), ("/3", 0)]


def test_a_cut_head_says_so_and_what_comes_behind_is_unknown_not_wrong() -> None:
    talk, streams = Talk(), Streams()
    first, second, *_ = talk.ask(1, get_headers("/1", ("authorization", "x" * 3_000)))
    second["flags"] = events.FLAG_CUT
    rows = rows_of(take(streams, [first, second], talk.answer(1)))
    talk._seqs[0] = 2  # the kernel ships no more of it
    rows += rows_of(take(streams, talk.ask(3, get_headers("/3")), talk.answer(3)))

    assert [(r["path"], r["host"]) for r in rows] == [("/1", "api.example.com"), ("/3", None)]
    assert all(r["flags"] & ExchangeFlag.CUT for r in rows)
    assert streams.counters["http2_cut"] == 1


def test_a_gap_gives_up_the_streams_and_the_table() -> None:
    talk, streams = Talk(), Streams()
    take(streams, talk.ask(1, get_headers("/1", ("x-a", "1"))), talk.answer(1))
    take(streams, talk.ask(3, get_headers("/3")))
    talk.ask(5, get_headers("/5", ("x-a", "2")))  # lost
    rows = rows_of(take(streams, talk.ask(7, get_headers("/1")), talk.answer(3), talk.answer(7)))

    assert [(r["seq"], r["path"], r["method"]) for r in rows] == [(3, None, "GET")]
    assert rows[0]["flags"] & ExchangeFlag.CUT
    assert (streams.counters["http2_gaps"], streams.counters["http2_streams_lost"]) == (1, 1)
    assert streams.counters["http2_orphans"] == 1


def test_a_connection_older_than_the_agent_is_late_and_its_constant_path_unknown() -> None:
    talk = Talk(flags=events.FLAG_LATE, conn_open_ns=0)
    talk.ask(1, grpc_headers()), talk.grpc_answer(1), talk.trailers(1)  # before the agent
    talk._seqs = [0, 0]
    streams = Streams()
    rows = rows_of(take(streams, talk.ask(3, grpc_headers()), talk.answer(3, 200)))
    rows += rows_of(take(streams, talk.ask(5, grpc_headers("/new")), talk.answer(5, 418)))

    assert [(r["method"], r["path"], r["status"]) for r in rows] == [
        ("POST", None, 200),
        ("POST", "/new", 418),
    ]
    assert all(r["flags"] == ExchangeFlag.LATE for r in rows)


def test_identities_seen_later_complete_requests_in_flight() -> None:
    talk, streams = Talk(), Streams()
    asked = talk.ask(1, get_headers(), isn_client=0, isn_server=0)
    known = talk.ship(
        1, b"\0\0\0\4\0\0\0\0\0", flags=events.FLAG_IDENTITY, isn_client=7, isn_server=9
    )
    found = take(streams, asked, known, talk.answer(1))

    assert found is not None and found.block["flags"][0] == events.FLAG_IDENTITY
    assert (found.block["isn_client"][0], found.block["isn_server"][0]) == (7, 9)


def test_memory_is_bounded_and_what_is_dropped_is_counted() -> None:
    streams = Streams(max_sessions=10, max_in_flight=15)
    for number in range(40):
        talk = Talk(conn_id=1_000 + number)
        take(streams, talk.ask(1, get_headers()), talk.ask(3, get_headers()))

    counters = streams.counters
    assert counters["http2_streams_dropped"] == 80 - 15 - counters["http2_streams_lost"]
    assert counters["http2_connections_dropped"] == 20


@given(
    st.lists(st.tuples(st.binary(max_size=80), st.integers(0, 1), st.integers(0, 30)), max_size=9)
)
def test_any_bytes_are_taken(pieces: list[tuple[bytes, int, int]]) -> None:
    talk, streams = Talk(), Streams()
    for data, direction, offset in pieces:
        for record in talk.ship(direction, data):
            record["resp_bytes"] = offset
            take(streams, [record])


@st.composite
def talks(draw: st.DrawFn) -> list[tuple[str, int]]:
    """Some calls on streams of their own, asked in order and answered in any."""
    count = draw(st.integers(1, 12))
    steps = [("ask", n) for n in range(count)]
    for n in draw(st.permutations(range(count))):
        first = next(at for at, step in enumerate(steps) if step == ("ask", n))
        steps.insert(draw(st.integers(first + 1, len(steps))), ("answer", n))
    return steps


@given(talks(), st.sets(st.integers(0, 40)))
def test_whatever_is_lost_no_answer_meets_another_request(
    steps: list[tuple[str, int]], lost: set[int]
) -> None:
    talk, streams = Talk(), Streams()
    rows = []
    for at, (what, n) in enumerate(steps):
        more = [("x-n", str(n % 3))]
        asks = what == "ask"
        made = (
            talk.ask(2 * n + 1, get_headers(f"/{n}", *more))
            if asks
            else talk.answer(2 * n + 1, 300 + n, *more)
        )
        if at not in lost:
            rows += rows_of(take(streams, made))

    for row in rows:
        n = row["seq"]
        assert row["path"] in (f"/{n}", None) and row["status"] in (300 + n, 0)
    if not lost:
        assert sorted(row["path"] for row in rows) == sorted({f"/{n}" for _, n in steps})


def test_rows_reach_the_batch_masked_and_named(tmp_path: Path) -> None:
    room = Room(tmp_path)
    talk = Talk()
    plain = talk.ask(1, get_headers("/a?key=secret")) + talk.answer(1, 500)
    call = talk.ask(3, grpc_headers()) + talk.grpc_answer(3) + talk.trailers(3, 14, "down")
    rows = room.take(make_drained(large=[*plain, *call]))["exchanges"]
    rows.sort(key=lambda row: row["sequence"])

    assert [(r["protocol"], r["query"], r["target"]) for r in rows] == [
        ("http2", "key=?", "/a"),
        ("grpc", None, "/shop.Cart/AddItem"),
    ]
    assert [(r["rpc_status"], r["message"], r["status"]) for r in rows] == [
        (None, None, 500),
        ("14", "down", 200),
    ]
    assert [r["sequence"] for r in rows] == [0, 1]


def test_protocols_that_are_off_make_no_row(tmp_path: Path) -> None:
    room = Room(tmp_path, spec={"capture": {"protocols": ["grpc"]}})
    talk = Talk()
    plain = talk.ask(1, get_headers()) + talk.answer(1)
    call = talk.ask(3, grpc_headers()) + talk.grpc_answer(3) + talk.trailers(3)
    rows = room.take(make_drained(large=[*plain, *call]))["exchanges"]

    assert [r["protocol"] for r in rows] == ["grpc"]
