"""No interleaving of answers, expiries, connects, restarts, outages and calls gives a name that the rules of naming do not allow.

Held against what really happened, which the world remembers and farcall cannot see. The rules: docs/design.md, names.
"""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from farcall.names import UNKNOWN_EXTERNAL_SERVICE, Confidence, NameSource, UnknownReason
from farcall_exporter.lookups import FRESH_S, RETRY_AFTER_S
from support_agent import NS
from support_exporter import Row
from support_naming_world import FIRST_TGID, TTL_S, Link, Told, World

pytestmark = pytest.mark.unit

IPS = ("203.0.113.10", "203.0.113.11")
NAMES = ("a.example", "b.example", "c.example")
CLIENTS = st.integers(min_value=1, max_value=3)
PORTS = st.integers(min_value=1, max_value=2)
WAITS_S = (0.001, 0.5, 4.0, 11.0, 600.0, 1_900.0, 3_700.0)


class NamesOverTime(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.world.pass_time(1.0)

    def teardown(self) -> None:
        self.world.close()

    # ---- what happens -----------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from(WAITS_S))
    def time_passes(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule(
        client=CLIENTS, ip=st.sampled_from(IPS), name=st.sampled_from(NAMES), trusted=st.booleans()
    )
    def a_client_is_told_a_name(self, client: int, ip: str, name: str, trusted: bool) -> None:
        self.world.answer(client, ip, name, trusted=trusted)
        self.world.pass_time(0.001)

    @rule(client=CLIENTS, ip=st.sampled_from(IPS), port=PORTS)
    def a_client_connects(self, client: int, ip: str, port: int) -> None:
        self.world.connect(client, ip, port)
        self.world.pass_time(0.001)

    @rule(client=CLIENTS, ip=st.sampled_from(IPS), name=st.sampled_from(NAMES), port=PORTS)
    def a_client_looks_up_and_calls(self, client: int, ip: str, name: str, port: int) -> None:
        self.a_client_is_told_a_name(client, ip, name, True)
        self.a_client_connects(client, ip, port)
        self.call(self.world.links[-1])

    @precondition(lambda self: self.world.links)
    @rule(data=st.data())
    def a_connection_is_used(self, data: st.DataObject) -> None:
        self.call(data.draw(st.sampled_from(self.world.links)))

    @precondition(lambda self: self.world.links)
    @rule(data=st.data())
    def a_connection_is_used_until_it_is_remembered(self, data: st.DataObject) -> None:
        link = data.draw(st.sampled_from(self.world.links))
        self.world.pass_time(11.0)
        self.call(link)

    @rule(client=CLIENTS, ip=st.sampled_from(IPS), name=st.sampled_from(NAMES), port=PORTS)
    def a_port_is_used_again_while_no_agent_runs(
        self, client: int, ip: str, name: str, port: int
    ) -> None:
        self.world.stop_agent()
        self.world.answer(client, ip, name, trusted=True)
        self.world.pass_time(0.001)
        link = self.world.connect(client, ip, port)
        self.the_agent_begins()
        self.call(link)

    @precondition(lambda self: self.world.life is not None)
    @rule()
    def the_agent_ends(self) -> None:
        self.world.stop_agent()

    @precondition(lambda self: self.world.life is None)
    @rule()
    def the_agent_begins(self) -> None:
        self.world.start_agent()
        self.world.pass_time(0.001)

    @rule()
    def the_agent_restarts(self) -> None:
        self.world.stop_agent()
        self.the_agent_begins()

    @rule()
    def the_exporter_restarts(self) -> None:
        self.world.restart_exporter()

    @rule()
    def redis_loses_all(self) -> None:
        if not self.world.redis.down:
            self.world.lose_redis()

    @precondition(lambda self: self.world.redis.list_keys())
    @rule(data=st.data())
    def redis_gives_an_entry_up_for_room(self, data: st.DataObject) -> None:
        """Any of them: which one is nearest to its expiry depends on what else Redis holds."""
        self.world.give_up(data.draw(st.sampled_from(self.world.redis.list_keys())))

    @rule(down=st.booleans())
    def redis_comes_and_goes(self, down: bool) -> None:
        self.world.set_redis(down=down)

    # ---- what must hold ---------------------------------------------------------------------------------------

    def call(self, link: Link) -> None:
        span = self.world.call(link)
        if span is not None:
            judge(self.world, link, span)
        self.world.pass_time(0.001)


def judge(world: World, link: Link, span: Row) -> None:
    attributes = dict(span["SpanAttributes"])
    label = span["DestinationLabel"]
    source, confidence = (
        attributes.get("farcall.name.source"),
        attributes.get("farcall.name.confidence"),
    )
    reason = attributes.get("farcall.unknown.reason")
    mine = [t for t in world.told if (t.client, t.ip) == (link.client, link.ip)]
    if reason is not None:
        check_reason(world, link, mine, UnknownReason(reason))
        return
    assert (source, confidence) in CHECKS, (source, confidence)
    CHECKS[(source, confidence)](world, link, mine, label)


def is_fresh(world: World, told: Told) -> bool:
    return world.now_ns - told.at_ns < TTL_S * NS


def opened_with(link: Link, mine: list[Told]) -> Told | None:
    """The truth: the newest answer of this client before the connect, seen by anybody or not."""
    before = [t for t in mine if t.at_ns <= link.opened_ns]
    return before[-1] if before else None


def check_answer(world: World, link: Link, mine: list[Told], label: str) -> None:
    """The agent saw both the answer and the connect: it is the true one, and within its time."""
    used = opened_with(link, mine)
    assert link.life == world.life
    assert used is not None and used.name == label and is_fresh(world, used)


def check_binding(world: World, link: Link, mine: list[Told], label: str) -> None:
    """An earlier agent saw both."""
    used = opened_with(link, mine)
    assert link.life not in (None, world.life)
    assert used is not None and used.name == label and is_fresh(world, used)


def check_own(world: World, link: Link, mine: list[Told], label: str) -> None:
    """The client was told this name, and nothing known to be held says that it may have used another."""
    told = [t for t in mine if t.life is not None and t.name == label and is_fresh(world, t)]
    assert told
    if link.life == world.life:
        used = opened_with(link, mine)
        assert used is None or used.life != world.life or used.name == label
    else:
        held = {t.name for t in known_to_name(world, link, mine)}
        assert held <= {label}


def known_to_name(world: World, link: Link, mine: list[Told]) -> list[Told]:
    """What this agent saw the client be told, as far as it can speak of this connection: before its connect where the agent saw
    that, else as soon as the exporter reads Redis anew."""
    if link.life == world.life:
        return [t for t in mine if t.life == world.life and t.at_ns <= link.opened_ns]
    return [t for t in mine if t.life == world.life and world.now_ns - t.at_ns > FRESH_S * NS]


def check_shared(world: World, link: Link, mine: list[Told], label: str) -> None:
    """Only for a client that may have asked unseen, from trusted resolvers, and one name as far as this agent knows. What Redis
    gave up together with its tombstone leaves nothing behind that could speak against it."""
    assert world.began[link.client] <= world.watched_since_ns or link.life != world.life
    if not has_lost_trace(world, link):
        assert not [t for t in known_to_name(world, link, mine) if is_fresh(world, t)]
    trusted = [t for t in world.told if t.ip == link.ip and t.trusted and t.life is not None]
    assert label in {t.name for t in trusted if is_fresh(world, t)}


def has_lost_trace(world: World, link: Link) -> bool:
    """Whether Redis gave up both what this client was told of the address and that it was told anything."""
    own = f":{FIRST_TGID + link.client}:"
    kinds = {k[:2] for k in world.given_up if own in k and k.endswith(f":{link.ip}")}
    return {"a:", "t:"} <= kinds


def has_tombstone(world: World, link: Link) -> bool:
    own = f":{FIRST_TGID + link.client}:"
    keys = world.redis.list_keys() if not world.redis.down else []
    return any(k.startswith("t:") and own in k and k.endswith(f":{link.ip}") for k in keys)


CHECKS = {
    (NameSource.DNS, Confidence.EXACT): check_answer,
    (NameSource.CACHE, Confidence.EXACT): check_binding,
    (NameSource.CACHE, Confidence.CLIENT): check_own,
    (NameSource.CLUSTER, Confidence.SHARED): check_shared,
}


def check_reason(world: World, link: Link, mine: list[Told], reason: UnknownReason) -> None:
    """What the agent at hand saw from end to end has its name, or is expired; silence is only said of the silent.

    An expired answer is remembered for as long as its tombstone lives. After that nothing tells it from one that nobody saw.
    """
    seen = [t for t in mine if t.life == world.life and t.at_ns <= link.opened_ns]
    is_whole = link.life == world.life and bool(seen)
    if is_whole and (is_fresh(world, seen[-1]) or has_tombstone(world, link)):
        assert reason is UnknownReason.EXPIRED, reason
        assert not is_fresh(world, seen[-1])
    if reason is UnknownReason.EXPIRED:
        assert any(t.life is not None and not is_fresh(world, t) for t in mine)
    if reason is UnknownReason.CACHE_EVICTED:
        who = [key for key in world.given_up if key.startswith("a:") and key.endswith(link.ip)]
        assert who, "nothing was given up"
        assert any(t.life is not None and is_fresh(world, t) for t in mine)
    if reason is UnknownReason.NO_DNS_SEEN:
        assert world.began[link.client] > world.watched_since_ns
    if reason is UnknownReason.CACHE_UNAVAILABLE:
        assert world.redis.down or world.now_ns - world.redis_back_ns < RETRY_AFTER_S * NS


TestNamesOverTime = NamesOverTime.TestCase
TestNamesOverTime.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def remembered(world: World) -> Link:
    """A connection of client 1 to `a.example`, old enough to have its binding in Redis."""
    world.pass_time(1.0)
    world.answer(1, IPS[0], "a.example", trusted=True)
    link = world.connect(1, IPS[0], 1)
    world.call(link)
    world.pass_time(11.0)
    world.call(link)
    return link


def label_of(span: Row | None) -> str:
    assert span is not None
    return str(span["DestinationLabel"])


def test_a_connection_keeps_its_name_over_a_restart_of_the_agent_and_the_loss_of_redis() -> None:
    world = World()
    link = remembered(world)
    world.answer(1, IPS[0], "b.example", trusted=True)
    world.lose_redis()
    world.stop_agent()
    world.start_agent()

    assert label_of(world.call(link)) == "a.example"
    world.close()


def test_an_entry_that_redis_gave_up_is_said_to_be_evicted() -> None:
    world = World()
    world.pass_time(1.0)
    world.answer(1, IPS[0], "a.example", trusted=False)
    link = world.connect(1, IPS[0], 1)
    world.call(link)
    world.stop_agent()
    world.start_agent()
    [key] = [key for key in world.redis.list_keys() if key.startswith("a:")]
    world.give_up(key)
    span = world.call(link)

    assert label_of(span) == UNKNOWN_EXTERNAL_SERVICE
    assert dict(span["SpanAttributes"])["farcall.unknown.reason"] == UnknownReason.CACHE_EVICTED  # type: ignore[index]
    world.close()


def test_a_port_that_is_used_again_unseen_does_not_take_the_name_of_before() -> None:
    world = World()
    remembered(world)
    world.stop_agent()
    world.answer(1, IPS[0], "b.example", trusted=True)
    again = world.connect(1, IPS[0], 1)
    world.start_agent()
    world.answer(1, IPS[0], "b.example", trusted=True)
    span = world.call(again)

    assert label_of(span) == UNKNOWN_EXTERNAL_SERVICE
    assert dict(span["SpanAttributes"])["farcall.unknown.reason"] == UnknownReason.AMBIGUOUS  # type: ignore[index]
    world.close()


def test_a_connection_older_than_the_agent_keeps_its_name_when_redis_comes_back_empty() -> None:
    world = World()
    link = remembered(world)
    world.stop_agent()
    world.start_agent()
    world.lose_redis()

    assert label_of(world.call(link)) == "a.example"
    world.close()


def test_a_name_is_read_back_once_redis_can_be_asked() -> None:
    world = World()
    link = remembered(world)
    world.stop_agent()
    world.set_redis(down=True)
    world.start_agent()
    world.pass_time(60.0)
    world.set_redis(down=False)
    world.lose_redis()

    assert label_of(world.call(link)) == "a.example"
    world.close()
