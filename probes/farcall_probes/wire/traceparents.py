"""Traceparents as HPACK brings them; those in its Huffman code (RFC 7541, 5.2) are decoded side by side.

No two calls have the same, so nothing can be remembered, and alone each takes some forty steps in Python. Here every step is
taken by all of them at once. A traceparent has seventeen different characters, which makes the machine small: its states are
the beginnings of their codes. What is not of version 00 in its ordinary shape is left to the plain decoder.
"""

from binascii import unhexlify
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from farcall_probes.giveway import give_way
from farcall_probes.windows import read_windows
from farcall_probes.wire import huffman
from farcall_probes.wire.tracecontext import NOBODY, Ids, parse_traceparent

Mask = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.intp]
CHARACTERS = b"0123456789abcdef-"
MIN_CODED = 35  # 55 characters of at least five bits
MAX_CODED = 42  # of at most six
_LENGTH = 55  # 00-<32>-<16>-<2>
_STEPS = MAX_CODED + 1  # one at least is padding
_STEPS_AT_ONCE = 11  # of which something is counted: what is in hand at once is memory of the agent
_MANY_TRACES = 40  # below it, each alone costs less
_AT_ONCE = 4096  # a take of a busy node; what is in hand, 0.25 kB of each, is half of a cache
_MADE = 0x80  # of a character: this, whether its code has six bits, whether it is a dash, else its value
_SIX = 0x20
_DASH = 0x10
_DASHES = [2, 35, 52]
_ZERO, _MADE_DASH = _MADE, _MADE | _SIX | _DASH
_TRACE_ID = 16  # bytes
_IDS = _TRACE_ID + 8
_NONE = bytes(_IDS)
_PADDING = "11"  # no code of ours begins so: only ones may follow


class Found(NamedTuple):
    """Of many headers, row by row."""

    ids: Bytes  # a trace's sixteen bytes and a span's eight; zeroes where none is named
    is_named: Mask
    is_invalid: Mask  # there is something, and it names none

    def take(self, rows: Rows) -> "Found":
        return Found(self.ids[rows], self.is_named[rows], self.is_invalid[rows])

    def tell(self, at: int) -> Ids | None:
        """One of them as hpackfields.TRACEPARENT has it; None where there is nothing."""
        if self.is_named[at]:
            ids = self.ids[at].tobytes()
            return ids[:_TRACE_ID], ids[_TRACE_ID:]
        return NOBODY if self.is_invalid[at] else None


NOTHING = Found(np.zeros((1, _IDS), np.uint8), *np.zeros((2, 1), np.bool_))  # of one row


def join(some: Sequence[Found]) -> Found:
    return Found(*map(np.concatenate, zip(*some, strict=True)))


def read_all(values: Sequence[object]) -> Found:
    """Of hpackfields.TRACEPARENT's values in many Fields."""
    rows = [at for at, value in enumerate(values) if type(value) is bytes]
    if len(rows) < _MANY_TRACES:
        return _read_alone(values)
    ids = np.zeros((len(values), _IDS), np.uint8)
    is_named, is_invalid = np.zeros((2, len(values)), np.bool_)
    coded = [value for value in values if type(value) is bytes]
    ids[rows], is_named[rows] = read_coded(coded)
    others = np.flatnonzero(~is_named)
    if len(others):
        alone = _read_alone([values[at] for at in others.tolist()])
        ids[others], is_named[others], is_invalid[others] = alone
    return Found(ids, is_named, is_invalid)


def read_places(data: Bytes, begins: Rows, ends: Rows) -> Found:
    """Of values that lie there in Huffman's code, MIN_CODED to MAX_CODED bytes long, with READ_BEYOND more behind each."""
    ids, is_named = _read_padded(_pad_places(data, begins, ends - begins), ends - begins)
    is_invalid = np.zeros(len(begins), np.bool_)
    others = np.flatnonzero(~is_named)
    if len(others):
        places = zip(begins[others].tolist(), ends[others].tolist(), strict=True)
        alone = _read_alone([data[begin:end].tobytes() for begin, end in places])
        ids[others], is_named[others], is_invalid[others] = alone
    return Found(ids, is_named, is_invalid)


def _read_alone(values: Sequence[object]) -> Found:
    ids, named, invalid = [], [], []
    for value in values:
        trace, span = _read_one(value) or NOBODY
        is_named = trace is not None and span is not None
        ids.append(trace + span if trace is not None and span is not None else _NONE)
        named.append(is_named)
        invalid.append(not is_named and value is not None)
    raw = np.frombuffer(bytearray().join(ids), np.uint8).reshape(-1, _IDS)
    return Found(raw, np.array(named, np.bool_), np.array(invalid, np.bool_))


def _read_one(value: object) -> Ids | None:
    if type(value) is bytes:
        plain = huffman.decode(value)
        return read_traceparent(plain) if plain is not None else NOBODY
    return value if type(value) is tuple else None


def read_traceparent(raw: bytes) -> Ids:
    """As parse_traceparent; of version 00 in its ordinary shape in a third of the time."""
    if len(raw) == 55 and raw[:3] == b"00-" and raw[35] == raw[52] == 0x2D and raw == raw.lower():
        try:
            trace_id, span_id = unhexlify(raw[3:35]), unhexlify(raw[36:52])
            unhexlify(raw[53:])
        except ValueError:
            return NOBODY
        return (trace_id, span_id) if any(trace_id) and any(span_id) else NOBODY
    return parse_traceparent(raw)


def read_coded(raws: Sequence[bytes]) -> tuple[Bytes, Mask]:
    """Of each its IDs, and whether it has some: others are for the plain decoder to look at. All have MIN_CODED to MAX_CODED bytes."""
    sizes = np.fromiter(map(len, raws), np.intp, len(raws))
    return _read_padded(_pad(raws, sizes), sizes)


def _read_padded(padded: Bytes, sizes: Rows) -> tuple[Bytes, Mask]:
    ids = np.zeros((len(padded), _IDS), np.uint8)
    is_read = np.zeros(len(padded), np.bool_)
    for begin in range(0, len(padded), _AT_ONCE):
        give_way()
        some = slice(begin, begin + _AT_ONCE)
        _read_some(padded[some], sizes[some], ids[some], is_read[some])
    return ids, is_read


def _read_some(raws: Bytes, sizes: Rows, ids: Bytes, is_read: Mask) -> None:
    states, made, tallies = _build_machine()
    state = np.zeros(len(raws), np.uint16)
    steps = np.ascontiguousarray(raws.T, np.uint16)
    for step in steps:
        step |= state
        states.take(step, out=state, mode="clip")
    give_way()
    tally = np.zeros(len(raws), np.uint32)
    for some in range(0, _STEPS, _STEPS_AT_ONCE):
        part = tallies.take(steps[some : some + _STEPS_AT_ONCE], mode="clip")
        tally += part.sum(axis=0, dtype=np.uint32)
    bits = 5 * _LENGTH + (tally >> 8 & 0xFF)
    is_whole = (tally & 0xFF == _LENGTH) & (tally >> 16 == len(_DASHES))
    # No byte more than the code needs.
    is_whole &= (bits + 7 >> 3 == sizes) & (state == _find_state(_PADDING))
    give_way()
    # Two characters a step at most, the first in the lower byte.
    padded = np.ascontiguousarray(made.take(steps, mode="clip").T)
    del steps
    if not is_whole.all():
        padded = padded[is_whole]
    characters = padded.tobytes().translate(None, b"\0")
    give_way()
    found, is_valid = _split(np.frombuffer(characters, np.uint8).reshape(-1, _LENGTH))
    rows = np.flatnonzero(is_whole)[is_valid]
    ids[rows] = found[is_valid]
    is_read[rows] = True


def _pad(raws: Sequence[bytes], sizes: Rows) -> Bytes:
    padded = np.full((len(raws), _STEPS), 0xFF, np.uint8)
    padded[np.arange(_STEPS) < sizes[:, None]] = np.frombuffer(b"".join(raws), np.uint8)
    return padded


def _pad_places(data: Bytes, begins: Rows, sizes: Rows) -> Bytes:
    """The same of what lies there."""
    padded = read_windows(data, begins, _STEPS)
    padded[:, MIN_CODED:][np.arange(MIN_CODED, _STEPS) >= sizes[:, None]] = 0xFF
    return padded


def _split(characters: Bytes) -> tuple[Bytes, Mask]:
    """IDs, and which of them are some. There are as many dashes as there should be."""
    is_valid = (characters[:, 0] == _ZERO) & (characters[:, 1] == _ZERO)
    for place in _DASHES:
        is_valid &= characters[:, place] == _MADE_DASH
    digits = np.concatenate((characters[:, 3:35], characters[:, 36:52]), axis=1) & 0x0F
    pairs = digits.view(np.uint16)
    ids = (pairs << 4 | pairs >> 8).astype(np.uint8)
    words = ids.view(np.uint64)
    is_valid &= (words[:, 0] | words[:, 1] != 0) & (words[:, 2] != 0)
    return ids, is_valid


# ---- the machine ----------------------------------------------------------------------------------------------------


@cache
def _list_codes() -> dict[str, int]:
    """The characters' codes as text of bits → how they are told of."""
    codes = huffman.list_codes()
    found = {}
    for value, character in enumerate(CHARACTERS):
        code, bits = codes[character]
        found[f"{code:0{bits}b}"] = _MADE | (_SIX if bits == 6 else 0) | value
    return found


@cache
def _list_states() -> list[str]:
    """The codes' proper beginnings, the whole string's first; padding; and the last, from which there is no way."""
    beginnings = {code[:length] for code in _list_codes() for length in range(len(code))}
    return [*sorted(beginnings), _PADDING, "dead"]


def _find_state(name: str) -> int:
    return _list_states().index(name) << 8


@cache
def _build_machine() -> tuple[
    npt.NDArray[np.uint16], npt.NDArray[np.uint16], npt.NDArray[np.uint32]
]:
    """By state and byte: the next state; the characters that are made; and how many those are, how many of them of six bits (in the
    second byte), and dashes (in the third)."""
    names = _list_states()
    places = {name: place << 8 for place, name in enumerate(names)}
    states = np.zeros(len(names) << 8, np.uint16)
    made = np.zeros(len(names) << 8, np.uint16)
    tallies = np.zeros(len(names) << 8, np.uint32)
    for name, place in places.items():
        for byte in range(256):
            after, characters = _step(name, byte)
            states[place | byte] = places[after]
            made[place | byte] = int.from_bytes(characters, "little")
            tallies[place | byte] = sum(map(_tally, characters))
    return states, made, tallies


def _tally(character: int) -> int:
    return 1 + (character & _SIX != 0) * 0x100 + (character & _DASH != 0) * 0x10000


def _step(name: str, byte: int) -> tuple[str, bytes]:
    made = b""
    for bit in f"{byte:08b}":
        if name == "dead" or (name == _PADDING and bit == "0"):
            return "dead", made
        if name == _PADDING:
            continue
        name += bit
        code = _list_codes().get(name)
        if code is not None:
            made, name = made + bytes((code,)), ""
        elif name not in _list_states():
            name = "dead"
    return name, made
