"""HTTP/2 segments of one drain, as the walk over them needs them: numbers in lists, bytes in one piece.

Whatever can be said of all frames at once is said here, with numpy: above all which ones are a whole block of headers in the
one frame, with nothing else in it. Nearly all are.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from farcall_probes import capture, events
from farcall_probes.giveway import give_way
from farcall_probes.wire import http2

# Of a plain block: the request's, an answer's, an answer's whose stream ends with its record, an answer's with its trailers' block
# beside it. Of no frame, but of a body that was counted: the same, and of one that a request ends with. Those of requests are
# odd numbers.
ODD, ASKED, ANSWERED, ENDED, WHOLE = 0, 1, 2, 4, 6
ASKED_BODY, ANSWERED_BODY, ASKED_ENDED_BODY, ENDED_BODY = 7, 8, 9, 10

HEAD_BYTES = events.EXCHANGE.itemsize
HEADS = np.dtype(f"V{HEAD_BYTES}")
_FIELDS = dict(events.EXCHANGE.fields or {})
_IDENTITY_AT = _FIELDS["isn_client"][1]  # isn_server stands behind it
_BYTES = events.SHORT.itemsize
_CAPTURED = events.LARGE_REQ + events.LARGE_RESP
_ENDED = events.ENDED_STREAM
_BODIES = np.dtype(f"V{12 * events.BODIES}")
_SHAPE = http2.END_HEADERS | http2.PADDED | http2.PRIORITY
_WANTED = (
    "conn_id",
    "seq",
    "ts_req_ns",
    "ts_resp_ns",
    "flags",
    "req_cap",
    "resp_cap",
    "resp_bytes",
    "segment",
    "req_bytes",
    "ended",
    "cause_conn_id",
    "asked_us",
)
_LAYOUT = np.dtype(
    {
        "names": ["head", *_WANTED, "length_and_kind", "shape", "stream"],
        "formats": [HEADS, *(_FIELDS[name][0] for name in _WANTED), ">u4", "u1", ">u4"],
        "offsets": [
            0,
            *(_FIELDS[name][1] for name in _WANTED),
            HEAD_BYTES,
            HEAD_BYTES + 4,
            HEAD_BYTES + 5,
        ],
        "itemsize": _BYTES,
    }
)


class Odd(NamedTuple):
    """What else is to be known of a frame that is not plain."""

    segment: int  # events.SEGMENT_*
    offset: (
        int  # where in its frame the captured bytes begin; of SEGMENT_CLOSED: the answers' segments
    )
    requests: int  # of SEGMENT_CLOSED: the requests' segments
    is_end: bool  # this direction of its stream ends with it


class Other(NamedTuple):
    """What a record tells of the other direction of its stream."""

    bytes: int  # of DATA frames
    ago_us: int  # since the request ended; 0: not known, or not of a request


NOTHING = Other(0, 0)
# Of requests and of responses: (stream, bytes, when the request ended in microseconds of the clock modulo 2^32, or 0)
Bodies = tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]


# Its place in Frames, connection, number, time, flags, kind, stream, size, begin, end, last
Frame = tuple[int, int, int, int, int, int, int, int, int, int, int]


class Frames:
    """`begins`, `ends`: where in `data` the block of a plain frame lies, behind its header; so they stand for all frames. `lasts`:
    where the frame's record ends, which is behind that only where trailers stand beside it. `others`: by a frame's place here,
    where there is anything to say."""

    __slots__ = ("_view", "begins", "data", "ends", "kinds", "lasts", "others", "sizes", "streams")

    def __init__(self, frames: capture.Frames) -> None:
        self.data, count = frames.data, len(frames)
        view = self._view = np.frombuffer(self.data, _LAYOUT, count)
        sizes = np.minimum(view["req_cap"], _CAPTURED).astype(np.intp)
        begins = np.arange(count) * _BYTES + (HEAD_BYTES + http2.HEADER_BYTES)
        long = np.flatnonzero(sizes > events.SHORT_REQ)
        if len(long):
            first = count * _BYTES + HEAD_BYTES + http2.HEADER_BYTES
            begins[long] = first + np.arange(len(long)) * events.LARGE.itemsize
        give_way()
        beside = np.minimum(view["resp_cap"], sizes)
        self.kinds = _find_kinds(view, sizes - beside)
        give_way()
        # With the bytes of DATA that go with it.
        self.sizes = np.where(self.kinds >= ASKED_BODY, 0, sizes) + view["ts_resp_ns"].astype(
            np.int64
        )
        self.streams = view["stream"] & np.uint32(0x7FFFFFFF)
        self.begins, self.lasts = begins, begins + (sizes - http2.HEADER_BYTES)
        self.ends = self.lasts - beside
        self.others = _find_others(view)

    def __len__(self) -> int:
        return len(self._view)

    @property
    def conn_ids(self) -> npt.NDArray[np.uint64]:
        return self._view["conn_id"]

    @property
    def numbers(self) -> npt.NDArray[np.uint32]:
        """Each frame's on its connection and in its direction."""
        return self._view["seq"]

    @property
    def times_ns(self) -> npt.NDArray[np.uint64]:
        return self._view["ts_req_ns"]

    @property
    def flags(self) -> npt.NDArray[np.uint32]:
        return self._view["flags"]

    def list_some(self, rows: npt.NDArray[np.intp]) -> Iterator[Frame]:
        columns = (
            self.conn_ids,
            self.numbers,
            self.times_ns,
            self.flags,
            self.kinds,
            self.streams,
            self.sizes,
            self.begins,
            self.ends,
            self.lasts,
        )
        return zip(rows.tolist(), *(column[rows].tolist() for column in columns), strict=True)

    def list_odd(self) -> Iterator[Odd]:
        """Those of kind ODD, one after the other."""
        odd = self._view[self.kinds == ODD]
        names = ("segment", "resp_bytes", "req_bytes")
        is_end = odd["ended"] == events.ENDED_STREAM
        return map(Odd, *(odd[name].tolist() for name in names), is_end.tolist())

    @property
    def heads(self) -> npt.NDArray[np.void]:
        """events.EXCHANGE of each, as bytes."""
        return self._view["head"]

    def find_identity(self, at: int) -> bytes:
        begin = at * _BYTES + _IDENTITY_AT
        return self.data[begin : begin + 8]


def _find_kinds(view: npt.NDArray[np.void], sizes: npt.NDArray[np.intp]) -> npt.NDArray[np.uint8]:
    """`sizes`: of the frames, or of what was captured of them."""
    words, shapes = view["length_and_kind"], view["shape"]
    is_plain = (
        (sizes > http2.HEADER_BYTES)
        & (words & 0xFF == http2.HEADERS)
        & (shapes & _SHAPE == http2.END_HEADERS)
        & (view["resp_bytes"] == 0)
        & ((words >> 8) + http2.HEADER_BYTES == sizes)
        & (view["segment"] != events.SEGMENT_CLOSED)
    )
    is_request = view["segment"] == events.SEGMENT_REQUEST
    is_end = (view["ended"] == _ENDED) | (is_plain & (shapes & http2.END_STREAM != 0))
    of_answers = np.where(view["resp_cap"] != 0, WHOLE, np.where(is_end, ENDED, ANSWERED))
    kinds = np.where(is_request, ASKED, of_answers)
    kinds = np.where(is_plain, kinds, ODD)
    is_body = (view["resp_bytes"] == 0) & (words == http2.DATA) & (sizes == http2.HEADER_BYTES)
    if is_body.any():
        of_answers = np.where(is_end, ENDED_BODY, ANSWERED_BODY)
        bodies = np.where(is_request, np.where(is_end, ASKED_ENDED_BODY, ASKED_BODY), of_answers)
        kinds = np.where(is_body & (view["segment"] != events.SEGMENT_CLOSED), bodies, kinds)
    return kinds.astype(np.uint8)


def _find_others(view: npt.NDArray[np.void]) -> dict[int, Other]:
    told = (view["cause_conn_id"] != 0) | (view["asked_us"] != 0)
    # What a request's own HEADERS say there is its cause.
    told &= (view["segment"] == events.SEGMENT_RESPONSE) | (
        view["length_and_kind"] & 0xFF == http2.RST_STREAM
    )
    rows = np.flatnonzero(told)
    if not len(rows):
        return {}
    counted = view["cause_conn_id"][rows].tolist(), view["asked_us"][rows].tolist()
    return dict(zip(rows.tolist(), map(Other, *counted), strict=True))


def read_bodies(data: bytes) -> Bodies:
    """What was counted when the connection closed, and no record told of. Two tables of struct fc_body."""
    if len(data) != 2 * _BODIES.itemsize:
        return [], []
    halves = np.frombuffer(data, _BODIES).view("<u4").reshape(2, events.BODIES, 3).tolist()
    requests, answers = ([(s, n, end) for s, n, end in half if s] for half in halves)
    return requests, answers
