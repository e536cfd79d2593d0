"""Where pods may run, and what their containers may use: the user's word, with what our images need added."""

from typing import Any

import pytest

from farcall.tiers import TIERS
from farcall.workloadspec import ProbeSpec, ResourcesSpec
from farcall_operator.kubernetes import build_manifests, build_view
from farcall_operator.placement import REQUIRED, build_placement, list_needs, merge_affinity
from farcall_operator.sizes import Quantities, find_cache_memory, override_resources
from support_render import BASE, CONTEXT, make

pytestmark = pytest.mark.unit

NEEDS = list_needs(["arm64", "amd64"])
ZONE = {"key": "zone", "operator": "In", "values": ["a"]}
RACK = {"key": "rack", "operator": "Exists"}
FIELD = {"key": "metadata.name", "operator": "In", "values": ["n1"]}


def required(*terms: dict[str, Any]) -> dict[str, Any]:
    return {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": list(terms)}}}


def test_linux_and_the_architectures_with_images_are_asked_for() -> None:
    assert NEEDS == [
        {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]},
        {"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64", "arm64"]},
    ]
    assert merge_affinity({}, NEEDS) == required({"matchExpressions": NEEDS})


@pytest.mark.parametrize(
    ("given", "merged"),
    [
        # Terms are alternatives: every one of them must ask for it.
        (
            required({"matchExpressions": [ZONE]}, {"matchExpressions": [RACK]}),
            required({"matchExpressions": [ZONE, *NEEDS]}, {"matchExpressions": [RACK, *NEEDS]}),
        ),
        (
            required({"matchFields": [FIELD]}),
            required({"matchFields": [FIELD], "matchExpressions": NEEDS}),
        ),
        # An empty term matches no node, and must not begin to match some.
        (required({}), required({})),
        (
            required({}, {"matchExpressions": [ZONE]}),
            required({}, {"matchExpressions": [ZONE, *NEEDS]}),
        ),
        (required(), required({"matchExpressions": NEEDS})),
    ],
)
def test_what_is_needed_joins_every_term_of_the_users(
    given: dict[str, Any], merged: dict[str, Any]
) -> None:
    assert merge_affinity(given, NEEDS) == merged


def test_the_rest_of_an_affinity_stays() -> None:
    given = {
        "podAntiAffinity": {"x": 1},
        "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1}]},
    }

    merged = merge_affinity(given, NEEDS)
    assert merged["podAntiAffinity"] == {"x": 1}
    assert merged["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"] == [
        {"weight": 1}
    ]
    assert merged["nodeAffinity"][REQUIRED] == required({"matchExpressions": NEEDS})["nodeAffinity"][REQUIRED]  # fmt: skip


@pytest.mark.parametrize(
    "given",
    [
        {"nodeAffinity": "here"},
        {"nodeAffinity": {REQUIRED: "x"}},
        {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": "x"}}},
        {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": ["x"]}}},
        {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": "x"}]}}},
    ],
)
def test_nonsense_is_left_to_the_api_server_to_refuse(given: dict[str, Any]) -> None:
    assert merge_affinity(given, NEEDS) == given


def test_every_taint_is_tolerated_by_the_probe_alone_and_only_unless_told_otherwise() -> None:
    everything = [{"operator": "Exists"}]
    assert build_placement(None, ["amd64"], tolerations=everything)["tolerations"] == everything

    none = ProbeSpec.model_validate({"tolerations": []})
    assert "tolerations" not in build_placement(none, ["amd64"], tolerations=everything)
    placements = build_view(make(BASE), CONTEXT).placements
    assert {part for part in placements if "tolerations" in placements[part]} == {"probe"}


def test_every_pod_asks_for_a_node_that_can_run_it() -> None:
    for manifest in build_manifests(make(BASE), CONTEXT):
        if "template" in manifest.get("spec", {}):
            pod = manifest["spec"]["template"]["spec"]
            assert pod["affinity"] == required({"matchExpressions": NEEDS})


TIER_SAYS = Quantities(
    requests={"cpu": "100m", "memory": "128Mi"},
    limits={"memory": "256Mi"},
)


@pytest.mark.parametrize(
    ("given", "requests", "limits"),
    [
        ({}, {"cpu": "100m", "memory": "128Mi"}, {"memory": "256Mi"}),
        ({"requests": {"cpu": "1"}}, {"cpu": "1", "memory": "128Mi"}, {"memory": "256Mi"}),
        # The tier's own figure gives way: a request above its limit would be refused.
        ({"requests": {"memory": "1Gi"}}, {"cpu": "100m", "memory": "1Gi"}, {"memory": "1Gi"}),
        ({"limits": {"memory": "64Mi"}}, {"cpu": "100m", "memory": "64Mi"}, {"memory": "64Mi"}),
        ({"limits": {"cpu": "50m"}}, {"cpu": "50m", "memory": "128Mi"}, {"memory": "256Mi", "cpu": "50m"}),
        ({"limits": {"memory": "0.5Gi"}}, {"cpu": "100m", "memory": "128Mi"}, {"memory": "0.5Gi"}),
    ],
)  # fmt: skip
def test_what_the_resource_says_goes_before_the_tier(
    given: dict[str, Any], requests: dict[str, str], limits: dict[str, str]
) -> None:
    found = override_resources(TIER_SAYS, ResourcesSpec.model_validate(given))

    assert (found.requests, found.limits) == (requests, limits)


@pytest.mark.parametrize(
    ("given", "mebibytes"),
    [({}, 96), ({"limits": {"memory": "2Gi"}}, 2_048), ({"requests": {"memory": "200Mi"}}, 200)],
)
def test_the_cache_holds_as_much_as_its_container_may_use(
    given: dict[str, Any], mebibytes: int
) -> None:
    resources = ResourcesSpec.model_validate(given)
    assert find_cache_memory(TIERS["Hobby"].redis, resources) == mebibytes << 20

    files = build_view(make({**BASE, "dnsCache": {"resources": given}}), CONTEXT).files
    assert f"maxmemory {(mebibytes << 20) * 75 // 100}\n" in files["redis.conf"]
