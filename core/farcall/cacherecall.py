"""Reads back from the DNS cache what names connections that were open before this agent: one bounded round trip a call.

An agent before it wrote them. Who holds them can write them again when Redis comes back empty. Knows no clock and no thread.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from farcall.cacheexpiry import Life, Runner
from farcall.dnscache import (
    MAX_NAMES,
    Answer,
    Binding,
    binding_key,
    parse_binding,
    tombstone_key,
    unavailable,
)
from farcall.redislink import Command, Refusal

BATCH = 500  # connections a round trip
MAX_NAME = 255  # octets of a name, RFC 1035: longer ones are not ours


Asked = tuple[str, str]  # a client, and an address that it may have been told a name for


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """A connection as bindings are found by: its client and both endpoints (farcall.dnscache.format_endpoint)."""

    client_key: str
    local: str
    peer: str

    @property
    def asked(self) -> Asked:
        return self.client_key, self.peer.rpartition(":")[0]


def read_bindings(cache: Runner, asked: Sequence[Ends], life: Life) -> list[Binding]:
    """Those of `asked` that the cache knows, in no more than one round trip. Raises CacheUnavailableError."""
    if not asked:
        return []
    keys = [binding_key(ends.client_key, ends.local, ends.peer) for ends in asked]
    commands: list[Command] = [("HGETALL", key) for key in keys]
    if life.held:  # the hash does not say when a held one was last in use; its expiry does
        commands += [("PEXPIRETIME", key) for key in keys]
    replies = [_check(reply) for reply in cache.run(commands)]
    expiries = replies[len(keys) :] or [None] * len(keys)
    found = []
    for ends, raw, expiry in zip(asked, replies, expiries, strict=False):
        binding = _build(ends, raw, expiry, life.ttl_s)
        if binding is not None:
            found.append(binding)
    return found


def read_answers(cache: Runner, asked: Sequence[Asked]) -> list[list[Answer]]:
    """What the cache knows that each was told: nothing, or all of it, in no more than one round trip.

    From the tombstones, which hold more names than live ones: half of them would make one name of an ambiguity. Raises
    CacheUnavailableError.
    """
    if not asked:
        return []
    keys = [tombstone_key(*client_and_ip) for client_and_ip in asked]
    replies = cache.run([("ZRANGE", key, 0, MAX_NAMES, "WITHSCORES") for key in keys])
    return [
        _build_answers(client, ip, _check(reply))
        for (client, ip), reply in zip(asked, replies, strict=True)
    ]


def _build_answers(client: str, ip: str, raw: object) -> list[Answer]:
    words = [str(word) for word in raw] if isinstance(raw, list) else []
    try:
        told = [(name, float(score)) for name, score in zip(words[::2], words[1::2], strict=True)]
    except ValueError:
        return []
    if not all(isfinite(at) and 0 < len(name) <= MAX_NAME for name, at in told):
        return []
    return [
        Answer(client_key=client, ip=ip, name=name, answered_at=at, trusted=False)
        for name, at in told
    ]


def _check(reply: object) -> object:
    """What is not written by us is no binding; any other refusal means that Redis cannot be asked."""
    if isinstance(reply, Refusal):
        if not str(reply).startswith("WRONGTYPE"):
            raise unavailable(reply) from reply
        return None
    return reply


def _build(ends: Ends, raw: object, expiry_ms: object, ttl_s: int) -> Binding | None:
    named, tcp_identity = parse_binding(raw)
    if named is None or len(named.name) > MAX_NAME:
        return None
    held_at = None
    if isinstance(expiry_ms, int) and expiry_ms > 0:
        held_at = max(named.answered_at, expiry_ms / 1000 - ttl_s)
    return Binding(
        client_key=ends.client_key,
        local=ends.local,
        peer=sys.intern(ends.peer),
        name=named.name,
        answered_at=named.answered_at,
        tcp_identity=tcp_identity,
        held_at=held_at,
    )
