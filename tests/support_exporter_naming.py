"""One row of the naming table: the evidence of a call, and what it must come to. For the tests of resolve."""

from dataclasses import dataclass, field

from farcall.dnscache import CacheEntry, NamedAt
from farcall.names import UNKNOWN_EXTERNAL_SERVICE
from farcall_exporter.resolve import CacheView, Call, Decision, NamingRules, resolve

TTL = 3_600
NOW = 1_000_000.0
OPENED = NOW - 100
IP = "203.0.113.10"
INSIDE = "10.244.0.15"
UNKNOWN = UNKNOWN_EXTERNAL_SERVICE


def at(age_s: float, name: str = "cache.example.com") -> NamedAt:
    """A name that was answered `age_s` before the call."""
    return NamedAt(name=name, answered_at=NOW - age_s)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A watched client's call on a connection opened 100 s ago to an outside address, unless said otherwise."""

    what: str
    host: str | None = None
    ip: str = IP
    inside: bool = False
    opened: float | None = OPENED
    bound: NamedAt | None = None
    watched: bool = True
    late: bool = False
    dns_lost: bool = False
    hold: bool = False
    binding: NamedAt | None = None
    mine: tuple[NamedAt, ...] = ()
    cluster: tuple[NamedAt, ...] = ()
    dead: tuple[NamedAt, ...] = ()
    cache_down: bool = False
    want: tuple[str, str, str, str] = field(
        default=("", "", "", "")
    )  # label, source, confidence, reason


def older(what: str, **values: object) -> Case:
    """A connection older than the agent, of a client that is older too."""
    return Case(**{"what": what, "opened": None, "late": True, "watched": False, **values})  # type: ignore[arg-type]


def by(label: str, source: str, confidence: str = "exact") -> tuple[str, str, str, str]:
    return (label, source, confidence, "")


def none(reason: str) -> tuple[str, str, str, str]:
    return (UNKNOWN, "", "", reason)


BARE = (INSIDE, "", "", "")


def call_of(case: Case) -> Call:
    return Call(
        peer_ip=case.ip,
        at=NOW,
        inside=case.inside,
        host=case.host,
        opened=case.opened,
        bound=case.bound,
        watched=case.watched,
        late=case.late,
        dns_lost=case.dns_lost,
    )


def view_of(case: Case) -> CacheView:
    entry = CacheEntry(
        binding=case.binding,
        client_names=case.mine,
        cluster_names=case.cluster,
        tombstones=case.dead,
    )
    return CacheView(entry=entry, is_current=not case.cache_down)


def rules_of(case: Case) -> NamingRules:
    return NamingRules(ttl_s=TTL, hold_while_connected=case.hold)


def decide(case: Case) -> Decision:
    return resolve(call_of(case), view_of(case), rules_of(case))


def check(case: Case) -> None:
    decision = decide(case)
    found = (
        decision.label,
        decision.source or "",
        decision.confidence or "",
        decision.reason or "",
    )
    assert found == case.want
    assert (decision.kind == "unknown") == (decision.reason is not None)
    assert (decision.kind == "service") == case.inside
