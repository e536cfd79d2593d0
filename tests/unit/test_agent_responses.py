"""The length of a response and whether it has ended, from the bytes of it that were captured."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_probes import events
from farcall_probes.responses import LARGE_WRITE, End, KnownResponses, measure_responses
from farcall_probes.stencils import MIN_ROWS

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


_HEADERS = st.lists(
    st.sampled_from(
        [b"Content-Length: 5", b"content-length:\t17 ", b"Content-Length: -5", b"Content-Length: 5000000", b"Server: nginx",
         b"Date: Sat, 28 Nov 2026 05:48:42 GMT", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"no colon", b":", b"X: y"]
    ),
    max_size=5,
)  # fmt: skip
_BODIES = st.sampled_from([b"", b"x", b"x" * 5, b"x" * 17, b"x" * 90, b"y" * 400, LAST, b"2\r\nhi\r\n" + LAST, b"r\n" + LAST[:4]])  # fmt: skip
_RESPONSES = st.builds(
    lambda headers, body: b"\r\n".join([b"HTTP/1.1 200 OK", *headers, b"", body]),
    _HEADERS, _BODIES,
)  # fmt: skip
_BYTES = st.sampled_from([b"\n", b"\r", b"\r\n", b":", b" ", b"x", b"0", b"7", b"", b"\r\n\r\n"])


def check(block: np.ndarray, known: KnownResponses) -> None:
    statuses = np.full(len(block), 200, dtype=np.int32)
    alone = [measure_responses(block[at : at + 1], statuses[:1]) for at in range(len(block))]
    sizes, ends = measure_responses(block, statuses, known)
    assert sizes.tolist() == [int(each.sizes[0]) for each in alone]
    assert ends.tolist() == [int(each.ends[0]) for each in alone]


_PLAIN = b"HTTP/1.1 200 OK\r\nServer: nginx\r\n"


@pytest.mark.parametrize(
    "response",
    [
        NGINX,
        _PLAIN + b"Content-Length:  10 \r\nX-Id: 1234\r\n\r\n0123456789",
        _PLAIN + b"X-Id: 1234Content-Length: 5\r\nX: 1234Transfer-Encoding: chunked\r\n\r\n",
        _PLAIN + b"Content-Length: x\r\ncontent-length: 12\r\n\r\n",
        _PLAIN + b"Content-Length: 12\r\nTransfer-Encoding: chunked\r\n\r\n" + LAST,
        _PLAIN + b"X-Id: 12345678\r\nConnection: close\r\n\r\n",
    ],
)
@pytest.mark.parametrize("room", [True, False])
def test_of_responses_that_differ_in_a_byte_each_is_measured_as_it_is_alone(
    response: bytes, room: bool
) -> None:
    known = KnownResponses()
    for _ in range(3):
        check(np.concatenate([record(response, room=room)] * MIN_ROWS), known)
    changed = [
        response[:at] + byte + response[at + 1 :]
        for at in range(len(response))
        for byte in (b"\n", b"\r", b"\r\n", b":", b"x", b"7", b"", b"\r\n\r\n")
    ]
    for end in (b"\r\n", b"\r\n\r\n"):
        changed += [response[:at] + end + response[at + len(end) :] for at in range(len(response))]
    changed += [response[:end] for end in range(len(response))]
    block = np.concatenate([record(data, room=room) for data in changed])
    before = np.roll(block["resp"], 1)
    check(block, known)
    # What is behind a response's end in its record may be anything, the rest of a head as well.
    block["resp"] = np.where(block["resp_cap"] < 100, before, block["resp"])
    check(block, known)


@given(st.lists(_RESPONSES, min_size=1, max_size=5), st.data())
def test_of_many_responses_each_is_measured_as_it_is_alone(
    kinds: list[bytes], data: st.DataObject
) -> None:
    """So many that those which begin at one place are read together, and then each with some of its bytes changed."""
    responses = [kind for kind in kinds for _ in range(2 * MIN_ROWS)]
    places = st.tuples(st.integers(0, len(responses) - 1), st.integers(0, 200), _BYTES)
    for row, at, byte in data.draw(st.lists(places, max_size=60)):
        former = responses[row]
        responses[row] = former[:at] + byte + former[at + 1 :]
    seen = st.sampled_from([None, 100, 100_000])
    blocks = [
        record(response, data.draw(seen), data.draw(st.booleans()))
        for response in data.draw(st.permutations(responses))
    ]
    block = np.concatenate(blocks)
    block["ended"] = data.draw(st.sampled_from([events.ENDED_NOT, events.ENDED_CHUNKS]))
    known = KnownResponses()
    for _ in range(4):
        check(block, known)
