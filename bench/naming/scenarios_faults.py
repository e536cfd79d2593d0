"""Scenarios around what goes wrong or gets old: cases 3, 4, 16, and the lost records of 17. run.py's events do the wrong."""

import asyncio

from naming.clients.process import Client
from naming.network import RESOLVER
from naming.play import BINDING_AGE_S, Play
from naming.scenarios_dns import Scenario

TTL_S = 20  # the test's override while case 4 runs: more than a connection's age when it is remembered, and an agent's restart
HELD_TTL_S = 30  # while names are held: their entries live so long after the last use, and an agent must be back by then
LATER_S = TTL_S + 1.0
ASKS_PER_LINE = 250
FLOOD_LINES = 40


async def open_named(p: Play, *before: str) -> Client:
    """A connection that was opened with the row's name, and its first call."""
    await p.set()
    client = await p.client()
    await client.do(*before, f"resolve {p.name}", *p.connect(), *p.call())
    return client


async def let_age(p: Play, client: Client) -> None:
    """Until the agent has remembered the connection in Redis: at its first use after ten seconds."""
    await asyncio.sleep(BINDING_AGE_S)
    await client.do(*p.call(), "sleep 500")


def survives(*events: str, names: int = 1) -> Scenario:
    """An old connection that lives through these events."""

    async def play(p: Play) -> None:
        await p.reach("up")
        await p.set(p.other, a=[p.ip])
        client = await open_named(p, *[f"resolve {p.other}"] * (names - 1))
        await let_age(p, client)
        for event in events:
            await p.reach(event)
        await p.judge(client, *p.call())

    return play


async def bare_then_asked(p: Play) -> None:
    """Opened to the address itself; a name that the client asks for later is none of this connection's."""
    await p.reach("up")
    await p.set(p.other, a=[p.ip])
    client = await p.client()
    await client.do(*p.bare, *p.call(), f"resolve {p.other}")
    await let_age(p, client)
    await p.reach("agent-restart")
    await p.judge(client, *p.call())


def young_survives(*events: str) -> Scenario:
    """Younger than ten seconds at the first of them, so that Redis holds the client's answer, and no binding."""

    async def play(p: Play) -> None:
        await p.reach("eve")
        client = await open_named(p)
        await client.do("sleep 500")
        for event in events:
            await p.reach(event)
        await p.judge(client, *p.call())

    return play


async def shared_lost(p: Play) -> None:
    """The only answer was another client's, and seen by an agent that is gone, in a Redis that is gone."""
    client = await p.client()
    await client.do(*p.bare)
    await p.reach("up")
    await p.other_looks_up(p.name)
    await client.do(*p.call())
    await p.reach("agent-restart")
    await p.reach("redis-lost-again")
    await p.judge(client, *p.call())


async def exporter_restarted(p: Play) -> None:
    await p.reach("up")
    client = await open_named(p)
    await p.reach("exporter-restart")
    await p.judge(client, *p.call())


# ---- case 4 -----------------------------------------------------------------------------------------------------


def outlives(event: str, after_s: float = LATER_S) -> Scenario:
    async def play(p: Play) -> None:
        await p.reach(event)
        client = await open_named(p)
        await asyncio.sleep(after_s)
        await p.judge(client, *p.call())

    return play


async def expired_restarted(p: Play) -> None:
    await p.reach("ttl-short")
    client = await open_named(p)
    await let_age(p, client)
    await asyncio.sleep(LATER_S - BINDING_AGE_S)
    await p.reach("ttl-restart")
    await p.judge(client, *p.call())


async def renewed(p: Play) -> None:
    await p.reach("ttl-short")
    client = await open_named(p)
    await asyncio.sleep(LATER_S - 5)
    await client.do(f"resolve {p.name}")
    await asyncio.sleep(5)
    await p.judge(client, *p.call())


async def held_restarted(p: Play) -> None:
    """Used every few seconds, as a pool's connection is: so its entry in Redis lives on."""
    await p.reach("ttl-hold")
    client = await open_named(p)
    for _ in range(3):
        await asyncio.sleep(HELD_TTL_S / 3)
        await client.do(*p.call())
    restarted = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(use_until(restarted, p, client))
        await p.reach("hold-restart")
        restarted.set()
    await p.judge(client, *p.call())


async def use_until(end: asyncio.Event, p: Play, client: Client) -> None:
    while not end.is_set():
        await client.do(*p.call())
        await asyncio.sleep(1.0)


# ---- case 16 ----------------------------------------------------------------------------------------------------


async def down_at_answer_restarted(p: Play) -> None:
    await p.reach("redis-pause")
    client = await open_named(p)
    await p.reach("redis-resume")
    await let_age(p, client)
    await p.reach("agent-restart")
    await p.judge(client, *p.call())


async def down_at_look_up(p: Play) -> None:
    """What is said before Redis is back; it is mended later."""
    await p.reach("up")
    client = await open_named(p)
    await let_age(p, client)
    await p.reach("redis-gone")
    await p.judge(client, *p.call())
    await p.look_now()


async def down_at_look_up_mended(p: Play) -> None:
    await p.reach("up")
    client = await open_named(p)
    await let_age(p, client)
    await p.reach("redis-gone")
    await p.judge(client, *p.call(), "sleep 2000")
    await p.reach("redis-back")
    await p.wait_expected()


async def down_then_silent(p: Play) -> None:
    """Redis is back and knows nothing of this address: then that is the reason, and not that it was away."""
    client = await p.client()
    await client.do(*p.bare)
    await p.reach("redis-gone")
    await p.judge(client, *p.call(), "sleep 1000")
    await p.reach("redis-back")
    await p.wait_expected()


def answered_while(begin: str, end: str) -> Scenario:
    """An older client; the answer that names its address comes while Redis takes none, and is written once it does."""

    async def play(p: Play) -> None:
        client = await p.client()
        await client.do(*p.bare)
        await p.reach(begin)
        await p.other_looks_up(p.name)
        await p.judge(client, "sleep 1000", *p.call(), "sleep 2000")
        await p.reach(end)
        await p.wait_expected()

    return play


def named_by_itself(event: str) -> Scenario:
    """What the agent saw needs no Redis."""

    async def play(p: Play) -> None:
        await p.reach(event)
        await p.set()
        client = await p.client()
        await p.judge(client, f"resolve {p.name}", *p.connect(), *p.call())

    return play


def refused_at_look_up(*, mended: bool) -> Scenario:
    """An older client, whose address Redis knows a name for, and whom it refuses to say it to."""

    async def play(p: Play) -> None:
        client = await p.client()
        await client.do(*p.bare)
        await p.reach(
            "redis-and-agent-lost"
        )  # the last event that takes answers from Redis for good
        await p.other_looks_up(p.name)
        await p.reach("redis-refusing")
        await p.judge(client, *p.call(), "sleep 1000")
        if not mended:
            await p.look_now()
            return
        await p.reach("redis-accepting")
        await p.wait_expected()

    return play


async def evicted(p: Play) -> None:
    """Younger than ten seconds, so that only the client's answer is in Redis, which gives it up for room."""
    await p.reach("up")
    await p.reach("eve-of-eviction")
    client = await open_named(p)
    await client.do("sleep 2000")
    await p.reach("eviction")
    await p.judge(client, *p.call())
    await p.wait_expected()  # before the next event shortens the time to live, and it expired


# ---- case 17 ----------------------------------------------------------------------------------------------------


async def records_lost(p: Play) -> None:
    client = await ask_while_lost(p)
    await p.judge(client, *p.call())


async def records_lost_then_asked(p: Play) -> None:
    client = await ask_while_lost(p)
    await p.judge(client, "use 1", f"resolve {p.name}", *p.connect(), *p.call())


async def ask_while_lost(p: Play) -> Client:
    """The look-up falls into the time in which the agent does not run and the ring for answers is full."""
    await p.reach("flood-eve")
    await p.set()
    client = await p.client()
    await client.do("sleep 200")
    await p.reach("flood")
    await client.do(f"resolve {p.name}", *p.connect())
    await p.reach("flood-over")
    return client


async def flood(client: Client) -> None:
    """More answers than the ring for them has room for."""
    ask = f"ask recvfrom {RESOLVER} flood.example.com"
    for _ in range(FLOOD_LINES):
        await client.do(*[ask] * ASKS_PER_LINE)


SCENARIOS: dict[str, Scenario] = {
    "agent-restarted": survives("agent-restart"),
    "agent-restarted-two-names": survives("agent-restart", names=2),
    "agent-restarted-bare": bare_then_asked,
    "exporter-restarted": exporter_restarted,
    "store-kept": survives("redis-kept", "agent-restart"),
    "store-lost": survives("redis-lost", "agent-restart"),
    "store-lost-two-names": survives("redis-lost", "agent-restart", names=2),
    "agent-restarted-store-lost": survives("agent-restart", "redis-lost-again"),
    "agent-restarted-store-lost-two-names": survives("agent-restart", "redis-lost-again", names=2),
    "young-agent-restarted": young_survives("agent-restart"),
    "young-store-lost": young_survives("redis-lost-young", "agent-restart"),
    "young-agent-restarted-store-lost": young_survives("agent-restart", "redis-lost-again"),
    "shared-agent-restarted-store-lost": shared_lost,
    "store-and-agent-lost": survives("redis-and-agent-lost"),
    "expired": outlives("ttl-short"),
    "expired-restarted": expired_restarted,
    "renewed": renewed,
    "held": outlives("ttl-hold", HELD_TTL_S + 1.0),
    "held-restarted": held_restarted,
    "down-at-answer": named_by_itself("redis-pause"),
    "down-at-answer-restarted": down_at_answer_restarted,
    "down-at-look-up": down_at_look_up,
    "down-at-look-up-mended": down_at_look_up_mended,
    "down-then-silent": down_then_silent,
    "down-at-both": answered_while("redis-pause", "redis-resume"),
    "read-only-at-answer": named_by_itself("redis-read-only"),
    "read-only-mended": answered_while("redis-read-only", "redis-writable"),
    "full-at-answer": named_by_itself("redis-full"),
    "full-mended": answered_while("redis-full", "redis-roomy"),
    "refused-at-look-up": refused_at_look_up(mended=False),
    "refused-mended": refused_at_look_up(mended=True),
    "evicted": evicted,
    "records-lost": records_lost,
    "records-lost-then-asked": records_lost_then_asked,
}
