"""What every protocol's reader makes: columns as long as the rows it kept. And what they all do to a block of records."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from farcall.exchange import ExchangeFlag
from farcall_probes.capture import Records

NO_RESPONSE = "no_response"
Text = Sequence[str | None]


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
    trace_id: Sequence[bytes | None]
    parent_span_id: Sequence[bytes | None]
    rpc_status: Text | None = None  # None: the protocol has none
    message: Text | None = None


def captured(block: Records, field: str, length: str) -> list[bytes]:
    return [
        data[:cap] for data, cap in zip(block[field].tolist(), block[length].tolist(), strict=True)
    ]


def mark_pipelined(flags: npt.NDArray[np.uint32], sizes: Sequence[int]) -> npt.NDArray[np.uint32]:
    many = np.array(sizes, dtype=np.int64) > 1
    return flags | np.where(many, np.uint32(ExchangeFlag.PIPELINED), np.uint32(0))


def name_no_response(flags: npt.NDArray[np.uint32]) -> Text:
    silent = (flags & ExchangeFlag.NO_RESPONSE) != 0
    return [NO_RESPONSE if s else None for s in silent.tolist()]
