"""The agents that can be measured: farcall's own, with an exporter that takes everything; any other by its command or its number.

An agent that is given by its number runs all the time, so there is nothing to compare it with: its CPU and memory are read.
"""

import json
import os
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol
from urllib.parse import urlsplit

from costs.processes import BenchError, read_cpu_ns, read_family, read_rss_mb, running, wait_for
from support_agent import FakeExporter, Posted, make_config, write_config

_DRAINED_NS = 500_000_000  # whatever was captured is out of the rings by then
_POST_WITHIN_S = 60.0
_STATUS_WITHIN_S = 15.0
_MET_AGAIN = 10_000  # by more a connection's numbers jump only where it was forgotten for others (bpf/opened.h)
# Beyond the records of one container, or of the CPU ceiling, the agent takes less: by default, and switched off.
UNLIMITED = {"capture": {"rateLimits": {"recordsPerSecond": 0, "cpuMillicores": 0}}}
_LOSSES = ("_lost", "_dropped")


class Agent(Protocol):
    """One run of an agent."""

    pid: int

    def cpu_ns(self) -> int: ...
    def rss_mb(self) -> float: ...


class Agents(Protocol):
    """How an agent is run for as long as a block lasts. `can_stop`: so that there is a time without it."""

    name: str
    can_stop: bool

    def running(self) -> Any: ...


class Family:
    """A process and its children."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def cpu_ns(self) -> int:
        return read_cpu_ns(*read_family(self.pid))

    def rss_mb(self) -> float:
        return sum(read_rss_mb(pid) for pid in read_family(self.pid))


class Farcall(Family):
    """`farcall agent`, and what it sent."""

    def __init__(self, pid: int, exporter: FakeExporter, started: float) -> None:
        super().__init__(pid)
        self._exporter = exporter
        self._exporter_port = urlsplit(exporter.url).port or 0
        self._newest: dict[
            tuple[int, int], int
        ] = {}  # of the exporter's connections, by connection and role
        self.started = started  # time.monotonic, before the process was

    def wait_for_rows(self) -> None:
        """Until a first exchange is at the exporter."""
        self._exporter.wait_for(lambda posted: any(_is_exchanges(p) for p in posted), 60)

    def take_rows(self) -> "Rows":
        """What came since the last call, once all that was captured before it is sent. The exporter's ends of the agent's own posts are
        rows too, and rows are sent in order: one that begins later says that all before it have come, or never will."""
        self._wait_for_post(time.time_ns() + _DRAINED_NS)
        with self._exporter.changed:
            posted, self._exporter.posted = self._exporter.posted, []
        rows = Rows(posted)
        rows.posts_lost = rows.count_gaps(self._exporter_port, self._newest)
        return rows

    def _wait_for_post(self, since_ns: int) -> None:
        """Until the row of one that begins at that time or later has come."""
        deadline = time.monotonic() + _POST_WITHIN_S
        seen = 0
        while time.monotonic() < deadline:
            posted = self._exporter.posted
            fresh, seen = posted[seen:], len(posted)
            if any(row >= since_ns for row in Rows(fresh).list_starts(self._exporter_port)):
                return
            time.sleep(0.1)
        raise BenchError(f"no row of a post within {_POST_WITHIN_S:g} s")

    def read_counters(self) -> Counter[str]:
        return Counter(self._read_status()["counters"])

    def read_losses(self) -> Counter[str]:
        """Once the agent takes every call again: so no load's losses are counted later."""
        while (status := self._read_status())["gauges"]["kept_share"] < 1:
            pass
        return Counter({k: v for k, v in status["counters"].items() if k.endswith(_LOSSES)})

    def _read_status(self) -> dict[str, Any]:
        """One that was told from now on: its numbers are of the second before it."""
        time.sleep(1.1)
        since = len(self._exporter.posted)

        def find(posted: Sequence[Posted]) -> list[Posted]:
            return [p for p in posted[since:] if p.path.endswith("status")]

        self._exporter.wait_for(lambda posted: bool(find(posted)), _STATUS_WITHIN_S)
        status: dict[str, Any] = json.loads(find(self._exporter.posted)[-1].body)
        return status


class Rows:
    """Batches that arrived, read when asked: not while anything is measured.

    What the agent sends is answered by an exporter of this benchmark, and those calls are traced at that end like any other:
    `posts_lost` of their rows are missing."""

    posts_lost = 0

    def __init__(self, posted: Sequence[Posted]) -> None:
        self._tables = [p.table() for p in posted if p.path.endswith("batch")]

    def count(self) -> int:
        """Exchanges, each end for itself."""
        return sum(len(table) for header, table in self._tables if header.kind == "exchanges")

    def count_at(self, port: int) -> int:
        """Those of a server, seen there or at its clients."""
        total = 0
        for header, table in self._tables:
            if header.kind == "exchanges":
                near, far = table["local_port"].to_numpy(), table["peer_port"].to_numpy()
                total += int(((near == port) | (far == port)).sum())
        return total

    def count_gaps(self, port: int, newest: dict[tuple[int, int], int]) -> int:
        """Rows of that server's connections that are missing before others of the same connection, which numbers its exchanges.
        `newest`: the number of each one's newest row so far, which is brought up to date."""
        total = 0
        for header, table in self._tables:
            if header.kind != "exchanges":
                continue
            near, far = table["local_port"].to_numpy(), table["peer_port"].to_numpy()
            table = table.filter((near == port) | (far == port))
            names = ("connection_id", "role", "sequence")
            for connection, role, number in zip(
                *(table[n].to_pylist() for n in names), strict=True
            ):
                missing = number - newest.get((connection, role), -1) - 1
                total += missing if missing < _MET_AGAIN else 0
                newest[connection, role] = number
        return total

    def list_starts(self, port: int) -> Iterator[int]:
        """When each exchange of that server began, Unix ns."""
        for header, table in self._tables:
            if header.kind == "exchanges":
                of_port = table.filter(table["local_port"].to_numpy() == port)
                yield from of_port["start"].cast("int64").to_pylist()

    def count_dns(self, domain: str) -> int:
        """Answers about names of a domain."""
        found = (
            name
            for header, table in self._tables
            if header.kind == "dns"
            for name in table["question"].to_pylist()
        )
        return sum(name.endswith(domain) for name in found)


def _is_exchanges(posted: Posted) -> bool:
    return posted.path.endswith("batch") and posted.table()[0].kind == "exchanges"


@cache
def compiled() -> tuple[str, ...]:
    """Words of a Python that finds the agent's byte code, without docstrings, as in its image: there no start compiles anything."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = os.environ.get("FARCALL_CACHE") or cache / "farcall"
    settings = (
        f"PYTHONPYCACHEPREFIX={place}/bytecode",
        "PYTHONDONTWRITEBYTECODE=",
        "PYTHONOPTIMIZE=2",
    )
    words = "env", *settings, sys.executable
    rooms = "import farcall.commands, farcall_probes.starting, farcall_probes.agent"
    subprocess.run([*words, "-c", rooms], check=True)
    return words


@dataclass(frozen=True, slots=True, kw_only=True)
class FarcallAgents:
    spec: dict[str, Any] | None = None
    name: str = "farcall"
    can_stop: bool = True

    @contextmanager
    def running(self) -> Iterator[Farcall]:
        with ExitStack() as stack:
            place = Path(stack.enter_context(TemporaryDirectory()))
            exporter = stack.enter_context(FakeExporter())
            config = make_config(place, exporter=exporter.url, spec=self.spec)
            ready = place / "ready"
            argv = [*compiled(), "-m", "farcall.commands", "agent", "--config"]
            started = time.monotonic()
            words = [*argv, write_config(config, place), "--ready-file", ready]
            process = stack.enter_context(running(words, log=place / "log"))
            wait_for("the agent", lambda: ready.exists() or process.poll() is not None)
            if process.poll() is not None:
                raise BenchError(f"the agent did not start: {(place / 'log').read_text()[-2000:]}")
            yield Farcall(process.pid, exporter, started)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandAgents:
    """Another agent, started by its command and stopped by SIGTERM."""

    command: str
    ready_s: float  # until it is taken to trace
    name: str = "other"
    can_stop: bool = True

    @contextmanager
    def running(self) -> Iterator[Family]:
        with running(shlex.split(self.command), stop_within_s=30) as process:
            time.sleep(self.ready_s)
            if process.poll() is not None:
                raise BenchError(f"{self.command} ended with {process.returncode}")
            yield Family(process.pid)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningAgents:
    """Another agent, which runs already and goes on."""

    pid: int
    name: str = "other"
    can_stop: bool = False

    @contextmanager
    def running(self) -> Iterator[Family]:
        yield Family(self.pid)
