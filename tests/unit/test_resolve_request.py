"""Naming by the request: a Host that is a name decides, a bare address never does (M7); inside, the service counts."""

import pytest

from farcall_exporter.resolve import CacheView, NamingRules, resolve
from support_exporter_naming import (
    BARE,
    INSIDE,
    IP,
    NOW,
    TTL,
    Case,
    at,
    by,
    call_of,
    check,
    none,
    older,
    rules_of,
    view_of,
)

pytestmark = pytest.mark.unit

REQUEST = [
    Case(what="Host", host="api.example.com", want=by("api.example.com", "http")),
    Case(what="Host with a port", host="api.example.com:8443", want=by("api.example.com", "http")),
    Case(what="Host in capitals", host="API.Example.COM", want=by("api.example.com", "http")),
    Case(what="Host with a final dot", host="api.example.com.", want=by("api.example.com", "http")),
    Case(what="Host of one label", host="api", want=by("api", "http")),
    Case(
        what="Host with underscore",
        host="my_api.example.com",
        want=by("my_api.example.com", "http"),
    ),
    Case(
        what="Host beats the DNS answer",
        host="api.example.com",
        bound=at(200, "lb.example.net"),
        want=by("api.example.com", "http"),
    ),
    Case(
        what="Host needs no cache",
        host="api.example.com",
        cache_down=True,
        want=by("api.example.com", "http"),
    ),
    Case(
        what="Host names an older connection too",
        host="api.example.com",
        opened=None,
        late=True,
        want=by("api.example.com", "http"),
    ),
    Case(what="Host with a space is no name", host="api example", want=none("no_dns_seen")),
    Case(what="Host with a slash is no name", host="a/b.com", want=none("no_dns_seen")),
    Case(what="Host that is empty", host="", want=none("no_dns_seen")),
    Case(what="Host of look-alike letters", host="аpi.example.com", want=none("no_dns_seen")),
    Case(what="Host that is too long", host="a." * 127 + "com", want=none("no_dns_seen")),
    Case(what="label that is too long", host="a" * 64 + ".com", want=none("no_dns_seen")),
    Case(what="localhost is no name of a far end", host="localhost:80", want=none("no_dns_seen")),
]

LITERAL = [  # M7
    Case(what="IPv4", host="203.0.113.10", want=none("no_dns_seen")),
    Case(what="IPv4 with a port", host="203.0.113.10:8080", want=none("no_dns_seen")),
    Case(what="IPv6", host="[2001:db8::1]", ip="2001:db8::1", want=none("no_dns_seen")),
    Case(
        what="IPv6 with a port", host="[2001:db8::1]:80", ip="2001:db8::1", want=none("no_dns_seen")
    ),
    Case(
        what="IPv6 without brackets", host="2001:db8::1", ip="2001:db8::1", want=none("no_dns_seen")
    ),
    Case(what="one decimal number", host="3405803786", want=none("no_dns_seen")),
    Case(what="hexadecimal", host="0xcb.0x0.0x71.0xa", want=none("no_dns_seen")),
    Case(what="short form", host="203.0.29002", want=none("no_dns_seen")),
    Case(
        what="another client asked for the address",
        host="203.0.113.10:8080",
        cluster=(at(50, "api.example.com"),),
        want=none("no_dns_seen"),
    ),
    Case(
        what="another client asked, and this one is older than the agent",
        host="203.0.113.10:8080",
        watched=False,
        cluster=(at(50, "api.example.com"),),
        want=none("no_dns_seen"),
    ),
    Case(
        what="another client asked, and this connection is older than the agent",
        host="203.0.113.10:8080",
        opened=None,
        late=True,
        watched=False,
        cluster=(at(50, "api.example.com"),),
        want=none("no_dns_seen"),
    ),
    Case(
        what="the connection was opened with an answer",
        host="203.0.113.10:8080",
        bound=at(101, "api.example.com"),
        want=by("api.example.com", "dns"),
    ),
    Case(
        what="this client asked after the connect only",
        host="203.0.113.10:8080",
        mine=(at(50, "api.example.com"),),
        want=none("no_dns_seen"),
    ),
    Case(
        what="this client had asked before the connect, before the agent's restart",
        host="203.0.113.10:8080",
        watched=False,
        mine=(at(150, "api.example.com"),),
        want=by("api.example.com", "cache", "client"),
    ),
    Case(
        what="DNS records were lost",
        host="203.0.113.10:8080",
        dns_lost=True,
        cluster=(at(50, "api.example.com"),),
        want=none("dns_lost"),
    ),
]

CLUSTER_NAMES = {
    "inventory": "inventory",
    "inventory.shop": "inventory.shop",
    "inventory.shop.svc": "inventory",
    "inventory.shop.svc.cluster.local": "inventory",
    "inventory.shop.svc.k8s.example.org:8080": "inventory",
    "inventory-0.inventory.shop.svc.cluster.local": "inventory",
    "svc.shop.svc.cluster.local": "svc",
    "api.example.com": "api.example.com",
}
SERVICE = [
    *(
        Case(
            what=f"Host {host}",
            host=host,
            ip=INSIDE,
            inside=True,
            want=by(label, "http", "client"),
        )
        for host, label in CLUSTER_NAMES.items()
    ),
    *(
        Case(
            what=f"Host {host}, borne out by the answer",
            host=host,
            ip=INSIDE,
            inside=True,
            bound=at(101, "inventory.shop.svc.cluster.local"),
            want=by(label, "http"),
        )
        for host, label in list(CLUSTER_NAMES.items())[:4]
    ),
    Case(
        what="Host that is not what was asked for",
        host="bank.example.com",
        ip=INSIDE,
        inside=True,
        bound=at(101, "inventory.shop.svc.cluster.local"),
        want=by("bank.example.com", "http", "client"),
    ),
    Case(
        what="bound name",
        ip=INSIDE,
        inside=True,
        bound=at(101, "inventory.shop.svc.cluster.local"),
        want=by("inventory", "dns"),
    ),
    Case(
        what="bound name behind an IP literal",
        host=f"{INSIDE}:80",
        ip=INSIDE,
        inside=True,
        bound=at(101, "inventory.shop.svc.cluster.local"),
        want=by("inventory", "dns"),
    ),
    Case(
        what="expired bound name",
        ip=INSIDE,
        inside=True,
        opened=NOW - TTL,
        bound=at(TTL),
        want=BARE,
    ),
    Case(what="IP literal is never unknown inside", host=INSIDE, ip=INSIDE, inside=True, want=BARE),
    Case(what="nothing said", ip=INSIDE, inside=True, want=BARE),
    Case(
        what="localhost",
        host="localhost",
        ip="127.0.0.1",
        inside=True,
        want=("127.0.0.1", "", "", ""),
    ),
    Case(
        what="others' names do not count",
        ip=INSIDE,
        inside=True,
        watched=False,
        cluster=(at(5),),
        want=BARE,
    ),
]

CASES = {"request": REQUEST, "literal": LITERAL, "inside": SERVICE}


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, id=f"{part}: {c.what}") for part, cases in CASES.items() for c in cases],
)
def test_naming_by_the_request(case: Case) -> None:
    check(case)


def test_server_address_is_the_name_the_client_used() -> None:
    named = resolve(call_of(Case(what="", bound=at(101))), CacheView(), NamingRules(ttl_s=TTL))
    shared_case = older("", cluster=(at(5),))
    shared = resolve(call_of(shared_case), view_of(shared_case), rules_of(shared_case))
    service = resolve(
        call_of(Case(what="", host="inventory.shop.svc:80", ip=INSIDE, inside=True)),
        CacheView(),
        NamingRules(ttl_s=TTL),
    )

    assert named.server_address == "cache.example.com"
    assert shared.server_address == IP  # a guess about this client is no name that it used
    assert service.server_address == "inventory.shop.svc"
