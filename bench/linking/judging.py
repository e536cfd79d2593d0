"""What the spans say against what the paths say. Pure.

A call's true parent is the call with the same run, shape and number one place before. `orphan`: no parent is said; `wrong`:
another one, or one that is no span at all; a call made for nobody that has a parent is wrong too.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from farcall.api import Span

BEFORE = {"middle": "front", "leaf": "middle"}
JOINED = ("exact", "overlap")


@dataclass(slots=True, kw_only=True)
class Score:
    """Of one shape, its front server's calls apart from those of the thread-per-request servers behind it."""

    calls: int = 0
    missing: int = 0  # calls without a span
    right: int = 0
    orphan: int = 0
    wrong: int = 0
    background: int = 0  # calls for nobody, rightly without a parent
    joined: int = 0
    doubles: int = 0

    def add(self, other: "Score") -> None:
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)


def path_of(span: Span) -> tuple[str, str, str]:
    """(place, shape, number)"""
    _, _, place, shape, number = span.attributes["url.path"].split("/")
    return place, shape, number


def judge(
    spans: Sequence[Span], expected: Iterable[tuple[str, str, str]]
) -> dict[str, dict[str, Score]]:
    """shape → place → score; `expected` are the calls that were made, background apart."""
    by_path: defaultdict[tuple[str, str, str], list[Span]] = defaultdict(list)
    for span in spans:
        by_path[path_of(span)].append(span)
    scores: defaultdict[str, defaultdict[str, Score]] = defaultdict(lambda: defaultdict(Score))
    for path in expected:
        scores[path[1]][path[0]].add(_judge_call(path, by_path))
    for path, found in by_path.items():
        if path[0] == "background":
            parents = sum(span.parent_span_id != "" for span in found)
            score = Score(background=len(found) - parents, wrong=parents, doubles=len(found) - 1)
            scores[path[1]]["background"].add(score)
    return {shape: dict(places) for shape, places in scores.items()}


def _judge_call(
    path: tuple[str, str, str], by_path: dict[tuple[str, str, str], list[Span]]
) -> Score:
    place, shape, number = path
    found = by_path.get(path, [])
    score = Score(calls=1, missing=not found, doubles=max(len(found) - 1, 0))
    for span in found[:1]:
        score.joined += span.attributes.get("farcall.join") in JOINED
        above = by_path.get((BEFORE.get(place, ""), shape, number), [])
        if span.parent_span_id == "":
            score.orphan += place in BEFORE
        elif span.parent_span_id in {parent.span_id for parent in above}:
            score.right += 1
        else:
            score.wrong += 1
    return score
