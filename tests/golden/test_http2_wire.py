"""Connections of real HTTP/2 peers, both directions whole (curl, nginx, Go's net/http, grpc-go, grpcio): what is read in them.

`UPDATE_GOLDEN=1` writes the texts anew; the difference belongs in the review. Every frame is also read byte by byte, in two
pieces cut anywhere, and cut short, which must never change what is read but only leave something out.
"""

import os
from pathlib import Path

import pytest

from farcall_probes.wire import hpack, hpackfields, http2, traceparents
from farcall_probes.wire.http2blocks import Direction, Event
from farcall_probes.wire.outcomes import NEED_MORE, Truncated
from support_hpack import list_ids
from support_http2 import split_frames

pytestmark = pytest.mark.golden

DIRECTORY = Path(__file__).parent / "http2"
CAPTURES = sorted(DIRECTORY.glob("*.bin"))
NAMES = (  # in the order of hpack's places
    "method path authority host status content_type user_agent traceparent grpc_status grpc_message "
    "unwanted unknown"
).split()


def new_direction() -> Direction[None]:
    return Direction(hpack.Decoder(complete=True))


def show(event: Event[None]) -> str:
    kinds = {http2.HEADERS: "headers", http2.RST_STREAM: "reset", http2.GOAWAY: "goaway"}
    values = [*event.fields]
    if values:
        (values[hpackfields.TRACEPARENT],) = list_ids(
            traceparents.read_all([values[hpackfields.TRACEPARENT]])
        )
    fields = [
        f"{name}={value!r}"
        for name, value in zip(NAMES, values, strict=False)
        if value and name != "unwanted"
    ]
    end = ["end"] if event.kind == http2.HEADERS and event.flags & http2.END_STREAM else []
    error = [event.error] if event.error else []
    return " ".join([kinds[event.kind], str(event.stream), *end, *error, *fields])


def read(frames: list[bytes]) -> list[str]:
    direction = new_direction()
    return [show(event) for frame in frames for event in direction.feed(frame, None)]


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
def test_what_is_read_in_a_connection_of_real_peers(capture: Path) -> None:
    rendered = "\n".join(read(list(split_frames(capture.read_bytes())))) + "\n"
    expected = capture.with_suffix(".txt")
    if os.environ.get("UPDATE_GOLDEN"):
        expected.write_text(rendered, encoding="utf-8")
    assert rendered == expected.read_text(encoding="utf-8")
    assert "Bearer" not in rendered


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
def test_frames_in_pieces_are_read_as_whole_ones(capture: Path) -> None:
    frames = list(split_frames(capture.read_bytes()))
    byte_by_byte, in_two = new_direction(), new_direction()
    found: tuple[list[str], list[str]] = ([], [])
    for number, frame in enumerate(frames):
        for at in range(len(frame)):
            made = byte_by_byte.feed(frame[at : at + 1], None, offset=at)
            found[0].extend(map(show, made))
        cut = number * 7 % len(frame)
        for at, piece in ((0, frame[:cut]), (cut, frame[cut:])):
            if piece:
                found[1].extend(map(show, in_two.feed(piece, None, offset=at)))

    assert found[0] == found[1] == read(frames)


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
def test_a_frame_that_is_cut_anywhere_leaves_out_and_makes_nothing_up(capture: Path) -> None:
    frames = [f for f in split_frames(capture.read_bytes()) if f[3] == http2.HEADERS]
    for cut_frame in range(len(frames)):
        for cut in range(http2.HEADER_BYTES, len(frames[cut_frame]), 3):
            direction = new_direction()
            for number, frame in enumerate(frames):
                piece = frame[:cut] if number == cut_frame else frame
                (event,) = direction.feed(piece, None, cut=number == cut_frame)
                whole = truth(frames)[number]
                for at in range(hpackfields.UNWANTED):
                    missing = event.fields[at] is None and event.fields[hpackfields.UNKNOWN]
                    assert missing or event.fields[at] == whole[at]


_TRUTH: dict[tuple[bytes, ...], list[hpack.Fields]] = {}


def truth(frames: list[bytes]) -> list[hpack.Fields]:
    key = tuple(frames)
    if key not in _TRUTH:
        direction = new_direction()
        _TRUTH[key] = [e.fields for frame in frames for e in direction.feed(frame, None)]
    return _TRUTH[key]


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
def test_a_frame_needs_more_until_it_is_whole_and_leaves_what_follows(capture: Path) -> None:
    for frame in split_frames(capture.read_bytes()):
        whole = http2.parse_frame(frame)
        assert isinstance(whole, http2.Frame)
        assert http2.parse_frame(frame + b"\0\0\x04trailing") == whole
        for end in range(len(frame)):
            assert http2.parse_frame(frame[:end]) is NEED_MORE
            outcome = http2.parse_frame(frame[:end], cut=True)
            assert outcome is NEED_MORE or isinstance(outcome, Truncated)


def test_there_are_captures_of_each_peer() -> None:
    words = {word for path in CAPTURES for word in path.stem.split(".")[0].split("-")}
    assert words == {"curl", "nginx", "go", "grpcgo", "grpcio", "cancels"}
