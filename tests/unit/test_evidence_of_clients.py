"""Which name a connect used: the newest answer before it, of this client, within the TTL; never a guess."""

import pytest

from farcall_probes.evidence import MAX_NAMES, MAX_SIGHTINGS, Bound, Evidence
from support_agent import packed

pytestmark = pytest.mark.unit

IP = packed("203.0.113.10")
OTHER = packed("203.0.113.11")
TTL = 1_000


def bind(evidence: Evidence, opened: int, client: str = "a", ip: bytes = IP) -> Bound | None:
    return evidence.bind(client, ip, opened, ttl_ns=TTL)


def test_the_newest_answer_before_the_connect_is_the_name() -> None:
    evidence = Evidence()
    evidence.add("a", IP, "one.example", 10, trusted=True)
    evidence.add("a", IP, "two.example", 20, trusted=True)
    evidence.add("a", IP, "three.example", 40, trusted=True)

    assert bind(evidence, 30) == Bound(name="two.example", answered_ns=20, rivals=("one.example",))
    assert bind(evidence, 15) == Bound(name="one.example", answered_ns=10, rivals=())
    assert bind(evidence, 5) is None


def test_two_clients_have_their_own_names_for_one_address() -> None:
    evidence = Evidence()
    evidence.add("a", IP, "one.example", 10, trusted=True)
    evidence.add("b", IP, "two.example", 20, trusted=True)

    assert (bind(evidence, 30, "a") or pytest.fail()).name == "one.example"
    assert (bind(evidence, 30, "b") or pytest.fail()).name == "two.example"
    assert bind(evidence, 30, "c") is None
    assert bind(evidence, 30, "a", OTHER) is None


def test_an_answer_older_than_the_ttl_does_not_count() -> None:
    evidence = Evidence()
    evidence.add("a", IP, "one.example", 10, trusted=True)

    assert bind(evidence, 10 + TTL - 1) is not None
    assert bind(evidence, 10 + TTL) is None


def test_a_connection_older_than_the_agent_gets_no_name() -> None:
    evidence = Evidence()
    evidence.add("a", IP, "one.example", 10, trusted=True)

    assert bind(evidence, 0) is None


def test_answers_that_arrive_out_of_order_are_taken_in_order_of_their_time() -> None:
    evidence = Evidence()
    evidence.add("a", IP, "two.example", 20, trusted=True)
    evidence.add("a", IP, "one.example", 10, trusted=True)

    assert (bind(evidence, 30) or pytest.fail()).name == "two.example"


def test_a_resolver_that_is_asked_all_the_time_still_names_an_early_connect() -> None:
    evidence = Evidence()
    for time_ns in range(1, 100):
        evidence.add("a", IP, "one.example", time_ns, trusted=True)

    assert bind(evidence, 2) == Bound(name="one.example", answered_ns=1, rivals=())


def test_a_thinned_memory_with_two_names_says_nothing_of_an_early_connect() -> None:
    evidence = Evidence()
    evidence.add("a", IP, "one.example", 1, trusted=True)
    for time_ns in range(2, 2 + 2 * MAX_SIGHTINGS):
        evidence.add("a", IP, "two.example", time_ns, trusted=True)

    assert bind(evidence, 3) is None
    assert (bind(evidence, 50) or pytest.fail()).name == "two.example"


def test_a_name_given_up_for_others_makes_older_ones_unsure() -> None:
    evidence = Evidence()
    names = [f"{n}.example" for n in range(MAX_NAMES + 1)]
    for time_ns, name in enumerate(names, start=10):
        evidence.add("a", IP, name, time_ns, trusted=True)

    assert (bind(evidence, 500) or pytest.fail()).name == names[-1]
    assert bind(evidence, 10) is None  # its answer is the one that was given up


def test_expired_answers_are_forgotten() -> None:
    evidence = Evidence()
    evidence.add("a", IP, "one.example", 10, trusted=True)
    evidence.add("a", OTHER, "two.example", 900, trusted=False)
    evidence.expire(1_500, ttl_ns=TTL)

    assert len(evidence) == 1
    assert [(h.name, h.trusted) for h in evidence.held()] == [("two.example", False)]
    evidence.expire(5_000, ttl_ns=TTL)
    assert (len(evidence), evidence.clients) == (0, 0)


def test_the_oldest_goes_when_a_bound_is_reached_and_the_client_is_remembered() -> None:
    evidence = Evidence(max_addresses=3, max_client_addresses=2)
    for n in range(3):
        evidence.add("a", packed(f"203.0.113.{n}"), "one.example", 10, trusted=True)

    assert len(evidence) == 2 and evidence.evicted == 1
    assert evidence.has_lost("a") and not evidence.has_lost("b")
    assert bind(evidence, 20, ip=packed("203.0.113.0")) is None

    for n in range(3):
        evidence.add(f"c{n}", IP, "two.example", 20, trusted=True)
    assert len(evidence) == 3
    assert evidence.has_lost("a")


def test_what_is_held_has_the_newest_time_of_each_name() -> None:
    evidence = Evidence()
    for time_ns in range(10, 50):
        evidence.add("a", IP, "one.example", time_ns, trusted=True)

    assert [h.answered_ns for h in evidence.held()] == [49]
