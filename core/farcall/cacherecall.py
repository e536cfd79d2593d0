"""Reads bindings back from the DNS cache, for connections that were open before this agent: one bounded round trip a call.

An agent before it wrote them. Who holds them can write them again when Redis comes back empty. Knows no clock and no thread.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from farcall.cacheexpiry import Life, Runner
from farcall.dnscache import Binding, binding_key, parse_binding, unavailable
from farcall.redislink import Command, Refusal

BATCH = 500  # connections a round trip
MAX_NAME = 255  # octets of a name, RFC 1035: longer ones are not ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """A connection as bindings are found by: its client and both endpoints (farcall.dnscache.format_endpoint)."""

    client_key: str
    local: str
    peer: str


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
        peer=ends.peer,
        name=named.name,
        answered_at=named.answered_at,
        tcp_identity=tcp_identity,
        held_at=held_at,
    )
