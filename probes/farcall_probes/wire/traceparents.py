"""Traceparents as HPACK brings them; those in its Huffman code (RFC 7541, 5.2) are decoded side by side.

No two calls have the same, so nothing can be remembered, and alone each takes some forty steps in Python. Here every step is
taken by all of them at once. A traceparent has seventeen different characters, which makes the machine small: its states are
the beginnings of their codes. What is not of version 00 in its ordinary shape is left to the plain decoder.
"""

from binascii import unhexlify
from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from farcall_probes.wire import huffman
from farcall_probes.wire.tracecontext import NOBODY, Ids, parse_traceparent

CHARACTERS = b"0123456789abcdef-"
MIN_CODED = 35  # 55 characters of at least five bits
MAX_CODED = 42  # of at most six
_LENGTH = 55  # 00-<32>-<16>-<2>
_STEPS = MAX_CODED + 1  # one at least is padding
_MANY_TRACES = 40  # below it, each alone costs less
# What is in hand, 170 kB, stays within a cache. A drain of a busy node has half as many, so that it is gone through once.
_AT_ONCE = 1024
_MADE = 0x80  # of a character: this, whether its code has six bits, whether it is a dash, else its value
_SIX = 0x20
_DASH = 0x10
_DASHES = [2, 35, 52]
_PADDING = "11"  # no code of ours begins so: only ones may follow


def read_all(values: Sequence[object]) -> list[Ids | None]:
    """Of hpackfields.TRACEPARENT's values in many Fields: the IDs of each; (None, None) for an invalid one, None where there is none."""
    coded = [value for value in values if type(value) is bytes]
    found: list[Ids | None] = [None] * len(coded)
    if len(coded) >= _MANY_TRACES:
        found = [*read_coded(coded)]
    for at, ids in enumerate(found):
        if ids is None:
            plain = huffman.decode(coded[at])
            found[at] = read_traceparent(plain) if plain is not None else NOBODY
    if len(coded) == len(values):
        return found
    ids_of_coded = iter(found)
    return [
        next(ids_of_coded) if type(value) is bytes else value if type(value) is tuple else None
        for value in values
    ]


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


def read_coded(raws: Sequence[bytes]) -> list[Ids | None]:
    """Of each its IDs; None for those that the plain decoder is to look at. All have MIN_CODED to MAX_CODED bytes."""
    found: list[Ids | None] = []
    for begin in range(0, len(raws), _AT_ONCE):
        found += _read_some(raws[begin : begin + _AT_ONCE])
    return found


def _read_some(raws: Sequence[bytes]) -> list[Ids | None]:
    states, made, tallies = _build_machine()
    sizes = np.fromiter(map(len, raws), np.intp, len(raws))
    state = np.zeros(len(raws), np.uint16)
    steps = np.ascontiguousarray(_pad(raws, sizes).T, np.uint16)
    for step in steps:
        step |= state
        states.take(step, out=state, mode="clip")
    tally = tallies.take(steps, mode="clip").sum(axis=0, dtype=np.uint32)
    bits = 5 * _LENGTH + (tally >> 8 & 0xFF)
    is_whole = (tally & 0xFF == _LENGTH) & (tally >> 16 == len(_DASHES))
    # No byte more than the code needs.
    rows = np.flatnonzero(is_whole & (bits + 7 >> 3 == sizes) & (state == _find_state(_PADDING)))
    # Two characters a step at most, the first in the lower byte.
    characters = np.ascontiguousarray(made.take(steps, mode="clip").T)[rows].tobytes()
    characters = characters.translate(None, b"\0")
    return _split(np.frombuffer(characters, np.uint8).reshape(-1, _LENGTH), rows, len(raws))


def _pad(raws: Sequence[bytes], sizes: npt.NDArray[np.intp]) -> npt.NDArray[np.uint8]:
    padded = np.full((len(raws), _STEPS), 0xFF, np.uint8)
    padded[np.arange(_STEPS) < sizes[:, None]] = np.frombuffer(b"".join(raws), np.uint8)
    return padded


def _split(
    characters: npt.NDArray[np.uint8], rows: npt.NDArray[np.intp], count: int
) -> list[Ids | None]:
    values = characters & 0x0F
    traces = values[:, 3:35:2] << 4 | values[:, 4:35:2]
    spans = values[:, 36:52:2] << 4 | values[:, 37:52:2]
    has_dashes = (characters[:, _DASHES] & _DASH).all(axis=1)
    valid = has_dashes & ~values[:, :2].any(axis=1) & traces.any(axis=1) & spans.any(axis=1)
    if not valid.all():
        traces, spans, rows = traces[valid], spans[valid], rows[valid]
    ids: list[Ids | None] = [None] * count
    trace_ids, span_ids = traces.view("V16").ravel().tolist(), spans.view("V8").ravel().tolist()
    for row, one in zip(rows.tolist(), zip(trace_ids, span_ids, strict=True), strict=True):
        ids[row] = one
    return ids


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
