"""Which statements the store's HTTP interface understands: a named subset per role, everything else is refused.

The engine's own `readonly=1` is the wall for readers; this is the fence before it, and the only one for the others.
It looks at words, never changes them: what passes goes to the engine as it came, less its FORMAT clause.
"""

import re
from dataclasses import dataclass
from itertools import pairwise

from farcall_store.roles import Role

NOT_IMPLEMENTED = 48  # ClickHouse's code for what a server does not do
MAX_STATEMENT = 1 << 20  # characters


class RefusedStatementError(Exception):
    """Outside the subset; the message says what about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """`sql` has no FORMAT clause. Inserts carry their table, columns and token apart from `sql`, which is empty."""

    verb: str
    sql: str
    fmt: str | None
    insert: "Insert | None" = None

    @property
    def is_select(self) -> bool:
        return self.verb in ("SELECT", "WITH")


@dataclass(frozen=True, slots=True, kw_only=True)
class Insert:
    into: str  # table and column list as they were written
    token: str  # insert_deduplication_token, "" for none
    fmt: str
    data_start: int  # where in the statement's text the rows begin


@dataclass(frozen=True, slots=True)
class Token:
    kind: str  # word | quoted | string | number | mark
    text: str
    start: int
    end: int


READ_FORMATS = {
    name.lower(): name
    for name in (
        "Native",
        "Arrow",
        "ArrowStream",
        "JSON",
        "JSONCompact",
        "JSONEachRow",
        "TabSeparated",
        "TabSeparatedWithNames",
        "TabSeparatedWithNamesAndTypes",
        "CSV",
        "CSVWithNames",
        "Null",
    )
} | {"tsv": "TabSeparated"}
STREAMED_FORMATS = frozenset({"Native", "JSONEachRow"})  # whose blocks concatenate
INSERT_FORMATS = {name.lower(): name for name in ("Native", "Arrow", "ArrowStream", "JSONEachRow")}

_READ_VERBS = frozenset({"SELECT", "WITH", "EXPLAIN", "DESCRIBE", "DESC", "EXISTS"})
_ADMIN_VERBS = _READ_VERBS | {
    "ALTER", "CHECK", "CREATE", "DROP", "KILL", "OPTIMIZE", "RENAME", "SHOW", "SYSTEM", "TRUNCATE",
}  # fmt: skip
_VERBS = {
    Role.READER: _READ_VERBS,
    Role.WRITER: _READ_VERBS | {"INSERT"},
    Role.ADMIN: _ADMIN_VERBS | {"INSERT"},
}
# Words that reach files, or lift what a handle is pinned to, wherever they stand.
_NEVER = frozenset({"OUTFILE", "INFILE", "ATTACH", "DETACH", "GRANT", "REVOKE"})
_NEVER_READING = _NEVER | {"SETTINGS", "INSERT", "CREATE", "ALTER", "DROP", "TRUNCATE"}

# Table functions that read nothing from outside, or whose name is an ordinary function's too.
_HARMLESS_FUNCTIONS = frozenset(
    {"numbers", "numbers_mt", "zeros", "values", "null", "format", "view", "primes"}
)
# Known whatever the engine says; the engine's own list is added at start (`learn_table_functions`).
_reaching_functions: frozenset[str] = frozenset(
    {"file", "url", "s3", "remote", "remotesecure", "cluster", "python", "executable", "mysql", "postgresql",
     "input", "sqlite", "mongodb", "redis", "hdfs", "jdbc", "odbc", "dictionary", "loop", "merge", "fuzzjson"}
)  # fmt: skip


def learn_table_functions(names: list[str]) -> None:
    """Adds every table function of the engine in use to those that no statement may call."""
    global _reaching_functions  # one engine per process; it only ever grows
    _reaching_functions |= {name.lower() for name in names} - _HARMLESS_FUNCTIONS


def classify(text: str, role: Role) -> Statement:
    """What `text` asks, when `role` may ask it. Raises RefusedStatementError."""
    if len(text) > MAX_STATEMENT:
        raise RefusedStatementError("the statement is too long")
    has_rows = looks_like_insert(text)
    head = text[:MAX_INSERT_HEAD] if has_rows else text
    tokens = scan(head, stop_at_rows=has_rows)
    if not tokens or tokens[0].kind != "word":
        raise RefusedStatementError("there is no statement")
    verb = tokens[0].text.upper()
    if verb not in _VERBS[role]:
        raise RefusedStatementError(f"{verb[:40]} is outside what the {role} may say here")
    if verb == "INSERT":
        return _read_insert(head, tokens)
    return _read_query(text, tokens, verb, role)


MAX_INSERT_HEAD = 16_384  # characters before the rows: table, columns, token, format


def looks_like_insert(text: str) -> bool:
    return text[:256].lstrip().upper().startswith("INSERT")


_SCANNER = re.compile(
    r"""(?P<space>\s+|--[^\n]*(?:\n|\Z)|/\*.*?\*/)
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<number>[0-9][A-Za-z0-9_.]*)
      | (?P<string>'(?:[^'\\]|\\.|'')*')
      | (?P<quoted>`(?:[^`\\]|\\.|``)*`|"(?:[^"\\]|\\.|"")*")
      | (?P<mark>(?!/\*)[()\[\]{},.;:=<>!+\-*/%?|&^~@])""",
    re.VERBOSE | re.DOTALL,
)


def scan(text: str, *, stop_at_rows: bool = False) -> list[Token]:
    """The tokens of a statement; of an INSERT only up to its rows. Raises RefusedStatementError."""
    tokens: list[Token] = []
    position = 0
    while position < len(text):
        match = _SCANNER.match(text, position)
        if match is None:
            raise RefusedStatementError(f"cannot read the statement at character {position}")
        kind = match.lastgroup or ""
        position = match.end()
        if kind == "space":
            continue
        tokens.append(Token(kind, match.group(), match.start(), match.end()))
        if stop_at_rows and len(tokens) > 1 and tokens[-2].text.upper() == "FORMAT":
            break
    return tokens


def _read_query(text: str, tokens: list[Token], verb: str, role: Role) -> Statement:
    while tokens and tokens[-1].text == ";":
        tokens = tokens[:-1]
    fmt: str | None = None
    if len(tokens) > 2 and tokens[-2].text.upper() == "FORMAT" and tokens[-1].kind == "word":
        fmt = read_format(tokens[-1].text)
        tokens = tokens[:-2]
    _refuse_words(tokens, _NEVER if role is Role.ADMIN else _NEVER_READING)
    _refuse_functions(tokens)
    return Statement(verb=verb, sql=text[tokens[0].start : tokens[-1].end], fmt=fmt)


def read_format(name: str) -> str:
    """The engine's own spelling. Raises RefusedStatementError."""
    try:
        return READ_FORMATS[name.lower()]
    except KeyError:
        raise RefusedStatementError(
            f"format {name[:40]!r} is outside what is spoken here"
        ) from None


def _refuse_words(tokens: list[Token], words: frozenset[str]) -> None:
    before = ""
    for token in tokens:
        is_name = before == "."  # the part after a dot: system.settings
        if token.kind == "word" and token.text.upper() in words and not is_name:
            raise RefusedStatementError(f"{token.text.upper()} is not spoken here")
        if token.text == ";":
            raise RefusedStatementError("one statement at a time")
        before = token.text


def _refuse_functions(tokens: list[Token]) -> None:
    for token, following in pairwise(tokens):
        name = token.text.strip('`"').lower()
        is_call = following.text == "(" and token.kind in ("word", "quoted")
        if is_call and name in _reaching_functions:
            raise RefusedStatementError(f"the function {name[:40]} is not spoken here")


_TOKEN_TEXT = re.compile(r"'([A-Za-z0-9_.:\-]{1,200})'")


def _read_insert(text: str, tokens: list[Token]) -> Statement:
    """INSERT INTO [TABLE] table [(columns)] [SETTINGS insert_deduplication_token='…'] FORMAT name, then the rows."""
    words = [token.text.upper() for token in tokens]
    if words[:2] != ["INSERT", "INTO"] or len(words) < 5 or words[-2] != "FORMAT":
        raise RefusedStatementError(
            "an insert is INSERT INTO table (columns) FORMAT name, and rows"
        )
    fmt = INSERT_FORMATS.get(words[-1].lower())
    if fmt is None:
        raise RefusedStatementError(
            f"rows in the format {tokens[-1].text[:40]!r} are not read here"
        )
    middle = tokens[2:-2]
    token = ""
    if len(middle) >= 4 and middle[-4].text.upper() == "SETTINGS":
        token = _read_token(middle[-3:])
        middle = middle[:-4]
    into = _read_into(text, middle)
    return Statement(
        verb="INSERT",
        sql="",
        fmt=None,
        insert=Insert(
            into=into, token=token, fmt=fmt, data_start=_rows_start(text, tokens[-1].end)
        ),
    )


def _read_token(tokens: list[Token]) -> str:
    match = _TOKEN_TEXT.fullmatch(tokens[2].text)
    if tokens[0].text != "insert_deduplication_token" or tokens[1].text != "=" or match is None:
        raise RefusedStatementError(
            "the one setting of an insert is insert_deduplication_token='…'"
        )
    return match.group(1)


def _read_into(text: str, tokens: list[Token]) -> str:
    """Table and columns: names, dots, commas and one pair of brackets; no function, no SELECT."""
    if not tokens:
        raise RefusedStatementError("an insert names its table")
    marks = "".join(token.text if token.kind == "mark" else "x" for token in tokens)
    if re.fullmatch(r"x(\.x)?(\(x(\.x)?(,x(\.x)?)*\))?", marks) is None:
        raise RefusedStatementError("an insert names a table and its columns, and nothing else")
    if any(token.kind not in ("word", "quoted", "mark") for token in tokens):
        raise RefusedStatementError("an insert names a table and its columns, and nothing else")
    if tokens[0].text.upper() in ("TABLE", "FUNCTION"):
        raise RefusedStatementError("an insert goes into a table named after INTO")
    return text[tokens[0].start : tokens[-1].end]


def _rows_start(text: str, end: int) -> int:
    """Rows begin after the line of FORMAT, or where the text ends."""
    while end < len(text) and text[end] in " \t\r":
        end += 1
    if end < len(text) and text[end] == "\n":
        return end + 1
    if end < len(text):
        raise RefusedStatementError("the rows begin on the line after FORMAT")
    return end
