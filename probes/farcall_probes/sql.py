"""SQL text without its literals, and the word that says what it does. Pure; no grammar, one pass of one pattern.

Masking errs on the side of hiding: what is not certainly outside of a literal is not shown.
"""

import re
from typing import Literal

from farcall_probes.wire.outcomes import MAX_TEXT, text

MASK = "?"
MEMO_ENTRIES = 2048
MAX_OPERATION = 32

# In this order at each place: comments go, quoted identifiers stay, literals become the mask. Without their end, because
# the capture was cut, they reach to the end of the text. `backslash` is a plain string with a backslash before a quote: where
# it ends depends on the server's settings, so nothing behind its beginning is shown.
_COMMON = r"""
    (?P<comment> --[^\n]* | {block} {comment} )
  | (?P<identifier> {identifier} )
  {own}
  | (?P<backslash> (?:\b(?:[bBxXnN]|[uU]&))?'(?:[^'\\]|'')*\\ )
  | (?P<string> (?:\b(?:[bBxXnN]|[uU]&))?'(?:[^']|'')*(?:'|\Z) )
  | (?P<parameter> \$[0-9]+ )
  | (?P<word> [^\W\d][\w$]* )
  | (?P<number> [0-9]+(?:[\w.]*[+-]?[\w.]*) | \.[0-9][\w.]* )
"""
_FLAT_BLOCK = r"/\*.*?(?:\*/|\Z)"
# Comments lie in comments there: behind one that does nothing is shown, since its end would have to be counted.
_NESTED_BLOCK = r"/\*[^*/]*(?:(?:\*(?!/)|/(?!\*))[^*/]*)*\*/ | /\*.*"
_POSTGRES = _COMMON.format(
    block=_NESTED_BLOCK,
    comment="",
    identifier=r'"(?:[^"]|"")*(?:"|\Z)',
    own=r"""
  | (?P<escaped> \b[eE]'(?:[^'\\]|\\.|'')*(?:'|\Z) )
  | (?P<dollar> \$(?P<tag>[A-Za-z_]\w*|)\$.*?(?:\$(?P=tag)\$|\Z) )""",
)
# Double quotes are a string's there, unless the server is told otherwise; then identifiers are hidden too.
_MYSQL = _COMMON.format(
    block=_FLAT_BLOCK,
    comment=r"| \#[^\n]*",
    identifier=r"`(?:[^`]|``)*(?:`|\Z)",
    own=r"""
  | (?P<backslash2> "(?:[^"\\]|"")*\\ )
  | (?P<escaped> "(?:[^"]|"")*(?:"|\Z) )""",
)
# A backslash is a character like others; UUIDs and durations stand without quotes, and a cut one is hidden as well.
_CASSANDRA = _COMMON.format(
    block=_FLAT_BLOCK,
    comment=r"| //[^\n]*",
    identifier=r'"(?:[^"]|"")*(?:"|\Z)',
    own=r"""
  | (?P<plain> '(?:[^']|'')*(?:'|\Z) )
  | (?P<dollar> \$\$.*?(?:\$\$|\Z) )
  | (?P<uuid> \b[0-9a-fA-F]{8}-[0-9a-fA-F-]{0,27} )
  | (?P<duration> \bP(?=[0-9T])[\w:.-]* )""",
)
Dialect = Literal["postgresql", "mysql", "cassandra"]
_TOKENS = {
    "postgresql": re.compile(_POSTGRES, re.VERBOSE | re.DOTALL),
    "mysql": re.compile(_MYSQL, re.VERBOSE | re.DOTALL),
    "cassandra": re.compile(_CASSANDRA, re.VERBOSE | re.DOTALL),
}
_KEPT = frozenset(("identifier", "parameter", "word"))
_SPACE = re.compile(r"\s+")
_LIST = re.compile(
    r"\((?:\s*[?]\s*,)+\s*[?]\s*\)"
)  # (?, ?, ?) → (?): statements that differ only in it are one
_ROWS = re.compile(r"\([?]\)(?:\s*,\s*\([?]\))+")  # VALUES (?), (?) → (?)
_OPERATION = re.compile(r"[\s(;]*([A-Za-z]+)")
_NAME = r'("(?:[^"]|"")+"|\w+)'
_TABLE = re.compile(
    rf"\b(?:FROM|INTO|UPDATE|TRUNCATE(?:\s+TABLE)?|TABLE(?:\s+IF(?:\s+NOT)?\s+EXISTS)?)\s+{_NAME}(?:\s*\.\s*{_NAME})?",
    re.IGNORECASE,
)
# SET takes words without quotes as values: `SET app.token TO abc`, `SET @token = abc`.
_SETTING = re.compile(
    r"((?::?=|\bTO\b)\s*)(?!DEFAULT\b|ON\b|OFF\b|TRUE\b|FALSE\b)[^\s,;?()@]+", re.IGNORECASE
)
_CREDENTIALS = re.compile(r"\b(password|identified|secret|credential)", re.IGNORECASE)


def mask_sql(statement: str, dialect: Dialect = "postgresql") -> str:
    """`SELECT * FROM t WHERE id = 7 -- x` → `SELECT * FROM t WHERE id = ?`."""
    out: list[str] = []
    at = 0
    for token in _TOKENS[dialect].finditer(statement):
        out.append(statement[at : token.start()])
        at = token.end()
        kind = token.lastgroup
        if kind in _KEPT:
            out.append(token[0])
        elif kind == "comment":
            out.append(" ")
        else:
            out.append(MASK)
        if kind in ("backslash", "backslash2"):
            out.append(" …")
            at = len(statement)
            break
    out.append(statement[at:])
    flat = _SPACE.sub(" ", "".join(out)).strip()
    if flat[:4].upper() == "SET ":
        flat = _SETTING.sub(rf"\1{MASK}", flat)
    return _ROWS.sub("(?)", _LIST.sub("(?)", flat))


def find_operation(statement: str) -> str | None:
    """The first word, in upper case: SELECT, INSERT, BEGIN."""
    match = _OPERATION.match(statement)
    return match[1][:MAX_OPERATION].upper() if match else None


def find_table(masked: str) -> tuple[str | None, str | None]:
    """(keyspace, table) of the first table in a statement without literals, as far as it names them."""
    match = _TABLE.search(masked)
    if match is None:
        return None, None
    first, second = (name and name.strip('"').replace('""', '"') for name in match.groups())
    return (first, second) if second else (None, first)


class SqlText:
    """Remembers what was masked last: applications send few different statements."""

    def __init__(self, dialect: Dialect, *, masking: bool) -> None:
        self._dialect = dialect
        self._masking = masking
        self._memo: dict[bytes, tuple[str, str | None]] = {}

    def render(self, raw: bytes) -> tuple[str, str | None]:
        """(text that may be shown, operation)."""
        found = self._memo.get(raw)
        if found is None:
            found = self._render(raw)
            if len(self._memo) >= MEMO_ENTRIES:
                self._memo.clear()
            self._memo[raw] = found
        return found

    def _render(self, raw: bytes) -> tuple[str, str | None]:
        statement = raw.decode("utf-8", "replace")
        shown = statement
        if self._masking or _CREDENTIALS.search(statement):
            shown = mask_sql(statement, self._dialect)
        return text(shown.encode(), MAX_TEXT), find_operation(
            mask_sql(statement[:256], self._dialect)
        )
