"""The DNS cache in Redis as the exporter reads it: many questions in one round trip. The only module that imports redis."""

import math
from collections.abc import Sequence
from pathlib import Path
from socket import socket
from ssl import SSLSocket
from typing import Any

import redis

from farcall.cachefaults import CacheFault
from farcall.dnscache import (
    MAX_SAID,
    CacheEntry,
    CacheQuestion,
    CacheUnavailableError,
    NamedAt,
    binding_key,
    client_key_of_address,
    cluster_key,
    describe_fault,
    parse_binding,
    tombstone_key,
)
from farcall.redislink import TIMEOUT_S
from farcall.tlsfiles import PinnedAuthority, TlsFileError


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
        binding, tcp_identity = parse_binding(bound)
        return CacheEntry(
            binding=binding,
            client_names=_named(mine),
            cluster_names=_named(cluster),
            tombstones=_named(dead),
            tcp_identity=tcp_identity,
        )


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


def _unavailable(error: Exception) -> CacheUnavailableError:
    # The last words of a long message: in a pipeline the command comes first, and what Redis says of it last.
    return describe_fault(error, _find_fault(error), str(error)[-MAX_SAID:])


def _find_fault(error: Exception) -> CacheFault:
    for code, fault in _CODES.items():
        if code in str(error):
            return fault
    return next((fault for kind, fault in _FAULTS if isinstance(error, kind)), CacheFault.OTHER)
