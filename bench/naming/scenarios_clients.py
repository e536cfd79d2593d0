"""Scenarios of several clients, or of one that is older than the agent: cases 2, 5, 6 and 15."""

import os
from pathlib import Path

from naming.network import UNTRUSTED
from naming.play import VISIBLE_S, Play
from naming.scenarios_dns import Scenario

WAIT = f"sleep {int(VISIBLE_S * 1000)}"


async def first_of_two(p: Play) -> None:
    await p.reach("up")
    await p.set()
    client = await p.client()
    await client.do(f"resolve {p.name}", *p.connect())
    other = await p.other_looks_up()
    await other.do(*p.connect(), *p.call())
    await p.judge(client, *p.call())


async def second_of_two(p: Play) -> None:
    await p.reach("up")
    other = await p.other_looks_up()
    await other.do(*p.connect(), *p.call())
    await p.set()
    client = await p.client()
    await p.judge(client, f"resolve {p.name}", *p.connect(), *p.call())


async def third_silent(p: Play) -> None:
    await p.reach("up")
    for number in (1, 2):
        other = await p.other_looks_up(f"n{number}.{p.other}", f"other{number}")
        await other.do(*p.connect(), *p.call())
    client = await p.client()
    await p.judge(client, WAIT, *p.bare, *p.call())


async def one_client_last(p: Play) -> None:
    await p.reach("up")
    await p.set(p.other, a=[p.ip])
    await p.set()
    p.rivals = (p.other,)
    client = await p.client()
    steps = [f"resolve {p.other}", f"resolve {p.name}", *p.connect()]
    await p.judge(client, *steps, *p.call())


async def one_client_first(p: Play) -> None:
    await p.reach("up")
    await p.set(p.other, a=[p.ip])
    await p.set()
    client = await p.client()
    await client.do(f"resolve {p.name}", *p.connect(), f"resolve {p.other}", WAIT)
    await p.judge(client, *p.call())


async def reused_before(p: Play) -> None:
    """The address goes to another name while the connection lives."""
    await p.reach("up")
    await p.set()
    client = await p.client()
    await client.do(f"resolve {p.name}", *p.connect(), *p.call())
    await p.set(rcode=3)
    await p.other_looks_up()
    await client.do(f"resolve {p.other}", WAIT)
    await p.judge(client, *p.call())


async def reused_after(p: Play) -> None:
    await p.reach("up")
    await p.set(p.other, a=[p.ip])
    client = await p.client()
    await client.do(f"resolve {p.other}", *p.connect(), *p.call(), WAIT)
    await p.set(p.other, rcode=3)
    await p.set()
    await p.judge(client, "use 1", f"resolve {p.name}", *p.connect(), *p.call())


async def others_answer(p: Play) -> None:
    await p.reach("up")
    await p.other_looks_up()
    client = await p.client()
    await p.judge(client, WAIT, *p.bare, *p.call())


async def older_client(p: Play) -> None:
    client = await p.client()
    await client.do(*p.bare)
    await p.reach("up")
    await p.other_looks_up(p.name)
    await p.judge(client, WAIT, *p.call())


async def older_client_new_connection(p: Play) -> None:
    client = await p.client()
    await p.reach("up")
    await p.other_looks_up(p.name)
    await p.judge(client, WAIT, *p.bare, *p.call())


async def older_client_answer_after(p: Play) -> None:
    client = await p.client()
    await p.reach("up")
    await client.do(*p.bare)
    await p.other_looks_up()
    await p.judge(client, WAIT, *p.call())


async def older_client_several(p: Play) -> None:
    client = await p.client()
    await client.do(*p.bare)
    await p.reach("up")
    for number in (1, 2):
        await p.other_looks_up(f"n{number}.{p.other}", f"other{number}")
    await p.judge(client, WAIT, *p.call())


async def older_client_untrusted(p: Play) -> None:
    client = await p.client()
    await client.do(*p.bare)
    await p.reach("up")
    await p.set(p.other, a=[p.ip])
    other = await p.client("other")
    await other.do(f"ask recvfrom {UNTRUSTED} {p.other}")
    await p.judge(client, WAIT, *p.call())


# ---- case 2 -----------------------------------------------------------------------------------------------------


async def known_before(p: Play) -> None:
    """Younger than ten seconds when the agent dies: only the client's answer is in Redis."""
    await p.reach("up")
    await p.set()
    client = await p.client()
    await p.reach("eve")
    await client.do(f"resolve {p.name}", *p.connect(), *p.call(), WAIT)
    await p.reach("agent-restart")
    await p.judge(client, *p.call())


async def two_known_before(p: Play) -> None:
    await p.reach("up")
    await p.set(p.other, a=[p.ip])
    await p.set()
    client = await p.client()
    await p.reach("eve")
    await client.do(f"resolve {p.other}", f"resolve {p.name}", *p.connect(), *p.call(), WAIT)
    await p.reach("agent-restart")
    await p.judge(client, *p.call())


async def unknown_before(p: Play) -> None:
    await p.set()
    client = await p.client()
    await client.do(f"resolve {p.name}", *p.connect())
    await p.reach("up")
    await p.judge(client, *p.call())


async def asked_before_watch(p: Play) -> None:
    await p.set()
    client = await p.client()
    await client.do(f"resolve {p.name}")
    await p.reach("up")
    await p.judge(client, *p.connect(), *p.call())


# ---- case 15 ----------------------------------------------------------------------------------------------------


class Nodes:
    """A cgroup for each node's clients: an agent leaves the other node's alone. Below the hierarchy that agents read."""

    def __init__(self) -> None:
        tree = next(p for p in map(Path, TREES) if (p / "cgroup.procs").exists())
        self.paths = {node: tree / f"naming-{os.getpid()}-{node}" for node in ("a", "b")}

    def make(self) -> None:
        for path in self.paths.values():
            path.mkdir(exist_ok=True)

    def procs(self, node: str) -> str:
        return str(self.paths[node] / "cgroup.procs")

    def remove(self) -> None:
        for path in self.paths.values():
            try:
                path.rmdir()
            except OSError:
                pass  # never made, or a client has not ended yet


TREES = ("/sys/fs/cgroup/unified", "/sys/fs/cgroup/memory", "/sys/fs/cgroup")


def other_node(*, older: bool) -> Scenario:
    async def play(p: Play) -> None:
        nodes = Nodes()
        await p.reach("eve-of-second-node")
        nodes.make()
        there = await p.client(cgroup=nodes.procs("b")) if older else None
        if there:
            await there.do(*p.bare)
        await p.reach("second-node")
        await p.set(p.other if not older else p.name, a=[p.ip])
        here = await p.client("other", cgroup=nodes.procs("a"))
        await here.do(f"resolve {p.other if not older else p.name}", WAIT)
        client = there or await p.client(cgroup=nodes.procs("b"))
        await p.judge(client, *(p.call() if older else [*p.bare, *p.call()]))

    return play


SCENARIOS: dict[str, Scenario] = {
    "first-of-two": first_of_two,
    "second-of-two": second_of_two,
    "third-silent": third_silent,
    "one-client-last": one_client_last,
    "one-client-first": one_client_first,
    "reused-before": reused_before,
    "reused-after": reused_after,
    "others-answer": others_answer,
    "older-client": older_client,
    "older-client-new-connection": older_client_new_connection,
    "older-client-answer-after": older_client_answer_after,
    "older-client-several": older_client_several,
    "older-client-untrusted": older_client_untrusted,
    "known-before": known_before,
    "two-known-before": two_known_before,
    "unknown-before": unknown_before,
    "asked-before-watch": asked_before_watch,
    "older-client-other-node": other_node(older=True),
    "watched-client-other-node": other_node(older=False),
}
