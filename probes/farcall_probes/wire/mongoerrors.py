"""Whether a MongoDB reply's document says success, and the server's name for what went wrong.

A failed command has `ok: 0` with code and codeName; a write that failed has `ok: 1` and its errors in a list of their own.
https://www.mongodb.com/docs/manual/reference/error-codes/
"""

from farcall_probes.wire.bson import ARRAY, DOCUMENT, INT32, STRING, find_end, find_zero
from farcall_probes.wire.cursor import EndOfBytes

MAX_ELEMENTS = 256  # of a document looked at
_TELLING = frozenset((b"ok", b"$err", b"code", b"codeName", b"writeErrors", b"writeConcernError"))
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


def find_error(document: bytes) -> str | None:
    """Of the reply. None of success, and of what lies behind the cut."""
    failed, code, name, write = False, None, None, None
    at = 4
    try:
        for _ in range(MAX_ELEMENTS):
            kind = document[at]
            if kind == 0:
                break
            end = find_zero(document, at + 1)
            key, value = document[at + 1 : end], end + 1
            at = find_end(document, value, kind)
            # A list of errors says enough by its first.
            if key not in _TELLING or (at > len(document) and key != b"writeErrors"):
                continue
            if key == b"ok":
                # A double, an integer or a truth value: zero is all zeroes.
                failed = not any(document[value:at])
            elif key == b"$err":
                failed = True
            elif key == b"code" and kind == INT32:
                code = int.from_bytes(document[value:at], "little", signed=True)
            elif key == b"codeName" and kind == STRING:
                name = _name(document[value:at])
            elif key == b"writeErrors" and kind == ARRAY and at - value > 5:
                write = _find_first(document[value:at])
            elif key == b"writeConcernError" and kind == DOCUMENT:
                write = write or _find_inner(document[value:at])
    except (EndOfBytes, IndexError):
        pass
    return (name or name_code(code)) if failed else write


def name_code(code: int | None) -> str:
    """`DuplicateKey`, the number of a code that has no name here, `error` when there is none."""
    return "error" if code is None else _CODES.get(code, str(code))


def _name(value: bytes) -> str | None:
    name = value[4:-1]
    if 0 < len(name) <= 64 and COMMAND_LETTERS.issuperset(name):
        return name.decode("ascii")
    return None


def _find_first(array: bytes) -> str:
    """By the code of the first element, a document."""
    try:
        return _find_inner(array[find_zero(array, 5) + 1 :])
    except EndOfBytes:
        return "error"


def _find_inner(document: bytes) -> str:
    """A document that is an error, whatever it says."""
    code, at = None, 4
    try:
        for _ in range(MAX_ELEMENTS):
            kind = document[at]
            if kind == 0:
                break
            end = find_zero(document, at + 1)
            key, value = document[at + 1 : end], end + 1
            at = find_end(document, value, kind)
            if at > len(document):
                break
            if key == b"codeName" and kind == STRING:
                return _name(document[value:at]) or "error"
            if key == b"code" and kind == INT32:
                code = int.from_bytes(document[value:at], "little", signed=True)
    except (EndOfBytes, IndexError):
        pass
    return name_code(code)
