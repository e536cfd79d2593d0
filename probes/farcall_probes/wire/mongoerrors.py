"""Whether a MongoDB reply's document says success, and the server's name for what went wrong.

A failed command has `ok: 0` with code and codeName; a write that failed has `ok: 1` and its errors in a list of their own.
https://www.mongodb.com/docs/manual/reference/error-codes/
"""

from farcall_probes.wire.bson import skip_value
from farcall_probes.wire.cursor import Cursor, EndOfBytes

MAX_ELEMENTS = 256  # of a document looked at
COMMAND_LETTERS = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")

# Codes that come without their name: those of write errors. error_codes.yml of the server has them all.
_CODES = {
    2: "BadValue",
    9: "FailedToParse",
    13: "Unauthorized",
    14: "TypeMismatch",
    18: "AuthenticationFailed",
    20: "IllegalOperation",
    26: "NamespaceNotFound",
    28: "PathNotViable",
    40: "ConflictingUpdateOperators",
    43: "CursorNotFound",
    48: "NamespaceExists",
    50: "MaxTimeMSExpired",
    52: "DollarPrefixedFieldName",
    59: "CommandNotFound",
    64: "WriteConcernFailed",
    66: "ImmutableField",
    85: "IndexOptionsConflict",
    86: "IndexKeySpecsConflict",
    91: "ShutdownInProgress",
    112: "WriteConflict",
    121: "DocumentValidationFailure",
    189: "PrimarySteppedDown",
    211: "KeyNotFound",
    251: "NoSuchTransaction",
    10107: "NotWritablePrimary",
    11000: "DuplicateKey",
    11600: "InterruptedAtShutdown",
    11601: "Interrupted",
    11602: "InterruptedDueToReplStateChange",
    13435: "NotPrimaryNoSecondaryOk",
    13436: "NotPrimaryOrSecondary",
}


def find_error(document: Cursor) -> str | None:
    """By the document that the cursor stands in, behind its size. None of success, and of what lies behind the cut."""
    return _read_verdict(document).error()


class _Verdict:
    """What of a reply's top level tells success from failure."""

    __slots__ = ("code", "failed", "name", "write")

    def __init__(self) -> None:
        self.failed: bool | None = None
        self.code: int | None = None
        self.name: str | None = None
        self.write: str | None = None

    def error(self) -> str | None:
        if self.failed:
            return self.name or name_code(self.code)
        return self.write


def name_code(code: int | None) -> str:
    """`DuplicateKey`, the number of a code that has no name here, `error` when there is none."""
    return "error" if code is None else _CODES.get(code, str(code))


def _read_verdict(document: Cursor) -> _Verdict:
    verdict = _Verdict()
    try:
        for _ in range(MAX_ELEMENTS):
            kind = document.uint8()
            if kind == 0:
                break
            key = document.until_zero()
            start = document.offset
            skip_value(document, kind)
            value = document.data[start : document.offset]
            if key == b"ok":
                verdict.failed = not any(
                    value
                )  # a double, an integer or a truth value: zero is all zeroes
            elif key == b"$err":
                verdict.failed = True
            elif key == b"code" and kind == 16:
                verdict.code = int.from_bytes(value, "little", signed=True)
            elif key == b"codeName" and kind == 2:
                verdict.name = _name(value)
            elif key == b"writeErrors" and kind == 4 and len(value) > 5:
                verdict.write = _first_error(Cursor(value, 4)) or "error"
            elif key == b"writeConcernError" and kind == 3:
                verdict.write = verdict.write or _inner_error(Cursor(value, 4))
    except EndOfBytes:
        pass
    return verdict


def _name(value: bytes) -> str | None:
    name = value[4:-1]
    if 0 < len(name) <= 64 and COMMAND_LETTERS.issuperset(name):
        return name.decode("ascii")
    return None


def _first_error(array: Cursor) -> str | None:
    if array.uint8() != 3:
        return None
    array.until_zero()
    array.skip(4)
    return _inner_error(array)


def _inner_error(document: Cursor) -> str:
    verdict = _read_verdict(document)
    return verdict.name or name_code(verdict.code)
