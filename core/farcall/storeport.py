"""The store's port: what the exporter writes through and the console reads through. `farcall_store` implements it.

Both sides are synchronous and are called from worker threads; every call has its own time limit. Writers hand over
Arrow tables in the schemas of `farcall.rows`; readers give back the shapes of `farcall.api`, overlays applied.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from farcall.api import (
    ComponentStatus,
    DnsEvidence,
    LogHistogram,
    LogPage,
    LogQuery,
    Span,
    SpanPage,
    SpanQuery,
    Trace,
    TracePage,
    Window,
)
from farcall.rows import TableName


class StoreError(Exception):
    """Base of what the store raises."""


class StoreUnavailableError(StoreError):
    """No answer, or the connection broke: the same call may work later. A write may or may not have happened."""


class StoreRefusedError(StoreError):
    """The store answered and said no (a limit, a full disk, a bug of ours): the same call will not work again as it is."""


class QuerySyntaxError(StoreError):
    """The user's query cannot be understood. `position` is a 0-based offset into it, the message says what to write."""

    def __init__(self, message: str, *, position: int) -> None:
        self.position = position
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class StoredSpan:
    start_ns: int
    trace_id: str
    span_id: str


@dataclass(frozen=True, slots=True)
class StoredEnd:
    """One end of a call, from the table of sights: `key` begins with the join key's 24 digits."""

    key: str
    start_ns: int
    text: str  # a client's: farcall_exporter.ends; a server's: the bytes of its request


class Writer(Protocol):
    def write(self, tables: dict[TableName, pa.Table], *, token: str) -> None:
        """Commits all tables; returns after it. The same `token` again changes nothing (retries are harmless).

        Raises StoreUnavailableError (retry with the same token) or StoreRefusedError.
        """

    def drop_stored(self, tables: dict[TableName, pa.Table]) -> dict[TableName, pa.Table]:
        """Less what is stored already under a token that nobody knows any more: for rows of a batch that somebody else may
        have written, whole tables of a day at a time, as inserts are. Rows that do no harm twice may be left.

        Whatever was handed over before is done with when this asks. Raises StoreError.
        """

    def read_high_water(self, boot_id: str) -> int:
        """The highest batch number of this agent boot that is known to be committed, 0 for none."""

    def set_high_water(self, numbers: Mapping[str, int]) -> None:
        """Records that of each agent boot the batches up to its number are committed."""

    def write_status(self, status: ComponentStatus) -> None:
        """What a component last said of itself; the newest per (kind, name) is read."""

    def write_statuses(self, statuses: Sequence[ComponentStatus]) -> None:
        """Those of several, as one."""

    def read_statuses(self, *, kind: str, since_ns: int, limit: int) -> list[ComponentStatus]:
        """The newest of each component of that kind that has spoken since, whichever exporter it spoke to."""

    def read_waiting_sights(self, *, since_ns: int) -> list[tuple[str, str]]:
        """(join key, span JSON) of sights that are neither joined nor kept: read once when an exporter starts."""

    def find_spans(
        self, span_ids: Sequence[str], since_ns: int, until_ns: int, is_server: bool
    ) -> list[StoredSpan]:
        """Which of these are stored, as server-side or else as client-side spans that began in that time, both ends included."""

    def find_ends(
        self, identities: Sequence[str], since_ns: int, until_ns: int, is_server: bool
    ) -> list[StoredEnd]:
        """Of connections (16 hexadecimal digits each), what began in that time: clients' ends, or else the servers' ends that
        are spans or are about to be."""


class Reader(Protocol):
    def list_traces(self, query: SpanQuery) -> TracePage:
        """Traces with a matching span, newest first. Raises QuerySyntaxError."""

    def read_trace(self, trace_id: str, *, limit: int = 50_000) -> Trace | None:
        """The trace by its own, or by a linked OpenTelemetry, ID."""

    def list_spans(self, query: SpanQuery) -> SpanPage: ...

    def read_span(self, trace_id: str, span_id: str) -> Span | None: ...

    def list_logs(self, query: LogQuery) -> LogPage: ...

    def count_logs(self, query: LogQuery, *, buckets: int = 60) -> LogHistogram: ...

    def read_answers(
        self, *, address: str, client_key: str | None, window: Window, limit: int = 50
    ) -> list[DnsEvidence]:
        """DNS answers that led to `address`, newest first; of every client when `client_key` is None."""

    def read_connection(self, connection_id: str) -> dict[str, str] | None:
        """The newest row of `connections` by its ID, columns as strings."""

    def read_statuses(self) -> list[ComponentStatus]: ...
