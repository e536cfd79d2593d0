"""The length of a response and whether it has ended, from the bytes of it that were captured."""

import numpy as np
import pytest

from farcall_probes import events
from farcall_probes.responses import LARGE_WRITE, End, measure_responses

pytestmark = pytest.mark.unit

NGINX = (
    b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sat, 28 Nov 2026 05:48:42 GMT\r\n"
    b"Content-Type: application/octet-stream\r\nContent-Length: 1048576\r\n"
    b'Last-Modified: Sat, 28 Nov 2026 05:48:42 GMT\r\nConnection: keep-alive\r\nETag: "67-1"\r\n'
    b"Accept-Ranges: bytes\r\n\r\n"
)
assert events.LARGE_RESP < len(NGINX) < events.LARGE_RESP + events.RESP_MORE


def record(data: bytes, seen: int | None = None, room: bool = True) -> np.ndarray:
    """As the kernel side makes it of a response whose first call had `seen` bytes."""
    block = np.zeros(1, dtype=events.LARGE)
    kept = data[: events.LARGE_RESP + (events.RESP_MORE if room else 0)]
    more = max(0, len(kept) - events.LARGE_RESP)
    block["resp"] = kept[more:]
    block["resp_cap"] = len(kept) - more
    block["req"] = bytes(events.LARGE_REQ - more) + kept[:more]
    block["resp_more"] = more
    block["resp_bytes"] = len(data) if seen is None else seen
    return block


def look(block: np.ndarray, method: str = "GET", status: int = 200) -> tuple[int, End]:
    raw = block.view(np.uint8).reshape(1, -1)
    at = events.EXCHANGE.itemsize
    raw[0, at : at + len(method) + 1] = list(f"{method} ".encode())
    sizes, ends = measure_responses(block, np.array([status], dtype=np.int32))
    return int(sizes[0]), End(ends[0])


def measure(block: np.ndarray, method: str = "GET", status: int = 200) -> int:
    return look(block, method, status)[0]


def test_a_body_behind_the_first_write_counts() -> None:
    assert measure(record(NGINX)) == len(NGINX) + 1048576


def test_a_short_head_alone_tells_the_length_too() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-LENGTH:  70 \r\n\r\n"

    assert measure(record(head)) == len(head) + 70


def test_a_first_read_that_ends_within_the_body_counts_the_whole() -> None:
    assert measure(record(NGINX + b"x" * 5000)) == len(NGINX) + 1048576


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 304), ("GET", 204)])
def test_a_length_without_a_body_is_not_counted(method: str, status: int) -> None:
    assert measure(record(NGINX), method, status) == len(NGINX)


def test_what_was_seen_stays_when_the_head_was_not_captured_whole() -> None:
    assert measure(record(NGINX, room=False)) == len(NGINX)


@pytest.mark.parametrize(
    "line",
    [
        b"Transfer-Encoding: chunked\r\nContent-Length: 5",
        b"Content-Length: -5",
        b"Content-Length: 5, 5",
        b"Content-Length: " + b"9" * 19,
        b"X-Content-Length: 5",
        b"X: Content-Length: 5",
    ],
)
def test_lengths_that_are_none_are_not_believed(line: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\n" + line + b"\r\n\r\n"

    assert measure(record(head)) == len(head)


def test_every_cut_of_a_head_is_measured_without_a_fault() -> None:
    for end in range(len(NGINX)):
        assert measure(record(NGINX[:end])) == end


def test_the_body_of_another_message_is_not_read_as_a_head() -> None:
    data = b"HTTP/1.1 200 OK\r\n\r\nX\r\nContent-Length: 5000\r\n\r\n"

    assert measure(record(data)) == len(data)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", End.HERE),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh", End.LENGTH),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", End.LENGTH),
        (CHUNKED, End.CHUNKS),
        (CHUNKED + b"2\r\nhi\r\n", End.CHUNKS),
        (CHUNKED + b"2\r\nhi\r\n" + LAST, End.HERE),
        (CHUNKED + LAST, End.HERE),
        (CHUNKED + b"3\r\nx" + LAST, End.CHUNKS),
        (b"HTTP/1.0 200 OK\r\n\r\nall of it", End.CLOSE),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", End.CLOSE),
        (b"HTTP/1.1 200 OK\r\nContent-Le", End.HERE),
    ],
)
def test_what_a_response_still_waits_for(data: bytes, end: End) -> None:
    assert look(record(data))[1] == end


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", 200), ("CONNECT", 200), ("GET", 101), ("GET", 304), ("GET", 0)]
)
def test_what_has_no_body_waits_for_nothing(method: str, status: int) -> None:
    assert look(record(CHUNKED), method, status)[1] == End.HERE


def test_an_end_behind_what_was_captured_is_the_kernels_word() -> None:
    block = record(CHUNKED + b"5000\r\n" + b"x" * 5000)
    assert look(block)[1] == End.CHUNKS
    block["ended"] = events.ENDED_BLANK
    assert look(block)[1] == End.CHUNKS
    block["ended"] = events.ENDED_CHUNKS
    assert look(block)[1] == End.HERE


def test_a_long_write_is_not_taken_to_have_left() -> None:
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n" + b"x" * 20_000
    for role, end in ((events.ROLE_SERVER, End.LENGTH), (events.ROLE_CLIENT, End.HERE)):
        block = record(data)
        block["role"] = role
        assert look(block) == (len(data), end)
    assert len(data) > LARGE_WRITE
