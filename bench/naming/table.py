"""expected.csv: what each call must be called, written before the harness that looks. One row per case, resolver and protocol."""

import csv
from dataclasses import dataclass
from pathlib import Path

from farcall.names import UNKNOWN_EXTERNAL_SERVICE, Confidence, NameSource, UnknownReason

EXPECTED = Path(__file__).parent / "expected.csv"
# openssl: of Python, for TLS that is read; ares: c-ares, which gRPC's C core brings.
RESOLVERS = ("glibc", "musl", "go", "jvm", "ares", "openssl")


class TableError(Exception):
    """A row of expected.csv says what cannot be; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A name with its source and confidence, or `Unknown External Service` with its reason."""

    name: str
    source: str = ""
    confidence: str = ""
    reason: str = ""

    def __str__(self) -> str:
        if self.reason:
            return f"unknown, {self.reason}"
        return f"{self.name} ({self.source}, {self.confidence})"

    @property
    def is_name(self) -> bool:
        return not self.reason and self.name != UNKNOWN_EXTERNAL_SERVICE


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """One row. `needs`: what farcall or the lab does not have yet; such a row is counted, and not run."""

    id: str
    case: int
    scenario: str
    resolver: str
    protocol: str
    outcome: Outcome
    quick: bool
    needs: str
    rule: str


def read_table(path: Path = EXPECTED) -> list[Expected]:
    """Raises TableError."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = [_parse(row) for row in csv.DictReader(file)]
    if len({row.id for row in rows}) != len(rows):
        raise TableError(f"{path}: an ID stands twice")
    return rows


def _parse(row: dict[str, str]) -> Expected:
    outcome = Outcome(
        name=row["name"],
        source=row["source"],
        confidence=row["confidence"],
        reason=row["reason"],
    )
    if row["resolver"] not in RESOLVERS or not row["rule"]:
        raise TableError(f"{row['id']}: no such resolver, or no rule that decides")
    if outcome.reason:
        possible = outcome.reason in set(UnknownReason) and not outcome.is_name
    else:
        possible = (
            outcome.is_name
            and outcome.source in set(NameSource)
            and outcome.confidence in set(Confidence)
        )
    if not possible:
        raise TableError(f"{row['id']}: {outcome} is no outcome")
    return Expected(
        id=row["id"],
        case=int(row["case"]),
        scenario=row["scenario"],
        resolver=row["resolver"],
        protocol=row["protocol"],
        outcome=outcome,
        quick=row["quick"] == "yes",
        needs=row["needs"],
        rule=row["rule"],
    )
