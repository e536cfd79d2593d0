"""What an exporter says of an agent that came back: how long nobody watched its node, and what was in flight."""

from typing import Any

import pytest

from farcall_exporter.agentlist import AgentList
from farcall_exporter.counters import Counters
from support_status import make_agent_status

pytestmark = pytest.mark.unit

S = 1_000_000_000
FIRST, SECOND = {"boot_id": "a" * 32, "started_ns": 10 * S}, {"boot_id": "b" * 32}


def hear(*statuses: dict[str, Any]) -> dict[str, int]:
    """The counters of agents' restarts that are not 0."""
    counters = Counters()
    agents = AgentList(counters, clock=lambda: 0.0)
    for status in statuses:
        agents.hear(make_agent_status(**status))
    return {k.removeprefix("agent_"): n for k, n in counters.read().items() if n}


def test_one_that_announced_its_end_left_a_gap_and_what_was_in_flight() -> None:
    told = {**FIRST, "time_ns": 22 * S, "ended_ns": 20 * S, "counters": {"in_flight_lost": 7}}

    assert hear(FIRST, told, {**SECOND, "started_ns": 20 * S + 1_500_000_000}) == {
        "restarts": 1,
        "unwatched_ms": 1_500,
        "in_flight_lost": 7,
    }


def test_of_one_that_was_killed_the_gap_begins_with_its_last_word() -> None:
    told = {**FIRST, "time_ns": 20 * S, "counters": {"in_flight_lost": 7}}

    assert hear(told, {**SECOND, "started_ns": 24 * S}) == {
        "restarts": 1,
        "restarts_unannounced": 1,
        "unwatched_ms": 4_000,
    }


def test_one_that_watches_before_the_other_ended_leaves_no_gap() -> None:
    told = {**FIRST, "time_ns": 22 * S, "ended_ns": 22 * S}

    assert hear(told, {**SECOND, "started_ns": 21 * S}) == {"restarts": 1}


def test_late_words_of_the_one_before_are_no_restart() -> None:
    told = {**FIRST, "time_ns": 22 * S, "ended_ns": 22 * S}
    second = {**SECOND, "started_ns": 22 * S}

    assert hear(told, second, told, second)["restarts"] == 1


def test_agents_of_other_nodes_are_not_taken_for_it() -> None:
    assert hear(FIRST, {**SECOND, "node": "n2", "started_ns": 30 * S}) == {}
