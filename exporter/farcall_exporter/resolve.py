"""The name of a call's far end: a pure function of the evidence. First hit wins; docs/design.md has the order.

It reads no clock and asks nobody: the call carries its own time, the cache's answer is an argument. A wrong name is
worse than none, so each rule takes only evidence that could have led to this very connection, and each refusal has
its reason from the closed list.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from farcall.dnscache import CacheEntry, NamedAt, fresh_names
from farcall.names import (
    UNKNOWN_EXTERNAL_SERVICE,
    Confidence,
    DestinationKind,
    NameSource,
    UnknownReason,
)
from farcall_exporter.hosts import is_ip_literal, parse_host_name, parse_service_label


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What one call shows of its far end. Times are Unix seconds."""

    peer_ip: str
    at: float
    inside: bool  # the far end is in the cluster's CIDRs, or loopback
    host: str | None = None  # as the request sent it
    host_source: NameSource = NameSource.HTTP  # or SNI
    opened: float | None = None  # None: the connection is older than the agent
    bound: NamedAt | None = None  # the agent's: newest answer of this client before the connect
    watched: bool = False  # this client was watched from its start
    late: bool = False
    dns_lost: bool = False
    tcp_identity: int = 0  # as farcall.dnscache.Binding has it; 0: not known


@dataclass(frozen=True, slots=True, kw_only=True)
class NamingRules:
    ttl_s: int
    hold_while_connected: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheView:
    """What Redis says about the call. `is_current` is false when it could not be asked just now."""

    entry: CacheEntry | None = None
    is_current: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    label: str
    kind: DestinationKind
    server_address: str
    source: NameSource | None = None
    confidence: Confidence | None = None
    answered_at: float | None = None
    reason: UnknownReason | None = None
    is_provisional: bool = False  # unknown, and the cache could not be asked: it may know more


EMPTY = CacheEntry(binding=None, client_names=(), cluster_names=(), tombstones=())


def resolve(call: Call, cache: CacheView, rules: NamingRules) -> Decision:
    decision = _decide(_Evidence(call, cache, rules))
    if decision.reason is None or cache.is_current:
        return decision
    return replace(decision, is_provisional=True)


def _decide(evidence: "_Evidence") -> Decision:
    if evidence.call.inside:
        return _name_service(evidence)
    for rule in _RULES:
        decision = rule(evidence)
        if decision is not None:
            return decision
    return _unknown(evidence.call, _explain(evidence))


def is_cache_needed(call: Call, rules: NamingRules) -> bool:
    """False when the call itself decides, so that nobody asks Redis for it."""
    if call.inside or parse_host_name(call.host):
        return False
    return _name_by_answer(_Evidence(call, CacheView(), rules)) is None


class _Evidence:
    """The call beside what of the cache could have led to it."""

    def __init__(self, call: Call, cache: CacheView, rules: NamingRules) -> None:
        self.call = call
        self.rules = rules
        self.is_current = cache.is_current
        entry = cache.entry or EMPTY
        # With a known connect the agent's own binding is the authority: one in Redis is of an older socket that had
        # the same four-tuple.
        is_another = bool(call.tcp_identity and entry.tcp_identity) and (
            call.tcp_identity != entry.tcp_identity
        )
        binding = entry.binding if call.opened is None and not is_another else None
        self.binding = binding if binding is not None and binding.name else None
        # An agent of before saw the connect and no answer that led to it: what came later led to other connections.
        was_unnamed = binding is not None and not binding.name
        names = EMPTY if was_unnamed else entry
        self.mine = self._before_connect((*names.client_names, *self._unproven_bound()))
        self.cluster = self._before_connect(names.cluster_names)
        self.tombstones = self._before_connect(names.tombstones)
        self.bound = self._proven_bound()

    def _before_connect(self, names: Iterable[NamedAt]) -> tuple[NamedAt, ...]:
        """An answer after the connect led to another connection, unless it renews the name this one was opened with.

        Of an unknown connect it is certain that it came before the call.
        """
        opened = self.call.opened
        if opened is None:
            return tuple(n for n in names if n.answered_at <= self.call.at)
        renewed = self.call.bound.name if self.call.bound else None
        return tuple(n for n in names if n.answered_at <= opened or n.name == renewed)

    def _proven_bound(self) -> NamedAt | None:
        bound, opened = self.call.bound, self.call.opened
        if bound is None or opened is None or bound.answered_at > opened:
            return None
        return bound

    def _unproven_bound(self) -> tuple[NamedAt, ...]:
        """An answer of this client, but nobody saw the connect: one of the names it may have used."""
        bound = self.call.bound
        return (bound,) if bound is not None and self.call.opened is None else ()

    def is_live(self, name: NamedAt) -> bool:
        return self.call.at - name.answered_at < self.rules.ttl_s

    def fresh(self, names: Iterable[NamedAt]) -> tuple[NamedAt, ...]:
        return fresh_names(names, now=self.call.at, ttl_s=self.rules.ttl_s)

    @property
    def opened_with(self) -> NamedAt | None:
        return self.bound or self.binding

    @property
    def own_fresh(self) -> tuple[NamedAt, ...]:
        """Where it is known which name opened the connection, only a renewal of that name counts."""
        known = self.opened_with
        return tuple(n for n in self.fresh(self.mine) if known is None or n.name == known.name)

    @property
    def own_rivals(self) -> set[str]:
        """Names that may have opened this connection. An unknown connect may lie before any of them, expired ones too."""
        names = {n.name for n in self.own_fresh}
        if self.call.opened is None and self.binding is None:
            names |= {n.name for n in (*self.mine, *self.tombstones)}
        return names

    @property
    def has_asked(self) -> bool:
        """This client is known to have been told a name for the address, fresh or not."""
        return bool(self.opened_with or self.mine or self.tombstones)

    @property
    def is_unseen(self) -> bool:
        """This client's own look-ups could have happened unseen."""
        return self.call.late or self.call.dns_lost or not self.call.watched


def _name_by_request(evidence: _Evidence) -> Decision | None:
    name = parse_host_name(evidence.call.host)
    if name is None:
        return None
    return Decision(
        label=name,
        kind=DestinationKind.EXTERNAL,
        server_address=name,
        source=evidence.call.host_source,
        confidence=Confidence.EXACT,
    )


def _name_by_answer(evidence: _Evidence) -> Decision | None:
    """The answer that this connection was opened with, as the agent saw both."""
    bound = evidence.bound
    if bound is None:
        return None
    if not evidence.is_live(bound) and not evidence.rules.hold_while_connected:
        return None
    return _external(bound, NameSource.DNS, Confidence.EXACT)


def _name_by_binding(evidence: _Evidence) -> Decision | None:
    """The same, remembered in Redis over an agent's restart."""
    binding = evidence.binding
    if binding is None:
        return None
    if not evidence.is_live(binding) and not evidence.rules.hold_while_connected:
        return None
    return _external(binding, NameSource.CACHE, Confidence.EXACT)


def _name_by_client(evidence: _Evidence) -> Decision | None:
    """What this client asked for, when it is one name."""
    fresh = evidence.own_fresh
    if not fresh:
        return None
    if len(evidence.own_rivals) > 1:
        return _unknown(evidence.call, UnknownReason.AMBIGUOUS)
    return _external(fresh[0], NameSource.CACHE, Confidence.CLIENT)


def _name_by_cluster(evidence: _Evidence) -> Decision | None:
    """What others asked for: never for a client that we would have seen asking, never for a request that names an IP."""
    if evidence.has_asked or not evidence.is_unseen or is_ip_literal(evidence.call.host):
        return None
    fresh = evidence.fresh(evidence.cluster)
    if len({n.name for n in fresh}) > 1:
        return _unknown(evidence.call, UnknownReason.AMBIGUOUS)
    if not fresh:
        return None
    # The name is a guess about this client, so server.address stays what it was seen to use.
    return _external(fresh[0], NameSource.CLUSTER, Confidence.SHARED, address=evidence.call.peer_ip)


_RULES: tuple[Callable[[_Evidence], Decision | None], ...] = (
    _name_by_request,
    _name_by_answer,
    _name_by_binding,
    _name_by_client,
    _name_by_cluster,
)


def _explain(evidence: _Evidence) -> UnknownReason:
    """Why there is no name; the most definite statement first."""
    call = evidence.call
    if evidence.opened_with:
        return UnknownReason.EXPIRED  # a live one would have named it
    if not evidence.is_current:
        return UnknownReason.CACHE_UNAVAILABLE
    if evidence.fresh(evidence.tombstones):
        return UnknownReason.CACHE_EVICTED  # the name itself would still be within its time
    if evidence.has_asked:
        return UnknownReason.EXPIRED
    if call.dns_lost and not call.late:
        return UnknownReason.DNS_LOST
    if is_ip_literal(call.host):
        return (
            UnknownReason.NO_DNS_SEEN
        )  # whoever writes the address into the request needs no look-up for it
    if call.late or not call.watched:
        return UnknownReason.AGENT_STARTED_LATER
    return UnknownReason.NO_DNS_SEEN


def _name_service(evidence: _Evidence) -> Decision:
    """Inside: the label is the service's. A request may say anything, so a Host that no answer bears out is what the client
    calls the far end, no more; the server's own sight replaces it, and a bare address, when it is joined (clientspans)."""
    call = evidence.call
    bound = evidence.bound
    if bound is not None and not (evidence.is_live(bound) or evidence.rules.hold_while_connected):
        bound = None
    name = parse_host_name(call.host)
    if name is not None:
        return _service(name, call.host_source, None, _confidence_in(name, bound))
    if bound is not None:
        return _service(bound.name, NameSource.DNS, bound.answered_at, Confidence.EXACT)
    return Decision(label=call.peer_ip, kind=DestinationKind.SERVICE, server_address=call.peer_ip)


def _confidence_in(host: str, bound: NamedAt | None) -> Confidence:
    """A short Host and the full name that the search domains made of it mean one service."""
    if bound is None:
        return Confidence.CLIENT
    is_same = parse_service_label(host) == parse_service_label(bound.name)
    is_short = bound.name.startswith(f"{host}.")
    return Confidence.EXACT if is_same or is_short else Confidence.CLIENT


def _service(
    name: str, source: NameSource, answered_at: float | None, confidence: Confidence
) -> Decision:
    return Decision(
        label=parse_service_label(name),
        kind=DestinationKind.SERVICE,
        server_address=name,
        source=source,
        confidence=confidence,
        answered_at=answered_at,
    )


def _external(
    name: NamedAt, source: NameSource, confidence: Confidence, *, address: str | None = None
) -> Decision:
    return Decision(
        label=name.name,
        kind=DestinationKind.EXTERNAL,
        server_address=address or name.name,
        source=source,
        confidence=confidence,
        answered_at=name.answered_at,
    )


def _unknown(call: Call, reason: UnknownReason) -> Decision:
    return Decision(
        label=UNKNOWN_EXTERNAL_SERVICE,
        kind=DestinationKind.UNKNOWN,
        server_address=call.peer_ip,
        reason=reason,
    )
