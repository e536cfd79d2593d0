"""Connections that are met for the first time: whose they are, and which name each was opened with.

Thousands a second where each is for one call, but of few processes: what those have alike is found once for all in a drain.
"""

from typing import NamedTuple

from farcall_probes import events
from farcall_probes.connections import Connections, Places
from farcall_probes.evidence import Evidence
from farcall_probes.giveway import in_pieces
from farcall_probes.identity import Identities, Seen
from farcall_probes.policy import Policy

_SAID = (
    *("tgid", "proc_start_ns", "parent_tgid", "cgroup_id", "comm"),
    *("role", "raddr", "conn_open_ns"),
)


class _Owner(NamedTuple):
    """What the connections of one process have alike."""

    client_key: str
    identity: int  # its number
    watched: bool  # from its start
    kept: bool  # by policy


class Newcomers:
    def __init__(
        self, connections: Connections, identities: Identities, policy: Policy, evidence: Evidence
    ) -> None:
        self._connections = connections
        self._identities = identities
        self._policy = policy
        self._evidence = evidence

    def describe(self, places: Places, now_ns: int, *, since_ns: int, ttl_ns: int) -> None:
        """`since_ns`: from when on clients were watched (CLOCK_BOOTTIME)."""
        owners: dict[tuple[int, int], _Owner] = {}
        described: list[tuple[int, int, bool, bool]] = []
        columns = (self._connections.rows[name][places].tolist() for name in _SAID)
        for tgid, start_ns, parent, cgroup_id, comm, role, raddr, opened_ns in in_pieces(
            zip(*columns, strict=True)
        ):
            owner = owners.get((tgid, start_ns))
            if owner is None:
                seen = Seen(tgid, start_ns, parent, cgroup_id, comm)
                owner = owners[tgid, start_ns] = self._find_owner(seen, now_ns, since_ns)
            client_key, identity, watched, kept = owner
            bound = 0
            if role == events.ROLE_CLIENT:
                found = self._evidence.bind(client_key, raddr, opened_ns, ttl_ns=ttl_ns)
                bound = self._connections.bounds.number(found)
            described.append((identity, bound, watched, kept))
        self._connections.describe(places, described)

    def _find_owner(self, seen: Seen, now_ns: int, since_ns: int) -> _Owner:
        identity = self._identities.find(seen, now_ns=now_ns)
        kept = self._policy.keeps(identity)
        if not kept:
            self._policy.learn(seen.cgroup_id, identity)
        return _Owner(
            client_key=identity.client_key,
            identity=self._connections.identities.number(identity),
            watched=identity.client_started_ns > since_ns,
            kept=kept,
        )
