"""For tests against real servers: everything that was seen at a port, paired and read as the agent does it."""

from dataclasses import dataclass

import numpy as np

from farcall_probes import events
from farcall_probes.capture import Records
from farcall_probes.multiplexed import MultiplexedReader
from farcall_probes.probes import KernelCapture
from farcall_probes.segments import Segments


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    role: int
    operation: str | None
    target: str | None
    error: str | None
    database: str | None
    collection: str | None
    group: str | None
    size: int | None
    duration_ns: int
    response_bytes: int
    flags: int
    key: tuple[int, int, int]


class MultiplexedWatch:
    """Drain it often: clients that poll fill a ring."""

    def __init__(self, capture: KernelCapture, proto: int, port: int) -> None:
        self._capture, self._proto, self._port = capture, proto, port
        self.pairer = Segments()
        self._reader = MultiplexedReader(masking=True)
        self._found: list[Exchange] = []
        self._known: set[int] = set()  # connections of which a message came
        capture.drain()
        self._before = capture.read_counters()

    def count(self, name: str) -> int:
        return self._capture.read_counters()[name] - self._before[name]

    def drain(self) -> None:
        large = self._capture.drain().large
        own = (large["lport"] == self._port) | (large["rport"] == self._port)
        own &= (large["segment"] != events.SEGMENT_NONE) & (large["proto"] == self._proto)
        ended = self.pairer.take(self._without_former(np.ascontiguousarray(large[own])))
        if ended is None:
            return
        columns = self._reader.read(self._proto, ended)
        assert columns.database is not None and columns.collection is not None
        assert columns.group is not None
        for at, row in enumerate(columns.rows.tolist()):
            record = ended[row]
            self._found.append(
                Exchange(
                    role=int(record["role"]),
                    operation=columns.operation[at],
                    target=columns.target[at],
                    error=columns.error[at],
                    database=columns.database[at],
                    collection=columns.collection[at],
                    group=columns.group[at],
                    size=columns.batch_size[at],
                    duration_ns=int(record["ts_resp_ns"]) - int(record["ts_req_ns"]),
                    response_bytes=int(record["resp_bytes"]),
                    flags=int(columns.flags[at]),
                    key=(
                        int(record["isn_client"]),
                        int(record["isn_server"]),
                        int(record["request_seq"]),
                    ),
                )
            )

    def _without_former(self, block: Records) -> Records:
        """A connection of the test before may close only now: all that it had would count as a gap."""
        is_closed = block["segment"] == events.SEGMENT_CLOSED
        self._known.update(block["conn_id"][~is_closed].tolist())
        is_known = [number in self._known for number in block["conn_id"].tolist()]
        return np.ascontiguousarray(block[~is_closed | np.array(is_known, dtype=np.bool_)])

    def sides(self) -> tuple[list[Exchange], list[Exchange]]:
        """(client's, server's), in the order in which they ended"""
        self.drain()
        found = self._found
        return (
            [x for x in found if x.role == events.ROLE_CLIENT],
            [x for x in found if x.role == events.ROLE_SERVER],
        )

    @property
    def unread(self) -> int:
        return sum(self._reader.dropped.values())
