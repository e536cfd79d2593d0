"""Batches of several agents written as one: each counts once, whatever fails, and none takes another down with it."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pytest

from farcall.rows import TableName
from farcall.storeport import StoreRefusedError, StoreUnavailableError
from farcall_exporter.asgi import Answer
from farcall_exporter.gathering import EVERY_S, Gathering, Pending
from farcall_exporter.groups import Member
from farcall_exporter.pipeline import OK, Pipeline
from support_exporter import (
    NS,
    T0,
    Clock,
    FakeWriter,
    batch,
    exchange,
    header,
    make_context,
    to_rows,
)

pytestmark = pytest.mark.unit

AGENTS = [f"{number:032x}" for number in range(1, 6)]
Check = Callable[[str], None]


class Noting(FakeWriter):
    """Every hand-over, also of what it has; refuses rows of the service `bad`; marks are forgotten."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.handed: list[tuple[TableName, str, int]] = []

    def write(self, tables: Mapping[TableName, pa.Table], *, token: str) -> None:
        for name, table in tables.items():
            self.handed.append((name, token, table.num_rows))
            if name == "spans" and any(r["ServiceName"] == "bad" for r in to_rows(table)):
                raise StoreRefusedError("bad rows")
        super().write(tables, token=token)

    def set_high_water(self, numbers: Mapping[str, int]) -> None:
        pass


def body(agent: str, number: int = 1, service: str = "cart") -> bytes:
    """A call of which the agent knows the sender's trace as well: rows of two tables."""
    call = exchange(
        connection_id=int(agent, 16) * 100 + number,
        start=T0 + number * NS,
        service=service,
        trace_id=b"\xab" * 16,
        parent_span_id=b"\xcd" * 8,
    )
    return batch([call], number=number, boot=agent)


def start(writer: FakeWriter) -> tuple[Pipeline, Clock]:
    clock = Clock()
    pipeline = Pipeline(writer, make_context(clock=clock))
    pipeline.start()
    return pipeline, clock


def post_together(pipeline: Pipeline, bodies: list[bytes]) -> list[Answer]:
    """All of them wait when the worker comes to the first."""
    gate = threading.Event()

    def hold() -> Answer:
        gate.wait(60)
        return OK

    pipeline.submit(hold, 0)
    futures = [pipeline.submit(lambda b=b: pipeline.build_batch(b), 1) for b in bodies]
    gate.set()
    return [future.result(60) for future in futures]


def services(writer: FakeWriter) -> list[str]:
    return sorted(row["ServiceName"] for row in writer.rows("spans"))


def test_batches_of_several_agents_are_one_insert_for_each_table() -> None:
    writer = Noting()
    pipeline, _ = start(writer)
    assert post_together(pipeline, [body(agent) for agent in AGENTS]) == [OK] * 5
    assert pipeline.stop(60)

    assert [(name, rows) for name, _, rows in writer.handed] == [("spans", 5), ("links", 5)]
    counted = pipeline.context.counters.read()
    assert (counted["commits"], counted["batches_committed"]) == (1, 5)


@pytest.mark.parametrize("returns", [0, 4])
def test_after_a_lost_answer_whoever_comes_back_hands_over_the_whole_group_again(
    returns: int,
) -> None:
    writer = Noting(fail_after_write=[StoreUnavailableError("the answer is lost")])
    pipeline, clock = start(writer)
    bodies = [body(agent) for agent in AGENTS]
    assert {answer.status for answer in post_together(pipeline, bodies)} == {503}
    assert pipeline.context.counters.read()["batches_failed"] == 5
    clock.now += 2
    assert post_together(pipeline, [bodies[returns]]) == [OK]
    assert len(writer.rows("spans")) == len(writer.rows("links")) == 5

    assert post_together(pipeline, [*bodies, body(AGENTS[0], 2)]) == [OK] * 6
    assert pipeline.stop(60)
    assert len(writer.rows("spans")) == len(writer.rows("links")) == 6
    first, again = writer.handed[:2]
    assert first == again


def test_a_batch_that_the_store_refuses_is_refused_alone() -> None:
    writer = Noting()
    pipeline, _ = start(writer)
    bodies = [body(a, service="bad" if a == AGENTS[2] else f"s{a[-1]}") for a in AGENTS]
    answers = post_together(pipeline, bodies)
    assert [answer.status for answer in answers] == [200, 200, 503, 200, 200]
    assert services(writer) == ["s1", "s2", "s4", "s5"]
    assert len(writer.rows("links")) == 4

    assert [post_together(pipeline, [bodies[2]])[0].status for _ in range(2)] == [503, 422]
    assert pipeline.stop(60)
    counted = pipeline.context.counters.read()
    assert (counted["commits_split"], counted["batches_given_up_lost"]) == (1, 1)
    assert len(writer.rows("spans")) == 4


def test_what_was_stored_before_the_refusal_is_not_handed_over_again() -> None:
    class NoLinks(Noting):
        def write(self, tables: Mapping[TableName, pa.Table], *, token: str) -> None:
            if "links" in tables and refusing:
                raise StoreRefusedError("no links")
            super().write(tables, token=token)

    refusing = [True]
    writer = NoLinks()
    pipeline, _ = start(writer)
    bodies = [body(agent) for agent in AGENTS]
    assert {answer.status for answer in post_together(pipeline, bodies)} == {503}
    refusing.clear()
    assert post_together(pipeline, bodies) == [OK] * 5
    assert pipeline.stop(60)

    assert [name for name, _, _ in writer.handed] == ["spans", "links"]
    assert len(writer.rows("spans")) == len(writer.rows("links")) == 5


def test_a_group_that_may_be_stored_and_is_then_refused_is_compared_with_the_store() -> None:
    class Fickle(Noting):
        def write(self, tables: Mapping[TableName, pa.Table], *, token: str) -> None:
            if (token, "spans") in self.tokens and token.startswith("group:"):
                raise StoreRefusedError("not so many at once")
            super().write(tables, token=token)

    writer = Fickle(fail_after_write=[StoreUnavailableError("the answer is lost")])
    pipeline, clock = start(writer)
    bodies = [body(agent) for agent in AGENTS]
    assert {answer.status for answer in post_together(pipeline, bodies)} == {503}
    clock.now += 2
    assert post_together(pipeline, bodies) == [OK] * 5
    assert pipeline.stop(60)

    assert len(writer.rows("spans")) == len(writer.rows("links")) == 5


@pytest.mark.parametrize("failure", [None, StoreUnavailableError("the answer is lost")])
def test_a_batch_of_a_group_of_an_exporter_that_was_killed_counts_once(
    failure: StoreUnavailableError | None,
) -> None:
    """Whether it was whole or not; and nobody will hand over that group again."""
    writer = Noting(fail_after_write=[failure] if failure else [])
    pipeline, _ = start(writer)
    bodies = [body(agent) for agent in AGENTS]
    post_together(pipeline, bodies)
    after, _ = start(writer)
    assert post_together(after, bodies[1:4]) == [OK] * 3
    assert post_together(after, [body(agent, 2) for agent in AGENTS[1:4]]) == [OK] * 3

    stored = [row["SpanId"] for row in writer.rows("spans")]
    assert len(stored) == len(set(stored)) == 8
    assert after.stop(60)
    pipeline.writer = FakeWriter()
    assert pipeline.stop(60)


def test_a_full_disk_turns_away_all_of_a_group_and_counts_each() -> None:
    full = StoreUnavailableError("The store's disk is full: 3 MiB are left")
    pipeline, clock = start(Noting(fail_with=[full]))
    answers = post_together(pipeline, [body(agent) for agent in AGENTS])

    assert {answer.status for answer in answers} == {503}
    assert all(b"disk is full" in answer.body for answer in answers)
    assert pipeline.context.counters.read()["batches_failed"] == 5
    clock.now += 11
    assert pipeline.store_trouble == str(full)
    assert pipeline.stop(60)


def test_one_agent_waits_for_nobody_and_several_wait_a_little() -> None:
    clock = Clock()
    gathering = Gathering(is_alone=False, clock=clock)

    def add(agent: str, rows: int = 1) -> None:
        token = f"{agent}:{clock.now}"
        gathering.add(Pending(header(boot=agent), Member(token, {}, rows)))

    assert gathering.wait_s() is None
    for _ in range(3):
        add(AGENTS[0])
        assert gathering.wait_s() == 0
        gathering.take()
    add(AGENTS[0])
    add(AGENTS[1])
    assert gathering.wait_s() == EVERY_S
    clock.now += EVERY_S
    assert gathering.wait_s() == 0
    assert len(gathering.take()) == 2
    add(AGENTS[1], rows=10_000)
    assert gathering.wait_s() == 0 and not gathering.is_full
    gathering.take()
    clock.now += 10
    add(AGENTS[2])
    assert gathering.wait_s() == 0


def test_where_the_store_knows_each_batch_by_its_token_none_is_gathered() -> None:
    gathering = Gathering(is_alone=True, clock=Clock())
    gathering.add(Pending(header(boot=AGENTS[0]), Member("a:1", {}, 1)))

    assert gathering.is_full and gathering.wait_s() == 0
    assert gathering.holds("a:1") and not gathering.holds("a:2")
