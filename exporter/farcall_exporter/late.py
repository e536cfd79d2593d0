"""Names that come late mend spans already stored: the unknowns of the last minutes are asked again, by the same rules.

Redis may have been down, or an agent may have published late. The question is kept once, its spans beside it; a name
found later becomes a row of `late_names` for each. So does a reason that was given while Redis could not be asked, once it
is known better: `cache_unavailable` says nothing of the call. Bounded in time and number; what is given up is counted.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from farcall.names import Confidence, NameSource, UnknownReason
from farcall.rows import LATE_NAMES
from farcall_exporter.lookups import Lookups
from farcall_exporter.naming import Question, decide
from farcall_exporter.resolve import Call, Decision, NamingRules

SpanKey = tuple[int, str, str]  # start ns, trace ID, span ID

ASK_EVERY_S = 5.0
ASK_ON_AFTER_S = 0.5  # where a round did not get through all of them
KEEP_S = 300.0
MAX_SPANS = 50_000  # about 10 MB
MAX_QUESTIONS = 4_000  # of one round: asking them again takes the worker about 0.1 s
# An expired or ambiguous name does not become right by waiting.
MENDABLE = frozenset(
    {
        UnknownReason.AGENT_STARTED_LATER,
        UnknownReason.NO_DNS_SEEN,
        UnknownReason.DNS_LOST,
    }
)


def is_mendable(call: Call, decision: Decision) -> bool:
    """A client whose every look-up was seen gets no name by waiting: its agent knew all there was at the connect."""
    was_seen = call.watched and call.opened is not None and not call.dns_lost
    return decision.is_provisional or (decision.reason in MENDABLE and not was_seen)


@dataclass(frozen=True, slots=True)
class _Unknown:
    since: float
    question: Question
    decision: Decision
    spans: tuple[SpanKey, ...]


class LateBook:
    def __init__(self) -> None:
        self._unknown: deque[_Unknown] = deque()
        self._spans = 0
        self._asked = 0  # of this round
        self.is_round_over = True

    def __len__(self) -> int:
        return self._spans

    def add(
        self, question: Question, decision: Decision, spans: Sequence[SpanKey], now: float
    ) -> None:
        self._unknown.append(_Unknown(now, question, decision, tuple(spans)))
        self._spans += len(spans)

    def forget(self, now: float) -> int:
        """Gives up what is too old or too much; the number of spans."""
        before = self._spans
        while self._unknown and (self._spans > MAX_SPANS or now - self._unknown[0].since > KEEP_S):
            self._spans -= len(self._unknown.popleft().spans)
            self._asked = max(0, self._asked - 1)
        return before - self._spans

    def ask_again(
        self, rules: NamingRules, lookups: Lookups
    ) -> list[tuple[Decision, tuple[SpanKey, ...]]]:
        """Those that have a name now, or another reason; the caller must write them, since nobody asks for that again."""
        listed = list(self._unknown)
        first, end = self._asked, min(self._asked + MAX_QUESTIONS, len(listed))
        asked = listed[first:end]
        decisions = decide([(u.question.call, u.question.cache) for u in asked], rules, lookups)
        is_settled = lookups.is_settled
        known, left = [], []
        for unknown, decision in zip(asked, decisions, strict=True):
            if decision.reason is None:
                known.append((decision, unknown.spans))
                continue
            if is_settled and unknown.decision.is_provisional and not decision.is_provisional:
                if decision.reason != unknown.decision.reason:
                    known.append((decision, unknown.spans))
                if not is_mendable(unknown.question.call, decision):
                    continue
                unknown = replace(unknown, decision=decision)
            left.append(unknown)
        self._unknown = deque([*listed[:first], *left, *listed[end:]])
        self.is_round_over = end == len(listed)
        self._asked = 0 if self.is_round_over else first + len(left)
        self._spans = sum(len(u.spans) for u in self._unknown)
        return known


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


def name_by_server(service: str) -> list[tuple[str, str]]:
    """Of a span inside the cluster that had only an address: what its server calls itself."""
    return [
        ("farcall.destination.name", service),
        ("farcall.name.source", str(NameSource.SERVER)),
        ("farcall.name.confidence", str(Confidence.EXACT)),
    ]


def late_attributes(decision: Decision, start_ns: int) -> list[tuple[str, str]]:
    if decision.reason is not None:  # all else stays as it was
        return [("farcall.unknown.reason", decision.reason)]
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
