"""The HTTP/1 request heads of one drain → columns. Those that are like heads that came before are read together (knownheads.py).

The others are read one by one: a head of a known shape costs a look-up and a comparison then. Any other head is RequestParser's,
and so is one that names its trace in another way than by a valid traceparent. What is read is the same either way.
"""

from binascii import unhexlify
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from farcall_probes import records
from farcall_probes.capture import Records
from farcall_probes.giveway import give_way
from farcall_probes.knownheads import TRACE_BYTES, Known, KnownHeads
from farcall_probes.readcolumns import captured
from farcall_probes.stencils import MIN_ROWS, Mask, as_column
from farcall_probes.windows import Bytes, Places
from farcall_probes.wire import tracecontext
from farcall_probes.wire.http1 import HttpRequest, Line, RequestParser, parse_lines
from farcall_probes.wire.outcomes import Truncated
from farcall_probes.wire.tracecontext import parse_traceparent

_HEAD_END = b"\r\n\r\n"
_LINE_END = b"\r\n"
_NO_LINE = -1  # what is no request
_AT_ONCE = 512  # lines that are read in one piece of work

# Of a value of TRACE_BYTES.
_DASHES = [3, 36, 53]
_DIGITS = ((1, 3), (4, 36), (37, 53), (54, 56))
_NO_TRACE, _NO_SPAN = bytes(16), bytes(8)
_ID_BYTES = len(_NO_TRACE) + len(_NO_SPAN)


class Words(NamedTuple):
    """What many heads have alike."""

    host: str | None
    user_agent: str | None
    content_type: str | None
    trace_format: int = tracecontext.W3C
    trace_state: str | None = None


class Heads(NamedTuple):
    """Of those that are requests. A row has the line and the words of these numbers; there may be some that no row has."""

    rows: Places
    is_cut: Mask
    lines: Sequence[Line]
    line: Places
    words: Sequence[Words]
    word: Places
    has_trace: Mask
    ids: Bytes  # trace ID and the parent's span ID, zeros where there is none
    requests: Mapping[int, int]  # place → how many requests, where there are more than one


class HeadReader:
    def __init__(self, parser: RequestParser) -> None:
        self._parser = parser
        self._known = KnownHeads(parser)

    def read(self, block: Records, given: Mapping[int, bytes]) -> Heads:
        """The captured bytes are all there will ever be: what does not end is cut. `given`: heads in place of those captured."""
        found = _Found(len(block), self._parser)
        left = np.arange(len(block))
        if len(block) >= MIN_ROWS:
            known, left = self._known.find(block, given)
            give_way()
            left = np.sort(np.concatenate([left, found.take(known)]))
        if len(left):
            whole = len(left) == len(block)
            data = captured(block if whole else records.pick(block, left), "req", "req_cap")
            heads = zip(left.tolist(), data, strict=True)
            self._read_each([(row, given.get(row, head)) for row, head in heads], found)
        return found.finish()

    # ---- one by one ----

    def _read_each(self, heads: Sequence[tuple[int, bytes]], found: "_Found") -> None:
        parser = self._parser
        find_shape, lines, words = parser.shapes.find, found.lines, found.words
        rows: list[int] = []
        line: list[int] = []
        word: list[int] = []
        traced: list[int] = []  # places in `heads`
        traces: list[bytes] = []
        # Heads of this drain that have a shape: both ends of a call have the same, and so may many calls.
        known: dict[bytes, tuple[int, int, bytes | None]] = {}
        for at, (row, data) in enumerate(heads):  # a hot loop
            same = known.get(data)
            if same is not None:
                rows.append(row)
                line.append(same[0])
                word.append(same[1])
                if same[2] is not None:
                    traced.append(at)
                    traces.append(same[2])
                continue
            end = data.find(_HEAD_END)
            if end >= 0:
                line_end = data.find(_LINE_END)
                its_line = lines[data[:line_end]]
                if its_line == _NO_LINE:
                    continue
                block = data[line_end : end + 2]
                shape = find_shape(block)
                if shape is not None and not shape.contexts:
                    place = shape.traceparent
                    its_words = words[shape.words]
                    rows.append(row)
                    line.append(its_line)
                    word.append(its_words)
                    trace = None
                    if place is not None:
                        trace = block[place]
                        traced.append(at)
                        traces.append(trace)
                    if len(data) == end + 4:
                        known[data] = its_line, its_words, trace
                    elif more := parser.count_behind(data, line_end, end):
                        found.requests[row] = 1 + more
                    continue
            self._read_alone(row, data, found)
        found.line[rows] = line
        found.word[rows] = word
        if traces:
            ids, is_valid = parse_traceparents(traces)
            places = np.array([heads[at][0] for at in traced], dtype=np.intp)
            found.add_ids(places[is_valid], ids[is_valid])
            for number in np.flatnonzero(~is_valid).tolist():
                self._read_alone(*heads[traced[number]], found)

    def _read_alone(self, row: int, data: bytes, found: "_Found") -> None:
        request = self._parser.parse(data, cut=True)
        if isinstance(request, Truncated):
            found.is_cut[row] = True
            request = request.partial
        if isinstance(request, HttpRequest):
            found.add(row, request)


class _Numbered(dict[bytes, int]):
    """Request lines by number."""

    def __init__(self, parser: RequestParser) -> None:
        self._parser = parser
        self.made: list[Line] = []

    def __missing__(self, raw: bytes) -> int:
        line = self._parser.read_line(raw)
        number = self[raw] = _NO_LINE if line is None else self.add(line)
        return number

    def add(self, line: Line) -> int:
        self.made.append(line)
        return len(self.made) - 1

    def number(self, raws: Sequence[bytes]) -> Places:
        """Of many, before any other."""
        distinct = list(dict.fromkeys(raws))
        lines: list[Line | None] = []
        for begin in range(0, len(distinct), _AT_ONCE):
            give_way()
            lines += parse_lines(distinct[begin : begin + _AT_ONCE])
        self.made = list(filter(None, lines))
        numbers = iter(range(len(self.made)))
        if len(self.made) == len(lines):
            self.update(zip(distinct, numbers, strict=True))
        else:
            self.update(
                (raw, _NO_LINE if line is None else next(numbers))
                for raw, line in zip(distinct, lines, strict=True)
            )
        return np.fromiter(map(self.__getitem__, raws), np.intp, len(raws))


class _NumberedWords(dict[tuple[object, ...], int]):
    def __init__(self) -> None:
        self.made: list[Words] = []

    def __missing__(self, words: tuple[object, ...]) -> int:
        number = self[words] = len(self.made)
        self.made.append(Words(*words))  # type: ignore[arg-type]
        return number


class _Found:
    """What was read so far, by row."""

    def __init__(self, count: int, parser: RequestParser) -> None:
        self.lines = _Numbered(parser)
        self.words = _NumberedWords()
        self.line = np.full(count, _NO_LINE, dtype=np.intp)
        self.word = np.zeros(count, dtype=np.intp)
        self.is_cut = np.zeros(count, dtype=np.bool_)
        self.has_trace = np.zeros(count, dtype=np.bool_)
        self.ids = np.zeros((count, _ID_BYTES), dtype=np.uint8)
        self.requests: dict[int, int] = {}

    def take(self, known: Known) -> Places:
        """The rows whose trace is not valid: those are not taken."""
        self.line[known.rows] = self.lines.number(known.lines)
        give_way()
        numbers = np.array([self.words[words] for words in known.words], dtype=np.intp)
        self.word[known.rows] = numbers[known.word]
        traced = known.rows[known.traced]
        if not len(traced):
            return traced
        give_way()
        ids, is_valid = _parse_rows(known.traces)
        give_way()
        self.add_ids(traced[is_valid], ids[is_valid])
        return traced[~is_valid]

    def add_ids(self, rows: Places, ids: Bytes) -> None:
        self.has_trace[rows] = True
        self.ids[rows] = ids

    def add(self, row: int, request: HttpRequest) -> None:
        method, path, query, host, agent, kind, trace_id, span_id, _, requests, form, state = (
            request
        )
        self.line[row] = self.lines.add((method, path, query, None))
        self.word[row] = self.words[host, agent, kind, form, state]
        self.requests.pop(row, None)
        if requests > 1:
            self.requests[row] = requests
        if trace_id is not None and span_id is not None:
            self.has_trace[row] = True
            self.ids[row] = np.frombuffer(trace_id + span_id, dtype=np.uint8)

    def finish(self) -> Heads:
        rows = np.flatnonzero(self.line != _NO_LINE)
        requests = self.requests
        found = Heads(
            rows, self.is_cut, self.lines.made, self.line, self.words.made, self.word,
            self.has_trace, self.ids, requests,
        )  # fmt: skip
        if len(rows) == len(self.line):
            return found
        places = np.searchsorted(rows, list(requests)).tolist()
        return found._replace(
            is_cut=self.is_cut[rows],
            line=self.line[rows],
            word=self.word[rows],
            has_trace=self.has_trace[rows],
            ids=self.ids[rows],
            requests=dict(zip(places, requests.values(), strict=True)),
        )


# ---- traces ---------------------------------------------------------------------------------------------------------


def parse_traceparents(values: Sequence[bytes]) -> tuple[Bytes, Mask]:
    """Trace ID and span ID of each in one row, and whether it is valid."""
    if values and set(map(len, values)) == {TRACE_BYTES}:
        return _parse_rows(np.frombuffer(b"".join(values), dtype=np.uint8).reshape(-1, TRACE_BYTES))
    return _parse_each(values)


def _parse_rows(values: Bytes) -> tuple[Bytes, Mask]:
    ids = _parse_alike(values)
    if ids is None:
        return _parse_each(as_column(values).tolist())
    return ids, np.ones(len(values), dtype=np.bool_)


def _parse_each(values: Sequence[bytes]) -> tuple[Bytes, Mask]:
    found = [parse_traceparent(value) for value in values]
    packed = b"".join([(trace or _NO_TRACE) + (span or _NO_SPAN) for trace, span in found])
    ids = np.frombuffer(packed, dtype=np.uint8).reshape(-1, _ID_BYTES)
    return ids, np.array([trace is not None for trace, _ in found], dtype=np.bool_)


def _parse_alike(values: Bytes) -> Bytes | None:
    """Of values that are all valid, and written as nearly all are; None where one is not."""
    if (values[:, 0] != ord(" ")).any() or (values[:, _DASHES] != ord("-")).any():
        return None
    digits = np.concatenate([values[:, begin:end] for begin, end in _DIGITS], axis=1).tobytes()
    if digits != digits.lower():
        return None
    try:
        packed = np.frombuffer(unhexlify(digits), dtype=np.uint8).reshape(len(values), -1)
    except ValueError:
        return None
    ids = np.ascontiguousarray(packed[:, 1 : 1 + _ID_BYTES])
    words = ids.view(np.uint64)
    is_zero = (words[:, 0] | words[:, 1] == 0) | (words[:, 2] == 0)
    return None if packed[:, 0].any() or is_zero.any() else ids
