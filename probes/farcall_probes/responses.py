"""How long an HTTP/1 response is, and whether its record holds all of it: the kernel side sees the first call of one.

RFC 9112, 6.3: its end is told by Content-Length, by the last chunk, or by the connection's close, unless the status or the
method leaves no body. Where no head's end was captured, the bytes of the first read or write stay what is said.
"""

import re
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from farcall_probes import events
from farcall_probes.capture import Records
from farcall_probes.readcolumns import captured

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*\r\n", re.IGNORECASE)
_CODING = re.compile(rb"\r\ntransfer-encoding:([^\r\n]*)", re.IGNORECASE)
_LINE_END = b"\r\n"
_HEAD_END = 2 * _LINE_END
_LAST_CHUNK = b"\r\n0\r\n\r\n"
_BODILESS = (204, 304)
# RFC 9110, 9.3.2 and 9.3.6: a tunnel's bytes are no body.
_BODILESS_METHODS = np.array([b"HEAD ", b"CONNE"])
_FIELDS = events.LARGE.fields
_REQUEST_AT = _FIELDS["req"][1] if _FIELDS else 0
_RESPONSE_AT = _FIELDS["resp"][1] if _FIELDS else 0
# All that may be of a response: it ends where `resp` does, and begins `resp_more` bytes before that.
_WHOLE_BYTES = events.RESP_MORE + events.LARGE_RESP
_WHOLE = np.dtype(
    {
        "names": ["whole"],
        "formats": [f"V{_WHOLE_BYTES}"],
        "offsets": [_RESPONSE_AT - events.RESP_MORE],
        "itemsize": events.LARGE.itemsize,
    }
)
_MEMO_ENTRIES = 2048  # heads of one second are alike but for their lengths
# A socket may take so long a write in parts (bpf/rest.h): that it was written is not that it has left.
LARGE_WRITE = 16_384
Sizes = npt.NDArray[np.uint64]


class End(IntEnum):
    """What a response still waits for."""

    HERE = 0  # nothing: its record holds all of it, as far as anybody can tell
    LENGTH = 1  # so many bytes as its head says
    CHUNKS = 2  # the last chunk
    CLOSE = 3  # the connection's close
    ANSWER = 4  # the end of a database's answer
    QUIET = 5  # the same of a cache's, of which nothing tells for sure that it is one


class Measured(NamedTuple):
    sizes: Sizes  # bytes of each response, its head included; never fewer than were seen
    ends: npt.NDArray[np.uint8]  # End


# What a head says is one number, so that those of a drain are an array: End, and above it the whole response's length.
_END_BITS, _END_MASK = 2, np.uint8(3)
_UNKNOWN = int(End.HERE)


def measure_responses(block: Records, statuses: npt.NDArray[np.int32]) -> Measured:
    """Of these large records."""
    sizes: Sizes = block["resp_bytes"].astype(np.uint64)
    ends = np.zeros(len(block), dtype=np.uint8)
    has_body = (statuses >= 200) & ~np.isin(statuses, _BODILESS)
    if has_body.any():
        has_body &= ~np.isin(_read_methods(block), _BODILESS_METHODS)
    rows = np.flatnonzero(has_body)
    if len(rows):
        some = block if len(rows) == len(block) else block[rows]
        _measure(some, rows, sizes, ends)
        is_long = (block["resp_bytes"] > LARGE_WRITE) & (block["role"] == events.ROLE_SERVER)
        ends[has_body & is_long & (ends == End.HERE)] = End.LENGTH
    return Measured(sizes, ends)


def _read_methods(block: Records) -> npt.NDArray[np.bytes_]:
    """The first bytes of each request."""
    width = _BODILESS_METHODS.dtype
    return np.ndarray(len(block), width, block, _REQUEST_AT, (block.dtype.itemsize,))


def _measure(
    some: Records, rows: npt.NDArray[np.intp], sizes: Sizes, ends: npt.NDArray[np.uint8]
) -> None:
    found = read_responses(some)
    # Up to the line end before the empty line; without one it is a byte, of which nothing is read.
    heads = [data[: data.find(_HEAD_END) + len(_LINE_END)] for data in found]
    framings = np.fromiter(map(_read_framing, heads), np.uint64, len(heads))
    lengths, end = framings >> np.uint64(_END_BITS), framings.astype(np.uint8) & _END_MASK
    seen = some["resp_bytes"]
    end[(end == End.LENGTH) & (seen >= lengths)] = End.HERE
    chunked = np.flatnonzero(end == End.CHUNKS)
    columns = chunked.tolist(), some["ended"][chunked].tolist(), seen[chunked].tolist()
    for at, ended, size in zip(*columns, strict=True):
        data = found[at]
        if ended == events.ENDED_CHUNKS or (len(data) >= size and data.endswith(_LAST_CHUNK)):
            end[at] = End.HERE
    sizes[rows] = np.maximum(seen, lengths)
    ends[rows] = end


def read_responses(block: Records) -> list[bytes]:
    """Their captured bytes."""
    more = block["resp_more"]
    if not more.any():
        return captured(block, "resp", "resp_cap")
    data = block.view(_WHOLE)["whole"].tobytes()
    resp = np.arange(len(block)) * _WHOLE_BYTES + events.RESP_MORE
    begins = resp - np.minimum(more, events.RESP_MORE)
    ends = resp + np.minimum(block["resp_cap"], events.LARGE_RESP)
    return [data[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]


@lru_cache(maxsize=_MEMO_ENTRIES)
def _read_framing(head: bytes) -> int:
    """`head`: up to the line end before the empty line."""
    if not head.endswith(_LINE_END):
        return _UNKNOWN
    coding = _CODING.search(head)
    if coding is not None:
        return End.CHUNKS if b"chunked" in coding[1].lower() else End.CLOSE
    length = _LENGTH.search(head)
    if length is None:
        return End.CLOSE
    return End.LENGTH | len(head) + len(_LINE_END) + int(length[1]) << _END_BITS
