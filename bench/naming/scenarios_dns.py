"""Scenarios of one look-up and one call: cases 1, 7 to 12 and 17, which differ in how the answer came to the client, or did not."""

import socket
from collections.abc import Awaitable, Callable

from naming.network import RESOLVER, SELF, SELF_LOOPBACK
from naming.play import VISIBLE_S, Play

Scenario = Callable[[Play], Awaitable[None]]
FILL = [f"198.18.{n // 250}.{n % 250 + 1}" for n in range(300)]  # RFC 2544's range: nobody is there
UNREACHABLE = "2001:db8:dead::1"


def look_up(
    *, query: str = "{name}", connect: str = "@", space: str = "pods", **record: object
) -> Scenario:
    """The client looks a name up, connects to what it was told, and calls, all in one go."""

    async def play(p: Play) -> None:
        await p.reach("up")
        given = {key: fill(p, value) for key, value in record.items()}
        await p.set(**given)
        client = await p.client(space=space, environment={"RES_OPTIONS": "edns0"})
        steps = [f"resolve {query.format(name=p.name, upper=p.name.upper(), short=short(p))}"]
        await p.judge(client, *steps, *p.connect(connect), *p.call())

    return play


def fill(p: Play, value: object) -> object:
    """`ip` in a record is the row's own address, `name` its name."""
    if isinstance(value, list):
        return [fill(p, one) for one in value]
    if isinstance(value, dict):
        return {key: fill(p, one) for key, one in value.items()}
    return value.format(ip=p.ip, ip6=v6(p), name=p.name) if isinstance(value, str) else value


def v6(p: Play) -> str:
    """One of its own beside the IPv4 address."""
    return f"2001:db8:1::{int.from_bytes(socket.inet_aton(p.ip), 'big') & 0xFFFF:x}"


def short(p: Play) -> str:
    return p.name.removesuffix(".corp.example.com")


def ask(mode: str, *, connect: str = "@", count: int = 0, last: bool = False) -> Scenario:
    """One question by hand; `count` other addresses stand before (`last`) or behind the row's."""

    async def play(p: Play) -> None:
        await p.reach("up")
        await p.set(a=[*FILL[:count], p.ip] if last else [p.ip, *FILL[:count]])
        client = await p.client()
        steps = [f"ask {mode} {RESOLVER} {p.name}", *p.connect(connect), *p.call()]
        await p.judge(client, *steps)

    return play


def told_nothing(**record: object) -> Scenario:
    """The look-up brings no address, and the client connects all the same: it knows it from elsewhere."""

    async def play(p: Play) -> None:
        await p.reach("up")
        if record:
            await p.set(**{key: fill(p, value) for key, value in record.items()})
        client = await p.client()
        await p.judge(client, f"resolve {p.name}", *p.bare, *p.call())

    return play


async def unasked(p: Play) -> None:
    await p.reach("up")
    await p.set("unasked", a=[p.ip])
    client = await p.client()
    await p.judge(client, f"ask unasked {RESOLVER} x", *p.bare, *p.call())


async def jndi(p: Play) -> None:
    """The JDK's own DNS client."""
    await p.reach("up")
    await p.set()
    client = await p.client()
    await p.judge(client, f"jndi {RESOLVER} {p.name}", *p.connect(), *p.call())


async def mapped(p: Play) -> None:
    await p.reach("up")
    await p.set()
    client = await p.client()
    connect = [step.replace("connect", "mapped") for step in p.connect("@4")]
    await p.judge(client, f"resolve {p.name}", *connect, *p.call())


async def eyeballs(p: Play) -> None:
    await p.reach("up")
    await p.set(a=[p.ip], aaaa=[UNREACHABLE])
    client = await p.client()
    await p.judge(client, f"eyeballs {p.name} {p.port}", *p.call())


async def hard_coded(p: Play) -> None:
    await p.reach("up")
    client = await p.client()
    await p.judge(client, *p.bare, *p.call())


async def hosts_file(p: Play) -> None:
    """The name stands in /etc/hosts: host_entries."""
    await p.reach("up")
    client = await p.client()
    await p.judge(client, f"resolve {p.name}", *p.connect("@4"), *p.call())


def over(kind: str, port: int) -> Scenario:
    """The name is looked up where nobody sees it."""

    async def play(p: Play) -> None:
        await p.reach("up")
        await p.set()
        client = await p.client(resolver="secure" if p.row.resolver == "glibc" else None)
        await p.judge(client, f"{kind} {RESOLVER} {port} {p.name}", *p.connect(), *p.call())

    return play


def answers_itself(server: str, *, older: bool) -> Scenario:
    """Somebody runs a DNS server of his own and asks it; that is no reason to name anybody else's calls."""

    async def play(p: Play) -> None:
        early = await p.client() if older else None
        await p.reach("up")
        await p.lab.own_zone.set(p.other, a=[p.ip])
        other = await p.client("other")
        await other.do(f"ask recvfrom {server} {p.other}", f"sleep {int(VISIBLE_S * 1000)}")
        client = early or await p.client()
        await p.judge(client, *p.bare, *p.call())

    return play


FORGED = {how: {"forged": {"how": how, "a": "{ip}"}} for how in ("id", "question")}

SCENARIOS: dict[str, Scenario] = {
    "at-once": look_up(),
    "alias-chain": look_up(a=["{ip}"], alias=["edge.{name}", "pool-7.provider.example.net"]),
    "search-refused": look_up(),
    "search-expanded": look_up(query="{short}"),
    "final-dot": look_up(query="{name}."),
    "upper-case": look_up(query="{upper}"),
    "idn": look_up(),
    "ipv6": look_up(a=["{ip}"], aaaa=["{ip6}"], connect="@6"),
    "ipv4-of-both": look_up(a=["{ip}"], aaaa=["{ip6}"], connect="@4"),
    "eyeballs": eyeballs,
    "mapped": mapped,
    "jndi": jndi,
    "truncated-then-tcp": look_up(a=["{ip}"], truncated=True),
    "tcp-one-read": ask("tcp"),
    "tcp-split-reads": ask("tcp-split"),
    "tcp-byte-reads": ask("tcp-bytes"),
    "over-512": look_up(a=["{ip}", *FILL[:40]], connect="@4"),
    "over-1024": look_up(a=["{ip}", *FILL[:64]], connect="@4"),
    "over-4096-first": ask("recvfrom", count=260),
    "over-4096-last": ask("recvfrom", count=260, connect="@last", last=True),
    "over-4096-tcp": look_up(a=["{ip}", *FILL[:260]], connect="@4"),
    "read": ask("read"),
    "recvfrom": ask("recvfrom"),
    "recvmsg": ask("recvmsg"),
    "recvmmsg": ask("recvmmsg"),
    "unconnected-recvmsg": ask("unconnected-recvmsg"),
    "unconnected-recvmmsg": ask("unconnected-recvmmsg"),
    "sendmmsg-two-answers": look_up(a=["{ip}"], aaaa=["{ip6}"], connect="@4"),
    "stub-daemon": look_up(space="stub"),
    "node-local-cache": look_up(space="cached"),
    "nxdomain": told_nothing(),
    "servfail": told_nothing(rcode=2),
    "empty": told_nothing(a=[]),
    "wrong-id": told_nothing(**FORGED["id"], rcode=3),
    "wrong-question": told_nothing(**FORGED["question"], rcode=3),
    "other-owner": told_nothing(a=[FILL[299]], forged={"how": "owner", "a": "{ip}"}),
    "unasked": unasked,
    "answers-itself-others": answers_itself(SELF, older=False),
    "answers-itself-older": answers_itself(SELF, older=True),
    "answers-itself-loopback-older": answers_itself(SELF_LOOPBACK, older=True),
    "hosts-file": hosts_file,
    "hard-coded": hard_coded,
    "dns-over-tls": over("dot", 853),
    "dns-over-https": over("doh", 443),
}
