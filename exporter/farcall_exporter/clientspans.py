"""Client-side spans: their destination's attributes, and the server's sight that was joined to them."""

import numpy as np
import pyarrow as pa

from farcall.names import Confidence, DestinationKind, NameSource
from farcall_exporter.clients import KIND_WORDS, NONE
from farcall_exporter.cluster.destinations import Places
from farcall_exporter.columns import (
    Coded,
    Codes,
    Mask,
    choose,
    constant,
    numbers,
    overlay,
    texts_array,
)
from farcall_exporter.late import LateBook, SpanKey, is_mendable
from farcall_exporter.naming import Named
from farcall_exporter.spans import Entries, SpanParts, build_spans
from farcall_exporter.stage import Stage


def build_client_spans(
    stage: Stage, rows: Codes, named: Named, places: Places, *, version: str
) -> tuple[pa.Table, Mask]:
    """The spans of `rows`, and which of them a server's sight may still name better: by now a bare address, the
    client's own word for it, or a node."""
    joined, service, pod = _joined(stage, rows)
    unproved = _unproved(named)
    takes_service = unproved & service.present & ~places.certain
    takes_place = places.certain | (unproved & ~takes_service & places.known)
    place = places.texts(lambda identity: identity.label)
    label = overlay(overlay(named.texts("label"), service, takes_service), place, takes_place)
    source = _source(named, takes_service, takes_place)
    is_exact = takes_service | takes_place
    confidence = overlay(named.texts("confidence"), constant(Confidence.EXACT, len(rows)), is_exact)
    parts = SpanParts(
        rows=rows,
        own=stage.own.take(rows),
        is_server=False,
        trace_id=stage.trace_id.take(pa.array(rows)),
        span_id=stage.span_id.take(pa.array(rows)),
        parent=stage.parent.take(pa.array(rows)),
        destination=label,
        server_address=named.texts("server_address"),
        unknown_reason=named.texts("reason"),
        attributes=[
            ("farcall.destination.name", label),
            ("farcall.destination.kind", named.texts("kind")),
            ("farcall.name.source", source),
            ("farcall.name.confidence", confidence),
            ("farcall.name.age_s", named.age_s(stage.x.start[rows]).only(~is_exact)),
            *_place_entries(places, pod),
            *joined,
        ],
    )
    spans = build_spans(stage.x, parts, version=version, links=stage.links)
    return spans, unproved & ~takes_service & ~places.certain


def _source(named: Named, by_server: Mask, by_cluster: Mask) -> Coded:
    count = len(by_server)
    below = overlay(named.texts("source"), constant(NameSource.SERVER, count), by_server)
    return overlay(below, constant(NameSource.KUBERNETES, count), by_cluster)


def _place_entries(places: Places, joined_pod: Coded) -> Entries:
    """Behind a service's address the joined server's sight tells which pod answered."""
    return [
        (key, overlay(joined_pod.only(places.certain), texts) if key == "k8s.pod.name" else texts)
        for key, texts in places.entries()
    ]


def _unproved(named: Named) -> Mask:
    """Inside, and nothing but its address or the client's own word for it so far."""
    decisions = [
        d.kind is DestinationKind.SERVICE and d.confidence is not Confidence.EXACT
        for d in named.decisions
    ]
    return np.array(decisions or [False], np.bool_)[named.groups]


def _joined(stage: Stage, rows: Codes) -> tuple[Entries, Coded, Coded]:
    """The attributes of the joined server's sight, and its service's and pod's names by themselves."""
    x, plan = stage.x, stage.plan
    servers = plan.servers[rows]
    here = servers >= 0
    duration = np.where(here, x.duration[servers], 0)
    service = x.owner.service.take(servers).only(here)
    pod = x.owner.pod.take(servers).only(here)
    if plan.sights:
        position = {int(row): i for i, row in enumerate(rows)}
        waited = [(position[row], sight) for row, sight in plan.sights.items() if row in position]
        for at, sight in waited:
            duration[at] = sight.duration_ns
        service = _put(service, [(at, sight.service) for at, sight in waited])
        pod = _put(pod, [(at, sight.pod) for at, sight in waited if sight.pod])
    kinds = plan.kinds[rows]
    is_joined = kinds != NONE
    entries: Entries = [
        ("farcall.join", choose(KIND_WORDS, kinds).only(is_joined)),
        ("farcall.server.duration_ns", numbers(duration, is_joined)),
        ("farcall.server.service.name", service),
        ("farcall.server.pod.name", pod),
    ]
    return entries, service, pod


def _put(coded: Coded, texts: list[tuple[int, str]]) -> Coded:
    """Single rows with texts of their own."""
    codes = coded.codes.copy()
    for index, (at, _) in enumerate(texts):
        codes[at] = len(coded.values) + index
    values = pa.concat_arrays([coded.values, texts_array([text for _, text in texts])])
    return Coded(values, codes)


def keep_unknown(stage: Stage, rows: Codes, named: Named, late: LateBook, now: float) -> None:
    """Hands the spans without a name to the book that asks again."""
    asked = zip(named.questions, named.decisions, strict=True)
    mendable = [i for i, (q, d) in enumerate(asked) if is_mendable(q.call, d)]
    if not mendable:
        return
    order = np.argsort(named.groups, kind="stable")
    bounds = np.searchsorted(named.groups[order], [mendable, [i + 1 for i in mendable]])
    spans = _span_keys(stage, rows[order])
    for index, first, end in zip(mendable, *bounds.tolist(), strict=True):
        late.add(named.questions[index], named.decisions[index], spans[first:end], now)


def _span_keys(stage: Stage, rows: Codes) -> list[SpanKey]:
    taken = pa.array(rows)
    return list(
        zip(
            stage.x.start[rows].tolist(),
            stage.trace_id.take(taken).to_pylist(),
            stage.span_id.take(taken).to_pylist(),
            strict=True,
        )
    )
