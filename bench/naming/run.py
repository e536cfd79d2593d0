"""One run: the lab, the rows side by side, the events that they share, and the verdicts."""

import asyncio
import contextlib
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from farcall.api import Span
from farcall.client import ApiError
from naming import judging, scenarios_clients, scenarios_dns, scenarios_faults, scenarios_web
from naming.clients.build import build_clients
from naming.clients.process import Client, ClientError
from naming.judging import Verdict
from naming.network import CACHED, STUB, Network
from naming.play import Lab, Play, Zone
from naming.product import Product
from naming.scenarios_clients import Nodes
from naming.servers import Servers
from naming.stages import Event, Stages
from naming.table import Expected, Outcome

SCENARIOS = {
    **scenarios_dns.SCENARIOS,
    **scenarios_web.SCENARIOS,
    **scenarios_clients.SCENARIOS,
    **scenarios_faults.SCENARIOS,
}
SEEN_WITHIN_S = 40.0  # late on a busy machine; rows that are as expected end the wait
EARLY_WITHIN_S = 60.0  # as above; what comes later may meet the next event
REPUBLISH_S = 5.0  # agents ask every 2 s whether Redis is still the same
RECALL_S = (
    20.0  # by then an agent has read back what Redis holds of the connections that it found open
)
# Every entry has an expiry, and would be given up for room.
FULL = ("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", 1)
ROOMY = ("CONFIG", "SET", "maxmemory-policy", "volatile-ttl", "maxmemory", 0)
EXPLAIN_AT_ONCE = 4  # as many readers as the store has


class Run:
    def __init__(
        self, rows: Sequence[Expected], folder: Path, say: "Say", keep: Path | None
    ) -> None:
        self._keep = keep
        self._rows = rows
        self._folder = folder
        self._say = say
        self._network = Network()
        self._servers = Servers(self._network, folder)
        self._product = Product(folder)
        self._nodes = Nodes()
        self._commands = build_clients()
        self._failures: dict[str, str] = {}
        self._begin_ns = time.time_ns()

    async def play(self) -> tuple[list[Verdict], list[str]]:
        """The verdicts, and names on other calls that should not be there."""
        with contextlib.ExitStack() as undo:
            undo.callback(self._nodes.remove)
            undo.callback(self._network.remove)
            lab = await self._build_lab(undo)
            plays = self._plays
            tasks = [lab.stages.play(self._play_row(play)) for play in plays]
            await asyncio.gather(*tasks, lab.stages.run(self._events(lab)))
            self._say("asking what was seen")
            spans = await asyncio.to_thread(
                judging.wait_for_spans,
                self._product,
                plays,
                since_ns=self._begin_ns,
                within_s=SEEN_WITHIN_S,
            )
            return await asyncio.to_thread(self._judge_all, plays, spans)

    async def _build_lab(self, undo: contextlib.ExitStack) -> Lab:
        lab = Lab(
            network=self._network,
            product=self._product,
            commands=self._commands,
            stages=Stages(len(self._rows)),
            look=self._look,
            look_at_all=self._look_at_all,
        )
        self._plays = [Play(row, lab) for row in self._rows]
        hosts = {p.name: p.ip for p in self._plays if p.row.scenario == "hosts-file"}
        self._network.make(hosts)
        undo.callback(self._servers.stop)
        undo.callback(lambda: [client.end() for client in lab.clients])
        self._say("starting servers")
        await asyncio.to_thread(self._servers.start, {row.protocol for row in self._rows})
        lab.http2_peer = self._servers.http2_peer
        lab.zone = Zone(self._servers.start_dns())
        lab.own_zone = Zone(self._servers.start_own_dns())
        self._servers.start_dnsmasq("stub", STUB)
        self._servers.start_dnsmasq("cached", CACHED)
        undo.callback(self._product.stop)
        if self._keep is not None:  # before it stops, which removes them
            undo.callback(self._product.copy_logs, self._keep)
        return lab

    async def _play_row(self, play: Play) -> None:
        """A row that cannot be played is a failure of its own, and holds nobody up."""
        try:
            await SCENARIOS[play.row.scenario](play)
        except (ClientError, OSError, AssertionError) as e:
            self._failures[play.row.id] = f"not played: {type(e).__name__}: {e}"

    async def _settle(self) -> None:
        """What an agent has not sent yet is lost with it; that is known, and none of the table's business."""
        deadline = time.monotonic() + SEEN_WITHIN_S
        while time.monotonic() < deadline:
            spans = await asyncio.to_thread(judging.read_spans, self._product, self._begin_ns)
            called = [p for p in self._plays if p.judged and p.row.id not in self._failures]
            if all(judging.select(spans, play) for play in called):
                return
            await asyncio.sleep(0.3)

    async def _look(self, play: Play, wanted: set[Outcome] | None) -> set[Outcome]:
        """What is said of the judged calls: `wanted`, anything where that is None, or what there is when it took too long."""
        deadline = time.monotonic() + EARLY_WITHIN_S
        while True:
            spans = await asyncio.to_thread(judging.read_spans, self._product, self._begin_ns)
            seen = judging.find_outcomes(judging.select(spans, play))
            if (seen if wanted is None else seen == wanted) or time.monotonic() > deadline:
                return seen
            await asyncio.sleep(0.3)

    async def _look_at_all(self, play: Play) -> set[Outcome]:
        """What is said of the row's calls so far, judged or not."""
        spans = await asyncio.to_thread(judging.read_spans, self._product, self._begin_ns)
        return judging.find_outcomes([s for s in spans if s.service == play.row.id])

    def _judge_all(
        self, plays: Sequence[Play], spans: Sequence[Span]
    ) -> tuple[list[Verdict], list[str]]:
        def judge_one(play: Play) -> Verdict:
            failure = self._failures.get(play.row.id, "")
            try:
                return judging.judge(play, spans, self._product.read_evidence, failure)
            except ApiError as e:
                return Verdict(row=play.row, kind=judging.UNEXPLAINED, seen=f"explain: {e}")

        with ThreadPoolExecutor(EXPLAIN_AT_ONCE) as pool:
            return list(pool.map(judge_one, plays)), judging.find_strays(plays, spans)

    # ---- events -----------------------------------------------------------------------------------------------

    def _events(self, lab: Lab) -> list[Event]:
        product, stop, go = self._product, signal.SIGSTOP, signal.SIGCONT

        async def restart_agent() -> None:
            await self._settle()
            await product.restart("agent")

        async def lose_redis() -> None:
            await product.restart("redis", meanwhile=product.lose_cache)
            await asyncio.sleep(REPUBLISH_S)

        async def lose_redis_again() -> None:
            await self._settle()  # what was called since the agent's restart is named
            await asyncio.sleep(RECALL_S)
            await lose_redis()

        async def keep_redis() -> None:
            await product.restart("redis")
            await asyncio.sleep(REPUBLISH_S)

        async def pause_redis() -> None:
            product.signal("redis", stop)

        async def resume_redis() -> None:
            product.signal("redis", go)

        async def lose_redis_from_view() -> None:
            await self._settle()
            product.signal("redis", stop)
            await product.restart("agent")

        async def lose_both() -> None:
            await self._settle()
            agent = await product.kill("agent")
            await product.restart("redis", meanwhile=product.lose_cache)
            await product.wait_back("agent", agent)

        async def break_redis(*command: str | int) -> None:
            await product.open_redis()
            with product.administer() as admin:
                admin.execute_command(*command)

        async def mend_redis(*command: str | int) -> None:
            with product.administer() as admin:
                admin.execute_command(*command)

        async def refuse_redis() -> None:
            await product.open_redis()
            await asyncio.to_thread(product.set_redis_users, "another")

        async def accept_redis() -> None:
            await asyncio.to_thread(product.set_redis_users)

        async def evict() -> None:
            await self._settle()
            await product.open_redis()
            lost = [p.ip for p in self._plays if p.row.scenario == "evicted"]
            await asyncio.to_thread(product.fill_redis, lost)
            await product.restart("agent")

        async def begin_flood() -> None:
            product.signal("agent", stop)
            flooding = await Client.start(
                "flood", [*self._network.enter("pods"), *self._commands["glibc"]], {}, None
            )
            lab.clients.append(flooding)
            await scenarios_faults.flood(flooding)

        async def end_flood() -> None:
            product.signal("agent", go)
            await asyncio.sleep(2.0)

        async def prepare_nodes() -> None:
            self._nodes.make()
            await product.exclude(str(self._nodes.paths["b"]))
            await asyncio.sleep(1.5)  # the agent applies its policy once a second

        async def hold() -> None:
            held_s = scenarios_faults.HELD_TTL_S
            await product.configure(ttl_override_s=held_s, hold_while_connected=True)

        async def nothing() -> None: ...

        ttl_s = scenarios_faults.TTL_S
        events: list[Event] = [
            ("up", product.start),
            ("exporter-restart", lambda: product.restart("exporter")),
            ("redis-kept", keep_redis),
            ("redis-lost", lose_redis),
            ("redis-pause", pause_redis),
            ("redis-resume", resume_redis),
            ("eve", nothing),
            ("redis-lost-young", lose_redis),
            ("agent-restart", restart_agent),
            ("redis-lost-again", lose_redis_again),
            ("redis-gone", lose_redis_from_view),
            ("redis-back", resume_redis),
            ("redis-and-agent-lost", lose_both),
            ("redis-read-only", lambda: break_redis("REPLICAOF", "127.0.0.1", 1)),
            ("redis-writable", lambda: mend_redis("REPLICAOF", "NO", "ONE")),
            ("redis-full", lambda: break_redis(*FULL)),
            ("redis-roomy", lambda: mend_redis(*ROOMY)),
            ("redis-refusing", refuse_redis),
            ("redis-accepting", accept_redis),
            ("eve-of-eviction", nothing),
            ("eviction", evict),
            ("ttl-short", lambda: product.configure(ttl_override_s=ttl_s)),
            ("ttl-restart", restart_agent),
            ("ttl-hold", hold),
            ("hold-restart", restart_agent),
            (
                "flood-eve",
                lambda: product.configure(ttl_override_s=None, hold_while_connected=False),
            ),
            ("flood", begin_flood),
            ("flood-over", end_flood),
            ("eve-of-second-node", prepare_nodes),
            (
                "second-node",
                lambda: product.start_second_agent("b", str(self._nodes.paths["a"])),
            ),
        ]
        return [(name, self._told(name, happen)) for name, happen in events]

    def _told(
        self, name: str, happen: Callable[[], Awaitable[None]]
    ) -> Callable[[], Awaitable[None]]:
        async def tell() -> None:
            self._say(name)
            await happen()

        return tell


class Say:
    """Progress on one line each, with the seconds since the begin."""

    def __init__(self) -> None:
        self._begin_s = time.monotonic()

    def __call__(self, what: str) -> None:
        print(f"naming {time.monotonic() - self._begin_s:6.1f} s  {what}", flush=True)


def run(rows: Sequence[Expected], keep: Path | None) -> tuple[list[Verdict], list[str], float]:
    """`keep`: where to copy logs to. Raises ProductError, LabError, BuildError or DemoError where the lab cannot be had."""
    begin_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="farcall-naming-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL runs as a user of its own
        verdicts, strays = asyncio.run(Run(rows, Path(folder), Say(), keep).play())
    return verdicts, strays, time.monotonic() - begin_s
