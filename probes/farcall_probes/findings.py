"""One row of what `farcall doctor` says."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`essential` and not `on`: nothing at all is seen. `note` is a measure or a remark on what is on."""

    name: str
    on: bool
    essential: bool = False
    note: str = ""
    why: str = ""
    cost: str = ""
