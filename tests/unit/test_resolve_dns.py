"""Naming by DNS: the answer a connection was opened with, its memory in Redis, the client, the cluster, and every reason for none."""

import pytest

from farcall.names import UnknownReason
from farcall_exporter.resolve import Call, NamingRules, resolve
from support_exporter_naming import (
    NOW,
    TTL,
    UNKNOWN,
    Case,
    at,
    by,
    call_of,
    check,
    none,
    older,
    view_of,
)

pytestmark = pytest.mark.unit

ANSWER = [
    Case(what="before the connect", bound=at(101), want=by("cache.example.com", "dns")),
    Case(what="at the connect", bound=at(100), want=by("cache.example.com", "dns")),
    Case(what="after the connect proves nothing", bound=at(99), want=none("no_dns_seen")),
    Case(
        what="one second before the TTL is over",
        bound=at(TTL - 1),
        want=by("cache.example.com", "dns"),
        opened=NOW - TTL + 1,
    ),
    Case(what="at the TTL", bound=at(TTL), opened=NOW - TTL, want=none("expired")),
    Case(what="long after the TTL", bound=at(9 * TTL), opened=NOW - 9 * TTL, want=none("expired")),
    Case(
        what="after the TTL, held",
        bound=at(9 * TTL),
        opened=NOW - 9 * TTL,
        hold=True,
        want=by("cache.example.com", "dns"),
    ),
    Case(
        what="after the TTL, cache down: still expired",
        bound=at(TTL),
        opened=NOW - TTL,
        cache_down=True,
        want=none("expired"),
    ),
    Case(
        what="renewed by this client since",
        bound=at(TTL + 5),
        opened=NOW - TTL,
        mine=(at(30),),
        want=by("cache.example.com", "cache", "client"),
    ),
    Case(
        what="expired, and this client asked for another name since",
        bound=at(TTL + 5),
        opened=NOW - TTL,
        mine=(at(30, "other.example.com"),),
        want=none("expired"),
    ),
    Case(
        what="expired, and others asked since",
        bound=at(TTL + 5),
        opened=NOW - TTL,
        watched=False,
        cluster=(at(30),),
        want=none("expired"),
    ),
    Case(
        what="answer beats the cache",
        bound=at(101),
        mine=(at(150, "other.example.com"),),
        want=by("cache.example.com", "dns"),
    ),
]

BINDING = [
    older("remembered over a restart", binding=at(500), want=by("cache.example.com", "cache")),
    older(
        "decides between rivals",
        binding=at(500),
        mine=(at(500), at(300, "other.example.com")),
        want=by("cache.example.com", "cache"),
    ),
    older("after the TTL", binding=at(TTL), want=none("expired")),
    older("after the TTL, held", binding=at(TTL), hold=True, want=by("cache.example.com", "cache")),
    older(
        "after the TTL, renewed",
        binding=at(TTL),
        mine=(at(10),),
        want=by("cache.example.com", "cache", "client"),
    ),
    older(
        "after the TTL, another name since",
        binding=at(TTL),
        mine=(at(10, "other.example.com"),),
        want=none("expired"),
    ),
    older(
        "opened without a name: what this client or others asked later does not count",
        binding=at(500, ""),
        mine=(at(400),),
        cluster=(at(400),),
        want=none("agent_started_later"),
    ),
    older(
        "opened without a name, and the request says the bare address",
        host="203.0.113.10:8080",
        binding=at(500, ""),
        mine=(at(400),),
        want=none("no_dns_seen"),
    ),
    Case(
        what="of an older socket with the same four-tuple",
        binding=at(500, "old.example.com"),
        want=none("no_dns_seen"),
    ),
]

CLIENT = [
    older("one name", mine=(at(500),), want=by("cache.example.com", "cache", "client")),
    older("two names", mine=(at(500), at(300, "b.example.com")), want=none("ambiguous")),
    older(
        "one fresh, one expired: either may have opened it",
        mine=(at(10), at(TTL + 10, "b.example.com")),
        want=none("ambiguous"),
    ),
    older(
        "one fresh, one expired in the tombstones",
        mine=(at(10),),
        dead=(at(10), at(TTL + 10, "b.example.com")),
        want=none("ambiguous"),
    ),
    older("expired", mine=(at(TTL),), want=none("expired")),
    older("asked after the call", mine=(at(-1),), want=none("agent_started_later")),
    older("expired, seen in the tombstones", dead=(at(TTL + 5),), want=none("expired")),
    older(
        "expired, though others asked for it since",
        dead=(at(TTL + 5),),
        cluster=(at(10),),
        want=none("expired"),
    ),
    older("given up by Redis before its time", dead=(at(500),), want=none("cache_evicted")),
    Case(
        what="known connect, two names before it",
        watched=False,
        mine=(at(200), at(150, "b.example.com")),
        want=none("ambiguous"),
    ),
    Case(
        what="known connect, one name before and one after it",
        watched=False,
        mine=(at(200), at(50, "b.example.com")),
        want=by("cache.example.com", "cache", "client"),
    ),
    Case(
        what="known connect, one live name and one expired before it",
        watched=False,
        mine=(at(200), at(TTL + 1, "b.example.com")),
        want=by("cache.example.com", "cache", "client"),
    ),
    older(
        "an unproven answer of the agent's is one of the candidates",
        bound=at(500),
        want=by("cache.example.com", "cache", "client"),
    ),
    older(
        "an unproven answer and another one",
        bound=at(500),
        mine=(at(300, "b.example.com"),),
        want=none("ambiguous"),
    ),
]

CLUSTER = [
    older("one name", cluster=(at(500),), want=by("cache.example.com", "cluster", "shared")),
    older("two names", cluster=(at(500), at(5, "b.example.com")), want=none("ambiguous")),
    older("expired", cluster=(at(TTL),), want=none("agent_started_later")),
    older("others asked after the call", cluster=(at(-1),), want=none("agent_started_later")),
    Case(what="never for a watched client", cluster=(at(500),), want=none("no_dns_seen")),
    Case(
        what="for a client older than the agent",
        watched=False,
        cluster=(at(500),),
        want=by("cache.example.com", "cluster", "shared"),
    ),
    Case(
        what="for a watched client whose records were lost",
        dns_lost=True,
        cluster=(at(500),),
        want=by("cache.example.com", "cluster", "shared"),
    ),
    Case(
        what="not by an answer after the connect",
        watched=False,
        cluster=(at(50),),
        want=none("agent_started_later"),
    ),
    older(
        "this client's own name goes first",
        mine=(at(500),),
        cluster=(at(5, "b.example.com"),),
        want=by("cache.example.com", "cache", "client"),
    ),
]

NOTHING = [
    Case(what="watched, asked for nothing", want=none("no_dns_seen")),
    Case(what="watched, cache down", cache_down=True, want=none("cache_unavailable")),
    older("older, cache down", cache_down=True, want=none("cache_unavailable")),
    older("older, nothing known", want=none("agent_started_later")),
    Case(what="client older than the agent", watched=False, want=none("agent_started_later")),
    Case(what="records lost", dns_lost=True, want=none("dns_lost")),
    older("older, records lost as well", dns_lost=True, want=none("agent_started_later")),
    older(
        "cache down, but known a moment ago",
        mine=(at(500),),
        cache_down=True,
        want=by("cache.example.com", "cache", "client"),
    ),
]

CASES = {
    "answer": ANSWER,
    "binding": BINDING,
    "client": CLIENT,
    "cluster": CLUSTER,
    "nothing": NOTHING,
}


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, id=f"{part}: {c.what}") for part, cases in CASES.items() for c in cases],
)
def test_naming_by_dns(case: Case) -> None:
    check(case)


def test_every_rule_and_every_reason_has_a_row() -> None:
    cases = [case for part in CASES.values() for case in part]
    assert {case.want[1] for case in cases} == {"", "dns", "cache", "cluster"}
    assert {case.want[3] for case in cases} == {"", *UnknownReason}


@pytest.mark.parametrize("case", [*ANSWER, *BINDING, *CLIENT, *CLUSTER])
def test_no_name_outlives_its_ttl_unless_it_is_held(case: Case) -> None:
    """The same evidence, asked one TTL after its newest answer, names nothing any more."""
    answers = (*case.mine, *case.cluster, *case.dead, *filter(None, (case.bound, case.binding)))
    newest = max(name.answered_at for name in answers)
    call = Call(**{**{s: getattr(call_of(case), s) for s in Call.__slots__}, "at": newest + TTL})
    decision = resolve(call, view_of(case), NamingRules(ttl_s=TTL))

    assert decision.label == UNKNOWN
    assert decision.reason is not None
