"""Makes the entries that are in the DNS cache follow another time to live. Knows no clock and no thread: one bounded step a call.

An entry's expiry is set when it is written, so a tier that changes would be followed only by new ones. What is there
already is gone through once, in small steps beside ordinary writes, by whichever agent comes first; entries of agents
that are gone are among them. Two keys say how far that is:

| key | type | holds |
|---|---|---|
| `fc1:e` | hash | `life`: the time to live that entries follow, empty while a pass runs; `began`: Redis' clock when that pass began |
| `fc1:e:claim` | hash | somebody goes through the entries; it ends by itself when he does |

Agents learn of a change at different times, and until then write entries of the old life. Therefore each is content only
with a pass that *began after* it changed itself: the last one to learn sees to the last entries.

Names are checked against the time to live wherever they are used; this is for memory, and so that Redis tells the truth.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from farcall.dnscache import PREFIX, expires_at_ms, tombstone_life_s
from farcall.redislink import Command

MARK = f"{PREFIX}e"
CLAIM = f"{PREFIX}e:claim"
BATCH = 500  # keys a step: 3 ms of Redis' time (measured)
CLAIM_S = 15.0  # a step is taken at least this often, or another may begin
MARK_S = 30 * 86_400  # longer than any entry lives; without it one pass more is made


class Runner(Protocol):
    """CacheWriter; every call may raise CacheUnavailableError."""

    def run(self, commands: Sequence[Command]) -> list[object]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """What entries shall follow. `held`: bindings live on while their connections do (holdWhileConnected)."""

    ttl_s: int
    held: bool

    def render(self) -> str:
        return f"{self.ttl_s}:{int(self.held)}"


def read_clock(cache: Runner) -> float:
    """Redis' own, Unix seconds: the one clock that all agents share. 0.0 when it does not say."""
    (info,) = cache.run([("INFO", "server")])
    raw = info.get("server_time_usec", 0) if isinstance(info, dict) else 0
    return float(raw) / 1e6


def is_followed(cache: Runner, life: Life, *, since: float) -> bool:
    """Whether a pass for `life` that began at `since` or later is done."""
    (mark,) = cache.run([("HGETALL", MARK)])
    if not isinstance(mark, dict) or mark.get("life") != life.render():
        return False
    return _to_number(mark.get("began")) >= since


@dataclass(slots=True)
class Pass:
    """One way through all entries. `step` until it says that it is done."""

    life: Life
    began: float
    cursor: int = 0
    followed: int = 0  # keys that have another expiry now
    unread: int = 0  # keys that are not as ours are

    @classmethod
    def begin(cls, cache: Runner, life: Life, owner: str) -> "Pass | None":
        """None while somebody else goes through them: HSET says 1 only to the first."""
        now = read_clock(cache)
        first, _ = cache.run(
            [
                ("HSET", CLAIM, "owner", owner),
                # NX: also where a claim was left without an expiry by somebody who died in between.
                ("PEXPIREAT", CLAIM, _ms(now + CLAIM_S), "NX"),
            ]
        )
        if first != 1:
            return None
        cache.run(
            [("HSET", MARK, "life", "", "began", "0"), ("PEXPIREAT", MARK, _ms(now + MARK_S))]
        )
        return cls(life, began=now)

    def step(self, cache: Runner) -> bool:
        """The next keys; True when those were the last."""
        scanned, info = cache.run(
            [("SCAN", self.cursor, "MATCH", f"{PREFIX}*", "COUNT", BATCH), ("INFO", "server")]
        )
        if not isinstance(scanned, tuple | list) or len(scanned) != 2:
            self.unread += 1
            return False
        now = float(info.get("server_time_usec", 0)) / 1e6 if isinstance(info, dict) else 0.0
        self.cursor = int(scanned[0])
        self._follow(cache, [str(key) for key in scanned[1]], now)
        if self.cursor:
            cache.run([("PEXPIREAT", CLAIM, _ms(now + CLAIM_S))])
            return False
        cache.run(
            [
                ("HSET", MARK, "life", self.life.render(), "began", repr(self.began)),
                ("PEXPIREAT", MARK, _ms(now + MARK_S)),
            ]
        )
        self.release(cache)
        return True

    def release(self, cache: Runner) -> None:
        """Others may begin. An expiry in the past deletes."""
        cache.run([("PEXPIREAT", CLAIM, 1)])

    def _follow(self, cache: Runner, keys: Sequence[str], now: float) -> None:
        names = [k for k in keys if k[len(PREFIX) :][:2] in ("a:", "w:", "t:")]
        bindings = [k for k in keys if k[len(PREFIX) :][:2] == "b:"]
        self._follow_names(cache, names)
        self._follow_bindings(cache, bindings, now)

    def _follow_names(self, cache: Runner, keys: Sequence[str]) -> None:
        """Expiry by the newest name. An agent may add one meanwhile: it is read again, and what is newer lives longer."""
        newest = _read_newest(cache, keys)
        self.unread += len(keys) - len(newest)
        if not newest:
            return
        commands: list[Command] = [
            ("PEXPIREAT", key, self._expiry_ms(key, score)) for key, score in newest.items()
        ]
        replies = cache.run([*commands, *map(_ask_newest, newest)])
        self.followed += sum(reply == 1 for reply in replies[: len(newest)])
        later = _parse_newest(list(newest), replies[len(newest) :])
        changed = {key: score for key, score in later.items() if score > newest[key]}
        if changed:
            cache.run(
                [("PEXPIREAT", k, self._expiry_ms(k, score), "GT") for k, score in changed.items()]
            )

    def _expiry_ms(self, key: str, score: float) -> int:
        is_tombstone = key.startswith(f"{PREFIX}t:")
        life_s = tombstone_life_s(self.life.ttl_s) if is_tombstone else self.life.ttl_s
        return expires_at_ms(score, life_s)

    def _follow_bindings(self, cache: Runner, keys: Sequence[str], now: float) -> None:
        if not keys:
            return
        asked: list[Command] = [("HGETALL", key) for key in keys]
        replies = cache.run([*asked, *(("PEXPIRETIME", key) for key in keys)])
        commands: list[Command] = []
        for key, binding, expiry in zip(keys, replies, replies[len(keys) :], strict=False):
            answered_at = _to_number(
                binding.get("answered_at") if isinstance(binding, dict) else None
            )
            if not math.isfinite(answered_at):
                self.unread += 1
            else:
                commands.append(("PEXPIREAT", key, self._binding_ms(answered_at, expiry, now)))
        self.followed += sum(reply == 1 for reply in cache.run(commands))

    def _binding_ms(self, answered_at: float, expiry: object, now: float) -> int:
        """A held one lives as long as its owner renews it: at most one life from now, and never less than its name's."""
        by_name = expires_at_ms(answered_at, self.life.ttl_s)
        if not self.life.held:
            return by_name
        most = _ms(now + self.life.ttl_s)
        until = expiry if isinstance(expiry, int) and expiry > 0 else most
        return max(by_name, min(until, most))


def _ask_newest(key: str) -> Command:
    return ("ZRANGE", key, -1, -1, "WITHSCORES")


def _read_newest(cache: Runner, keys: Sequence[str]) -> dict[str, float]:
    return _parse_newest(keys, cache.run([_ask_newest(key) for key in keys])) if keys else {}


def _parse_newest(keys: Sequence[str], replies: Sequence[object]) -> dict[str, float]:
    """By key; those that went meanwhile, or hold something else, are left out."""
    found: dict[str, float] = {}
    for key, reply in zip(keys, replies, strict=True):
        flat = _flatten(reply)
        score = _to_number(flat[1]) if len(flat) == 2 else math.nan
        if math.isfinite(score):
            found[key] = score
    return found


def _flatten(reply: object) -> list[object]:
    """`[name, score]`."""
    return reply if isinstance(reply, list) else []


def _to_number(raw: object) -> float:
    """nan for what is none."""
    try:
        return float(raw) if isinstance(raw, str | int | float) else math.nan
    except ValueError:
        return math.nan


def _ms(unix_s: float) -> int:
    return int(unix_s * 1000)
