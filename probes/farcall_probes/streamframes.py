"""HTTP/2 segments of one drain, as the walk over them needs them: numbers in lists, bytes in one piece.

Whatever can be said of all frames at once is said here, with numpy: above all which ones are a whole block of headers in the
one frame, with nothing else in it. Nearly all are. Records are four times as long as most frames, so their beginnings are
copied once, and what is read of them lies close together.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from farcall_probes import events
from farcall_probes.capture import Records
from farcall_probes.wire import http2

ODD, ASKED, ANSWERED, ENDED = range(
    4
)  # of a plain block: the request's, an answer's, an answer's that ends the stream

HEAD_BYTES = events.EXCHANGE.itemsize
HEADS = np.dtype(f"V{HEAD_BYTES}")
_FIELDS = dict(events.EXCHANGE.fields or {})
_IDENTITY_AT = _FIELDS["isn_client"][1]  # isn_server stands behind it
_SHORT = 128  # bytes of a frame that are copied with its record's beginning
_BYTES = HEAD_BYTES + _SHORT
_BEGINNINGS = np.dtype(
    {
        "names": ["bytes"],
        "formats": [f"V{_BYTES}"],
        "offsets": [0],
        "itemsize": events.LARGE.itemsize,
    }
)
_WHOLE = np.dtype(f"V{events.LARGE.itemsize}")  # with its fields numpy would copy one at a time
_CAPTURED = events.LARGE_REQ + events.LARGE_RESP
_SHAPE = http2.END_HEADERS | http2.PADDED | http2.PRIORITY
_WANTED = ("conn_id", "seq", "ts_req_ns", "flags", "req_cap", "resp_bytes", "segment", "req_bytes")
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


class Frames:
    """`begins`, `ends`: where in `data` the block of a plain frame lies, behind its header; so they stand for all frames."""

    __slots__ = ("_data", "_kinds", "_view", "begins", "data", "ends")

    def __init__(self, block: Records, rows: npt.NDArray[np.intp]) -> None:
        beginnings = block.view(_BEGINNINGS)["bytes"]
        data = (beginnings if len(rows) == len(block) else beginnings[rows]).tobytes()
        view = self._view = np.frombuffer(data, _LAYOUT)
        sizes = np.minimum(view["req_cap"], _CAPTURED).astype(np.intp)
        begins = np.arange(len(rows)) * _BYTES + (HEAD_BYTES + http2.HEADER_BYTES)
        long = np.flatnonzero(sizes > _SHORT)
        if len(long):
            begins[long] = begins[0] + len(data) + np.arange(len(long)) * events.LARGE.itemsize
            data += block.view(_WHOLE)[rows[long]].tobytes()
        self.data = data
        self._kinds = _find_kinds(view, sizes)
        self.begins, self.ends = begins, begins + (sizes - http2.HEADER_BYTES)

    def __iter__(self) -> Iterator[tuple[int, int, int, int, int, int, int, int, int]]:
        """Of each frame: its place here, connection, segment number, time, flags, kind, stream, begin, end."""
        view = self._view
        streams = view["stream"] & np.uint32(0x7FFFFFFF)
        columns = (
            view["conn_id"],
            view["seq"],
            view["ts_req_ns"],
            view["flags"],
            self._kinds,
            streams,
        )
        lists = [column.tolist() for column in (*columns, self.begins, self.ends)]
        return zip(range(len(view)), *lists, strict=True)

    def list_odd(self) -> Iterator[Odd]:
        """Those of kind ODD, one after the other."""
        odd = self._view[self._kinds == ODD]
        names = ("segment", "resp_bytes", "req_bytes")
        return map(Odd, *(odd[name].tolist() for name in names))

    @property
    def heads(self) -> npt.NDArray[np.void]:
        """events.EXCHANGE of each, as bytes."""
        return self._view["head"]

    def find_identity(self, at: int) -> bytes:
        begin = at * _BYTES + _IDENTITY_AT
        return self.data[begin : begin + 8]


def _find_kinds(view: npt.NDArray[np.void], sizes: npt.NDArray[np.intp]) -> npt.NDArray[np.uint8]:
    words, shapes = view["length_and_kind"], view["shape"]
    is_plain = (
        (sizes > http2.HEADER_BYTES)
        & (words & 0xFF == http2.HEADERS)
        & (shapes & _SHAPE == http2.END_HEADERS)
        & (view["resp_bytes"] == 0)
        & ((words >> 8) + http2.HEADER_BYTES == sizes)
        & (view["segment"] != events.SEGMENT_CLOSED)
    )
    answers = np.where(shapes & http2.END_STREAM, ENDED, ANSWERED)
    kinds = np.where(view["segment"] == events.SEGMENT_REQUEST, ASKED, answers)
    return np.where(is_plain, kinds, ODD).astype(np.uint8)
