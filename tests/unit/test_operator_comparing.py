"""What counts as a difference between desired and live, and what is only the API server's way of writing it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_operator.cluster.port import Manifest
from farcall_operator.comparing import is_as_desired, list_differences, parse_quantity

pytestmark = pytest.mark.unit


def pod(**spec: object) -> Manifest:
    return {"spec": {"template": {"spec": spec}}}


SAME: dict[str, tuple[Manifest, Manifest]] = {
    "defaults are filled in": (
        pod(containers=[{"name": "a", "image": "x"}]),
        pod(containers=[{"name": "a", "image": "x", "imagePullPolicy": "Always"}], restartPolicy="Always"),
    ),
    "containers in another order, and one more": (
        pod(containers=[{"name": "a"}, {"name": "b"}]),
        pod(containers=[{"name": "sidecar"}, {"name": "b"}, {"name": "a"}]),
    ),
    "quantities": (
        {"limits": {"cpu": "1000m", "memory": "1Gi"}, "sizeLimit": "1024Ki"},
        {"limits": {"cpu": "1", "memory": "1024Mi"}, "sizeLimit": "1Mi"},
    ),
    "what Go leaves out": (
        {"hostPID": False, "value": "", "labels": {}, "ingress": [], "minReadySeconds": 0},
        {},
    ),
    "null says nothing": ({"a": None}, {}),
    "ports get their protocol": (
        {"ports": [{"containerPort": 80, "name": "web"}]},
        {"ports": [{"containerPort": 80, "name": "web", "protocol": "TCP"}]},
    ),
    "a Service's ports get a node port": (
        {"ports": [{"port": 80, "protocol": "TCP"}]},
        {"ports": [{"port": 80, "protocol": "TCP", "targetPort": 80, "nodePort": 30000}]},
    ),
    "claim templates get a status": (
        {"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]},
        {"volumeClaimTemplates": [{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "creationTimestamp": None}, "spec": {"accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem"}, "status": {"phase": "Pending"}}]},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("desired", "live"), SAME.values(), ids=SAME)
def test_as_desired(desired: Manifest, live: Manifest) -> None:
    assert list_differences(desired, live) == frozenset()
    assert is_as_desired(desired, live)


OTHER: dict[str, tuple[Manifest, Manifest]] = {
    "another image": (
        pod(containers=[{"name": "a", "image": "x"}]),
        pod(containers=[{"name": "a", "image": "y"}]),
    ),
    "a container less": (
        pod(containers=[{"name": "a"}, {"name": "b"}]),
        pod(containers=[{"name": "a"}]),
    ),
    "a pointer that is not set": (
        {"automountServiceAccountToken": False},
        {},
    ),
    "an empty struct that is not set": ({"emptyDir": {}}, {"hostPath": {"path": "/"}}),
    "a policy that lets more in": (
        {"ingress": []},
        {"ingress": [{}]},
    ),
    "a policy that is widened inside a rule": (
        {"ingress": [{"from": [{"podSelector": {"matchLabels": {"a": "b"}}}]}]},
        {"ingress": [{"from": [{"podSelector": {"matchLabels": {"a": "b"}}, "namespaceSelector": {}}]}]},
    ),
    "arguments in another order": ({"command": ["a", "b"]}, {"command": ["b", "a"]}),
    "more memory": ({"limits": {"memory": "1Gi"}}, {"limits": {"memory": "1G"}}),
    "a number is not a truth": ({"a": 1}, {"a": True}),
    "a text is not a list": ({"a": []}, {"a": "x"}),
    "a text is not a map": ({"labels": {}}, {"labels": "x"}),
}  # fmt: skip


@pytest.mark.parametrize(("desired", "live"), OTHER.values(), ids=OTHER)
def test_not_as_desired(desired: Manifest, live: Manifest) -> None:
    assert list_differences(desired, live)
    assert not is_as_desired(desired, live)


QUANTITIES = [
    ("1000m", "1"), ("1Gi", "1073741824"), ("1.5Gi", "1536Mi"), ("1e3", "1k"), ("0.1", "100m"), ("1E", "1000P"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), QUANTITIES)
def test_quantities_that_mean_the_same(one: str, other: str) -> None:
    assert parse_quantity(one) == parse_quantity(other) is not None


@pytest.mark.parametrize("text", ["", "Gi", "1 Gi", "1Xi", "NaN", "Infinity", "1GiB", "--1", "m"])
def test_what_is_no_quantity(text: str) -> None:
    assert parse_quantity(text) is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(["ports", "env", "name", "limits", "data", "x"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(VALUES, VALUES)
def test_any_two_values_can_be_compared(one: object, other: object) -> None:
    list_differences({"v": one}, {"v": other})


@given(st.dictionaries(st.text(max_size=6), st.integers() | st.text(max_size=6)))
def test_everything_is_as_itself(value: dict[str, object]) -> None:
    assert is_as_desired({"v": value}, {"v": value})
