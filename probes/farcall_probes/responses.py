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
_HEAD_END = b"\r\n\r\n"
_LAST_CHUNK = b"\r\n0\r\n\r\n"
_BODILESS = (204, 304)
# RFC 9110, 9.3.2 and 9.3.6: a tunnel's bytes are no body.
_BODILESS_METHODS = np.array([b"HEAD ", b"CONNE"])
_FIELDS = events.LARGE.fields
_REQUEST_AT = _FIELDS["req"][1] if _FIELDS else 0
_REST = np.dtype(
    {
        "names": ["rest"],
        "formats": [f"V{events.RESP_MORE}"],
        "offsets": [_REQUEST_AT + events.LARGE_REQ - events.RESP_MORE],
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


class Measured(NamedTuple):
    sizes: Sizes  # bytes of each response, its head included; never fewer than were seen
    ends: npt.NDArray[np.uint8]  # End


class _Framing(NamedTuple):
    end: End
    length: int  # of the whole response, where its head says it


_UNKNOWN = _Framing(End.HERE, 0)


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
    columns = [some[name].tolist() for name in ("resp_bytes", "ended")]
    for row, data, seen, ended in zip(rows.tolist(), read_responses(some), *columns, strict=True):
        cut = data.find(_HEAD_END)
        end, length = _read_framing(data[: cut + 2]) if cut >= 0 else _UNKNOWN
        if end == End.LENGTH and seen >= length:
            end = End.HERE
        elif end == End.CHUNKS and (
            ended == events.ENDED_CHUNKS or (len(data) >= seen and data.endswith(_LAST_CHUNK))
        ):
            end = End.HERE
        if length > seen:
            sizes[row] = length
        ends[row] = end


def read_responses(block: Records) -> list[bytes]:
    """Their captured bytes, from both places."""
    found = captured(block, "resp", "resp_cap")
    if not block["resp_more"].any():
        return found
    rests = zip(_read_rests(block), block["resp_more"].tolist(), strict=True)
    return [
        data + rest[:more] if more else data
        for data, (rest, more) in zip(found, rests, strict=True)
    ]


def _read_rests(block: Records) -> list[bytes]:
    """The last bytes of each request's place, where the rest of a response lies."""
    rests: list[bytes] = block.view(_REST)["rest"].tolist()
    return rests


@lru_cache(maxsize=_MEMO_ENTRIES)
def _read_framing(head: bytes) -> _Framing:
    """`head`: up to the line end before the empty line."""
    coding = _CODING.search(head)
    if coding is not None:
        return _Framing(End.CHUNKS if b"chunked" in coding[1].lower() else End.CLOSE, 0)
    length = _LENGTH.search(head)
    if length is None:
        return _Framing(End.CLOSE, 0)
    return _Framing(End.LENGTH, len(head) + 2 + int(length[1]))
