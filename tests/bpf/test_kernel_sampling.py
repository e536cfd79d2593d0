"""What is left out for the CPU ceiling: a part of the exchanges, the same at both ends, counted, and no error among them."""

from collections import defaultdict
from collections.abc import Iterator

import pytest

from farcall_probes import events
from farcall_probes.probes import KernelCapture
from support_probes import OK, Watch, connection, make_request, port_of

pytestmark = pytest.mark.bpf

BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
REFUSED = b"-ERR unknown command\r\n"
PING, PONG = b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"
CALLS = 797


@pytest.fixture
def sampled(capture: KernelCapture) -> Iterator[KernelCapture]:
    yield capture
    capture.set_kept(1)


def run(watch: Watch, request: bytes, answer: bytes, calls: int = CALLS) -> dict[int, set[int]]:
    """Where in the stream each exchange began that was seen, by the end that saw it."""
    seen: dict[int, set[int]] = defaultdict(set)
    with connection() as pair:
        for _ in range(3):
            pair.exchange(request, answer)  # both ends' identity is known from here on
        watch.exchanges(port_of(pair))
        for _ in range(calls):
            pair.exchange(request, answer)
        for record in watch.exchanges(port_of(pair)):
            if record.seq >= 3 and record.flags & events.FLAG_IDENTITY:
                seen[record.role].add(record.key[2])
    return seen


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_a_part_is_taken_alike_at_both_ends_and_the_rest_is_counted(
    watch: Watch, sampled: KernelCapture, share: float
) -> None:
    sampled.set_kept(share)
    before = watch.count("sampled_dropped")
    seen = run(watch, make_request("/a"), OK)

    client, server = seen[events.ROLE_CLIENT], seen[events.ROLE_SERVER]
    assert client == server
    assert abs(len(client) - share * CALLS) < 5 * (CALLS * share * (1 - share)) ** 0.5
    assert watch.count("sampled_dropped") - before >= 2 * (CALLS - len(client))


def test_what_is_taken_of_little_is_taken_of_more_as_well(
    watch: Watch, sampled: KernelCapture
) -> None:
    """One connection's calls, at a share that falls: what is seen later would have been seen before."""
    sampled.set_kept(1)
    everything = run(watch, PING, PONG, 50)
    assert len(everything[events.ROLE_CLIENT]) == 50

    sampled.set_kept(1 / 1024)
    least = run(watch, PING, PONG)
    assert len(least[events.ROLE_CLIENT]) < 20


@pytest.mark.parametrize(("request_", "answer"), [(make_request("/a"), BUSY), (PING, REFUSED)])
def test_errors_are_taken_whatever_is_left_out(
    watch: Watch, sampled: KernelCapture, request_: bytes, answer: bytes
) -> None:
    sampled.set_kept(1 / 1024)
    seen = run(watch, request_, answer, 97)

    assert len(seen[events.ROLE_CLIENT]) == len(seen[events.ROLE_SERVER]) == 97
