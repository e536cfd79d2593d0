"""More connections than there is room to follow: each keeps its number and its time of opening, however often it is met again."""

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest

from farcall_probes.events import PROTO_MONGODB, Flag
from farcall_probes.maps import MapSizes
from farcall_probes.probes import KernelCapture, open_probes
from farcall_probes.selftest import Pair
from support_probes import CLIENT, OK, SERVER, Seen, Watch, connection, make_request, port_of
from support_segments import REQUEST, RESPONSE, mongodb_request, mongodb_response

pytestmark = pytest.mark.bpf

ROOM, MANY, ROUNDS = 128, 400, 3
OPENED_WAYS = 8


@contextmanager
def running(sizes: MapSizes) -> Iterator[KernelCapture]:
    """Others of the machine are left alone: they would need room too."""
    opened = open_probes(sizes)
    try:
        opened.enable(only_own=True)
        yield opened
    finally:
        opened.close()


@pytest.fixture(scope="module")
def narrow() -> Iterator[KernelCapture]:
    with running(MapSizes(connections=ROOM)) as opened:
        yield opened


@contextmanager
def crowd(many: int) -> Iterator[list[Pair]]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    try:
        with ExitStack() as stack:
            listener = stack.enter_context(socket.create_server(("127.0.0.2", 0)))
            yield [_open_pair(stack, listener) for _ in range(many)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def _open_pair(stack: ExitStack, listener: socket.socket) -> Pair:
    client = stack.enter_context(socket.create_connection(listener.getsockname(), 5))
    server, _ = listener.accept()
    stack.enter_context(server)
    return Pair(socket.AF_INET, client, server, 0, 0)


def ask_all(watch: Watch, pairs: list[Pair], rounds: int = ROUNDS) -> list[list[Seen]]:
    """Exchanges of each end of each connection."""
    for number in range(rounds):
        for at, pair in enumerate(pairs):
            pair.exchange(make_request(f"/{number}"), OK)
            if at % 200 == 0:
                watch.drain()
    ends: dict[tuple[int, int], list[Seen]] = {
        (port_of(pair), role): [] for pair in pairs for role in (CLIENT, SERVER)
    }
    for seen in watch.exchanges(*(port_of(pair) for pair in pairs)):
        ends[seen.rport if seen.role == SERVER else seen.lport, seen.role].append(seen)
    return list(ends.values())


def read_opened(capture: KernelCapture) -> list[int]:
    """The socks of which an opening is remembered."""
    found: list[int] = []
    for _, rows, count in capture.maps["MAP_OPENS"].read_blocks(256):
        found += np.frombuffer(rows, "<u8", 2 * OPENED_WAYS * count)[::2].tolist()
    return [sock & ~15 for sock in found if sock]


def check_numbers(ends: list[list[Seen]]) -> None:
    assert all(len(seen) == ROUNDS for seen in ends)
    assert all(len({s.conn_id for s in seen}) == 1 for seen in ends)
    assert len({seen[0].conn_id for seen in ends}) == len(ends)
    for seen in ends:
        numbers = [s.seq for s in seen]
        assert sorted(set(numbers)) == numbers
    assert any(seen[-1].seq >= ROUNDS for seen in ends)  # it was forgotten, and met again


def test_a_connection_that_is_forgotten_for_others_is_met_again_under_its_number(
    narrow: KernelCapture,
) -> None:
    watch = Watch(narrow)
    with crowd(MANY) as pairs:
        ends = ask_all(watch, pairs)

    check_numbers(ends)
    for seen in ends:
        opened = {int(s.record["conn_open_ns"]) for s in seen}
        assert len(opened) == 1 and 0 < opened.pop() <= seen[0].ts_req_ns
        assert not any(s.flags & Flag.LATE for s in seen)
        assert {bool(s.flags & Flag.CONNECTOR) for s in seen} == {seen[0].role == CLIENT}


def test_one_older_than_the_agent_keeps_its_number_too() -> None:
    with crowd(MANY) as pairs:
        with running(MapSizes(connections=ROOM)) as late:
            ends = ask_all(Watch(late), pairs)

    check_numbers(ends)
    assert all(s.flags & Flag.LATE and not s.record["conn_open_ns"] for seen in ends for s in seen)


def test_one_that_is_followed_message_by_message_is_another_when_it_is_met_again(
    narrow: KernelCapture,
) -> None:
    watch = Watch(narrow)
    with connection() as pair, crowd(2 * ROOM) as others:
        for number in (1, 2):
            pair.exchange(mongodb_request(number), mongodb_response(number))
            ask_all(watch, others, 5)  # a core's own list of the table may keep it for a round
        segments = watch.segments(port_of(pair))

    assert {int(s["proto"]) for s in segments} == {PROTO_MONGODB}
    for role in (CLIENT, SERVER):
        of_end = [s for s in segments if s["role"] == role]
        assert [int(s["segment"]) for s in of_end] == [REQUEST, RESPONSE] * 2
        assert [int(s["seq"]) for s in of_end] == [0] * 4
        first, same, second, also = (int(s["conn_id"]) for s in of_end)
        assert first == same != second == also


def test_what_has_closed_is_remembered_no_longer(narrow: KernelCapture) -> None:
    watch = Watch(narrow)
    with crowd(MANY) as pairs:
        ends = ask_all(watch, pairs, 1)
        socks = {int(seen[0].record["sk"]) for seen in ends}
        known = socks & set(read_opened(narrow))

    assert known == socks
    assert len(socks & set(read_opened(narrow))) < MANY // 10  # some are other processes' by now


def test_thousands_of_open_connections_have_their_time() -> None:
    """Both ends of each: more than the kernel's tables have of anything else. (A process has 20,000 descriptors.)"""
    with running(MapSizes()) as capture, crowd(9_500) as pairs:
        ends = ask_all(Watch(capture), pairs, 1)

    assert all(len(seen) == 1 for seen in ends)
    without = sum(not seen[0].record["conn_open_ns"] for seen in ends)
    assert without <= len(pairs) // 20  # other processes have some room too
