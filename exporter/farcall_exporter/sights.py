"""A server's sight that waits for its client's: as JSON in the store, as a small object in memory, as a span at last."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from farcall.rows import JOINS, SIGHTS, SPANS
from farcall_exporter.clients import KIND_WORDS, ClientSpan
from farcall_exporter.late import late_names_table, name_by_server

IDENTITY_DIGITS = 16
IDENTITY_KEY_DIGITS = 24  # isn_client, isn_server, request_seq: 32 bits each
RESTORED_BOOT = ""  # who reported it is not known any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """`identity` is None when the node could not read the connection's; then nothing can be joined to it."""

    key: str
    identity: int | None  # (isn_client << 32) | isn_server
    request_seq: int
    request_bytes: int
    start_ns: int
    end_ns: int
    duration_ns: int
    service: str
    pod: str
    client_ip: str
    client: str  # its end: see render_end
    server_ip: str
    boot_id: str
    text: str  # the span it would become
    trace_id: str = ""  # that span's
    span_id: str = ""
    run: str = ""  # the exporter that it came to
    came_ns: int = 0  # when, Unix


class SightError(ValueError):
    """A stored sight that this version cannot read."""


def render_end(ip: str, port: str | int) -> str:
    return f"{ip} {port}"


def join_key(identity: int, request_seq: int) -> str:
    return f"{identity:016x}{request_seq:08x}"


def render_sights(spans: pa.Table, sizes: Sequence[int], *, run: str, came_ns: int) -> list[str]:
    """`spans` in the schema SPANS; `sizes` are the bytes of each request."""
    head = {"run": run, "came": came_ns}
    rows = spans.set_column(0, "Timestamp", spans.column("Timestamp").cast(pa.int64())).to_pylist()
    return [
        json.dumps({**head, "bytes": size, "span": row}, separators=(",", ":"), ensure_ascii=False)
        for row, size in zip(rows, sizes, strict=True)
    ]


def parse_sight(key: str, text: str, *, boot_id: str = RESTORED_BOOT) -> Sight:
    """Raises SightError."""
    try:
        value: dict[str, Any] = json.loads(text)
        span = value["span"]
        attributes = dict(span["SpanAttributes"])
        has_identity = len(key) == IDENTITY_KEY_DIGITS
        start, duration = int(span["Timestamp"]), int(span["Duration"])
        return Sight(
            key=key,
            identity=int(key[:16], 16) if has_identity else None,
            request_seq=int(key[16:], 16) if has_identity else 0,
            request_bytes=int(value["bytes"]),
            start_ns=start,
            end_ns=start + duration,
            duration_ns=duration,
            service=str(span["ServiceName"]),
            pod=str(dict(span["ResourceAttributes"]).get("k8s.pod.name", "")),
            client_ip=str(attributes.get("client.address", "")),
            client=render_end(
                *(str(attributes.get(f"network.peer.{part}", "")) for part in ("address", "port"))
            ),
            server_ip=str(attributes.get("network.local.address", "")),
            boot_id=boot_id,
            text=text,
            trace_id=str(span["TraceId"]),
            span_id=str(span["SpanId"]),
            run=str(value.get("run", "")),
            came_ns=int(value.get("came", 0)),
        )
    except (ValueError, KeyError, TypeError) as e:
        raise SightError(f"the sight {key[:40]!r} cannot be read: {str(e)[:128]}") from e


def build_kept_spans(sights: Sequence[Sight]) -> pa.Table:
    """The spans that sights become when no client's came; `farcall.join=none` is in them from the start."""
    spans = [json.loads(sight.text)["span"] for sight in sights]
    columns = []
    for field in SPANS:
        values = [span[field.name] for span in spans]
        if pa.types.is_map(field.type):
            values = [[tuple(pair) for pair in value] for value in values]
        columns.append(pa.array(values, field.type))
    return pa.Table.from_arrays(columns, schema=SPANS)


@dataclass(frozen=True, slots=True)
class StoredSight:
    """A sight whose client's span another exporter stored, or one before this."""

    sight: Sight
    client: ClientSpan
    kind: int  # clients.EXACT, clients.OVERLAP


def build_sight_joins(found: Sequence[StoredSight]) -> pa.Table:
    """Overlay rows for the clients' spans: what the server saw of each."""
    rows = [
        (
            *_key_of(join.client),
            [
                ("farcall.join", KIND_WORDS[join.kind]),
                ("farcall.server.duration_ns", str(join.sight.duration_ns)),
                ("farcall.server.service.name", join.sight.service),
                *([("farcall.server.pod.name", join.sight.pod)] if join.sight.pod else []),
            ],
        )
        for join in found
    ]
    columns = list(zip(*rows, strict=True)) if rows else [(), (), (), ()]
    return pa.Table.from_arrays(
        [pa.array(list(c), f.type) for c, f in zip(columns, JOINS, strict=True)], schema=JOINS
    )


def build_sight_names(found: Sequence[StoredSight]) -> pa.Table:
    """Overlay rows for those that had only an address until now."""
    return late_names_table(
        [
            (*_key_of(join.client), join.sight.service, name_by_server(join.sight.service))
            for join in found
            if join.client.is_unnamed
        ]
    )


def _key_of(client: ClientSpan) -> tuple[int, str, str]:
    return client.start_ns, client.trace_id, client.span_id


def build_sight_rows(waiting: Sequence[Sight], settled: Sequence[tuple[Sight, str]]) -> pa.Table:
    """Rows of `sights`: new ones as waiting, settled ones with their state, `joined` or `kept`."""
    rows = [(s.start_ns, s.key, "waiting", s.text) for s in waiting]
    rows += [(s.start_ns, s.key, state, "") for s, state in settled]
    columns = list(zip(*rows, strict=True)) if rows else [(), (), (), ()]
    return pa.Table.from_arrays(
        [pa.array(list(c), f.type) for c, f in zip(columns, SIGHTS, strict=True)], schema=SIGHTS
    )
