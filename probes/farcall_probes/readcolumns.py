"""What every protocol's reader makes: columns as long as the rows it kept. And what they all do to a block of records."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from farcall.exchange import ExchangeFlag
from farcall_probes import records
from farcall_probes.capture import Records
from farcall_probes.columns import Numbers

NO_RESPONSE = "no_response"
# By events.END_*: why there is no answer, as `error.type` says it.
ENDS: tuple[str | None, ...] = (
    None,
    "client_closed",
    NO_RESPONSE,
    "reset",
    "timeout",
    "connection_refused",
    "unreachable",
    "connect_timeout",
    "no_local_port",
    "not_permitted",
)
# By tracecontext's formats: what a row says of where its trace was read.
TRACE_FLAGS = (0, int(ExchangeFlag.TRACE_B3), int(ExchangeFlag.TRACE_JAEGER))
Text = Sequence[str | None]
Ids = Numbers | Sequence[bytes | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """As long as `rows`, the indices of the records that they were read from."""

    rows: npt.NDArray[np.intp]
    flags: npt.NDArray[np.uint32]
    operation: Text
    target: Text
    query: Text
    host: Text
    status: npt.NDArray[np.int32]  # 0: none
    error: Text
    batch_size: Sequence[int | None]
    user_agent: Text
    content_type: Text
    trace_id: Ids
    parent_span_id: Ids
    trace_state: Text | None = None
    rpc_status: Text | None = None  # None: the protocol has none
    message: Text | None = None
    database: Text | None = None  # or keyspace
    collection: Text | None = None  # or table, or topic
    group: Text | None = None  # of consumers
    alpn: Text | None = None
    request_bytes: npt.NDArray[np.uint64] | None = None  # None: as the records say
    response_bytes: npt.NDArray[np.uint64] | None = None  # the same
    ended_ns: npt.NDArray[np.uint64] | None = None  # the response's last byte; None: its first


def captured(block: Records, field: str, length: str) -> list[bytes]:
    """What was captured of each record. No more is copied than the longest has, and in one piece: each is cut out of that once."""
    caps = block[length]
    whole, offset = block.dtype.fields[field][:2] if block.dtype.fields else (block.dtype, 0)
    width = min(int(caps.max(initial=0)), whole.itemsize)
    if not width:
        return [b""] * len(block)
    part = np.dtype(
        {
            "names": [field],
            "formats": [f"V{width}"],
            "offsets": [offset],
            "itemsize": block.dtype.itemsize,
        }
    )
    data = block.view(part)[field].tobytes()
    begins = range(0, len(data), width)
    return [
        data[at : at + cap]
        for at, cap in zip(begins, np.minimum(caps, width).tolist(), strict=True)
    ]


def raw_column(block: Records, field: str) -> npt.NDArray[np.uint8]:
    """All bytes of that field, a row of each record. A view, of a block that lies in one piece."""
    whole, offset = block.dtype.fields[field][:2] if block.dtype.fields else (block.dtype, 0)
    return records.as_bytes(block)[:, offset : offset + whole.itemsize]


def mark_pipelined(flags: npt.NDArray[np.uint32], sizes: Sequence[int]) -> npt.NDArray[np.uint32]:
    many = np.array(sizes, dtype=np.int64) > 1
    return flags | np.where(many, np.uint32(ExchangeFlag.PIPELINED), np.uint32(0))


def name_ends(block: Records) -> Text:
    """Why there is no answer; None where there is one."""
    if not block["end"].any():
        return [None] * len(block)
    return [ENDS[end] if end < len(ENDS) else NO_RESPONSE for end in block["end"].tolist()]
