"""How long an HTTP/1 response is: the kernel side sees its first bytes, and what sendfile sends it never sees.

RFC 9112, 6.3: the length is in Content-Length, unless the status or the method leaves no body. Where no head's end or no
Content-Length was captured, the bytes of the first read or write stay what is said.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from farcall_probes import events
from farcall_probes.capture import Records
from farcall_probes.readcolumns import captured

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_HEAD_END = b"\r\n\r\n"
_BODILESS = (204, 304)
_FIELDS = events.LARGE.fields
_REQUEST_END = _FIELDS["req"][1] + events.LARGE_REQ if _FIELDS else 0
_REST = np.dtype(
    {
        "names": ["rest"],
        "formats": [f"V{events.RESP_MORE}"],
        "offsets": [_REQUEST_END - events.RESP_MORE],
        "itemsize": events.LARGE.itemsize,
    }
)
_MEMO_ENTRIES = 2048  # heads of one second are alike but for their lengths
Sizes = npt.NDArray[np.uint64]


def measure_responses(
    block: Records, methods: Sequence[str], statuses: npt.NDArray[np.int32]
) -> Sizes:
    """Bytes of each response of these large records, the head included; never fewer than were seen."""
    sizes: Sizes = block["resp_bytes"].astype(np.uint64)
    rows = np.flatnonzero(find_open(block) & (statuses >= 200) & ~np.isin(statuses, _BODILESS))
    if len(rows):
        some = block if len(rows) == len(block) else block[rows]
        lengths = [
            0 if methods[row] == "HEAD" else find_length(data)
            for row, data in zip(rows.tolist(), read_responses(some), strict=True)
        ]
        sizes[rows] = np.maximum(sizes[rows], np.array(lengths, dtype=np.uint64))
    return sizes


def find_open(block: Records) -> npt.NDArray[np.bool_]:
    """Responses that may go on behind what was captured. Whole ones that are short need no look: they end with a body."""
    ends = np.zeros(len(block), dtype=bool)
    if block.dtype.fields and len(block):
        offset = block.dtype.fields["resp"][1]
        raw = np.ndarray(
            (len(block), block.dtype.itemsize), np.uint8, block, strides=(block.dtype.itemsize, 1)
        )
        last = np.maximum(block["resp_cap"].astype(np.intp), 4)[:, None] + np.arange(-4, 0)
        found = raw[np.arange(len(block))[:, None], offset + last]
        ends = (found == np.frombuffer(_HEAD_END, dtype=np.uint8)).all(axis=1)
    return ends | (block["resp_more"] > 0) | (block["resp_bytes"] > block["resp_cap"])


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


def find_length(data: bytes) -> int:
    """Of the message that begins with `data`; 0 when that does not tell."""
    end = data.find(_HEAD_END)
    return 0 if end < 0 else _read_length(data[: end + 2])


@lru_cache(maxsize=_MEMO_ENTRIES)
def _read_length(head: bytes) -> int:
    length = _LENGTH.search(head)
    if length is None or _CHUNKED.search(head):
        return 0
    return len(head) + 2 + int(length[1])
