"""What an exporter says of agents that cannot use the DNS cache: their own words, once it lasts."""

from dataclasses import dataclass, field

import pytest

from farcall.envelope import DNS_CACHE, Capability
from farcall_exporter.agentlist import ASK_EVERY_S, CACHE_TROUBLE_AFTER_S, NS, AgentList
from farcall_exporter.counters import Counters
from farcall_exporter.ingest import agent_component
from support_exporter import FakeWriter
from support_status import make_agent_status

pytestmark = pytest.mark.unit

FULL = Capability(name=DNS_CACHE, on=False, why="Redis is full", cost="names")
GONE = Capability(name=DNS_CACHE, on=False, why="Redis cannot be reached", cost="names")
WELL = Capability(name=DNS_CACHE, on=True)
OTHER = Capability(name="tls", on=False, why="no library", cost="HTTPS")


@dataclass
class Heard:
    now: float = 100.0
    writer: FakeWriter = field(default_factory=FakeWriter)

    def __post_init__(self) -> None:
        self.agents = AgentList(Counters(), clock=lambda: self.now, wall_ns=self.wall_ns)

    def wall_ns(self) -> int:
        return int(self.now * NS)

    def hear(self, *capabilities: Capability) -> None:
        self.agents.hear(make_agent_status(capabilities=capabilities))

    def hear_elsewhere(self, *capabilities: Capability, ahead_ns: int = 0) -> None:
        """Another exporter does, and the store tells of it. `ahead_ns`: of the agent's clock."""
        self.now += ASK_EVERY_S
        status = make_agent_status(capabilities=capabilities, time_ns=self.wall_ns() + ahead_ns)
        self.writer.write_status(agent_component(status))

    def trouble(self) -> str:
        (sight,) = self.agents.read(self.writer)
        return sight.cache_trouble


def test_it_is_told_once_it_lasts_in_the_words_of_today() -> None:
    heard = Heard()
    heard.hear(OTHER, GONE)
    assert heard.trouble() == ""
    heard.now += CACHE_TROUBLE_AFTER_S - 1
    heard.hear(OTHER, FULL)
    assert heard.trouble() == ""
    heard.now += 1
    heard.hear(OTHER, FULL)
    assert heard.trouble() == "Redis is full"


def test_one_word_is_not_made_older_by_silence() -> None:
    heard = Heard()
    heard.hear(FULL)
    heard.now += 10 * CACHE_TROUBLE_AFTER_S
    assert heard.trouble() == ""


def test_a_good_word_ends_it() -> None:
    heard = Heard()
    heard.hear(FULL)
    heard.now += CACHE_TROUBLE_AFTER_S
    heard.hear(FULL)
    heard.hear(WELL)
    assert heard.trouble() == ""
    heard.hear(FULL)
    assert heard.trouble() == ""


def test_agents_that_speak_to_another_exporter_are_told_of_too() -> None:
    heard = Heard()
    heard.hear_elsewhere(FULL)
    assert heard.trouble() == ""
    heard.now += CACHE_TROUBLE_AFTER_S
    heard.hear_elsewhere(OTHER, FULL)
    assert heard.trouble() == "Redis is full"
    heard.hear_elsewhere(WELL)
    assert heard.trouble() == ""


def test_a_node_whose_clock_goes_before_ours_is_told_of_too() -> None:
    """By the store it has spoken later than we heard it."""
    heard = Heard()
    for _ in range(3):
        heard.hear_elsewhere(FULL, ahead_ns=2 * NS)
        heard.hear(FULL)
        heard.now += 1
        said = heard.trouble()
        heard.now += CACHE_TROUBLE_AFTER_S

    assert said == "Redis is full"
