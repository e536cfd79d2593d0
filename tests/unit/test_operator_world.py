"""What the operator knows of the cluster: kept small, in order, and by the right owner."""

import pytest

from farcall_operator.cluster.port import OWNER_LABEL, Manifest, Ref
from farcall_operator.cluster.world import World

pytestmark = pytest.mark.unit


def build_config(name: str, version: int = 1, uid: str = "") -> Manifest:
    return {
        "apiVersion": "farcall.dev/v1alpha1",
        "kind": "TracingConfig",
        "metadata": {"name": name, "uid": uid or f"uid-{name}", "resourceVersion": str(version)},
        "spec": {"tier": "Hobby"},
    }


def build_child(owner: str, *, uid: str = "u1", version: int = 1, data: str = "") -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "c",
            "namespace": "farcall",
            "uid": uid,
            "resourceVersion": str(version),
            "labels": {OWNER_LABEL: owner} if owner else {},
            "managedFields": [{"manager": "farcall-operator"}],
        },
        "data": {"key": data},
    }


def build_node(name: str, *, cidr: str = "10.0.0.0/24", beat: str = "1") -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "uid": name, "annotations": {"a": "x" * 999}},
        "spec": {"podCIDRs": [cidr]},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
            "conditions": [{"type": "Ready", "lastHeartbeatTime": beat}],
            "images": [{"names": ["x" * 999]}],
        },
    }


CHILD = Ref("v1", "ConfigMap", "farcall", "c")


def test_a_child_comes_out_as_it_went_in_but_for_its_managed_fields():
    world = World()

    assert world.put(build_child("main", data="é")) == {"main"}
    live = world.children("main")[CHILD]
    assert live["data"] == {"key": "é"}
    assert "managedFields" not in live["metadata"]
    assert world.children("other") == {}


def test_children_are_a_snapshot_that_later_events_do_not_change():
    world = World()
    world.put(build_child("main", data="1"))
    before = world.children("main")
    world.put(build_child("main", data="2", version=2))
    world.drop(build_child("main"))

    assert before[CHILD]["data"] == {"key": "1"}
    assert CHILD not in world.children("main")


def test_a_late_event_of_a_deleted_child_does_not_touch_its_successor():
    world = World()
    world.put(build_child("main", uid="old", version=5))
    world.put(build_child("main", uid="new", version=9, data="new"))

    assert world.put(build_child("main", uid="old", version=7)) == set()
    assert world.drop(build_child("main", uid="old", version=8)) == {"main"}
    assert world.children("main")[CHILD]["data"] == {"key": "new"}


def test_a_child_that_changes_its_owner_concerns_both():
    world = World()
    world.put(build_child("main"))

    assert world.put(build_child("canary", version=2)) == {"main", "canary"}
    assert len(world.children("main")) == 0
    assert world.put(build_child("", version=3)) == {"canary"}
    assert len(world.children("canary")) == 0
    assert world.drop(build_child("", version=4)) == set()


def test_a_deleted_config_concerns_all_that_are_left_and_itself():
    world = World()
    for name in ("a", "b"):
        world.put(build_config(name))

    assert world.drop(build_config("a")) == {"a", "b"}
    assert set(world.configs()) == {"b"}


def test_a_config_made_anew_by_the_same_name_survives_its_predecessors_end():
    world = World()
    world.put(build_config("a", 5, "old"))
    world.put(build_config("a", 9, "new"))
    world.drop(build_config("a", 8, "old"))

    found = world.config("a")
    assert found is not None
    assert found["metadata"]["uid"] == "new"


def test_a_nodes_heartbeat_concerns_nobody_but_its_network_does():
    world = World()
    world.put(build_config("a"))

    assert world.put(build_node("n1")) == {"a"}
    assert world.put(build_node("n1", beat="2")) == set()
    assert world.put(build_node("n1", cidr="10.0.1.0/24")) == {"a"}
    assert world.drop(build_node("n1")) == {"a"}
    assert world.drop(build_node("n1")) == set()


def test_of_a_node_only_what_is_read_is_kept():
    world = World()
    world.put(build_node("n1"))

    assert len(str(world.nodes()["n1"])) < 500


def test_the_watch_tells_nothing_new_of_what_we_wrote():
    world = World()
    world.put(build_config("main"))
    world.note(build_child("main", version=5, data="ours"))

    assert world.children("main")[CHILD]["data"] == {"key": "ours"}
    assert world.put(build_child("main", version=4, data="what it was before")) == set()
    assert world.put(build_child("main", version=5, data="ours")) == set()
    assert world.children("main")[CHILD]["data"] == {"key": "ours"}
    assert world.put(build_child("main", version=6, data="somebody else's")) == {"main"}


def test_an_answer_that_the_watch_was_faster_than_changes_nothing():
    world = World()
    world.put(build_child("main", version=7, data="newer"))
    world.note(build_child("main", version=5))
    assert world.children("main")[CHILD]["data"] == {"key": "newer"}

    assert world.drop(build_child("main", version=8)) == {"main"}
    world.note(build_child("main", version=7))
    assert CHILD not in world.children("main")
    world.note(build_child("main", uid="u2", version=9, data="made again"))
    assert world.children("main")[CHILD]["data"] == {"key": "made again"}


def test_what_we_wrote_and_no_watch_ever_told_of_is_missing_from_a_later_list():
    world = World()
    world.put(build_config("main"))
    world.put(build_node("n1"))
    world.note(build_child("main", version=5))

    assert world.conclude("v1", "Service", set(), "9") == []
    assert world.conclude("v1", "ConfigMap", {"u1"}, "9") == []
    (gone,) = world.conclude("v1", "ConfigMap", {"another"}, "9")
    assert world.drop(gone) == {"main"}
    assert CHILD not in world.children("main")
    world.note(build_child("main", version=7))  # an answer that came later than the list
    assert CHILD not in world.children("main")
    assert world.put(build_child("main", uid="u2", version=10)) == {"main"}


def test_configs_and_nodes_that_a_list_no_longer_holds_are_gone():
    world = World()
    for name in ("a", "b"):
        world.put(build_config(name))
    world.put(build_node("n1"))

    (gone,) = world.conclude("farcall.dev/v1alpha1", "TracingConfig", {"uid-b"}, "9")
    assert world.drop(gone) == {"a", "b"}
    (gone,) = world.conclude("v1", "Node", set(), "9")
    assert world.drop(gone) == {"b"}
    assert world.nodes() == {}


def test_what_a_list_holds_is_so_though_it_is_older_than_what_was_known():
    world = World()
    world.put(build_child("main", version=500, data="before the store was put back"))

    assert world.put(build_child("main", version=3, data="put back"), listed=True) == {"main"}
    assert world.children("main")[CHILD]["data"] == {"key": "put back"}
    assert world.put(build_child("main", version=3, data="put back"), listed=True) == set()


def test_our_own_status_is_no_news_and_an_edit_beside_it_is():
    world = World()
    config = build_config("main")
    world.put(config)
    written = {**build_config("main", version=2), "status": {"observedGeneration": 1}}
    world.note(written)
    assert world.put(written) == set()
    assert world.config("main") == written

    edited = {**build_config("main", version=4), "status": {"observedGeneration": 1}}
    edited["metadata"]["generation"] = 2
    world.note(edited)  # the answer to a status that was written just after the edit
    assert world.put(edited) == {"main"}
