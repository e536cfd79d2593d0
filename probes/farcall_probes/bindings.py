"""Whose names go into the DNS cache for the sake of an agent after this one: connections that have lived for ten seconds.

Those that were open before this agent are held as an agent before it wrote them (recall.py): nobody else could write them
again after Redis lost its memory. Pure; the tracer asks, and hands on what is due.
"""

import sys
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from farcall.dnscache import BINDING_AGE_S, Binding, format_endpoint
from farcall_probes import events
from farcall_probes.arraysets import distinct
from farcall_probes.connections import Connection, Connections, Places
from farcall_probes.resolvers import address_text

NS = 1_000_000_000
BINDING_AGE_NS = int(BINDING_AGE_S * NS)

Key = tuple[str, str, str]  # client, local, peer


class Bindings:
    def __init__(self) -> None:
        self._ttl_ns, self._hold = 0, False
        self._due: list[Binding] = []
        self._recalled: dict[Key, Binding] = {}

    def __len__(self) -> int:
        """Of connections older than the agent."""
        return len(self._recalled)

    def configure(self, ttl_ns: int, *, hold: bool) -> bool:
        """True when connections live by another rule now, and are to be written anew at their next use."""
        changed = hold and (ttl_ns, hold) != (self._ttl_ns, self._hold)
        self._ttl_ns, self._hold = ttl_ns, hold
        return changed

    # ---- connections that are used ------------------------------------------------------------------------------

    def find_due(self, connections: Connections, places: Places) -> list[Connection]:
        """Once, and with holdWhileConnected again before the key goes. Of a connect that we have not seen only what was read back."""
        rows = connections.rows
        if not self._hold:
            places = places[rows["written_ns"][places] == 0]
        written_ns = rows["written_ns"][places].view(np.int64)
        opened_ns = rows["conn_open_ns"][places].view(np.int64)
        seen_ns = rows["seen_ns"][places].view(np.int64)
        is_old = (opened_ns > 0) & (seen_ns - opened_ns >= BINDING_AGE_NS)
        due = is_old & (written_ns == 0)
        if self._hold:
            renewal = (written_ns == 0) | (seen_ns - written_ns > self._ttl_ns // 4)
            due |= is_old & renewal & (rows["bound"][places] > 0)
            if self._recalled:
                due |= renewal & (opened_ns == 0)
        due &= (rows["role"][places] == events.ROLE_CLIENT) & rows["kept"][places]
        return [Connection(connections, place) for place in distinct(places[due]).tolist()]

    def bind(self, connection: Connection, unix_ns: int) -> None:
        """A connection without a name is written as such: its four-tuple may have been another's before."""
        if not connection.opened_ns:
            self._renew(connection, unix_ns)
            return
        bound = connection.bound
        if bound is not None and connection.seen_ns - bound.answered_ns >= self._ttl_ns:
            if not self._hold:
                return  # older than the TTL: nobody may use it
        connection.written_ns = connection.seen_ns
        self._due.append(self._build(connection, unix_ns))

    def _renew(self, connection: Connection, unix_ns: int) -> None:
        connection.written_ns = connection.seen_ns
        key = _key_of(connection)
        recalled = self._recalled.get(key)
        if recalled is None:
            return
        if _is_another(connection, recalled):
            del self._recalled[key]
            return
        held_at = (connection.seen_ns + unix_ns) / NS
        self._recalled[key] = renewed = replace(recalled, held_at=held_at)
        self._due.append(renewed)

    def _build(self, connection: Connection, unix_ns: int) -> Binding:
        client_key, local, peer = _key_of(connection)
        bound = connection.bound
        answered_ns = bound.answered_ns if bound is not None else connection.written_ns
        return Binding(
            client_key=client_key,
            local=local,
            peer=peer,
            name=bound.name if bound is not None else "",
            answered_at=(answered_ns + unix_ns) / NS,
            tcp_identity=connection.tcp_identity,
            held_at=(connection.seen_ns + unix_ns) / NS if self._hold else None,
        )

    def take(self) -> list[Binding]:
        due, self._due = self._due, []
        return due

    # ---- connections older than the agent -----------------------------------------------------------------------

    def recall(self, found: Iterable[Binding]) -> None:
        """What the cache holds of connections that were open when the agent started."""
        self._recalled.update({(b.client_key, b.local, b.peer): b for b in found})

    def notice_open(self, connections: Connections, places: Places) -> None:
        """Connects that we have seen: what was read back under their addresses is of the connections before them."""
        for place in places.tolist() if self._recalled else ():
            connection = Connection(connections, place)
            if connection.is_client and connection.opened_ns:
                self._recalled.pop(_key_of(connection), None)

    def expire(self, now: float) -> None:
        """`now`: Unix seconds. What Redis has given up by now."""
        ttl_s = self._ttl_ns / NS
        gone = [k for k, b in self._recalled.items() if now - self._lives_from(b) >= ttl_s]
        for key in gone:
            del self._recalled[key]

    def _lives_from(self, binding: Binding) -> float:
        if self._hold and binding.held_at is not None:
            return binding.held_at
        return binding.answered_at

    def held(self, connections: Iterable[Connection], unix_ns: int) -> list[Binding]:
        """For a cache that lost its memory: what was written of connections that may still be open. Without it a restart of this
        agent would find the client's answers alone, and name by them a connection that was opened to the bare address.

        Older ones come first: of two under the same addresses the one that was written last is right.
        """
        older = [b if self._hold else replace(b, held_at=None) for b in self._recalled.values()]
        own = [
            self._build(c, unix_ns) for c in connections if c.opened_ns and c.written_ns and c.kept
        ]
        return older + own


def _key_of(connection: Connection) -> Key:
    sight = connection.sight
    return (
        connection.identity.client_key,
        format_endpoint(address_text(sight.laddr), sight.lport),
        # Many have the same peer, and thousands of them wait where Redis is away.
        sys.intern(format_endpoint(address_text(sight.raddr), sight.rport)),
    )


def _is_another(connection: Connection, recalled: Binding) -> bool:
    known = connection.tcp_identity and recalled.tcp_identity
    return bool(known) and connection.tcp_identity != recalled.tcp_identity
