"""Messages of a connection whose both ends are a test's, as the agent tells of them."""

import numpy as np

from farcall_probes import events
from farcall_probes.messages import DELIVERED
from farcall_probes.multiplexed import MultiplexedReader
from farcall_probes.segments import Segments
from farcall_probes.selftest import Pair
from support_probes import Watch
from support_rests import pass_on

Row = tuple[str | None, str | None, int]


def say(pair: Pair, *pieces: bytes) -> None:
    for piece in pieces:
        pass_on(pair.client, pair.server, piece)


def hear(pair: Pair, *pieces: bytes) -> None:
    for piece in pieces:
        pass_on(pair.server, pair.client, piece)


def see_messages(watch: Watch, port: int, proto: int) -> tuple[list[Row], list[Row]]:
    """(operation, destination, size) of what was said and heard at (client's, server's) end; what they have in common is checked."""
    block = np.array(watch.segments(port), dtype=events.LARGE)
    assert (block["proto"] == proto).all()
    done = Segments().take(block)
    if done is None:
        return [], []
    columns = MultiplexedReader(masking=True).read(proto, done)
    assert len(columns.rows) == len(done)
    assert columns.request_bytes is not None and columns.response_bytes is not None
    sizes = (columns.request_bytes + columns.response_bytes).tolist()
    rows = list(zip(columns.operation, columns.collection or (), sizes, strict=True))
    roles = done["role"].tolist()
    order = np.argsort(done["ts_req_ns"], kind="stable").tolist()
    names = ("isn_client", "isn_server", "request_seq")
    keys = [tuple(key) for key in np.stack([done[name] for name in names], 1).tolist()]
    sides = [[at for at in order if roles[at] == wanted] for wanted in (0, 1)]
    has_identity = (done["flags"] & events.FLAG_IDENTITY) != 0
    for one, other in zip(*sides, strict=False):  # each end has it from when two sights agreed
        assert keys[one] == keys[other] or not (has_identity[one] and has_identity[other])
    assert (done["ts_req_ns"] <= done["ended_ns"]).all()
    assert (done["resp_bytes"][done["seq"] >= DELIVERED] > 0).all()
    client, server = ([rows[at] for at in side] for side in sides)
    return client, server
