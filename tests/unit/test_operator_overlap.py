"""Which of several TracingConfigs may act."""

from typing import Any

import pytest

from farcall_operator.cluster.port import Manifest
from farcall_operator.cluster.world import World
from farcall_operator.overlap import find_overlap

pytestmark = pytest.mark.unit


def config(
    name: str, *include: str, created: str = "2026-01-01T00:00:00Z", **more: Any
) -> Manifest:
    spec: Manifest = {"tier": "Hobby", **more}
    if include:
        spec.setdefault("namespaces", {"include": list(include)})
    return {
        "apiVersion": "farcall.dev/v1alpha1",
        "kind": "TracingConfig",
        "metadata": {"name": name, "uid": name, "creationTimestamp": created},
        "spec": spec,
    }


def judge(*configs: Manifest) -> list[str]:
    known = {c["metadata"]["name"]: c for c in configs}
    return [name for name, c in known.items() if find_overlap(c, known)]


CASES: dict[str, tuple[tuple[Manifest, ...], list[str]]] = {
    "alone": ((config("a"),), []),
    "disjoint": ((config("a", "x"), config("b", "y")), []),
    "one namespace of both": ((config("a", "x", "y"), config("b", "y", created="2026-02-01T00:00:00Z")), ["b"]),
    "the older has the later name": ((config("b", "x"), config("a", "x", created="2026-02-01T00:00:00Z")), ["a"]),
    "the same second": ((config("b", "x"), config("a", "x")), ["b"]),
    "one traces all": ((config("a"), config("b", "y")), ["b"]),
    "both trace all": ((config("b"), config("a")), ["b"]),
    "an empty list is all": ((config("a", "x"), config("b", namespaces={"include": []})), ["b"]),
    "a neighbour that is no valid resource": ((config("a", "x"), config("b", "y", namespaces={"include": "y"})), ["b"]),
}  # fmt: skip


@pytest.mark.parametrize(("configs", "stalled"), CASES.values(), ids=CASES)
def test_the_younger_of_two_stands_still(configs: tuple[Manifest, ...], stalled: list[str]) -> None:
    assert judge(*configs) == stalled


def test_the_sentence_names_the_oldest_and_what_is_shared() -> None:
    one, two = config("one", "x"), config("two", "x", "y", created="2026-02-01T00:00:00Z")
    three = config("three", "x", "y", created="2026-03-01T00:00:00Z")
    told = find_overlap(three, {"one": one, "two": two, "three": three})

    assert "TracingConfig one, which is older, traces x too" in told


def test_a_change_of_the_namespaces_is_news_to_all() -> None:
    world = World()
    for each in (config("a", "x"), config("b", "y")):
        world.put(each)

    assert world.put(config("a", "y")) == {"a", "b"}
    assert world.put(config("a", "y", tier="Scale")) == {"a"}
