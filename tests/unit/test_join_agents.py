"""How long a server's sight waits for its client's: for as long as an agent that lives may still report it."""

import pytest

from farcall_exporter.sights import Sight
from farcall_exporter.waiting import MAX_HOLD_S
from support_cluster_objects import node, pod, put
from support_exporter import NS, OTHER_BOOT, T0, identified, seen_from_server
from support_join import Exporter

pytestmark = pytest.mark.unit

CLIENT = "10.244.0.5"  # the address that `identified` calls from
PAST = T0 + 10 * NS
THIRD_BOOT = "1" * 32
EARLIER = identified(seq=5, isn_client=5, start=T0 - 10 * NS)


def wait_kept(exporter: Exporter, at_most_s: int = 40, **said: int) -> float:
    """For how long its one sight waited, while the other agent goes on to say the same of itself."""
    for second in range(1, at_most_s + 1):
        exporter.hear(OTHER_BOOT, **said)
        exporter.wait(1)
        if exporter.context.counters.read()["sights_kept"]:
            return second
    raise AssertionError("it was not kept")


@pytest.fixture
def exporter() -> Exporter:
    return Exporter()


def test_the_agent_of_the_clients_address_is_waited_for_and_its_sight_becomes_the_span(
    exporter: Exporter,
) -> None:
    client = identified()
    exporter.take(EARLIER, boot=OTHER_BOOT)  # from the same address
    exporter.take(seen_from_server(client))
    for _ in range(10):
        exporter.hear(OTHER_BOOT)
        exporter.wait(1)
    exporter.take(client, boot=OTHER_BOOT)
    exporter.wait(60)

    assert [s["SpanKind"] for s in exporter.spans] == ["Client", "Client"]
    assert exporter.spans[1]["SpanAttributes"]["farcall.join"] == "exact"


def test_an_agent_that_died_is_not_waited_for(exporter: Exporter) -> None:
    exporter.take(EARLIER, boot=OTHER_BOOT)
    exporter.wait(16)
    exporter.take(seen_from_server(identified()))
    exporter.wait(5.5)

    assert exporter.context.counters.read()["sights_kept"] == 1


def test_one_that_dies_meanwhile_is_waited_for_no_longer(exporter: Exporter) -> None:
    exporter.take(EARLIER, boot=OTHER_BOOT)
    exporter.take(seen_from_server(identified()))
    exporter.wait(14)
    assert exporter.context.counters.read()["sights_kept"] == 0
    exporter.wait(2)
    assert exporter.context.counters.read()["sights_kept"] == 1


@pytest.mark.parametrize("how", ["row", "status"])
def test_an_agent_that_has_reported_past_the_call_is_not_waited_for(
    exporter: Exporter, how: str
) -> None:
    exporter.take(EARLIER, boot=OTHER_BOOT)
    exporter.take(seen_from_server(identified()))
    if how == "row":
        exporter.take(identified(seq=6, isn_client=6, start=PAST), boot=OTHER_BOOT)
        assert wait_kept(exporter) == 5
    else:
        assert wait_kept(exporter, reported_ns=PAST) == 5


def test_clocks_of_two_nodes_may_differ_by_two_seconds(exporter: Exporter) -> None:
    exporter.take(EARLIER, boot=OTHER_BOOT)
    exporter.take(seen_from_server(identified()))

    assert wait_kept(exporter, reported_ns=T0 + NS) == MAX_HOLD_S


def test_nobody_is_waited_for_longer_than_the_cap(exporter: Exporter) -> None:
    exporter.take(EARLIER, boot=OTHER_BOOT)
    exporter.take(seen_from_server(identified()))

    assert wait_kept(exporter) == MAX_HOLD_S


def test_of_an_address_that_nobody_has_spoken_of_any_agent_is_waited_for(
    exporter: Exporter,
) -> None:
    exporter.take(seen_from_server(identified()))

    assert wait_kept(exporter) == MAX_HOLD_S


def test_and_for_none_once_all_have_reported_past_the_call(exporter: Exporter) -> None:
    exporter.take(seen_from_server(identified()))

    assert wait_kept(exporter, reported_ns=PAST) == 5


@pytest.mark.parametrize(
    ("name", "waited_s"),
    [("node-2", MAX_HOLD_S), ("node-3", 5), ("node-4", 5)],
    ids=["has the silent agent", "has one that has reported", "has none"],
)
def test_of_a_new_pod_the_agent_of_its_node_is_waited_for(
    exporter: Exporter, name: str, waited_s: float
) -> None:
    put(exporter.context.catalog, pod("web", CLIENT, node=name))
    exporter.hear(THIRD_BOOT, node="node-3", reported_ns=PAST)
    exporter.take(seen_from_server(identified()))

    assert wait_kept(exporter) == waited_s


@pytest.mark.parametrize(("name", "waited_s"), [("node-2", MAX_HOLD_S), ("node-4", 5)])
def test_of_what_calls_from_a_nodes_own_address_too(
    exporter: Exporter, name: str, waited_s: float
) -> None:
    put(exporter.context.catalog, node(name, "10.244.9.1"))
    exporter.take(seen_from_server(identified(local_address="10.244.9.1")))

    assert wait_kept(exporter) == waited_s


def test_the_cluster_is_asked_once_for_all_sights_of_a_client(exporter: Exporter) -> None:
    exporter.hear(OTHER_BOOT)
    exporter.take(*(seen_from_server(identified(seq=n, isn_client=n)) for n in range(1, 6)))
    asked: list[str] = []

    def find(sight: Sight) -> str:
        asked.append(sight.client_ip)
        return ""

    may_report = exporter.context.agents.judge(exporter.clock.now, find)
    waiting = exporter.context.waiting.sights.arrivals()

    assert [may_report(sight) for _, sight in waiting] == [True] * 5
    assert asked == [CLIENT]
