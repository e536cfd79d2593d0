"""What farcall said of the judged calls, beside what the table expects. Asks the HTTP API, as anybody could."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from farcall.api import Evidence, Span
from farcall.client import ApiError
from farcall.names import UNKNOWN_EXTERNAL_SERVICE, NameSource
from naming.clients.process import Window
from naming.play import Play
from naming.product import Product
from naming.table import Expected, Outcome

QUERY = "source:ebpf service:/^c[0-9][0-9]-/"
SLACK_NS = 30_000_000  # clocks of the kernel and of this process, and the time to write a line
RIGHT, WRONG, EXPLAINED, UNEXPLAINED = "right", "wrong", "unknown_right_reason", "unexplained"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    row: Expected
    kind: str  # one of the four above
    seen: str

    @property
    def is_good(self) -> bool:
        return self.kind in (RIGHT, EXPLAINED)


def outcome_of(span: Span) -> Outcome:
    if span.unknown_reason:
        return Outcome(name=span.destination, reason=span.unknown_reason)
    return Outcome(
        name=span.destination or "no destination",
        source=span.attributes.get("farcall.name.source", ""),
        confidence=span.attributes.get("farcall.name.confidence", ""),
    )


def select(spans: Sequence[Span], play: Play) -> list[Span]:
    """The client's side of the judged calls."""
    return [
        span
        for span in spans
        if span.service == play.row.id
        and span.kind == "Client"
        and span.attributes.get("network.peer.port") == str(play.port)
        and any(is_within(int(span.start_ns), window) for window in play.judged)
    ]


def is_within(time_ns: int, window: Window) -> bool:
    return window.begin_ns - SLACK_NS <= time_ns <= window.end_ns + SLACK_NS


def read_spans(product: Product, since_ns: int) -> list[Span]:
    """Nothing while nobody answers: the exporter or the console may be starting again."""
    try:
        return product.list_spans(QUERY, since_ns=since_ns)
    except ApiError:
        return []


def find_outcomes(spans: Sequence[Span]) -> set[Outcome]:
    return {outcome_of(span) for span in spans}


def judge(
    play: Play, spans: Sequence[Span], explain: Callable[[Span], Evidence], failure: str
) -> Verdict:
    """All judged calls of a row must have the one outcome, and `farcall explain` must say the same of one of them."""
    row, mine = play.row, select(spans, play)
    outcomes = play.seen_early or find_outcomes(mine)
    if failure:
        return Verdict(row=row, kind=UNEXPLAINED, seen=failure)
    if not outcomes:
        return Verdict(row=row, kind=UNEXPLAINED, seen="no span")
    seen = " | ".join(sorted(map(str, outcomes)))
    if any(o.is_name and o.name != row.outcome.name for o in outcomes):
        return Verdict(row=row, kind=WRONG, seen=seen)
    if outcomes != {row.outcome}:
        return Verdict(row=row, kind=UNEXPLAINED, seen=seen)
    found = "" if play.seen_early else doubt(play, mine[0], explain(mine[0]))
    if found:
        return Verdict(row=row, kind=UNEXPLAINED, seen=f"{seen}; explain: {found}")
    return Verdict(row=row, kind=RIGHT if row.outcome.is_name else EXPLAINED, seen=seen)


def doubt(play: Play, span: Span, evidence: Evidence) -> str:
    """Why the evidence does not bear the outcome out; "" when it does."""
    said = Outcome(
        name=evidence.label,
        source=evidence.source,
        confidence=evidence.confidence,
        reason=evidence.unknown_reason,
    )
    if said != outcome_of(span):
        return f"it says {said}"
    if not evidence.rule:
        return "no rule"
    if evidence.unknown_reason and not evidence.advice:
        return "no advice"
    used = {answer.question for answer in evidence.answers if answer.used}
    if evidence.source == NameSource.DNS and used != {evidence.label}:
        return f"the answers used are {sorted(used)}"
    if not set(play.rivals) <= set(evidence.rivals):
        return f"the rivals are {list(evidence.rivals)}"
    return ""


def find_strays(plays: Sequence[Play], spans: Sequence[Span]) -> list[str]:
    """Names on calls that no row judges, of clients that never asked for them: as wrong as any."""
    known = {play.row.id: play for play in plays}
    strays = []
    for span in spans:
        play = known.get(span.service)
        if play is None or span.kind != "Client" or span.destination == UNKNOWN_EXTERNAL_SERVICE:
            continue
        port = span.attributes.get("network.peer.port")
        allowed = {play.name, play.other} | {play.row.outcome.name}
        is_judged = any(is_within(int(span.start_ns), window) for window in play.judged)
        if port == str(play.port) and span.destination not in allowed and not is_judged:
            strays.append(f"{span.service}: {span.destination}")
    return strays


def wait_for_spans(
    product: Product, plays: Sequence[Play], *, since_ns: int, within_s: float
) -> list[Span]:
    """Until every row's calls are there and as expected, or the time is over: late names may still come."""
    deadline = time.monotonic() + within_s
    while True:
        spans = read_spans(product, since_ns)
        open_ = [p for p in plays if p.judged and not p.seen_early]
        if all(find_outcomes(select(spans, p)) == {p.row.outcome} for p in open_):
            return spans
        if time.monotonic() > deadline:
            return spans
        time.sleep(0.5)
