"""Calls that one drain has whole become the same rows as those that many drains have piece by piece."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from farcall_probes import events
from farcall_probes.capture import Records
from farcall_probes.streamblocks import MANY
from farcall_probes.streamrows import Exchanges
from farcall_probes.streams import Streams
from support_frames import make_frames
from support_http2 import TRACE, Talk, get_headers, grpc_headers, list_fixed

pytestmark = pytest.mark.unit

Row = tuple[Any, ...]
ANSWER = [(":status", "200"), ("content-type", "application/grpc")]


def make_call(talk: Talk, stream: int, rng: random.Random) -> list[list[Records]]:
    """The frames of one call, each by itself."""
    trace = f"00-{rng.getrandbits(128) or 1:032x}-{rng.getrandbits(64) or 1:016x}-01"
    more = [
        ("traceparent", rng.choice([trace, trace, "none"])),
        ("tracestate", "rojo=1"),
        ("b3", f"{TRACE[3:35]}-{'b' * 16}-1"),
    ]
    headers = rng.choice(
        [
            grpc_headers(f"/shop.Cart/{rng.randrange(3)}", *more[: rng.randrange(4)]),
            get_headers(f"/{rng.randrange(3)}?q={stream}", *more[: rng.randrange(3)]),
            [*get_headers(), ("content-type", "text/html")],
            [(":method", "CONNECT"), (":authority", "a.example:443"), ("content-type", "x")],
        ]
    )
    frames = [talk.ask(stream, headers)]
    if rng.random() < 0.2:
        frames.append(talk.body(0, stream, 100))
    if rng.random() < 0.1:
        frames.append(talk.reset(1, stream, 8))
        return frames
    if rng.random() < 0.1:
        frames.append(talk.answer(stream, 103, end=False))
    kind = rng.choice(["application/grpc", "text/html"])
    form = rng.choice(["trailers", "trailers", "beside", "body", "alone", "never"])
    if form == "beside":
        frames.append(talk.whole_answer(stream, kind, has_priority=rng.random() < 0.2))
        return frames
    frames.append(talk.answer(stream, 200, ("content-type", kind), end=form == "alone"))
    if form == "trailers":
        frames.append(talk.trailers(stream, rng.randrange(3), "oh"))
    if form == "body":
        frames.append(talk.body(1, stream, 1_000))
    return frames


def make_same_call(talk: Talk, stream: int, rng: random.Random) -> list[list[Records]]:
    """As one client makes them all day."""
    trace = f"00-{rng.getrandbits(128) or 1:032x}-{rng.getrandbits(64) or 1:016x}-01"
    more = ("grpc-timeout", f"{rng.randrange(900_000)}u"), ("traceparent", trace)
    answer = [talk.grpc_answer(stream), talk.trailers(stream)]
    if rng.random() < 0.5:
        answer = [talk.whole_answer(stream)]
    return [talk.ask(stream, grpc_headers("/shop.Cart/AddItem", *more)), *answer]


def make_traffic(rng: random.Random) -> Iterator[list[Records]]:
    """Frames of calls on several connections, in the order of each connection, and now and then one is lost."""
    known = {"flags": events.FLAG_IDENTITY, "isn_client": 7, "isn_server": 8}
    late = {"flags": events.FLAG_LATE}
    talks = [Talk(conn_id=100 + i, **rng.choice([known, late, {}])) for i in range(4)]
    streams = [1] * len(talks)
    for _ in range(40):
        at = rng.randrange(len(talks))
        begun = []
        for _ in range(rng.randrange(1, 4)):
            make = make_same_call if at == 0 else make_call
            begun.append(make(talks[at], streams[at], rng))
            streams[at] += 2
        for frames in begun:
            for frame in frames:
                if rng.random() > 0.01:
                    yield frame
    for talk in talks:
        yield talk.close()


def list_rows(found: Exchanges | None) -> list[Row]:
    if found is None:
        return []
    block, columns = found.block, found.columns
    texts = (
        *(columns.operation, columns.target, columns.query, columns.host, columns.error),
        *(columns.user_agent, columns.content_type),
        *(list_fixed(columns.trace_id), list_fixed(columns.parent_span_id)),
        *(
            columns.trace_state or [None] * len(block),
            columns.rpc_status or (),
            columns.message or (),
        ),
    )
    numbers = [columns.status, columns.flags, columns.ended_ns]
    assert all(column is not None and len(column) == len(block) for column in (*texts, *numbers))
    fixed = [bytes(one) for one in block.view(f"V{block.dtype.itemsize}").tolist()]
    return list(zip(fixed, *texts, *(n.tolist() for n in numbers if n is not None), strict=True))


@pytest.mark.parametrize("seed", range(12))
def test_one_drain_of_many_frames_says_what_a_drain_for_each_frame_says(seed: int) -> None:
    frames = list(make_traffic(random.Random(seed)))
    apart, together = Streams(), Streams()
    expected: list[Row] = []
    for frame in frames:
        block = np.concatenate(frame)
        expected += list_rows(apart.take(make_frames(block)))
    found: list[Row] = []
    for begin in range(0, len(frames), 50):
        block = np.concatenate([r for frame in frames[begin : begin + 50] for r in frame])
        found += list_rows(together.take(make_frames(block)))

    assert sorted(map(repr, found)) == sorted(map(repr, expected)) and len(found) > 20
    assert together.counters == apart.counters
    assert len(together) == len(apart)


@pytest.mark.parametrize("has_priority", [False, True])
@pytest.mark.parametrize("is_apart", [False, True])
def test_trailers_beside_an_answer_are_read_as_behind_it(
    has_priority: bool, is_apart: bool
) -> None:
    rows = []
    for is_beside in (False, True):
        talk, streams, found = Talk(conn_id=7), Streams(), []
        for stream in range(1, 41, 2):
            asked = talk.ask(stream, grpc_headers())
            if is_beside:
                answer = talk.whole_answer(stream, has_priority=has_priority)
            else:
                answer = talk.headers(1, stream, ANSWER, ts_resp_ns=14)
                talk.now_ns -= 1_000
                answer += talk.trailers(stream)
            found.append([*asked, *answer])
        drains = found if is_apart else [[record for call in found for record in call]]
        made = [streams.take(make_frames(np.concatenate(d))) for d in drains]
        rows.append([row for exchanges in made for row in list_rows(exchanges)])
        assert not streams.counters["http2_unread"] and not len(streams)

    assert len(rows[0]) == 20
    if has_priority:  # five bytes more
        assert [row[1:] for row in rows[0]] == [row[1:] for row in rows[1]]
    else:
        assert rows[0] == rows[1]


@pytest.mark.parametrize("seed", range(2))
def test_a_busy_drain_says_what_a_drain_for_each_call_says(seed: int) -> None:
    rng = random.Random(seed)
    talks = [Talk(conn_id=100 + i, flags=rng.choice([0, events.FLAG_LATE])) for i in range(6)]
    apart, together = Streams(), Streams()
    for drain in range(3):
        calls = []
        for number in range(MANY // 2):
            stream = 2 * (drain * MANY + number) + 1
            talk = rng.choice(talks)
            if talk is talks[0]:  # no trace, no two paths the same
                frames = [talk.ask(stream, get_headers(f"/{stream}")), talk.answer(stream, 200)]
            else:
                trace = f"00-{rng.getrandbits(128) or 1:032x}-{rng.getrandbits(64) or 1:016x}-01"
                more = ("grpc-timeout", f"{rng.randrange(900_000)}u"), ("traceparent", trace)
                frames = [talk.ask(stream, grpc_headers("/shop.Cart/AddItem", *more))]
                if rng.random() < 0.5:
                    frames.append(talk.whole_answer(stream))
                else:
                    frames += [talk.grpc_answer(stream), talk.trailers(stream, rng.randrange(2))]
            calls.append(np.concatenate([record for frame in frames for record in frame]))
        expected = [row for c in calls for row in list_rows(apart.take(make_frames(c)))]
        block = np.concatenate(calls)
        found = list_rows(together.take(make_frames(block)))

        assert sorted(map(repr, found)) == sorted(map(repr, expected))
        assert len(found) == len(calls)
    assert together.counters == apart.counters
