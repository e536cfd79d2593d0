"""Rows of served requests that another exporter needs too, because it is sent a request that was made for one of them.

Bounded both ways: requests wait for the row that caused them, which comes when it is answered, and rows of the last few
flushes are kept for requests that were answered after them. What is forgotten is a root of its own at its exporter.
"""

from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from farcall.exchange import ExchangeFlag
from farcall_probes import columns
from farcall_probes.arrowstream import Batch
from farcall_probes.routing import has_value, read_numbers

MAX_CHILDREN = 20_000  # about 4 MB
FLUSHES = 4  # 2 s
SERVER = 1
Key = tuple[int, int]  # connection_id, sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flush:
    served: dict[Key, int]  # → row
    batch: Batch
    exporters: list[str]  # of each row


class Copies:
    def __init__(self) -> None:
        self._children: OrderedDict[Key, set[str]] = OrderedDict()  # cause → requests' exporters
        self._flushes: deque[_Flush] = deque(maxlen=FLUSHES)
        self.counters: Counter[str] = Counter()

    def find(self, batch: Batch, exporters: list[str]) -> list[tuple[str, Batch]]:
        """(exporter, rows that it is sent beside its own). `exporters` are the rows' own."""
        is_server = read_numbers(batch, "role") == SERVER
        served = dict(_list_keys(batch, is_server, "connection_id", "sequence"))
        self._flushes.append(_Flush(served=served, batch=batch, exporters=exporters))
        wanted: defaultdict[tuple[int, str], set[int]] = defaultdict(set)
        caused = ~is_server & has_value(batch, "cause_connection_id")
        for key, row in _list_keys(batch, caused, "cause_connection_id", "cause_sequence"):
            at = self._find_flush(key)
            if at is None:
                self._children.setdefault(key, set()).add(exporters[row])
            else:
                self._want(wanted, at, key, exporters[row])
        for key in served.keys() & self._children.keys():
            for exporter in self._children.pop(key):
                self._want(wanted, len(self._flushes) - 1, key, exporter)
        while len(self._children) > MAX_CHILDREN:
            self._children.popitem(last=False)
            self.counters["causes_dropped"] += 1
        copies = [
            (exporter, _mark(self._flushes[at].batch.take(np.array(sorted(rows), np.int64))))
            for (at, exporter), rows in wanted.items()
        ]
        self.counters["causes_copied"] += sum(copy.rows for _, copy in copies)
        return copies

    def _find_flush(self, key: Key) -> int | None:
        newest_first = range(len(self._flushes) - 1, -1, -1)
        return next((at for at in newest_first if key in self._flushes[at].served), None)

    def _want(
        self, wanted: dict[tuple[int, str], set[int]], at: int, key: Key, exporter: str
    ) -> None:
        flush = self._flushes[at]
        row = flush.served[key]
        if flush.exporters[row] != exporter:
            wanted[at, exporter].add(row)


def _list_keys(
    batch: Batch, mask: npt.NDArray[np.bool_], connection: str, sequence: str
) -> list[tuple[Key, int]]:
    rows = np.flatnonzero(mask)
    if not len(rows):
        return []
    ids = read_numbers(batch, connection)[rows].tolist()
    numbers = read_numbers(batch, sequence)[rows].tolist()
    return list(zip(zip(ids, numbers, strict=True), rows.tolist(), strict=True))


def _mark(batch: Batch) -> Batch:
    flags = read_numbers(batch, "flags") | int(ExchangeFlag.COPY)
    return batch.replace("flags", columns.numbers(flags))
