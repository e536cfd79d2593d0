"""Names that come late mend spans already stored: the unknowns of the last minutes are asked again, by the same rules.

Redis may have been down, or an agent may have published late. The question is kept once, its spans beside it; a name
found later becomes a row of `late_names` for each. Bounded in time and number; what is given up is counted.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from farcall.names import UnknownReason
from farcall.rows import LATE_NAMES
from farcall_exporter.lookups import Lookups
from farcall_exporter.naming import Question, decide
from farcall_exporter.resolve import Call, Decision, NamingRules

SpanKey = tuple[int, str, str]  # start ns, trace ID, span ID

ASK_EVERY_S = 5.0
KEEP_S = 300.0
MAX_SPANS = 50_000  # about 10 MB
MAX_QUESTIONS = 4_000  # asking all of them again takes the worker about 0.1 s
# An expired or ambiguous name does not become right by waiting.
MENDABLE = frozenset(
    {
        UnknownReason.CACHE_UNAVAILABLE,
        UnknownReason.AGENT_STARTED_LATER,
        UnknownReason.NO_DNS_SEEN,
        UnknownReason.DNS_LOST,
    }
)


def is_mendable(call: Call, decision: Decision) -> bool:
    """A client whose every look-up was seen gets no name by waiting: its agent knew all there was at the connect."""
    was_seen = call.watched and call.opened is not None and not call.dns_lost
    return decision.reason in MENDABLE and not was_seen


@dataclass(frozen=True, slots=True)
class _Unknown:
    since: float
    question: Question
    spans: tuple[SpanKey, ...]


class LateBook:
    def __init__(self) -> None:
        self._unknown: deque[_Unknown] = deque()
        self._spans = 0

    def __len__(self) -> int:
        return self._spans

    def add(self, question: Question, spans: Sequence[SpanKey], now: float) -> None:
        self._unknown.append(_Unknown(now, question, tuple(spans)))
        self._spans += len(spans)

    def forget(self, now: float) -> int:
        """Gives up what is too old or too much; the number of spans."""
        before = self._spans
        while self._unknown and (self._spans > MAX_SPANS or now - self._unknown[0].since > KEEP_S):
            self._spans -= len(self._unknown.popleft().spans)
        return before - self._spans

    def ask_again(
        self, rules: NamingRules, lookups: Lookups
    ) -> list[tuple[Decision, tuple[SpanKey, ...]]]:
        """Those that have a name now; they are forgotten here, so the caller must write them."""
        asked = list(self._unknown)
        decisions = decide([(u.question.call, u.question.cache) for u in asked], rules, lookups)
        mended = []
        left: deque[_Unknown] = deque()
        for unknown, decision in zip(asked, decisions, strict=True):
            if decision.reason is None:
                mended.append((decision, unknown.spans))
            else:
                left.append(unknown)
        self._unknown = left
        self._spans = sum(len(u.spans) for u in left)
        return mended


def build_late_names(mended: Sequence[tuple[Decision, Sequence[SpanKey]]]) -> pa.Table:
    rows = [
        (start, trace, span, decision.label, late_attributes(decision, start))
        for decision, spans in mended
        for start, trace, span in spans
    ]
    return late_names_table(rows)


def late_names_table(rows: Sequence[tuple[int, str, str, str, list[tuple[str, str]]]]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(LATE_NAMES)
    return pa.Table.from_arrays(
        [pa.array(list(c), f.type) for c, f in zip(columns, LATE_NAMES, strict=True)],
        schema=LATE_NAMES,
    )


def late_attributes(decision: Decision, start_ns: int) -> list[tuple[str, str]]:
    pairs = {
        "server.address": decision.server_address,
        "farcall.destination.name": decision.label,
        "farcall.destination.kind": str(decision.kind),
        "farcall.name.source": decision.source,
        "farcall.name.confidence": decision.confidence,
    }
    if decision.answered_at is not None:
        pairs["farcall.name.age_s"] = str(max(int(start_ns / 1e9 - decision.answered_at), 0))
    return [(key, str(value)) for key, value in pairs.items() if value is not None]
