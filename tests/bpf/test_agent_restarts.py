"""An agent that ends and comes back under load: each call is seen once, or it is known why it was not."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from farcall.envelope import STATUS_PATH
from farcall.exchange import BatchHeader
from support_agent import FakeExporter
from support_agent_counts import count_losses, running_agent
from support_steady import Call, Load, running_load

pytestmark = pytest.mark.bpf

ENOUGH = 600
CLIENT, SERVER = 0, 1


class Sights:
    """What was told of the load's calls: by role and boot, how often each path, and the end of the newest."""

    def __init__(self, exporter: FakeExporter, load: Load) -> None:
        self._exporter, self._port = exporter, load.port

    def read(self) -> dict[tuple[str, int], Counter[str]]:
        found: dict[tuple[str, int], Counter[str]] = {}
        for header, table in self._tables():
            for role, column in ((CLIENT, "peer_port"), (SERVER, "local_port")):
                ours = pc.and_(pc.equal(table["role"], role), pc.equal(table[column], self._port))
                paths = table.filter(ours)["target"].to_pylist()
                found.setdefault((header.boot_id, role), Counter()).update(paths)
        return found

    def _tables(self) -> list[tuple[BatchHeader, Any]]:
        tables = (p.table() for p in list(self._exporter.posted) if p.path != STATUS_PATH)
        return [(header, table) for header, table in tables if header.kind == "exchanges"]

    def count(self) -> int:
        return sum(sum(paths.values()) for paths in self.read().values())

    def wait_for(self, more: int) -> None:
        wanted = self.count() + more
        self._exporter.wait_for(lambda _: self.count() >= wanted, within_s=60)

    def newest_ns(self, boot_id: str) -> dict[int, int]:
        """By role, when the newest call of this boot was answered."""
        newest = {CLIENT: 0, SERVER: 0}
        for header, table in self._tables():
            if header.boot_id != boot_id:
                continue
            for role, column in ((CLIENT, "peer_port"), (SERVER, "local_port")):
                ours = pc.and_(pc.equal(table["role"], role), pc.equal(table[column], self._port))
                rows = table.filter(ours)
                starts = rows["start"].cast("int64").to_pylist()
                for start, duration in zip(starts, rows["duration_ns"].to_pylist(), strict=True):
                    newest[role] = max(newest[role], start + duration)
        return newest

    def statuses(self) -> list[dict[str, Any]]:
        return [json.loads(p.body) for p in list(self._exporter.posted) if p.path == STATUS_PATH]


def merge(found: dict[tuple[str, int], Counter[str]], role: int) -> Counter[str]:
    return sum((paths for (_, r), paths in found.items() if r == role), Counter())


def split_boots(
    statuses: list[dict[str, Any]],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    first = statuses[0]["boot_id"]
    return (
        [s for s in statuses if s["boot_id"] == first],
        [s for s in statuses if s["boot_id"] != first],
    )


def paths_of(calls: list[Call]) -> set[str]:
    return {call.path for call in calls}


def test_a_restart_loses_what_was_in_flight_or_made_meanwhile_and_says_both(tmp_path: Path) -> None:
    with FakeExporter() as exporter, running_load() as load:
        sights = Sights(exporter, load)
        with running_agent(tmp_path, exporter):
            sights.wait_for(ENOUGH)
        with running_agent(tmp_path, exporter):
            sights.wait_for(ENOUGH)
            made = load.finish()
        found = sights.read()
        before, after = split_boots(sights.statuses())

    last, first = before[-1], after[0]
    ended_ns, started_ns = last["ended_ns"], first["started_ns"]
    assert 0 < ended_ns < started_ns
    watched = [(before[-1]["started_ns"], ended_ns), (started_ns, after[-1]["ended_ns"])]
    due = paths_of([c for c in made if any(a < c.begin_ns and c.end_ns < b for a, b in watched)])
    in_flight = paths_of([c for c in made if c.taken_ns < ended_ns < c.end_ns])
    missed, unseen = 0, 0
    for role in (CLIENT, SERVER):
        seen = merge(found, role)
        assert set(seen.values()) == {1}
        missed += len(due - seen.keys())
        unseen += len(in_flight - seen.keys())
    # Nothing else is lost, unless others of this machine filled the rings meanwhile.
    lost = count_losses(last) - last["counters"]["in_flight_lost"], count_losses(after[-1])
    assert missed <= sum(lost)
    assert 2 <= unseen <= last["counters"]["in_flight_lost"] + lost[0]  # one is held all the time


def test_what_a_killed_agent_had_told_is_whole_and_the_next_one_sees_all(tmp_path: Path) -> None:
    with FakeExporter() as exporter, running_load() as load:
        sights = Sights(exporter, load)
        with running_agent(tmp_path, exporter) as agent:
            sights.wait_for(ENOUGH)
            agent.kill()
            agent.wait()
        boot = sights.statuses()[0]["boot_id"]
        told_ns = sights.newest_ns(boot)
        with running_agent(tmp_path, exporter):
            sights.wait_for(ENOUGH)
            made = load.finish()
        found = sights.read()
        before, after = split_boots(sights.statuses())

    assert before[-1]["ended_ns"] == 0
    started_ns = after[0]["started_ns"]
    missed = 0
    for role in (CLIENT, SERVER):
        seen = merge(found, role)
        assert set(seen.values()) == {1}
        due = [c for c in made if c.begin_ns > started_ns and c.end_ns < after[-1]["ended_ns"]]
        due += [
            c for c in made if c.begin_ns > before[-1]["started_ns"] and c.end_ns < told_ns[role]
        ]
        missed += len(paths_of(due) - seen.keys())
    assert missed <= count_losses(before[-1]) + count_losses(after[-1])
