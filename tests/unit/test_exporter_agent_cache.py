"""What an exporter says of agents that cannot use the DNS cache: their own words, once it lasts."""

from dataclasses import dataclass, field

import pytest

from farcall.envelope import DNS_CACHE, Capability
from farcall.storeport import Writer
from farcall_exporter.agentlist import CACHE_TROUBLE_AFTER_S, AgentList
from farcall_exporter.counters import Counters
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
    writer: Writer = field(default_factory=FakeWriter)

    def __post_init__(self) -> None:
        self.agents = AgentList(Counters(), clock=lambda: self.now, wall_ns=lambda: 0)

    def hear(self, *capabilities: Capability) -> None:
        self.agents.hear(make_agent_status(capabilities=capabilities))

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
