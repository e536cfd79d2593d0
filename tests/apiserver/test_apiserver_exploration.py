"""Any part of a spec, changed and changed back, leaves what was there before; a spec that cannot work is mended by mending it.

As Acto explores operators: a change that has no way back is the bug that people meet when they undo a mistake.
"""

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from support_apiserver_access import Object
from support_apiserver_configs import Configs, Key, strip_all
from support_tracingconfigs import PARTS

pytestmark = pytest.mark.apiserver

# Parts in which any right value also runs here. The others name nodes, classes or images that no cluster has.
SAFE = ("retention", "clusterCIDRs", "dns", "capture", "logs", "images", "deletionPolicy")
KEPT = ("Secret", "PersistentVolumeClaim")
# Right by the schema, refused by the API server when it becomes a pod, or impossible to run.
IMPOSSIBLE: dict[str, dict[str, Any]] = {
    "affinity": {"probe": {"affinity": {"nodeAffinity": "none"}}},
    "toleration": {"probe": {"tolerations": [{"operator": "Sometimes"}]}},
    "priority-class": {"probe": {"priorityClassName": "no-such-class"}},
    "update-strategy": {"probe": {"updateStrategy": {"type": "AllAtOnce"}}},
}


def snapshot(configs: Configs, name: str) -> dict[Key, Object]:
    """Without what the generation and the time leave behind."""
    found = {}
    for key, child in strip_all(configs.children(name)).items():
        if key[0] in KEPT:
            continue
        if key[0] == "ConfigMap" and "effective.json" in child["data"]:
            child = {**child, "data": sorted(child["data"]), "metadata": {}}
        found[key] = child
    return found


@settings(
    max_examples=3,
    # No shrinking: each try takes seconds, and the example that failed is small.
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(part=st.sampled_from(SAFE), data=st.data())
def test_a_part_that_is_changed_and_changed_back_leaves_no_trace(
    configs: Configs, name: str, part: str, data: st.DataObject
) -> None:
    value = data.draw(PARTS[part], label=part)
    configs.apply(name)
    configs.wait_settled(name)
    before = snapshot(configs, name)
    effective = configs.get(name)["status"]["effective"]
    configs.apply(name, **{part: value})
    configs.wait_for_observed(name)
    configs.wait_ready(name)
    configs.apply(name)
    configs.wait_settled(name)

    assert snapshot(configs, name) == before
    assert configs.get(name)["status"]["effective"] == effective


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_what_cannot_work_is_told_and_mended_by_mending_the_spec(
    configs: Configs, name: str, case: str
) -> None:
    configs.apply(name)
    configs.wait_settled(name)
    before = snapshot(configs, name)
    configs.apply(name, **IMPOSSIBLE[case])
    configs.wait(lambda: is_told(configs, name), name, "it is told")
    configs.apply(name)
    configs.wait_settled(name)

    assert snapshot(configs, name) == before


def is_told(configs: Configs, name: str) -> bool:
    config = configs.get(name)
    conditions = configs.conditions(name)
    is_current = config["status"]["observedGeneration"] == config["metadata"]["generation"]
    return bool(
        is_current and conditions["Ready"]["status"] == "False" and conditions["Ready"]["message"]
    )
