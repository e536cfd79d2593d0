"""For tests of pairing: segment records as the kernel makes them, and what came out as pairs of bytes."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from farcall_probes import events, pairing
from farcall_probes.capture import Records
from farcall_probes.events import PROTO_KAFKA


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    kind: int
    seq: int
    data: bytes = b""
    proto: int = PROTO_KAFKA
    conn_id: int = 1
    ts_ns: int = 0
    length: int = 0
    responses: int = 0
    flags: int = 0
    ended: int = 0
    ended_ns: int = 0  # of one whose beginning was held


def make_block(messages: Iterable[Message]) -> Records:
    messages = list(messages)
    block = np.zeros(len(messages), dtype=events.LARGE)
    raw = block.view(np.uint8).reshape(len(block), events.LARGE.itemsize)
    raw[:, events.EXCHANGE.itemsize :] = 0xEE  # what lies behind the captured bytes is stale
    for row, m in zip(block, messages, strict=True):
        data = m.data[: pairing.CAPTURED]
        row["conn_id"], row["seq"], row["segment"] = m.conn_id, m.seq, m.kind
        row["proto"], row["ts_req_ns"], row["flags"] = m.proto, m.ts_ns, m.flags
        row["req_bytes"] = m.length or len(m.data)
        row["resp_bytes"], row["req_cap"] = m.responses, len(data)
        row["ended"], row["ts_resp_ns"] = m.ended, m.ended_ns
    for at, m in enumerate(messages):
        data = m.data[: pairing.CAPTURED]
        start = events.EXCHANGE.itemsize
        raw[at, start : start + len(data)] = np.frombuffer(data, dtype=np.uint8)
    return block


def list_pairs(exchanges: Records | None) -> list[tuple[bytes, bytes]]:
    if exchanges is None:
        return []
    return [
        (bytes(x["req"])[: int(x["req_cap"])], bytes(x["resp"])[: int(x["resp_cap"])])
        for x in exchanges
    ]
