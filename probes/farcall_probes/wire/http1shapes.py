"""Header blocks that were seen before but for values that nobody reads: what is read of them is known then.

The requests of one client differ in a request's ID, a length, a token. A shape is a block with such values taken out; another
block has that shape when it is as long, all that is left is equal, and no value taken out holds a line's end. Then each header
begins where it began before, so what was read of the first is what would be read of the other. Values that name a trace are
taken out too, and read each time. Pure, and bounded: what has no shape costs a look-up more than without.
"""

from collections.abc import Callable
from operator import itemgetter
from typing import NamedTuple

MAX_BLOCK = 1024  # bytes; longer ones come in records of their own, and seldom twice
MAX_KEYS = 256
MAX_SHAPES = 4  # under one key; 2 MB for all, were every block as long as may be
MAX_LESSONS = 32  # of one key: whose blocks are never alike are not compared for ever
_KEY_BYTES = 32  # the first header, nearly always Host

Key = tuple[int, bytes]
Words = tuple[str | None, str | None, str | None]  # host, user agent, content type
_READ = frozenset((b"host", b"user-agent", b"content-type"))
_TRACEPARENT = b"traceparent"
CONTEXTS = frozenset(
    (_TRACEPARENT, b"tracestate", b"b3", b"x-b3-traceid", b"x-b3-spanid", b"uber-trace-id")
)
_LINE_END = b"\r\n"


class Shape(NamedTuple):
    block: bytes  # that it was learnt from
    words: Words
    free: frozenset[int]  # lines whose values are taken out, the empty one before the first counted
    take: Callable[[bytes], tuple[bytes, ...]] | None  # what is left; None: all of it
    fixed: tuple[bytes, ...]  # and what that is
    checked: tuple[slice, ...]  # values that may hold anything but a line's end
    # Its value, where it is the only line that names a trace. Not checked: what holds a line's end is no valid one.
    traceparent: slice | None
    contexts: tuple[slice, ...]  # otherwise all lines that do, each with the end of the line before

    def cut_contexts(self, block: bytes) -> bytes:
        """A block of the lines that name a trace alone; b"" where none does."""
        lines = b"".join([block[place] for place in self.contexts])
        return lines + _LINE_END if lines else b""


class _Candidate(NamedTuple):
    """A block that came once: most of those that are never alike come no further."""

    block: bytes
    words: Words


class Shapes:
    def __init__(self) -> None:
        self._known: dict[Key, list[Shape]] = {}
        self._candidates: dict[Key, list[_Candidate]] = {}
        self._lessons: dict[Key, int] = {}  # of both

    def __len__(self) -> int:
        """Keys, of shapes and of blocks that came once."""
        return len(self._known) + len(self._candidates)

    def find(self, block: bytes) -> Shape | None:
        """The shape of a block that begins and ends with CR LF."""
        for shape in self._known.get((len(block), block[:_KEY_BYTES]), ()):
            take = shape.take
            if take is None:
                if block == shape.block:
                    return shape
            elif take(block) == shape.fixed:
                for place in shape.checked:
                    if b"\n" in block[place]:
                        break
                else:
                    return shape
        return None

    def learn(self, block: bytes, words: Words) -> None:
        """From a block that has no known shape, and what was read of it."""
        if not _KEY_BYTES < len(block) <= MAX_BLOCK:
            return
        key = len(block), block[:_KEY_BYTES]
        if key not in self._known and key not in self._candidates:
            self._add_candidate(key, block, words)
            return
        lessons = self._lessons[key] = self._lessons.get(key, 0) + 1
        if lessons <= MAX_LESSONS:
            self._compare(key, block, words)

    def _add_candidate(self, key: Key, block: bytes, words: Words) -> None:
        if key not in self._candidates and len(self._candidates) >= MAX_KEYS:
            for former in self._candidates:
                if former not in self._known:
                    self._lessons.pop(former, None)
            self._candidates.clear()
        candidates = self._candidates.get(key, [])
        self._candidates[key] = [_Candidate(block, words), *candidates][:MAX_SHAPES]

    def _pair(self, key: Key, block: bytes, words: Words) -> Shape | None:
        candidates = self._candidates.get(key, [])
        for candidate in candidates:
            found = _widen(candidate.block, candidate.words, frozenset(), block, words)
            if found is not None:
                candidates.remove(candidate)
                return found
        return None

    def _compare(self, key: Key, block: bytes, words: Words) -> None:
        """With the shapes under its key, then with blocks that had none."""
        known = self._known.get(key, [])
        for at, shape in enumerate(known):
            wider = _widen(shape.block, shape.words, shape.free, block, words)
            if wider is not None:
                known[at] = wider
                return
        found = self._pair(key, block, words)
        if found is None:
            self._add_candidate(key, block, words)
            return
        if not known and len(self._known) >= MAX_KEYS:
            self._known.clear()
            self._lessons.clear()
        self._known[key] = [found, *known][:MAX_SHAPES]


def _widen(
    former: bytes, its_words: Words, its_free: frozenset[int], block: bytes, words: Words
) -> Shape | None:
    """The shape that two blocks have: lines at the same places with the same names, and the same words."""
    if words != its_words:
        return None
    before, lines = former.split(_LINE_END), block.split(_LINE_END)
    if list(map(len, before)) != list(map(len, lines)):
        return None
    free = set(its_free)
    contexts = []
    for at, (old, new) in enumerate(zip(before, lines, strict=True)):
        name, mark, _ = new.partition(b":")
        if old[: len(name) + 1] != name + mark:
            return None
        lowered = name.lower()
        if mark and lowered in CONTEXTS:
            free.add(at)
            contexts.append((at, lowered))
        elif old != new:
            if not mark or lowered in _READ:
                return None
            free.add(at)
    return _build(block, words, lines, frozenset(free), contexts)


def _build(
    block: bytes,
    words: Words,
    lines: list[bytes],
    free: frozenset[int],
    contexts: list[tuple[int, bytes]],
) -> Shape:
    places: dict[int, tuple[int, int, int]] = {}  # line → its begin, its value's, its end
    begin = 0
    for at, line in enumerate(lines):
        places[at] = begin, begin + line.find(b":") + 1, begin + len(line)
        begin += len(line) + 2
    taken: list[slice] = []
    values = {at: slice(*places[at][1:]) for at in sorted(free)}
    end = 0
    for value in values.values():
        taken.append(slice(end, value.start))
        end = value.stop
    taken.append(slice(end, len(block)))
    take = itemgetter(*taken) if free else None
    traceparent = None
    if [name for _, name in contexts] == [_TRACEPARENT]:
        traceparent = values.pop(contexts[0][0])
        contexts = []
    return Shape(
        block=block,
        words=words,
        free=free,
        take=take,
        fixed=take(block) if take is not None else (),
        checked=tuple(values.values()),
        traceparent=traceparent,
        contexts=tuple(slice(places[at][0] - 2, places[at][2]) for at, _ in contexts),
    )
