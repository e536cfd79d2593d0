"""Forms of Redis commands (redis.find_form), of many records at once: what each argument says of its length is followed by all of
them side by side.

Only whole commands of one array are told, with no more than nine words and a name of no more than sixteen letters. What their
arguments hold is not looked at: who says how long they are need not keep line ends out of them.
"""

import numpy as np
import numpy.typing as npt

from farcall_probes.giveway import give_way
from farcall_probes.wire.redis import Form

READ_BEYOND = 16  # bytes behind a record's end that are looked at, and mean nothing

_MAX_WORDS = 9  # a count of one digit
_MAX_NAME = 16
_LINE_END = 0x0A0D  # CR LF, as all of these are read: the first byte is the lowest
_DOLLAR = ord("$")
_KEPT = np.array([(1 << 8 * size) - 1 for size in range(9)], dtype=np.uint64)  # of eight bytes
_SPREAD = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
_SLOT_BITS = 12
_DIGITS = 24, 32, 40  # behind a line's end and $: where they lie in eight bytes
_BEHIND = 32, 40, 48  # where the line ends that has one digit, two, or three

Rows = npt.NDArray[np.intp]
Words = npt.NDArray[np.uint64]  # eight bytes of text each


def find_forms(data: npt.NDArray[np.uint8], begins: Rows, ends: Rows) -> tuple[Rows, list[Form]]:
    """Of each record's bytes in `data` the place of its form in the list, or -1. Behind each record lie READ_BEYOND bytes more."""
    words: Words = np.ndarray(len(data) - 7, "<u8", data, strides=(1,))
    head = words[begins]
    counts = (head >> 8 & 0xFF).astype(np.intp) - ord("0")
    is_form = (head & 0xFF == ord("*")) & (counts > 0) & (counts <= _MAX_WORDS)
    counts[~is_form] = 0
    at = begins + 2  # at the line's end before the next word
    names = lengths = at
    for done in range(int(counts.max(initial=0)) + 1):
        give_way()
        word = words[at]
        is_form &= word & 0xFFFF == _LINE_END
        is_last = counts == done
        is_form &= ~is_last | (at + 2 == ends)
        sizes, digits = _read_lengths(word)
        begin = at + 5 + digits
        behind = begin + sizes
        is_form &= is_last | (counts < done) | ((digits > 0) & (behind + 2 <= ends))
        counts[~is_form] = 0
        if done == 0:
            names, lengths = begin, sizes
        at = np.where(counts > done, behind, at)
    is_form &= (lengths > 0) & (lengths <= _MAX_NAME)
    give_way()
    return _number(words, np.flatnonzero(is_form), names, lengths, counts)


def _read_lengths(word: Words) -> tuple[Rows, Rows]:
    """Of a line's end and a word's length behind it: that, and how many digits it has; 0: none, or more than three."""
    # Beyond 9: no digit.
    first, second, third = ((word >> shift & 0xFF) - ord("0") for shift in _DIGITS)
    is_one, is_two, is_three = (word >> shift & 0xFFFF == _LINE_END for shift in _BEHIND)
    is_many = (first - 1 <= 8) & (second <= 9) & (is_two | is_three & (third <= 9))
    digits = np.where(is_many, np.where(is_two, 2, 3), is_one & (first <= 9))
    tens = first * 10 + second
    sizes = np.where(digits == 2, tens, np.where(digits == 3, tens * 10 + third, first))
    digits[word >> 16 & 0xFF != _DOLLAR] = 0
    return sizes.astype(np.intp), digits


def _number(
    words: Words, rows: Rows, names: Rows, lengths: Rows, counts: Rows
) -> tuple[Rows, list[Form]]:
    """By name and count of words. Of names that meet in a slot all but one are left to those who read them one by one."""
    which = np.full(len(names), -1, dtype=np.intp)
    begins, sizes, counts = names[rows], lengths[rows], counts[rows]
    first = words[begins] & _KEPT[np.minimum(sizes, 8)]
    second = words[begins + 8] & _KEPT[np.maximum(sizes - 8, 0)]
    sort = sizes * 16 + counts
    mixed = (first ^ second * _SPREAD[1] ^ sort.astype(np.uint64) << np.uint64(32)) * _SPREAD[0]
    slots = (mixed >> np.uint64(64 - _SLOT_BITS)).astype(np.intp)
    owners = np.zeros(1 << _SLOT_BITS, dtype=np.intp)
    owners[slots] = np.arange(len(rows))
    own = owners[slots]
    is_same = (first == first[own]) & (second == second[own]) & (sort == sort[own])
    found = np.flatnonzero(own == np.arange(len(rows)))
    owners[slots[found]] = np.arange(len(found))
    which[rows[is_same]] = owners[slots[is_same]]
    forms = []
    for at in found.tolist():
        raw = first[at].tobytes() + second[at].tobytes()
        forms.append((raw[: int(sizes[at])], 2 * int(counts[at]) + 2))
    return which, forms
