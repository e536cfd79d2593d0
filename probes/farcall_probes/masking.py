"""What may be shown of captured text. On by default; off only by the config, and even then never a password.

Query values, Redis arguments: the shape stays (`page=?&q=?`, `SET ? ?`), the content goes. Pure.
"""

from farcall_probes.wire.outcomes import MAX_TEXT, text
from farcall_probes.wire.redis import MAX_KEPT, RedisCommand

MASK = "?"
MAX_PAIRS = 64  # of a query; more say nothing to a reader
MAX_NAME = 16  # of a parameter without a value: what is longer may be a token in base64, which ends with `=`
MEMO_ENTRIES = 2048

# A word of these commands says what they do, and comes from a closed list of the server's.
_WITH_SUBCOMMAND = frozenset(
    "ACL CLIENT CLUSTER COMMAND CONFIG DEBUG FUNCTION LATENCY MEMORY MODULE OBJECT PUBSUB SCRIPT SLOWLOG XGROUP XINFO".split()
)
# Their arguments hold credentials: masked even when masking is off.
_ALWAYS_MASKED = frozenset("AUTH HELLO ACL CONFIG MIGRATE".split())


def mask_query(query: str) -> str:
    """`a=1&b=2` → `a=?&b=?`. A part without `=`, or with nothing behind it, may be a token: it is masked whole."""
    parts = query.split("&", MAX_PAIRS)
    masked = [_mask_pair(part) for part in parts[:MAX_PAIRS]]
    return "&".join([*masked, "…"] if len(parts) > MAX_PAIRS else masked)


def _mask_pair(part: str) -> str:
    name, mark, value = part.partition("=")
    if not mark or value == "=" or (not value and len(name) > MAX_NAME):
        return MASK if part else ""
    return f"{name}={MASK}"


class CommandText:
    """Renders Redis commands. The masked text depends on name and number alone, so it is remembered."""

    def __init__(self, *, masking: bool) -> None:
        self._masking = masking
        self._memo: dict[tuple[str, str, int], str] = {}

    def has_form(self, command: RedisCommand) -> bool:
        """Whether all commands of its name and number of arguments have the same text."""
        is_masked = self._masking or command.name in _ALWAYS_MASKED
        return is_masked and command.name not in _WITH_SUBCOMMAND

    def render(self, command: RedisCommand) -> str:
        if not self._masking and command.name not in _ALWAYS_MASKED:
            shown = [command.name, *(text(argument, 256) for argument in command.kept)]
            more = ["…"] if command.arguments > len(command.kept) else []
            return " ".join(shown + more)[:MAX_TEXT]
        key = (command.name, _subcommand(command), command.arguments)
        rendered = self._memo.get(key)
        if rendered is None:
            rendered = _render_masked(*key)
            if len(self._memo) >= MEMO_ENTRIES:
                self._memo.clear()
            self._memo[key] = rendered
        return rendered


def _subcommand(command: RedisCommand) -> str:
    if command.name not in _WITH_SUBCOMMAND or not command.kept:
        return ""
    word = command.kept[0]
    return word.decode("ascii").upper() if word.isalpha() and len(word) <= 24 else ""


def _render_masked(name: str, subcommand: str, arguments: int) -> str:
    masks = arguments - 1 if subcommand else arguments
    words = [name, subcommand] if subcommand else [name]
    words += [MASK] * min(masks, MAX_KEPT)
    return " ".join([*words, "…"] if masks > MAX_KEPT else words)
