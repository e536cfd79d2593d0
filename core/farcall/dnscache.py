"""The DNS cache in Redis: keys, what they hold, and the agent's writer. Its reader: farcall.cachereader.

| key (prefix `fc1:`) | type | holds | lives |
|---|---|---|---|
| `a:{client}:{ip}` | sorted set | up to 8 names this client asked for that led to ip, scored by answer time | TTL from the newest answer |
| `w:{ip}` | sorted set | the same for the whole cluster, trusted resolvers only | TTL from the newest answer |
| `b:{client}:{4-tuple}` | hash name, answered_at, tcp | the name a connection older than 10 s is bound to, and which connection | TTL from the answer; with holdWhileConnected renewed |
| `t:{client}:{ip}` | sorted set | tombstone: as `a:`, for reasons and evidence only | two TTLs from the newest answer, and an hour longer than the name at least |

Scores and answered_at are Unix seconds (a double holds milliseconds until the year 287396). Names inside a sorted set
may have different ages: each use checks the name's own age against the TTL (`fresh_names`). Every key has an expiry, so
`volatile-ttl` eviction always has something to give up.
"""

import ipaddress
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from farcall.cachefaults import SENTENCES, CacheFault
from farcall.redislink import Command, LinkError, RedisLink, Refusal, Reply
from farcall.tlsfiles import TlsFault, TlsFileError, find_tls_fault

PREFIX = "fc1:"
MAX_NAMES = 8  # more names than this on one address of one client say nothing any more
BINDING_AGE_S = (
    10.0  # a connection younger than this is named again from `a:` after an agent's restart
)
REWRITE_FRACTION = 0.01  # a repeated answer is written again after 1 % of the TTL


class CacheUnavailableError(Exception):
    """Redis could not be asked; the message says why, `fault` in one word. Names that come late mend the spans.

    `tls` is given when it was TLS that failed: that is a matter of certificates, and waiting does not mend it.
    """

    def __init__(
        self, why: str, *, fault: CacheFault = CacheFault.OTHER, tls: TlsFault | None = None
    ) -> None:
        self.fault = fault
        self.tls = tls
        super().__init__(why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One name that leads to one address, as one client was told."""

    client_key: str
    ip: str
    name: str
    answered_at: float  # Unix seconds
    trusted: bool  # the resolver may speak for the whole cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """The name that one connection was opened with."""

    client_key: str
    local: str  # format_endpoint
    peer: str
    name: str  # "": opened without a name; replaces what an older connection left under the same four-tuple
    answered_at: float
    # The connection's first client and server byte in TCP sequence space, 32 bits each; 0: not known. Ports are used again, and a
    # connection opened while no agent looked must not take the name of an earlier one.
    tcp_identity: int = 0
    held_at: float | None = None  # holdWhileConnected: last seen in use; the key lives from then on


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedAt:
    name: str
    answered_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntry:
    """All that the cache knows of one (client, connection); empty tuples for nothing."""

    binding: (
        NamedAt | None
    )  # its name is "" when the agent saw the connect, and no answer before it
    client_names: tuple[NamedAt, ...]
    cluster_names: tuple[NamedAt, ...]
    tombstones: tuple[NamedAt, ...]
    tcp_identity: int = 0  # of the connection that the binding is of; 0: not known


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheQuestion:
    client_key: str
    ip: str
    local: str
    peer: str


def client_key_of_address(client: str, ip: str) -> str:
    return f"{PREFIX}a:{client}:{canonical_ip(ip)}"


def cluster_key(ip: str) -> str:
    return f"{PREFIX}w:{canonical_ip(ip)}"


def binding_key(client: str, local: str, peer: str) -> str:
    return f"{PREFIX}b:{client}:{local}>{peer}"


def format_endpoint(ip: str, port: int) -> str:
    """`address:port` as bindings hold it; for IPv6 without brackets, since nobody parses it."""
    return f"{canonical_ip(ip)}:{port}"


def tombstone_key(client: str, ip: str) -> str:
    return f"{PREFIX}t:{client}:{canonical_ip(ip)}"


@lru_cache(maxsize=65_536)  # the same few addresses over and over; parsing one takes 5 µs
def canonical_ip(ip: str) -> str:
    """RFC 5952 text; an IPv4-mapped address as IPv4, so that both socket families find one key."""
    address = ipaddress.ip_address(ip)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def parse_binding(raw: object) -> tuple[NamedAt | None, int]:
    """The name, and the connection's identity in TCP sequence space, of a binding's hash; None for what we did not write."""
    if not isinstance(raw, Mapping) or "name" not in raw or "answered_at" not in raw:
        return None, 0
    try:
        answered_at = float(raw["answered_at"])
    except ValueError:
        return None, 0
    if not math.isfinite(answered_at):  # it would never age
        return None, 0
    tcp = str(raw.get("tcp", ""))[:20]
    number = int(tcp) if tcp.isascii() and tcp.isdigit() else 0
    return NamedAt(name=str(raw["name"]), answered_at=answered_at), number


def tombstone_life_s(ttl_s: int) -> int:
    """Long enough to say of a connection that its name expired, also where the time to live is cut to seconds for a test."""
    return ttl_s + max(ttl_s, 3600)


def expires_at_ms(answered_at: float, life_s: int) -> int:
    """When a key goes, Unix milliseconds, never before its newest name does."""
    return math.ceil((answered_at + life_s) * 1000)


def fresh_names(names: Iterable[NamedAt], *, now: float, ttl_s: int) -> tuple[NamedAt, ...]:
    """Those within the TTL at `now`, newest first. The TTL counts from the answer, whatever the DNS TTL said."""
    return tuple(
        sorted(
            (n for n in names if now - n.answered_at < ttl_s),
            key=lambda n: n.answered_at,
            reverse=True,
        )
    )


class CacheWriter:
    """The agent's side: coalesces, pipelines, and republishes after Redis has lost its memory."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        # → answered_at as last written. By trust as well: a resolver may come to be trusted, and the answer that says the
        # same again is then news for the whole cluster.
        self._written: dict[tuple[str, str, str, bool], float] = {}
        self._run_id: str | None = None

    def write(
        self, answers: Sequence[Answer], bindings: Sequence[Binding], *, ttl_s: int, now: float
    ) -> int:
        """Writes what is new or older in Redis than 1 % of the TTL; the number of keys written.

        Raises CacheUnavailableError; nothing is remembered as written then, so the caller hands the same again.
        """
        step = ttl_s * REWRITE_FRACTION
        due = [
            a
            for a in answers
            if now - a.answered_at < ttl_s
            and a.answered_at - self._written.get(_written_key(a), -1e18) > step
        ]
        if not due and not bindings:
            return 0
        keys = 0
        commands: list[Command] = []
        for answer in due:
            keys += _add_answer(commands, answer, ttl_s)
        for binding in bindings:
            key = binding_key(binding.client_key, binding.local, binding.peer)
            commands.append(
                (
                    *("HSET", key, "name", binding.name),
                    *("answered_at", repr(binding.answered_at), "tcp", binding.tcp_identity),
                )
            )
            since = binding.answered_at if binding.held_at is None else binding.held_at
            commands.append(("PEXPIREAT", key, expires_at_ms(since, ttl_s)))
            keys += 1
        self._send(commands)
        for answer in due:
            self._written[_written_key(answer)] = answer.answered_at
        return keys

    def _send(self, commands: Sequence[Command]) -> list[Reply]:
        """Replies none of which is an error. Raises CacheUnavailableError."""
        replies = self._ask(commands)
        for reply in replies:
            if isinstance(reply, Refusal):
                raise unavailable(reply) from reply
        return replies

    def _ask(self, commands: Sequence[Command]) -> list[Reply]:
        try:
            return self._link.run(commands)
        except (LinkError, TlsFileError) as e:
            raise unavailable(e) from e

    def run(self, commands: Sequence[Command]) -> list[object]:
        """One round trip for what is no answer and no binding (farcall.cacheexpiry). A refused command's reply is its error.

        Raises CacheUnavailableError.
        """
        replies = self._ask(commands)
        return [_shape(command, reply) for command, reply in zip(commands, replies, strict=True)]

    def forget_older_than(self, answered_at: float) -> None:
        """Bounds the memory of what was written."""
        self._written = {key: t for key, t in self._written.items() if t >= answered_at}

    def has_lost_memory(self) -> bool:
        """True when Redis restarted since the last call: the caller then writes all it holds again.

        Raises CacheUnavailableError.
        """
        (info,) = self._send([("INFO", "server")])
        run_id = _parse_info(info).get("run_id", "")
        lost = self._run_id is not None and run_id != self._run_id
        self._run_id = run_id
        if lost:
            self._written.clear()
        return lost


def _add_answer(commands: list[Command], answer: Answer, ttl_s: int) -> int:
    targets = [
        (client_key_of_address(answer.client_key, answer.ip), ttl_s),
        (tombstone_key(answer.client_key, answer.ip), tombstone_life_s(ttl_s)),
    ]
    if answer.trusted:
        targets.append((cluster_key(answer.ip), ttl_s))
    for key, life_s in targets:
        commands.append(("ZADD", key, "GT", answer.answered_at, answer.name))
        commands.append(("ZREMRANGEBYRANK", key, 0, -MAX_NAMES - 1))
        # An older answer must not shorten the life of a newer one. GT alone never sets a first expiry, NX does.
        expiry_ms = expires_at_ms(answer.answered_at, life_s)
        commands.append(("PEXPIREAT", key, expiry_ms, "NX"))
        commands.append(("PEXPIREAT", key, expiry_ms, "GT"))
    return len(targets)


def _written_key(answer: Answer) -> tuple[str, str, str, bool]:
    return answer.client_key, answer.ip, answer.name, answer.trusted


def _shape(command: Command, reply: Reply) -> object:
    """Maps as such, where RESP2 has only lists and text."""
    if command[0] == "INFO" and isinstance(reply, str):
        return _parse_info(reply)
    if command[0] == "HGETALL" and isinstance(reply, list):
        return dict(zip(map(str, reply[::2]), reply[1::2], strict=False))
    return reply


def _parse_info(reply: Reply) -> dict[str, str]:
    lines = reply.splitlines() if isinstance(reply, str) else []
    return dict(line.split(":", 1) for line in lines if ":" in line)


# The code at the begin of what Redis answers.
_CODES = {
    "LOADING": CacheFault.LOADING,
    "WRONGPASS": CacheFault.REFUSED,
    "NOAUTH": CacheFault.REFUSED,
    "NOPERM": CacheFault.REFUSED,
    "READONLY": CacheFault.READ_ONLY,
    "NOREPLICAS": CacheFault.READ_ONLY,
    "OOM": CacheFault.FULL,
    "MISCONF": CacheFault.DISK,
}
MAX_SAID = 128  # characters of Redis' own words


def unavailable(error: Exception) -> CacheUnavailableError:
    return describe_fault(error, _find_fault(error), str(error)[:MAX_SAID])


def describe_fault(error: Exception, fault: CacheFault, said: str) -> CacheUnavailableError:
    """`fault` and what Redis `said`, unless it is TLS that fails."""
    tls = find_tls_fault(error)
    if tls:
        return CacheUnavailableError(tls.sentence[:256], fault=CacheFault.TLS, tls=tls)
    return CacheUnavailableError(f"{SENTENCES[fault]} ({said})", fault=fault)


def _find_fault(error: Exception) -> CacheFault:
    code = str(error).partition(" ")[0]
    if code in _CODES:
        return _CODES[code]
    if isinstance(error.__cause__, TimeoutError):
        return CacheFault.SLOW
    return CacheFault.GONE if isinstance(error, LinkError) else CacheFault.OTHER
