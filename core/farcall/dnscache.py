"""The DNS cache in Redis: keys, the agent's writer, the exporter's reader. The only module that imports redis.

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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from socket import socket
from ssl import SSLSocket
from typing import Any

import redis

from farcall.cachefaults import SENTENCES, CacheFault
from farcall.tlsfiles import PinnedAuthority, TlsFault, TlsFileError, find_tls_fault

PREFIX = "fc1:"
MAX_NAMES = 8  # more names than this on one address of one client say nothing any more
BINDING_AGE_S = (
    10.0  # a connection younger than this is named again from `a:` after an agent's restart
)
REWRITE_FRACTION = 0.01  # a repeated answer is written again after 1 % of the TTL
TIMEOUT_S = 2.0


Command = tuple[str | int, ...]


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


class _PinnedConnection(redis.SSLConnection):
    """TLS as farcall.tlsfiles has it. Redis' own context trusts the system's authorities beside the given one."""

    def __init__(self, *, authority: PinnedAuthority, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._authority = authority

    def _wrap_socket_with_ssl(self, sock: socket) -> SSLSocket:
        try:
            context = self._authority.context()
        except TlsFileError as e:
            raise redis.ConnectionError(str(e)) from e
        return context.wrap_socket(sock, server_hostname=self.host)


def connect_redis(
    url: str, *, username: str | None, password: str | None, ca_file: Path | None = None
) -> "redis.Redis":
    """A client of `unix:///path` or `redis(s)://host:port`, with time limits and without hidden retries.

    Connects at the first command. `ca_file` is for `rediss://`, which is refused without it (CacheUnavailableError); it
    is read again for each new connection when it was replaced.
    """
    tls: dict[str, Any] = {}
    if url.startswith("rediss://"):
        if ca_file is None:
            raise CacheUnavailableError(f"{url} needs a certificate authority")
        authority = PinnedAuthority(ca_file)
        tls = {"connection_class": _PinnedConnection, "authority": authority}
    return redis.Redis.from_url(
        url,
        username=username,
        password=password,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        decode_responses=True,
        encoding_errors="replace",  # a name is whatever a resolver said; reading it must not raise
        retry=None,
        protocol=2,
        **tls,
    )


class CacheWriter:
    """The agent's side: coalesces, pipelines, and republishes after Redis has lost its memory."""

    def __init__(self, client: "redis.Redis") -> None:
        self._redis = client
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
        pipe = self._redis.pipeline(transaction=False)
        for answer in due:
            keys += self._add_answer(pipe, answer, ttl_s)
        for binding in bindings:
            key = binding_key(binding.client_key, binding.local, binding.peer)
            pipe.hset(
                key,
                mapping={
                    "name": binding.name,
                    "answered_at": repr(binding.answered_at),
                    "tcp": str(binding.tcp_identity),
                },
            )
            since = binding.answered_at if binding.held_at is None else binding.held_at
            pipe.pexpireat(key, expires_at_ms(since, ttl_s))
            keys += 1
        try:
            pipe.execute()
        except redis.RedisError as e:
            raise _unavailable(e) from e
        for answer in due:
            self._written[_written_key(answer)] = answer.answered_at
        return keys

    def _add_answer(self, pipe: "redis.client.Pipeline", answer: Answer, ttl_s: int) -> int:
        targets = [
            (client_key_of_address(answer.client_key, answer.ip), ttl_s),
            (tombstone_key(answer.client_key, answer.ip), tombstone_life_s(ttl_s)),
        ]
        if answer.trusted:
            targets.append((cluster_key(answer.ip), ttl_s))
        for key, life_s in targets:
            pipe.zadd(key, {answer.name: answer.answered_at}, gt=True)
            pipe.zremrangebyrank(key, 0, -MAX_NAMES - 1)
            # An older answer must not shorten the life of a newer one. GT alone never sets a first expiry, NX does.
            expiry_ms = expires_at_ms(answer.answered_at, life_s)
            pipe.pexpireat(key, expiry_ms, nx=True)
            pipe.pexpireat(key, expiry_ms, gt=True)
        return len(targets)

    def run(self, commands: Sequence[Command]) -> list[object]:
        """One round trip for what is no answer and no binding (farcall.cacheexpiry). A refused command's reply is its error.

        Raises CacheUnavailableError.
        """
        pipe = self._redis.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)  # type: ignore[no-untyped-call]
        try:
            return list(pipe.execute(raise_on_error=False))
        except redis.RedisError as e:
            raise _unavailable(e) from e

    def forget_older_than(self, answered_at: float) -> None:
        """Bounds the memory of what was written."""
        self._written = {key: t for key, t in self._written.items() if t >= answered_at}

    def has_lost_memory(self) -> bool:
        """True when Redis restarted since the last call: the caller then writes all it holds again.

        Raises CacheUnavailableError.
        """
        try:
            run_id = str(self._redis.info("server")["run_id"])
        except redis.RedisError as e:
            raise _unavailable(e) from e
        lost = self._run_id is not None and run_id != self._run_id
        self._run_id = run_id
        if lost:
            self._written.clear()
        return lost


class CacheReader:
    """The exporter's side: many questions in one round trip."""

    def __init__(self, client: "redis.Redis") -> None:
        self._redis = client

    def read(self, questions: Sequence[CacheQuestion]) -> list[CacheEntry]:
        """One entry per question, in order. Raises CacheUnavailableError."""
        pipe = self._redis.pipeline(transaction=False)
        for question in questions:
            pipe.hgetall(binding_key(question.client_key, question.local, question.peer))
            for key in (
                client_key_of_address(question.client_key, question.ip),
                cluster_key(question.ip),
                tombstone_key(question.client_key, question.ip),
            ):
                pipe.zrange(key, 0, -1, withscores=True)
        try:
            replies = pipe.execute()
        except redis.RedisError as e:
            raise _unavailable(e) from e
        return [self._entry(replies[i : i + 4]) for i in range(0, len(replies), 4)]

    @staticmethod
    def _entry(replies: list[object]) -> CacheEntry:
        bound, mine, cluster, dead = replies
        binding, tcp = None, ""
        if isinstance(bound, dict) and "name" in bound and "answered_at" in bound:
            try:
                answered_at = float(bound["answered_at"])
            except ValueError:  # not written by us: no evidence
                answered_at = math.nan
            if math.isfinite(answered_at):
                binding = NamedAt(name=bound["name"], answered_at=answered_at)
                tcp = str(bound.get("tcp", ""))[:20]
        return CacheEntry(
            binding=binding,
            client_names=_named(mine),
            cluster_names=_named(cluster),
            tombstones=_named(dead),
            tcp_identity=int(tcp) if tcp.isascii() and tcp.isdigit() else 0,
        )


def _written_key(answer: Answer) -> tuple[str, str, str, bool]:
    return answer.client_key, answer.ip, answer.name, answer.trusted


def _named(pairs: object) -> tuple[NamedAt, ...]:
    if not isinstance(pairs, list):
        return ()
    named = (NamedAt(name=str(name), answered_at=float(score)) for name, score in pairs)
    return tuple(n for n in named if math.isfinite(n.answered_at))  # an infinite score never ages


# The first that fits: redis has its own errors below these, and some of them below each other.
_FAULTS: tuple[tuple[type[Exception], CacheFault], ...] = (
    (redis.TimeoutError, CacheFault.SLOW),
    (redis.BusyLoadingError, CacheFault.LOADING),
    (redis.AuthenticationError, CacheFault.REFUSED),
    (redis.exceptions.NoPermissionError, CacheFault.REFUSED),
    (redis.ReadOnlyError, CacheFault.READ_ONLY),
    (redis.OutOfMemoryError, CacheFault.FULL),
    (redis.ConnectionError, CacheFault.GONE),
)
# Codes at the begin of a reply that redis has no error for.
_CODES = {"NOREPLICAS": CacheFault.READ_ONLY, "MISCONF": CacheFault.DISK}
_MAX_WHY = 256


def _unavailable(error: Exception) -> CacheUnavailableError:
    tls = find_tls_fault(error)
    if tls:
        return CacheUnavailableError(tls.sentence[:_MAX_WHY], fault=CacheFault.TLS, tls=tls)
    fault = _find_fault(error)
    # The last words of a long message: in a pipeline the command comes first, and what Redis says of it last.
    said = str(error)[-(_MAX_WHY // 2) :]
    return CacheUnavailableError(f"{SENTENCES[fault]} ({said})", fault=fault)


def _find_fault(error: Exception) -> CacheFault:
    for code, fault in _CODES.items():
        if code in str(error):
            return fault
    return next((fault for kind, fault in _FAULTS if isinstance(error, kind)), CacheFault.OTHER)
