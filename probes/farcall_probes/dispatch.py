"""Batches on their way out: numbered, rendered, and given to the sender of the exporter that they are for.

Alone, an exporter takes everything. Where there may be several, a thread here looks up their addresses, keeps a sender for
each, and rows of exchanges go by `routing`; everything else goes to one of them, the same for this node while it is there.
When an exporter goes, what was queued for it is divided anew; only the one batch that may have arrived is handed on as it
is, because the store knows it by its number.

A request and the one that it was sent for travel on two connections, maybe to two exporters. Then the exporter of the
request sent is given a copy of the other's row (ExchangeFlag.COPY), which tells it the parent and is nothing else.
"""

import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from farcall import journal
from farcall.envelope import MAX_BATCH_BYTES, MAX_BATCH_ROWS, AgentStatus
from farcall.exchange import BatchHeader, BatchKind
from farcall_probes.arrowstream import Batch as RowBatch
from farcall_probes.batches import render_batch
from farcall_probes.copies import Copies
from farcall_probes.routing import EPOCH_NS, Members, read_keys, read_numbers
from farcall_probes.sender import (
    MAX_QUEUE_BATCHES,
    MAX_QUEUE_BYTES,
    STATUS_EVERY_S,
    Batch,
    Sender,
)

FIND_EVERY_S = 3.0
Find = Callable[[], Iterable[str]]  # the exporters' addresses; OSError when they are not known


def find_addresses(url: str) -> list[str]:
    """All addresses of the URL's host. Raises OSError."""
    parts = urlsplit(url)
    found = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
    return [str(end[0]) for *_, end in found]


@dataclass(slots=True)
class _Lane:
    """One exporter's, with numbers of its own."""

    sender: Sender
    stream: str
    number: int = 0


class Dispatcher:
    """`put` and `is_behind` belong to the capture loop; the rest may be called from anywhere."""

    def __init__(
        self,
        *,
        url: str,
        find: Find | None,  # None: all goes to the URL
        node: str,
        boot_id: str,
        secrets_dir: str,
        ca_file: Path | None = None,
        make_status: Callable[[], AgentStatus],
        status_every_s: float = STATUS_EVERY_S,
        find_every_s: float = FIND_EVERY_S,
        epoch_ns: int = EPOCH_NS,
    ) -> None:
        self._url = url
        self._find = find
        self._node = node
        self._boot_id = boot_id
        self._secrets_dir = secrets_dir
        self._ca_file = ca_file
        self._make_status = make_status
        self._status_every_s = status_every_s
        self._find_every_s = find_every_s
        self._epoch_ns = epoch_ns
        self._lock = threading.RLock()
        self._members = Members()
        self._lanes: dict[str, _Lane] = {}  # by address; "" is the URL's own
        self._home = ""
        self._watched_since_ns = 0
        self._copies = Copies()
        self._faults: Counter[str] = Counter()
        self._gone: Counter[str] = Counter()  # what senders counted that are retired
        self._stopping = threading.Event()
        self._log = journal.get_log("dispatch")
        self._thread = threading.Thread(target=self._run, name="exporters", daemon=True)

    def start(self) -> None:
        if self._find is None or not self._look():
            self._open("", is_home=True)
        if self._find is not None:
            self._thread.start()

    # ---- the capture loop ----

    def put(self, kind: BatchKind, batch: RowBatch, *, watched_since_ns: int) -> None:
        """Never waits for the network."""
        with self._lock:
            self._watched_since_ns = watched_since_ns
            self._divide(kind, batch)

    @property
    def exporters(self) -> list[str]:
        """Addresses; "" is the URL's own."""
        return list(self._lanes)

    @property
    def is_behind(self) -> bool:
        return any(lane.sender.is_behind for lane in list(self._lanes.values()))

    def _divide(self, kind: BatchKind, batch: RowBatch) -> None:
        members = self._members.all
        if kind != "exchanges" or len(members) < 2:
            self._cut(self._home, kind, batch)
            return
        starts = read_numbers(batch, "start").view(np.int64)
        chosen = self._members.choose(read_keys(batch), starts)
        copies = self._copies.find(batch, [members[at].address for at in chosen.tolist()])
        for index, member in enumerate(members):
            rows = np.flatnonzero(chosen == index)
            if len(rows):
                self._cut(member.address, kind, batch.take(rows))
        for address, copy in copies:
            if address in self._lanes:
                self._cut(address, kind, copy)

    def _cut(self, address: str, kind: BatchKind, batch: RowBatch) -> None:
        for begin in range(0, batch.rows, MAX_BATCH_ROWS):
            self._send(self._lanes[address], kind, batch.slice(begin, MAX_BATCH_ROWS))

    def _send(self, lane: _Lane, kind: BatchKind, batch: RowBatch) -> None:
        lane.number += 1
        header = BatchHeader(
            kind=kind,
            node=self._node,
            boot_id=self._boot_id,
            number=lane.number,
            dns_watched_since_ns=self._watched_since_ns,
            stream=lane.stream,
        )
        payload = render_batch(batch, header)
        if len(payload) > MAX_BATCH_BYTES and batch.rows > 1:
            half = batch.rows // 2
            self._send(lane, kind, batch.slice(0, half))
            self._send(lane, kind, batch.slice(half, batch.rows))
            return
        lane.sender.put(Batch(kind=kind, number=lane.number, rows=batch.rows, payload=payload))

    # ---- the exporters that there are ----

    def _run(self) -> None:
        while not self._stopping.wait(self._find_every_s):
            self._look()

    def _look(self) -> bool:
        """Whether there is an exporter to send to. What cannot be found out changes nothing."""
        assert self._find is not None
        try:
            addresses = sorted(set(self._find()))
        except OSError as e:
            addresses = []
            self._log.warning("the exporters' addresses are not known", why=str(e))
        if not addresses:
            with self._lock:
                self._faults["exporters_unknown"] += 1
                return bool(self._lanes)
        self._change(addresses)
        return True

    def _change(self, addresses: list[str]) -> None:
        with self._lock:
            before = set(self._lanes)
            if before == set(addresses) or self._stopping.is_set():
                return
            self._members = self._members.update(addresses, time.time_ns(), epoch_ns=self._epoch_ns)
            home = self._members.home(self._node)
            for address in addresses:
                if address not in before:
                    self._open(address, is_home=False)
            gone = [self._lanes.pop(address) for address in before.difference(addresses)]
            self._home = home
            for address, lane in self._lanes.items():
                lane.sender.tell_status(address == home)
                lane.sender.set_limits(
                    MAX_QUEUE_BYTES // len(self._lanes), MAX_QUEUE_BATCHES // len(self._lanes)
                )
            self._faults["exporters_changed"] += 1
        self._log.info("exporters", addresses=addresses, gone=len(gone))
        for lane in gone:
            self._retire(lane)

    def _open(self, address: str, *, is_home: bool) -> None:
        sender = Sender(
            url=self._url,
            address=address or None,
            secrets_dir=self._secrets_dir,
            ca_file=self._ca_file,
            make_status=self._make_status,
            tells_status=is_home,
            status_every_s=self._status_every_s,
        )
        self._lanes[address] = _Lane(sender, secrets.token_hex(4) if address else "")
        sender.start()

    def _retire(self, lane: _Lane) -> None:
        """Waits for what is under way, on this module's own thread."""
        tried, left = lane.sender.retire()
        with self._lock:
            self._gone.update(lane.sender.counters())
            if tried is not None and self._home in self._lanes:
                self._lanes[self._home].sender.put(tried)
            self._faults["exporter_rows_moved"] += sum(batch.rows for batch in left)
        if not left:
            return
        from farcall_probes.arrowreading import (
            read_batches,  # pyarrow: only now, where it is needed
        )

        for batch in left:
            with self._lock:
                for rows in read_batches(batch.kind, batch.payload):
                    self._divide(batch.kind, rows)

    # ---- what is told, and the end ----

    def counters(self) -> dict[str, int]:
        with self._lock:
            found = Counter(self._gone)
            for lane in self._lanes.values():
                found.update(lane.sender.counters())
            found.update(self._faults)
            found.update(self._copies.counters)
            return dict(found)

    def gauges(self) -> dict[str, float]:
        with self._lock:
            found: Counter[str] = Counter()
            for lane in self._lanes.values():
                found.update(lane.sender.gauges())
            return {**found, "exporters": float(len(self._lanes))}

    def stop(self, within_s: float) -> None:
        """Sends what is queued as far as the time allows; the rest is dropped and counted."""
        self._stopping.set()
        with self._lock:
            lanes = list(self._lanes.values())
        for lane in lanes:
            lane.sender.begin_stop(within_s)
        for lane in lanes:
            lane.sender.finish_stop(within_s)
