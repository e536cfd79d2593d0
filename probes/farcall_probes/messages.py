"""Messages that nobody answers (NATS) → exchanges, each of one message.

A message that a client publishes is an exchange of its own, from its first byte to its last, at both ends of its connection; so
is one that the server delivers, although the server sends it: who opened the connection is the client of all of them. A delivered
message's place lies in the other direction's sequence space, so its exchange has the connection's identity turned round, at both
ends alike, and a number of its own.
"""

from collections import Counter

import numpy as np

from farcall_probes import events, records
from farcall_probes.capture import Records
from farcall_probes.pairing import PAIRED, UNENDED_NS
from farcall_probes.records import as_bytes

MAX_WAITING = 2048  # messages of which the last byte is to come; 1 kB each
DELIVERED = (
    1 << 31
)  # of `seq`: numbers of what was delivered are apart from those of what was published
_RECORD = events.LARGE.itemsize
_COUNTERS = (
    "messages_unended",  # told of before their last byte came: too long, too many, or its end was lost
    "messages_orphans",  # ends of messages whose beginning was not seen
)


class Messages:
    """`take` is given the records in the order in which the kernel made them."""

    PROTOCOLS = (events.PROTO_NATS,)

    def __init__(self, *, max_waiting: int = MAX_WAITING) -> None:
        self._max_waiting = max_waiting
        self._waiting: dict[tuple[int, int], Records] = {}  # by connection and direction, of one
        self.counters: Counter[str] = Counter(dict.fromkeys(_COUNTERS, 0))

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, block: Records) -> Records | None:
        """`block`: segments as events.LARGE, contiguous. Messages that ended with them, as PAIRED with `segment` 0, or None."""
        is_whole = (block["req_bytes"] > 0) & (block["ended"] != events.ENDED_LATER)
        is_whole &= block["segment"] != events.SEGMENT_CLOSED
        done = [records.pick(block, is_whole)] if is_whole.any() else []
        done += [
            found
            for row in np.flatnonzero(~is_whole).tolist()
            for found in self._step(block[row : row + 1])
        ]
        return build_messages(records.join(done)) if done else None

    def _step(self, record: Records) -> list[Records]:
        """A message that goes on, the end of one, or of a connection."""
        connection, segment = int(record["conn_id"][0]), int(record["segment"][0])
        if segment == events.SEGMENT_CLOSED:
            kinds = (events.SEGMENT_REQUEST, events.SEGMENT_RESPONSE)
            return [found for kind in kinds for found in self._give_up((connection, kind))]
        key = (connection, segment)
        if int(record["req_bytes"][0]):
            gone = self._give_up(key)
            if len(self._waiting) >= self._max_waiting:
                gone += self._give_up(next(iter(self._waiting)))
            self._waiting[key] = record.copy()
            return gone
        begun = self._waiting.pop(key, None)
        if begun is None:
            self.counters["messages_orphans"] += 1
            return []
        begun["ts_resp_ns"] = record["ts_req_ns"]
        return [begun]

    def _give_up(self, key: tuple[int, int]) -> list[Records]:
        begun = self._waiting.pop(key, None)
        self.counters["messages_unended"] += begun is not None
        return [begun] if begun is not None else []

    def tell_late(self, now_ns: int, _limit_ns: int) -> Records | None:
        """As Pairer.tell_late: nobody answers, but the end of some is waited for."""
        late = [
            key
            for key, begun in self._waiting.items()
            if int(begun["ts_req_ns"][0]) < now_ns - UNENDED_NS
        ]
        done = [found for key in late for found in self._give_up(key)]
        return build_messages(records.join(done)) if done else None

    def let_go(self) -> Records | None:
        """All that are waited for, as they stand."""
        return self.tell_late(1 << 63, 0)


def build_messages(block: Records) -> Records:
    """Each as an exchange of its own (PAIRED). `block`: events.LARGE; ts_resp_ns is the last byte's time, or 0."""
    out = np.zeros(len(block), dtype=PAIRED)
    as_bytes(out)[:, :_RECORD] = as_bytes(block)
    delivered = block["segment"] == events.SEGMENT_RESPONSE
    out["ts_resp_ns"] = out["ended_ns"] = np.where(
        block["ts_resp_ns"] > 0, block["ts_resp_ns"], block["ts_req_ns"]
    )
    out["isn_client"] = np.where(delivered, block["isn_server"], block["isn_client"])
    out["isn_server"] = np.where(delivered, block["isn_client"], block["isn_server"])
    out["seq"] = np.where(delivered, block["seq"] | np.uint32(DELIVERED), block["seq"])
    out["req_bytes"] = np.where(delivered, 0, block["req_bytes"])
    out["resp_bytes"] = np.where(delivered, block["req_bytes"], 0)
    out["segment"] = events.SEGMENT_NONE
    return out
