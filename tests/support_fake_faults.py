"""What can go wrong at the fake API server, and which requests it meets. Data only."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """A Status with this code."""

    code: int
    reason: str = "Scripted"
    message: str = "refused on order"
    retry_after_s: int | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """The connection is closed without an answer; `carried_out`: after the request did its work."""

    carried_out: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow:
    """The answer comes, but late."""

    by_s: float


@dataclass(frozen=True, slots=True)
class Garbage:
    """200, and what is no JSON."""


@dataclass(frozen=True, slots=True)
class Gone:
    """A watch that begins with the event ERROR, code 410: what it asked for is no longer known."""


@dataclass(frozen=True, slots=True)
class CutStream:
    """A watch that ends in the middle of a line, at its first event or after `after_s`."""

    after_s: float = 0.05


@dataclass(frozen=True, slots=True)
class Silent:
    """A watch that is accepted, and then never says anything: no event, no bookmark, no end."""


Fault = Refuse | Cut | Slow | Garbage | Gone | CutStream | Silent


@dataclass(slots=True)
class Rule:
    """`asked`: a pattern over `VERB plural`, as in `list pods` or `patch tracingconfigs/status`."""

    asked: re.Pattern[str]
    fault: Fault
    left: int  # how often still; below 0 for ever
    met: int = 0
