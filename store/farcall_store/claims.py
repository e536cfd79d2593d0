"""What the engine remembers of inserts, held against the parts that there are: which of it claims rows that are not stored.

A pure function of bytes and names. The engine remembers an insert by a *block*, a hash of its token, in its table's logs
of deduplication: a line `1<TAB>part<TAB>block` when a part comes and `2<TAB>part<TAB>block` when it goes. It writes the
first before it gives the part its name, so a kill in between leaves a record of rows that nobody has: a false claim, for
which the insert is taken for stored when it comes again (decision 013).

A claim is true when its part is there, or one that covers its block numbers: merges and mutations name their result so,
and what retention takes away is covered by an empty part until its records are gone. Of a false one there are no rows
in the table that could be there twice, whatever became of them; so forgetting it is safe.
"""

import re
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

# How many blocks a table remembers, two for each insert: many minutes of inserts, of at most a few a second.
WINDOW = 1_000

# partition, first and last block number, how often merged, and the mutation that it has seen
_PART = re.compile(r"([^_]+)_(\d+)_(\d+)_\d+(?:_\d+)?")
_RECORD = re.compile(rb"([12])\t([^\t\n]+)\t([^\t\n]+)")
_COME = b"1"


@dataclass(frozen=True, slots=True)
class Claim:
    part: str
    block: str
    log: int  # which one
    line: int  # and where in it


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    logs: tuple[bytes, ...]  # without what is false or unreadable
    false: tuple[Claim, ...]
    unreadable: (
        int  # lines that were not written whole; of a log the engine reads nothing behind one
    )


class Parts:
    """The names in a table's folder, those that are of parts."""

    def __init__(self, names: Iterable[str]) -> None:
        ranges: dict[str, list[tuple[int, int]]] = {}
        for match in filter(None, map(_PART.fullmatch, names)):
            ranges.setdefault(match[1], []).append((int(match[2]), int(match[3])))
        self._firsts: dict[str, list[int]] = {}
        self._reaches: dict[str, list[int]] = {}  # the largest last number up to there
        for partition, found in ranges.items():
            found.sort()
            self._firsts[partition] = [first for first, _ in found]
            self._reaches[partition] = list(accumulate((last for _, last in found), max))

    def cover(self, name: str) -> bool:
        """Whether that part or one with its blocks is there. True for a name of another form: it is not judged."""
        match = _PART.fullmatch(name)
        if match is None:
            return True
        before = bisect_right(self._firsts.get(match[1], []), int(match[2]))
        return before > 0 and self._reaches[match[1]][before - 1] >= int(match[3])


def review(logs: Sequence[bytes], names: Iterable[str], *, window: int = WINDOW) -> Review:
    """A table's logs, oldest first, against the names in its folder."""
    lines = [text.split(b"\n")[:-1] for text in logs]
    records = [[_RECORD.fullmatch(line) for line in of_log] for of_log in lines]
    parts = Parts(names)
    false = tuple(
        claim
        for claims in _replay(records, window)
        if not any(parts.cover(claim.part) for claim in claims)
        for claim in claims
    )
    struck = {(claim.log, claim.line) for claim in false}
    kept = tuple(
        b"".join(
            line + b"\n"
            for at, (line, record) in enumerate(zip(lines[number], records[number], strict=True))
            if record and (number, at) not in struck
        )
        for number in range(len(logs))
    )
    torn = sum(not text.endswith(b"\n") for text in logs if text)
    unreadable = torn + sum(of_log.count(None) for of_log in records)
    return Review(logs=kept, false=false, unreadable=unreadable)


def _replay(records: Sequence[Sequence[re.Match[bytes] | None]], window: int) -> list[list[Claim]]:
    """The claims of each block that the engine knows after reading these: of the newest `window` that came and did not go."""
    known: OrderedDict[bytes, list[Claim]] = OrderedDict()
    for number, of_log in enumerate(records):
        for at, record in enumerate(of_log):
            if record is None:
                continue
            operation, part, block = record.groups()
            if operation != _COME:
                known.pop(block, None)
                continue
            if block not in known and len(known) == window:
                known.popitem(last=False)
            claim = Claim(part.decode(errors="replace"), block.decode(errors="replace"), number, at)
            known.setdefault(block, []).append(claim)
    return list(known.values())
