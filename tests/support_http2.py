"""HTTP/2 as the kernel side ships it, made with another implementation's encoder; and where frames lie in captured bytes."""

import struct
import time
from collections.abc import Iterator, Sequence
from typing import Any

from hpack import Encoder

from farcall_probes import events
from farcall_probes.capture import Records
from farcall_probes.columns import Numbers
from farcall_probes.selftest import Pair
from farcall_probes.wire import http2
from support_agent import make_segment
from support_probes import receive
from support_segments import REQUEST, RESPONSE

CAPTURED = events.LARGE_REQ + events.LARGE_RESP
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
Headers = Sequence[tuple[str, str]]


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def split_frames(data: bytes) -> Iterator[bytes]:
    """The frames of one direction, its preface left out."""
    at = len(http2.PREFACE) if data.startswith(http2.PREFACE) else 0
    while at + http2.HEADER_BYTES <= len(data):
        end = at + http2.HEADER_BYTES + int.from_bytes(data[at : at + 3], "big")
        yield data[at:end]
        at = end


def grpc_headers(path: str = "/shop.Cart/AddItem", *more: tuple[str, str]) -> Headers:
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "cart.example.com:50051"),
        ("content-type", "application/grpc"),
        ("user-agent", "grpc-go/1.60.1"),
        ("te", "trailers"),
        *more,
    ]


def get_headers(path: str = "/a?b=c", *more: tuple[str, str]) -> Headers:
    return [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "api.example.com"),
        ("user-agent", "curl/8.5"),
        *more,
    ]


def list_fixed(column: Numbers | Sequence[bytes | None]) -> list[bytes | None]:
    """Row by row."""
    if not isinstance(column, Numbers):
        return list(column)
    missing = column.missing if column.missing is not None else [False] * len(column)
    values = column.values.tolist()
    return [None if none else value for value, none in zip(values, missing, strict=True)]


class Talk:
    """One connection. Every method gives the records of one frame; times pass by 1 µs a frame."""

    def __init__(self, **common: Any) -> None:
        self._encoders = (Encoder(), Encoder())
        self._seqs = [0, 0]
        self._common = common
        self.now_ns = 10_000

    def ship(self, direction: int, data: bytes, **values: Any) -> list[Records]:
        records = []
        self.now_ns += 1_000
        for offset in range(0, len(data), CAPTURED):
            records.append(
                make_segment(
                    data[offset : offset + CAPTURED],
                    segment=events.SEGMENT_RESPONSE if direction else events.SEGMENT_REQUEST,
                    seq=self._seqs[direction],
                    resp_bytes=offset,
                    **{
                        "req_bytes": len(data),
                        "ts_req_ns": self.now_ns,
                        **self._common,
                        **values,
                    },
                )
            )
            self._seqs[direction] += 1
        return records

    def headers(
        self, direction: int, stream: int, headers: Headers, *, end: bool = False, **values: Any
    ) -> list[Records]:
        block = self._encoders[direction].encode(headers)
        flags = http2.END_HEADERS | (http2.END_STREAM if end else 0)
        return self.ship(direction, frame(http2.HEADERS, flags, stream, block), **values)

    def ask(self, stream: int, headers: Headers, **values: Any) -> list[Records]:
        return self.headers(0, stream, headers, **values)

    def answer(
        self, stream: int, status: int = 200, *more: tuple[str, str], end: bool = True
    ) -> list[Records]:
        return self.headers(1, stream, [(":status", str(status)), *more], end=end)

    def grpc_answer(self, stream: int) -> list[Records]:
        return self.answer(stream, 200, ("content-type", "application/grpc"), end=False)

    def trailers(self, stream: int, status: int = 0, message: str = "") -> list[Records]:
        headers = [("grpc-status", str(status)), ("grpc-message", message)]
        return self.headers(1, stream, headers, end=True)

    def whole_answer(
        self, stream: int, kind: str = "application/grpc", *, has_priority: bool = False
    ) -> list[Records]:
        """With its trailers beside it, as one call brings them."""
        headers = [(":status", "200"), ("content-type", kind)]
        flags = http2.END_HEADERS | (http2.PRIORITY if has_priority else 0)
        block = bytes(5 if has_priority else 0) + self._encoders[1].encode(headers)
        first = frame(http2.HEADERS, flags, stream, block)
        trailers = self._encoders[1].encode([("grpc-status", "0"), ("grpc-message", "")])
        flags = http2.END_HEADERS | http2.END_STREAM
        last = frame(http2.HEADERS, flags, stream, trailers)
        values = {"resp_cap": len(last), "ended": events.ENDED_STREAM, "ts_resp_ns": 14}
        return self.ship(1, first + last, **values)

    def body(self, direction: int, stream: int, size: int, *, end: bool = True) -> list[Records]:
        """As the kernel side tells of DATA that goes with no other frame's record."""
        values = {"ts_resp_ns": size, "ended": events.ENDED_STREAM if end else 0}
        return self.ship(direction, frame(http2.DATA, int(end), stream, b""), **values)

    def reset(self, direction: int, stream: int, code: int) -> list[Records]:
        return self.ship(direction, frame(http2.RST_STREAM, 0, stream, struct.pack(">I", code)))

    def goaway(self, last: int, code: int = 0) -> list[Records]:
        return self.ship(1, frame(http2.GOAWAY, 0, 0, struct.pack(">II", last, code)))

    def close(self) -> list[Records]:
        self.now_ns += 1_000
        closed = make_segment(
            b"",
            segment=events.SEGMENT_CLOSED,
            req_bytes=self._seqs[0],
            resp_bytes=self._seqs[1],
            ts_req_ns=self.now_ns,
            **self._common,
        )
        return [closed]


HELLO = http2.PREFACE + frame(http2.SETTINGS, 0, 0, struct.pack(">HI", 3, 100))
SETTINGS = frame(http2.SETTINGS, 0, 0, b"")
ACK = frame(http2.SETTINGS, 1, 0, b"")
PING = frame(6, 0, 0, b"12345678")
WINDOW = frame(8, 0, 0, b"\0\0\1\0")


def data(stream: int, size: int, *, end: bool = False) -> bytes:
    return frame(http2.DATA, int(end), stream, b"d" * size)


class Peers:
    """Both ends' encoders, and all that each end has sent."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.sent = {REQUEST: b"", RESPONSE: b""}
        self._encoders = {REQUEST: Encoder(), RESPONSE: Encoder()}

    def headers(self, side: int, stream: int, headers: Headers, flags: int = 4) -> bytes:
        return frame(http2.HEADERS, flags, stream, self._encoders[side].encode(headers))

    def ask(self, stream: int, *more: tuple[str, str]) -> bytes:
        return self.headers(REQUEST, stream, get_headers(f"/{stream}", *more))

    def answer(self, stream: int, status: int = 200) -> bytes:
        return self.headers(RESPONSE, stream, [(":status", str(status))])

    def send(self, side: int, *calls: bytes) -> tuple[int, int]:
        """Each in a call of its own at both ends; when the last one was (before, after), monotonic ns."""
        sender, reader = self.pair.client, self.pair.server
        if side == RESPONSE:
            sender, reader = reader, sender
        before_ns = 0
        for call in calls:
            before_ns = time.monotonic_ns()
            sender.sendall(call)
            receive(reader, len(call))
            self.sent[side] += call
        return before_ns, time.monotonic_ns()
