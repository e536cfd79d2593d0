"""Exchanges are held until their response has ended, bounded in time and number, and each leaves once."""

from collections.abc import Sequence

import numpy as np
import pytest

from farcall_probes import events
from farcall_probes.rests import ASK_FIRST_NS, MAX_EARLY, Ask, Ended, Rests

pytestmark = pytest.mark.unit

NS = 1_000_000_000
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CLOSE = b"HTTP/1.0 200 OK\r\n\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def exchanges(*responses: bytes, first: int = 0) -> np.ndarray:
    block = np.zeros(len(responses), dtype=events.LARGE)
    block["conn_id"] = 7
    block["sk"] = 70
    block["seq"] = np.arange(first, first + len(responses))
    block["ts_resp_ns"] = 1000
    block["req"] = b"GET / HTTP/1.1\r\n\r\n".ljust(events.LARGE_REQ, b"\0")
    for row, response in enumerate(responses):
        block["resp"][row] = np.frombuffer(response.ljust(events.LARGE_RESP, b"\0"), "V128")[0]
        block["resp_cap"][row] = block["resp_bytes"][row] = len(response)
    return block


def rest(
    seq: int, size: int, why: int = events.REST_NEXT, ended: int = 0, at_ns: int = 5000
) -> np.ndarray:
    block = np.zeros(1, dtype=events.SMALL)
    block["segment"] = events.SEGMENT_REST
    block["conn_id"] = 7
    block["seq"], block["resp_bytes"] = seq, size
    block["end"], block["ended"], block["ts_resp_ns"] = why, ended, at_ns
    return block


def read(ended: Ended | None) -> list[tuple[int, int, int]]:
    """(seq, size, end) of each."""
    if ended is None:
        return []
    columns: Sequence[np.ndarray] = (ended.block["seq"], ended.sizes, ended.ends_ns)
    return [tuple(int(n) for n in row) for row in zip(*columns, strict=True)]  # type: ignore[misc]


def answer(alive: bool, asked: list[tuple[int, int, int]] | None = None) -> Ask:
    def ask(sk: int, conn_id: int, seq: int) -> bool:
        if asked is not None:
            asked.append((sk, conn_id, seq))
        return alive

    return ask


def test_a_whole_response_is_not_held() -> None:
    rests = Rests()
    _, held = rests.hold(exchanges(WHOLE, LENGTH, WHOLE), 0)

    assert held.tolist() == [False, True, False]
    assert len(rests) == 1 and rests.settle() is None


@pytest.mark.parametrize(
    ("response", "told", "size"),
    [
        (LENGTH, rest(0, len(LENGTH) + 100), len(LENGTH) + 100),
        (LENGTH, rest(0, 50, events.REST_CLOSED), 50),  # cut off
        (CHUNKS, rest(0, 300, events.REST_ASKED, events.ENDED_CHUNKS), 300),
        (CHUNKS, rest(0, 300, events.REST_NEXT, events.ENDED_BLANK), 300),
        (CHUNKS, rest(0, 300, events.REST_CLOSED), 300),
        (CLOSE, rest(0, 300, events.REST_CLOSED), 300),
    ],
)
def test_a_response_leaves_with_its_end(response: bytes, told: np.ndarray, size: int) -> None:
    rests = Rests()
    rests.hold(exchanges(response), 0)
    rests.take(told)

    assert read(rests.settle()) == [(0, size, 5000)]
    assert len(rests) == 0 and sum(rests.counters.values()) == 0


@pytest.mark.parametrize(
    ("response", "told"),
    [
        (LENGTH, rest(0, len(LENGTH) + 99)),
        (CHUNKS, rest(0, 300, events.REST_NEXT)),
        (CHUNKS, rest(0, 300, events.REST_ASKED, events.ENDED_BLANK)),
        (CLOSE, rest(0, 300, events.REST_NEXT, events.ENDED_CHUNKS)),
    ],
)
def test_what_may_go_on_is_held_on(response: bytes, told: np.ndarray) -> None:
    rests = Rests()
    rests.hold(exchanges(response), 0)
    rests.take(told)

    assert rests.settle() is None and len(rests) == 1
    assert read(rests.let_go())[0][2] == 1000
    assert rests.counters["responses_unended"] == 1


def answers(proto: int, *responses: bytes, ended: int = 0) -> np.ndarray:
    block = exchanges(*responses)
    block["proto"], block["ended"] = proto, ended
    return block


@pytest.mark.parametrize(
    ("proto", "response", "ended", "is_held"),
    [
        (events.PROTO_POSTGRES, b"T\0\0\0\6\0\0", 0, True),
        (events.PROTO_POSTGRES, b"T\0\0\0\6\0\0", events.ENDED_ANSWER, False),
        (events.PROTO_MYSQL, b"\1\0\0\1\1", 0, True),
        (events.PROTO_MYSQL, b"\1\0\0\1\1", events.ENDED_ANSWER, False),
        (events.PROTO_MYSQL, b"\7\0\0\1\0\0\0\2\0\0\0", 0, False),
        (events.PROTO_MYSQL, b"\x17\0\0\1\xff\x7a\4#42S02", 0, False),
    ],
)
def test_a_databases_answer_is_held_unless_its_end_was_seen_or_it_is_one_packet(
    proto: int, response: bytes, ended: int, is_held: bool
) -> None:
    rests = Rests()
    block, places = answers(proto, response, ended=ended), np.array([4], dtype=np.int32)
    left, where = rests.hold_answers(block, places, 0)

    assert (len(left), len(where), len(rests)) == (not is_held, not is_held, is_held)


@pytest.mark.parametrize(
    ("told", "is_whole"),
    [
        (rest(0, 300, events.REST_ASKED, events.ENDED_ANSWER), True),
        (rest(0, 300, events.REST_NEXT), True),
        (rest(0, 300, events.REST_CLOSED), True),
        (rest(0, 300, events.REST_ASKED), False),
    ],
)
def test_a_databases_answer_leaves_with_its_end(told: np.ndarray, is_whole: bool) -> None:
    rests = Rests()
    block = answers(events.PROTO_POSTGRES, b"T\0\0\0\6\0\0")
    rests.hold_answers(block, np.zeros(1, dtype=np.int32), 0)
    rests.take(told)

    assert read(rests.settle()) == ([(0, 300, 5000)] if is_whole else [])


GET = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"
BINARY = b"\x80\0\0\1" + bytes(7) + b"\1" + bytes(12) + b"k"


def cached(proto: int, request: bytes, response: bytes, ended: int = 0) -> np.ndarray:
    block = np.zeros(1, dtype=events.SMALL)
    block["conn_id"], block["sk"], block["ts_resp_ns"] = 7, 70, 1000
    block["proto"], block["ended"] = proto, ended
    block["req"] = np.frombuffer(request.ljust(events.SMALL_REQ, b"\0"), f"V{events.SMALL_REQ}")
    block["resp"] = np.frombuffer(response.ljust(events.SMALL_RESP, b"\0"), f"V{events.SMALL_RESP}")
    block["req_cap"] = block["req_bytes"] = len(request)
    block["resp_cap"] = block["resp_bytes"] = len(response)
    return block


@pytest.mark.parametrize(
    ("proto", "request_", "response", "size"),
    [
        (events.PROTO_REDIS, GET, b"$5000\r\nvv", 5009),
        (events.PROTO_MEMCACHED, b"mg k v f\r\n", b"VA 3000 f0\r\nvv", 3014),
        (events.PROTO_MEMCACHED, BINARY, b"\x81" + bytes(9) + b"\x0b\xbc" + bytes(12), 3028),
    ],
)
def test_a_value_is_as_long_as_its_head_says(
    proto: int, request_: bytes, response: bytes, size: int
) -> None:
    rests = Rests()
    rests.hold_answers(cached(proto, request_, response), np.zeros(1, dtype=np.int32), 0)
    rests.take(rest(0, size - 1, events.REST_NEXT, events.ENDED_BLANK))
    assert rests.settle() is None
    rests.take(rest(0, size + 9, events.REST_NEXT, events.ENDED_BLANK))
    ended = rests.settle()

    assert read(ended) == [(0, size, 5000)] and ended is not None
    for name, captured in (("req", request_), ("resp", response)):
        assert ended.block[name].tobytes().startswith(captured)


@pytest.mark.parametrize(
    ("told", "is_whole"),
    [
        (rest(0, 300, events.REST_ASKED, events.ENDED_ANSWER), True),
        (rest(0, 300, events.REST_NEXT, events.ENDED_BLANK), True),
        (rest(0, 300, events.REST_CLOSED), True),
        (rest(0, 300, events.REST_ASKED, events.ENDED_BLANK), False),
        (rest(0, 300, events.REST_NEXT), False),
    ],
)
@pytest.mark.parametrize("request_", [GET * 2, b"*1\r\n$4\r\nKEYS"])
def test_what_has_no_length_is_whole_when_it_looks_so_and_the_next_request_comes(
    request_: bytes, told: np.ndarray, is_whole: bool
) -> None:
    rests = Rests()
    block = cached(events.PROTO_REDIS, request_, b"$200\r\n")
    block["flags"] = events.FLAG_PIPELINED
    rests.hold_answers(block, np.zeros(1, dtype=np.int32), 0)
    rests.take(told)

    assert read(rests.settle()) == ([(0, 300, 5000)] if is_whole else [])


def test_a_cached_answer_whose_first_call_has_all_of_it_is_not_held() -> None:
    block = cached(events.PROTO_REDIS, GET, b"$2\r\nhi\r\n", events.ENDED_ANSWER)

    left, _ = Rests().hold_answers(block, np.zeros(1, dtype=np.int32), 0)
    assert len(left) == 1


def test_the_kernel_is_asked_ever_less_often_and_each_row_leaves_in_the_end() -> None:
    rests = Rests(hold_ns=10 * NS)
    rests.hold(exchanges(CHUNKS), 0)
    asked: list[tuple[int, int, int]] = []
    for now_ns in range(0, 10 * NS, ASK_FIRST_NS // 2):
        rests.ask(now_ns, answer(True, asked))
        assert rests.settle() is None
    assert set(asked) == {(70, 7, 0)}
    assert len(asked) == 6  # at 0.1 s, and 0.2, 0.4, … behind the one before

    rests.ask(10 * NS, answer(True, asked))

    assert read(rests.settle()) == [(0, len(CHUNKS), 1000)]
    assert rests.counters["responses_unended"] == 1 and len(asked) == 6


def test_what_is_over_waits_for_one_more_drain() -> None:
    rests = Rests()
    rests.hold(exchanges(CHUNKS, LENGTH), 0)
    rests.ask(NS, answer(False))
    rests.take(rest(0, 300, events.REST_CLOSED))

    assert read(rests.settle()) == [(0, 300, 5000), (1, len(LENGTH) + 100, 1000)]
    assert len(rests) == 0
    assert rests.counters["responses_untold"] == 1


def test_what_there_is_no_room_for_is_not_held() -> None:
    rests = Rests(max_held=2)
    sizes, held = rests.hold(exchanges(*[LENGTH] * 3), 0)

    assert held.tolist() == [True, True, False]
    assert sizes.tolist() == [len(LENGTH) + 100] * 3
    assert rests.counters["responses_unended"] == 1
    rests.take(rest(0, 300))
    rests.settle()
    assert rests.hold(exchanges(LENGTH, first=3), 0)[1].tolist() == [True]


def test_rests_of_nobody_are_counted_once_their_exchange_cannot_come_any_more() -> None:
    rests = Rests()
    for seq in range(MAX_EARLY + 3):
        rests.take(rest(seq, 300))

    assert rests.settle() is None and rests.counters["rests_unmatched"] == 3


def test_a_rest_may_be_read_before_its_exchange() -> None:
    """Each of the rings is read in portions."""
    rests = Rests()
    rests.take(rest(0, 300, events.REST_CLOSED))
    rests.hold(exchanges(CLOSE), 0)

    assert read(rests.settle()) == [(0, 300, 5000)]


def test_what_is_over_waits_until_the_rings_were_read_to_their_end() -> None:
    rests = Rests()
    rests.hold(exchanges(CHUNKS), 0)
    rests.ask(NS, answer(False))

    assert rests.settle(is_whole=False) is None
    assert len(read(rests.settle())) == 1


def test_pipelined_exchanges_are_not_held() -> None:
    block = exchanges(LENGTH)
    block["flags"] = events.FLAG_PIPELINED

    assert not Rests().hold(block, 0)[1].any()


def test_commands_that_were_read_after_the_first_answer_are_counted_to_their_pipeline() -> None:
    block = exchanges(WHOLE)
    block["proto"], block["commands"], block["req_bytes"] = events.PROTO_POSTGRES, 40, 8192
    rests = Rests()
    kept, _ = rests.hold_answers(block, np.arange(1), 0)
    told = rest(0, 900, ended=events.ENDED_ANSWER)
    told["commands"], told["req_bytes"], told["asked_us"] = 100, 20_000, 7
    rests.take(told)
    ended = rests.settle()

    assert not len(kept) and ended is not None
    names = ["commands", "req_bytes", "asked_us"]
    assert [int(ended.block[name][0]) for name in names] == [100, 20_000, 7]
    assert read(ended) == [(0, 900, 5000)]


def test_a_pipeline_of_http_waits_for_its_last_request_and_keeps_its_first_answer() -> None:
    block = exchanges(WHOLE)
    block["ended"], block["commands"] = events.ENDED_LATER, 17
    rests = Rests()
    sizes, held = rests.hold(block, 0)
    counted = [(18, events.ENDED_LATER), (100, events.ENDED_NOT)]
    left = []
    for commands, ended in counted:
        told = rest(0, 900, events.REST_ASKED, ended)
        told["commands"] = commands
        rests.take(told)
        left.append(rests.settle())

    assert held.all() and left[0] is None
    assert read(left[1]) == [(0, int(sizes[0]), 1000)]
    assert left[1] is not None and left[1].block["commands"].tolist() == [100]
