"""Addresses: inside and outside as the examples say, and never the same for two demos."""

import ipaddress
from pathlib import Path

import pytest

from farcall.rundir import RUN_ROOT, RunDir
from farcall.tracingconfig import read_tracingconfig
from farcall_demo.network import list_own
from farcall_demo.plan import SLOTS, Claim, DemoError, Plan, name_instance

pytestmark = pytest.mark.unit
EXAMPLES = Path(__file__).parents[2] / "examples"
OUTSIDE = [ipaddress.ip_network(text) for text in ("203.0.113.0/24", "198.51.100.0/24")]


def list_addresses(plan: Plan) -> dict[str, list[ipaddress.IPv4Address]]:
    return {host.name: [ipaddress.IPv4Address(a) for a in host.addresses] for host in plan.hosts}


@pytest.mark.parametrize("example", ["hobby.yaml", "scale.yaml"])
@pytest.mark.parametrize("slot", [0, SLOTS - 1])
def test_pods_are_inside_and_the_others_are_not(example: str, slot: int) -> None:
    cidrs = read_tracingconfig(EXAMPLES / example).spec.cluster_cidrs or []
    inside = [ipaddress.ip_network(cidr) for cidr in cidrs]

    for host, addresses in list_addresses(Plan(instance="main", slot=slot)).items():
        ranges = OUTSIDE if host in ("external", "outside") else inside
        assert all(any(a in network for network in ranges) for a in addresses), host


def test_two_slots_share_no_address() -> None:
    seen: set[ipaddress.IPv4Address] = set()
    for slot in range(SLOTS):
        for addresses in list_addresses(Plan(instance="main", slot=slot)).values():
            assert not seen.intersection(addresses)
            seen.update(addresses)


def test_two_demos_take_different_slots_and_one_instance_only_one() -> None:
    first, second = Claim("unit-a"), Claim("unit-b")
    try:
        assert first.plan.slot != second.plan.slot
        with pytest.raises(DemoError, match="runs already"):
            Claim("unit-a")
    finally:
        first.release()
        second.release()


def test_a_released_slot_can_be_taken_again() -> None:
    first = Claim("unit-c")
    slot = first.plan.slot
    first.release()
    again = Claim("unit-c")
    again.release()

    assert again.plan.slot <= slot


def test_what_dns_answers_are_addresses_of_the_plan() -> None:
    plan = Plan(instance="main", slot=3)
    known = {str(a) for addresses in list_addresses(plan).values() for a in addresses}

    assert set(plan.records.values()) <= known
    assert set(plan.aliases.values()) <= set(plan.records)


def test_an_instance_in_an_unusual_place_has_names_of_its_own() -> None:
    usual = name_instance(RunDir(RUN_ROOT / "main"))
    here, there = name_instance(RunDir(Path("/a/main"))), name_instance(RunDir(Path("/b/main")))

    assert usual == "main"
    assert len({usual, here, there}) == 3


def test_a_name_that_begins_like_another_is_not_the_others(tmp_path: Path) -> None:
    for name in ("fcdemo-main-dns", "fcdemo-main-2-dns", "fcdemo-main-other", "elsewhere"):
        (tmp_path / name).mkdir()

    assert list_own(tmp_path, "main") == ["fcdemo-main-dns"]
    assert list_own(tmp_path, "main-2") == ["fcdemo-main-2-dns"]
