"""Who may do what in the DNS cache: the two Redis users and their commands, for whoever writes Redis' configuration.

Pure, and without redis: it says what farcall.dnscache needs. A command that is missing here fails in the tests that
run the reader and the writer as these users.
"""

import hashlib
from dataclasses import dataclass

from farcall.secretfiles import REDIS_AGENT_PASSWORD, REDIS_EXPORTER_PASSWORD

KEY_PATTERN = "fc1:*"  # farcall.dnscache.PREFIX


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheUser:
    """`password_file` is a name in farcall.secretfiles; `commands` are all that the user may send."""

    name: str
    password_file: str
    commands: tuple[str, ...]


_LOOK = (
    *("ping", "info", "scan", "hgetall", "zrange", "zscore"),
    *("ttl", "pttl", "expiretime", "pexpiretime"),
)

AGENT = CacheUser(
    name="farcall-agent",
    password_file=REDIS_AGENT_PASSWORD,
    commands=(*_LOOK, "hset", "zadd", "zremrangebyrank", "pexpireat"),
)
EXPORTER = CacheUser(
    name="farcall-exporter",
    password_file=REDIS_EXPORTER_PASSWORD,
    commands=_LOOK,
)
USERS = (AGENT, EXPORTER)
# Not only `off`: Redis makes the default user with no password, and calls such a server unprotected.
NO_DEFAULT_USER = "user default reset"


def render_acl_rule(user: CacheUser, password: str) -> str:
    """One `user` line of redis.conf; the password only as its SHA-256, which is how Redis keeps it as well."""
    return render_acl_rule_of_digest(user, hashlib.sha256(password.encode()).hexdigest())


def render_acl_rule_of_digest(user: CacheUser, digest: str) -> str:
    commands = " ".join(f"+{command}" for command in user.commands)
    return f"user {user.name} reset on #{digest} ~{KEY_PATTERN} -@all {commands}"
