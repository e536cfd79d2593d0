"""Rows find their exporter: both ends of a call the same one, whichever agent sends them and whenever it heard of the exporters."""

import collections

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall.arrowschemas import SCHEMAS
from farcall.exchange import ExchangeFlag
from farcall_probes.arrowreading import convert
from farcall_probes.arrowstream import Batch
from farcall_probes.copies import Copies
from farcall_probes.routing import NS, Members, read_keys
from support_agent import read_batch
from support_exporter import T0, Row, asked_for, exchange, identified, seen_from_server, to_table

pytestmark = pytest.mark.unit

TWO = ("10.0.0.1", "10.0.0.2")
THREE = (*TWO, "10.0.0.3")


def batch_of(*rows: Row) -> Batch:
    [batch] = to_table("exchanges", rows).combine_chunks().to_batches()
    return convert("exchanges", batch)


def calls(count: int) -> list[Row]:
    return [identified(client=n * 7 + 1, server=n * 13 + 5, start=T0 + n) for n in range(count)]


def owners(members: Members, *rows: Row) -> list[str]:
    batch = batch_of(*rows)
    starts = np.array([row["start"] for row in rows], np.int64)
    return [members.all[at].address for at in members.choose(read_keys(batch), starts).tolist()]


def test_both_ends_of_a_connection_go_to_one_exporter_and_all_get_their_share() -> None:
    members = Members().update(THREE, T0)
    clients = calls(3_000)
    servers = [seen_from_server(row) for row in clients]

    chosen = owners(members, *clients)
    assert owners(members, *servers) == chosen
    assert all(900 < n < 1_100 for n in collections.Counter(chosen).values())


def test_a_connection_without_identity_goes_by_its_ends_whichever_comes_first() -> None:
    members = Members().update(THREE, T0)
    client = exchange(peer_address="10.244.0.15")

    assert owners(members, client) == owners(members, seen_from_server(client))


def test_the_order_in_which_exporters_are_found_does_not_matter() -> None:
    rows = calls(100)
    assert owners(Members().update(THREE, T0), *rows) == owners(
        Members().update(reversed(THREE), T0), *rows
    )


def test_one_that_goes_moves_only_what_it_had() -> None:
    before = Members().update(THREE, T0)
    after = before.update(TWO, T0)
    rows = calls(2_000)

    for was, now in zip(owners(before, *rows), owners(after, *rows), strict=True):
        assert now == was or was == "10.0.0.3"


def test_one_that_comes_takes_only_calls_of_the_next_epoch() -> None:
    rows = calls(500)
    before = Members().update(TWO, T0)
    after = before.update(THREE, T0)

    assert owners(after, *rows) == owners(before, *rows)
    later = [{**row, "start": row["start"] + 90 * NS} for row in rows]
    moved = [
        now
        for was, now in zip(owners(before, *later), owners(after, *later), strict=True)
        if was != now
    ]
    assert set(moved) == {"10.0.0.3"}


def test_agents_that_hear_of_it_seconds_apart_agree_on_every_call() -> None:
    rows = [{**row, "start": T0 + n * NS // 4} for n, row in enumerate(calls(600))]
    early = Members().update(TWO, T0).update(THREE, T0 + 2 * NS)
    late = Members().update(TWO, T0).update(THREE, T0 + 31 * NS)

    assert owners(early, *rows) == owners(late, *rows)


def test_where_all_are_new_they_take_everything_at_once() -> None:
    replaced = Members().update(("10.0.0.9",), T0).update(TWO, T0)

    assert set(owners(replaced, *calls(50))) == set(TWO)


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(0, 5))
def test_gathered_rows_are_those_that_arrow_takes(rows: list[int], begin: int) -> None:
    table = to_table(
        "exchanges",
        [
            exchange(
                sequence=n,
                target=None if n % 3 == 0 else "/ä" * n,
                query="" if n % 2 else "q=?",
                host=None,
                service=f"s{n % 4}",
                pod=None if n % 2 else f"p{n}",
                trace_id=None if n % 2 else bytes([n]) * 16,
                cause_connection_id=None if n % 4 else n,
            )
            for n in range(16)
        ],
    ).combine_chunks()
    [batch] = table.to_batches()
    batch = batch.slice(begin, 10)
    wanted = pa.array(rows, pa.int64())

    made = read_batch(convert("exchanges", batch).take(np.array(rows, np.int64)))
    assert made.to_pylist() == batch.take(wanted).to_pylist()
    assert made.schema.equals(SCHEMAS["exchanges"])


def served_and_asked() -> tuple[Row, Row]:
    served = seen_from_server(identified(seq=1, client=1, server=2), sequence=3)
    return served, asked_for(served)


@pytest.mark.parametrize("order", [("asked", "served"), ("served", "asked"), ("both",)])
def test_the_exporter_of_a_request_is_told_the_one_that_caused_it(order: tuple[str, ...]) -> None:
    served, asked = served_and_asked()
    flushes = {"served": [(served, "a")], "asked": [(asked, "b")]}
    flushes["both"] = [*flushes["asked"], *flushes["served"]]
    copies = Copies()
    told = [
        copy
        for name in order
        for copy in copies.find(
            batch_of(*(row for row, _ in flushes[name])), [to for _, to in flushes[name]]
        )
    ]

    [(exporter, copy)] = told
    [row] = read_batch(copy).to_pylist()
    assert (exporter, row["sequence"], row["role"]) == ("b", 3, 1)
    assert row["flags"] == served["flags"] | ExchangeFlag.COPY
    assert copies.counters["causes_copied"] == 1


def test_nothing_is_copied_where_one_exporter_has_both() -> None:
    served, asked = served_and_asked()

    assert Copies().find(batch_of(asked, served), ["a", "a"]) == []
