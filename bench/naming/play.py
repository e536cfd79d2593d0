"""What a row's scenario works with: addresses and a name of its own, clients, calls that are judged, and the common events."""

import asyncio
import json
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from itertools import count

from naming.clients.process import Client, Window
from naming.network import Network
from naming.product import Product
from naming.protocols import PORTS, build_call, build_greeting, ends_with_close
from naming.stages import Stages
from naming.table import Expected, Outcome

BINDING_AGE_S = (
    10.5  # farcall.dnscache.BINDING_AGE_S and a little: older connections are remembered in Redis
)
VISIBLE_S = (
    1.5  # an answer is in Redis, and what the exporter remembers of it is not yet in the way
)


class Addresses:
    """Outside addresses, each given out once; RFC 5737's and RFC 3849's ranges."""

    def __init__(self) -> None:
        self._v4 = iter(
            [f"203.0.113.{n}" for n in range(10, 255)] + [f"198.51.100.{n}" for n in range(1, 255)]
        )
        self._v6 = (f"2001:db8:1::{n:x}" for n in count(0x10))

    def take(self) -> str:
        return next(self._v4)

    def take_v6(self) -> str:
        return next(self._v6)


class Zone:
    """The names that the DNS server knows."""

    def __init__(self, server: "subprocess.Popen[str]") -> None:
        self._server = server
        self._lock = asyncio.Lock()

    async def set(self, name: str, **record: object) -> None:
        async with self._lock:
            await asyncio.to_thread(self._write, json.dumps({"name": name, **record}))

    def _write(self, line: str) -> None:
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(f"{line}\n")
        self._server.stdin.flush()
        assert self._server.stdout.readline() == "ok\n"


@dataclass(slots=True)
class Lab:
    network: Network
    product: Product
    commands: dict[str, tuple[str, ...]]
    stages: Stages
    zone: Zone = field(init=False)  # set once the servers run, as the own one is
    own_zone: Zone = field(init=False)
    addresses: Addresses = field(default_factory=Addresses)
    clients: list[Client] = field(default_factory=list)
    look: "Callable[[Play, set[Outcome] | None], Awaitable[set[Outcome]]]" = field(kw_only=True)
    look_at_all: "Callable[[Play], Awaitable[set[Outcome]]]" = field(kw_only=True)
    http2_peer: str = ""


class Play:
    """One row's run."""

    def __init__(self, row: Expected, lab: Lab) -> None:
        self.row = row
        self.lab = lab
        named = row.outcome.name.endswith(".example.com")
        self.name = row.outcome.name if named else f"{row.id}.example.com"
        self.other = f"other.{self.name}"
        self.ip = lab.addresses.take()
        self.protocol = row.protocol
        self.port = PORTS[row.protocol]
        self.judged: list[Window] = []
        self.rivals: tuple[str, ...] = ()  # which the evidence must list
        self.seen_early: set[Outcome] = set()  # where it is mended later

    # ---- who ---------------------------------------------------------------------------------------------------

    async def client(
        self,
        role: str = "",
        *,
        resolver: str | None = None,
        space: str = "pods",
        environment: Mapping[str, str] | None = None,
        cgroup: str | None = None,
    ) -> Client:
        """The client of the row; with a `role`, somebody else, whose calls are not judged."""
        name = f"{self.row.id}--{role}" if role else self.row.id
        command = self.lab.commands[resolver or self.row.resolver]
        client = await Client.start(
            name, [*self.lab.network.enter(space), *command], environment or {}, cgroup
        )
        self.lab.clients.append(client)
        return client

    async def other_looks_up(self, name: str | None = None, role: str = "other") -> Client:
        """Another client, which has just been told that `name` is at this row's address."""
        name = name or self.other
        await self.lab.zone.set(name, a=[self.ip])
        client = await self.client(role, resolver="glibc")
        await client.do(f"resolve {name}")
        return client

    async def set(self, name: str | None = None, **record: object) -> None:
        await self.lab.zone.set(name or self.name, **(record or {"a": [self.ip]}))

    async def reach(self, event: str) -> None:
        await self.lab.stages.reach(event)

    # ---- steps -------------------------------------------------------------------------------------------------

    def connect(self, address: str = "@") -> list[str]:
        return [f"connect {address} {self.port}", *build_greeting(self.protocol)]

    @property
    def bare(self) -> list[str]:
        """To the address itself, whatever it is called."""
        return self.connect(self.ip)

    def call(self, *, host: str = "", server_name: str = "") -> list[str]:
        close = ["close"] if ends_with_close(self.protocol) else []
        return [*build_call(self.protocol, host=host, server_name=server_name), *close]

    async def judge(self, client: Client, *steps: str) -> None:
        """The steps hold one call at least, and every call within them must be named as the row says."""
        window, _ = await client.do(*steps)
        self.judged.append(window)

    async def wait_expected(self) -> None:
        """Until the judged calls are named as the row says, or it has taken too long: before the next event forestalls it."""
        await self.lab.look(self, {self.row.outcome})

    async def look_now(self) -> None:
        """Takes what is said of the judged calls at this moment for the row's outcome."""
        self.seen_early = await self.lab.look(self, None)
