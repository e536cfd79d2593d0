"""Words that every match of a regex must contain, so that the text index can say where not to look.

Careful in one direction only: a word too few costs time, a word too many loses lines. So a word counts only when it
stands between literal characters that end a word (or anchors), outside groups, alternatives and classes, and
nothing makes it optional. RE2 syntax; ASCII folding like the index's own `lower`.
"""

import re

_ANCHORS = {"^": "start", "$": "end"}
# A brace that does not hold numbers is a literal to RE2.
_QUANTIFIER = re.compile(r"(?:[*+?]|\{\d+(?:,\d*)?\})+")
_EDGE = "\x00"  # an anchor: ends a word, matches no character
_UNKNOWN = "\x01"  # anything could be here


def find_required_words(pattern: str) -> list[str]:
    """Lower-case words, none when in doubt."""
    if any(part in pattern for part in ("|", "(?", "\\Q", "\x00", "\x01")):
        return []  # alternatives, flags and quoting: not worth being clever about
    items = _flatten(pattern)
    words = []
    for start, end in _find_runs(items):
        is_bounded = _ends_word(items[start - 1]) and _ends_word(items[end])
        if is_bounded:
            words.append("".join(items[start:end]))
    return [lower_ascii(word) for word in dict.fromkeys(words)]


def lower_ascii(text: str) -> str:
    """What ClickHouse's `lower` does: other alphabets stay."""
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in text)


def is_word_character(character: str) -> bool:
    """Of the index's tokenizer (splitByNonAlpha): ASCII letters and digits, and every byte above."""
    return character >= "\x80" or (character.isascii() and character.isalnum())


def split_words(text: str) -> list[str]:
    """The tokens that the index keeps of `text`, lower-case, each once."""
    spaced = "".join(c if is_word_character(c) else " " for c in text)
    # Not split(): it would also cut at spaces of other alphabets, which are word characters to the index.
    return [word for word in dict.fromkeys(lower_ascii(spaced).split(" ")) if word]


def _ends_word(item: str) -> bool:
    return item == _EDGE or (item != _UNKNOWN and not is_word_character(item))


def _find_runs(items: list[str]) -> list[tuple[int, int]]:
    runs, start = [], None
    for index, item in enumerate(items):
        is_part = item not in (_EDGE, _UNKNOWN) and is_word_character(item)
        if is_part and start is None:
            start = index
        if not is_part and start is not None:
            runs.append((start, index))
            start = None
    return runs


def _flatten(pattern: str) -> list[str]:
    """One item per atom of the outermost level: a literal, an edge, or unknown. Unknown at both ends."""
    items = [_UNKNOWN]
    at = 0
    while at < len(pattern):
        item, at = _read_atom(pattern, at)
        quantifier = _QUANTIFIER.match(pattern, at)
        if quantifier:
            item, at = _UNKNOWN, quantifier.end()
        items.append(item)
    return [*items, _UNKNOWN]


def _read_atom(pattern: str, at: int) -> tuple[str, int]:
    character = pattern[at]
    if character in _ANCHORS:
        return _EDGE, at + 1
    if character == "[":
        return _UNKNOWN, _skip_class(pattern, at)
    if character == "(":
        return _UNKNOWN, _skip_group(pattern, at)
    if character == ".":
        return _UNKNOWN, at + 1
    if character == "\\" and at + 1 < len(pattern):
        escaped = pattern[at + 1]
        is_literal = escaped.isascii() and not escaped.isalnum()
        # \x41, \p{L}, \123: whatever it is, what follows it may belong to it.
        return (escaped, at + 2) if is_literal else (_UNKNOWN, _skip_escape(pattern, at))
    return character, at + 1


def _skip_escape(pattern: str, at: int) -> int:
    end = at + 2
    if pattern[at + 1] in "xpP" and pattern[end : end + 1] == "{":
        close = pattern.find("}", end)
        return close + 1 if close >= 0 else len(pattern)
    if pattern[at + 1] == "x":
        return end + 2
    if pattern[at + 1] in "pP":
        return end + 1
    while pattern[at + 1].isdigit() and end < at + 4 and pattern[end : end + 1].isdigit():
        end += 1
    return end


def _skip_class(pattern: str, at: int) -> int:
    at += 1
    if pattern[at : at + 1] == "^":
        at += 1
    if pattern[at : at + 1] == "]":
        at += 1  # a ] in first place is itself
    while at < len(pattern) and pattern[at] != "]":
        if pattern.startswith("[:", at):
            close = pattern.find(":]", at + 2)
            at = close + 2 if close >= 0 else at + 2
        else:
            at += 2 if pattern[at] == "\\" else 1
    return at + 1


def _skip_group(pattern: str, at: int) -> int:
    depth = 0
    while at < len(pattern):
        character = pattern[at]
        if character == "\\":
            at += 2
        elif character == "[":
            at = _skip_class(pattern, at)
        else:
            depth += (character == "(") - (character == ")")
            at += 1
            if depth == 0:
                return at
    return at
