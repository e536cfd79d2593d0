"""Which of farcall's own spans are stored: filters first, then a sample of traces, then each service's share of the rest.

What applications send by OTLP was sampled by them and is not touched. A sample is taken by trace ID, so that a trace is
kept or left out as a whole, on every exporter alike: the trace that a span is linked to decides for it. Failed and slow
calls stay. Each span that is left out is counted, by what left it out.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from farcall.effective import DropRule, SelectionConfig
from farcall_exporter.columns import Mask
from farcall_exporter.sampling import VALUES, read_randomness, read_threshold, render_state

if TYPE_CHECKING:
    from farcall_exporter.context import Context

MAX_SERVICES = 10_000  # whose budgets are remembered; one that is forgotten begins with a full one
Match = Callable[[str], bool]


@dataclass(slots=True)
class _Share:
    left: float
    at: float


@dataclass(slots=True)
class Budgets:
    """What each service may still store: a bucket that fills by the limit each second and holds one second's worth."""

    _shares: OrderedDict[str, _Share] = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        return len(self._shares)

    def take(self, service: str, wanted: int, per_s: int, now: float) -> int:
        """How many of `wanted` spans may be stored; `now` in seconds."""
        share = self._shares.pop(service, None) or _Share(per_s, now)
        self._shares[service] = share  # the newest
        while len(self._shares) > MAX_SERVICES:
            self._shares.popitem(last=False)
        share.left = min(share.left + (now - share.at) * per_s, float(per_s))
        share.at = now
        granted = min(wanted, int(share.left))
        share.left -= granted
        return granted


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """`kept`: of the spans' rows. The counts are of what was left out."""

    kept: Mask
    filtered: int = 0
    sampled: int = 0
    limited: int = 0


def choose_spans(
    spans: pa.Table, config: SelectionConfig, budgets: Budgets, *, now: float
) -> Chosen:
    """`spans` in the schema SPANS; `now` in monotonic seconds."""
    kept = np.ones(spans.num_rows, np.bool_)
    if not spans.num_rows:
        return Chosen(kept=kept)
    for rule in config.drop:
        kept &= ~_match_rule(spans, rule)
    filtered = int((~kept).sum())
    if config.percent < 100:
        kept &= _is_special(spans, config) | _is_in_sample(spans, config.percent)
    sampled = int((~kept).sum()) - filtered
    if config.spans_per_second is not None:
        kept = _limit(spans, kept, config.spans_per_second, budgets, now)
    limited = int((~kept).sum()) - filtered - sampled
    return Chosen(kept=kept, filtered=filtered, sampled=sampled, limited=limited)


def select_spans(spans: pa.Table, context: "Context") -> Mask:
    """Which rows are stored; counts the others."""
    chosen = choose_spans(spans, context.settings.selection, context.budgets, now=context.clock())
    context.counters.add("spans_filtered", chosen.filtered)
    context.counters.add("spans_sampled_out", chosen.sampled)
    context.counters.add("spans_rate_limited_lost", chosen.limited)
    return chosen.kept


def keep_rows(table: pa.Table, kept: Mask) -> pa.Table:
    return table if kept.all() else table.filter(pa.array(kept))


def mark_sample(spans: pa.Table, config: SelectionConfig) -> pa.Table:
    """Of spans that are stored: those that are in a sample say for how many they stand."""
    if config.percent >= 100 or not spans.num_rows:
        return spans
    threshold = _find_threshold(config.percent)
    states = [
        state if is_special else render_state(read_threshold(state), threshold, randomness)
        for state, is_special, randomness in zip(
            spans.column("TraceState").to_pylist(),
            _is_special(spans, config).tolist(),
            _read_randomness(spans),
            strict=True,
        )
    ]
    at = spans.schema.get_field_index("TraceState")
    return spans.set_column(at, spans.schema.field(at), pa.array(states, pa.string()))


def _is_special(spans: pa.Table, config: SelectionConfig) -> Mask:
    has_failed = pc.equal(spans.column("StatusCode").cast(pa.string()), "Error")
    slow_ns = int(config.slower_than_s * 1e9)
    return _mask(has_failed) | _mask(pc.greater(spans.column("Duration"), slow_ns))


def _is_in_sample(spans: pa.Table, percent: int) -> Mask:
    """By the random part of the trace ID, as OpenTelemetry's consistent probability sampling compares it."""
    threshold = _find_threshold(percent)
    return np.array([randomness >= threshold for randomness in _read_randomness(spans)], np.bool_)


def _find_threshold(percent: int) -> int:
    return VALUES - VALUES * percent // 100


def _read_randomness(spans: pa.Table) -> list[int]:
    """Of the trace that a span is linked to, else of its own."""
    traces = spans.column("TraceId").to_numpy().copy()
    linked = spans.column("Links.TraceId").combine_chunks()
    counts = pc.list_value_length(linked).to_numpy(zero_copy_only=False)
    has_link = counts > 0
    traces[has_link] = linked.flatten().to_numpy(zero_copy_only=False)[
        (np.cumsum(counts) - counts)[has_link]
    ]
    return [read_randomness(trace) for trace in traces]


def _match_rule(spans: pa.Table, rule: DropRule) -> Mask:
    """What matches every field that the rule gives."""
    mask = np.ones(spans.num_rows, np.bool_)
    if rule.services:
        mask &= _matches(spans.column("ServiceName"), _glob(rule.services))
    if rule.namespaces:
        namespaces = _look_up(spans, "ResourceAttributes", "k8s.namespace.name")
        mask &= _matches(namespaces, _one_of(rule.namespaces))
    if rule.paths and mask.any():
        mask &= _matches(_look_up(spans, "SpanAttributes", "url.path"), _glob(rule.paths))
    return mask


def _look_up(spans: pa.Table, column: str, key: str) -> pa.ChunkedArray:
    return pc.map_lookup(spans.column(column), pa.scalar(key), "first")


def _matches(column: pa.ChunkedArray, match: Match) -> Mask:
    """Each distinct text is looked at once; null matches nothing."""
    flat = column.combine_chunks()
    if isinstance(flat, pa.ChunkedArray):
        flat = flat.chunk(0)
    coded = flat if isinstance(flat, pa.DictionaryArray) else pc.dictionary_encode(flat)
    verdicts = np.array([match(str(text)) for text in coded.dictionary.to_pylist()] + [False])
    codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    found: Mask = verdicts[codes]
    return found


def _one_of(words: Sequence[str]) -> Match:
    return frozenset(words).__contains__


def _glob(patterns: Sequence[str]) -> Match:
    compiled = _compile(tuple(patterns))
    return lambda text: compiled.fullmatch(text) is not None


@lru_cache(maxsize=256)
def _compile(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """`*` is any text. Runs of it are one: two beside each other would make matching quadratic."""
    words = (re.sub(r"\*+", "*", p).split("*") for p in patterns)
    return re.compile("|".join(".*".join(map(re.escape, parts)) for parts in words), re.DOTALL)


def _limit(spans: pa.Table, kept: Mask, per_s: int, budgets: Budgets, now: float) -> Mask:
    """The first of each service stay, failed ones before others."""
    services = spans.column("ServiceName").cast(pa.string()).combine_chunks()
    coded = pc.dictionary_encode(services)
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.combine_chunks()
    codes = coded.indices.to_numpy(zero_copy_only=False)
    has_failed = _mask(pc.equal(spans.column("StatusCode").cast(pa.string()), "Error"))
    result = kept.copy()
    for code, service in enumerate(coded.dictionary.to_pylist()):
        rows = np.flatnonzero(kept & (codes == code))
        granted = budgets.take(service, len(rows), per_s, now) if len(rows) else 0
        if granted < len(rows):
            order = np.argsort(~has_failed[rows], kind="stable")
            result[rows[order[granted:]]] = False
    return result


def _mask(column: pa.ChunkedArray | pa.Array) -> Mask:
    values: npt.NDArray[np.bool_] = column.to_numpy(zero_copy_only=False).astype(np.bool_)
    return values
