"""What `farcall status` makes of a resource and its children: counts, troubles by number, and what to do first."""

from datetime import UTC, datetime
from typing import Any

import pytest

from farcall_operator.cluster.port import COMPONENT_LABEL, MANAGED_BY, OWNER_LABEL
from farcall_operator.commands.parts import MAX_MESSAGE, MAX_TROUBLES, list_parts
from farcall_operator.commands.report import Report, build_report
from farcall_operator.commands.status import format_since, render_report
from support_operator_commands import (
    make_condition,
    make_config,
    make_pod,
    make_pods,
    make_workloads,
    waiting,
)

pytestmark = pytest.mark.unit

NOW = datetime(2026, 11, 25, 12, 10, tzinfo=UTC)


def report_on(config: dict[str, Any], **children: Any) -> Report:
    live = {**config, "metadata": {"generation": 1, **config["metadata"]}}
    return build_report(live, children.get("workloads", []), children.get("pods", []), "farcall")


def test_parts_come_in_the_order_of_the_data() -> None:
    parts = list_parts(make_config(), make_workloads(), make_pods())

    assert [part.part for part in parts] == ["probes", "DNS cache", "exporter and console"]
    assert [(p.ready, p.wanted, p.updated) for p in parts] == [(2, 3, 3), (1, 1, 1), (0, 1, 0)]


@pytest.mark.parametrize("label", [COMPONENT_LABEL, MANAGED_BY, OWNER_LABEL])
def test_a_workload_that_lost_a_label_is_a_part_by_its_name_and_its_owner(label: str) -> None:
    config = make_config()
    config["metadata"]["uid"] = "1-2-3"
    owner = {"kind": "TracingConfig", "name": "main", "uid": "1-2-3", "controller": True}
    workloads = make_workloads()
    for workload in workloads:
        workload["metadata"]["ownerReferences"] = [owner]
        del workload["metadata"]["labels"][label]

    report = report_on(config, workloads=workloads, pods=make_pods())

    assert [part.part for part in report.parts] == ["probes", "DNS cache", "exporter and console"]
    assert [len(part.troubles) for part in report.parts] == [1, 0, 1]


def test_a_workload_of_somebody_else_is_no_part_whatever_its_name() -> None:
    workloads = make_workloads()
    workloads[0]["metadata"]["ownerReferences"] = [
        {"apiVersion": "apps/v1", "kind": "Other", "name": "main", "uid": "9", "controller": True}
    ]
    workloads[1]["metadata"]["labels"] = {}

    assert [p.part for p in list_parts(make_config(), workloads, ())] == ["DNS cache"]


def test_one_trouble_on_many_pods_is_one_with_a_number() -> None:
    pods = [
        make_pod(f"p{i}", "probe", {"containerStatuses": [waiting("probe", "ErrImagePull")]})
        for i in range(500)
    ]

    (probes, *_) = list_parts(make_config(), make_workloads(), pods)

    assert [(t.reason, t.pods) for t in probes.troubles] == [("ErrImagePull", 500)]


def test_a_thousand_troubles_are_the_most_frequent_few() -> None:
    pods = [
        make_pod(f"p{i}", "probe", {"containerStatuses": [waiting("probe", f"Odd{i % 50}")]})
        for i in range(1_000)
    ]

    assert len(list_parts(make_config(), make_workloads(), pods)[0].troubles) == MAX_TROUBLES


def test_what_a_container_said_last_is_cut_from_the_front() -> None:
    said = "x" * 5_000 + "\nValueError: the end"
    pod = make_pod("p", "probe", {"containerStatuses": [waiting("probe", "CrashLoopBackOff", said=said)]})  # fmt: skip

    (trouble,) = list_parts(make_config(), make_workloads(), [pod])[0].troubles

    assert trouble.message.endswith("ValueError: the end")
    assert len(trouble.message) == MAX_MESSAGE + 1


def test_a_container_that_is_being_made_is_no_trouble() -> None:
    pod = make_pod("p", "probe", {"containerStatuses": [waiting("probe", "ContainerCreating")]})

    assert list_parts(make_config(), make_workloads(), [pod])[0].troubles == []


def test_a_pod_without_a_node_says_what_the_scheduler_said() -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                 "message": "0/3 nodes are available: 3 Insufficient memory."}  # fmt: skip
    report = report_on(
        make_config(),
        workloads=make_workloads(),
        pods=[make_pod("e", "exporter", {"conditions": [condition]})],
    )

    assert "0/3 nodes are available" in report.next[0]
    assert "describe pod e" in report.next[0]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"status": {}}, "The operator has not seen it yet"),
        ({"spec": {"tier": "Hobby", "paused": True}}, "It is paused"),
        ({"metadata": {"name": "main", "generation": 3}}, "has seen generation 1, not 3 yet"),
    ],
)
def test_an_operator_that_is_away_explains_the_rest(change: dict[str, Any], sentence: str) -> None:
    report = report_on({**make_config(), **change}, workloads=make_workloads(), pods=make_pods())

    assert sentence in report.next[0]


def test_what_a_human_must_mend_comes_before_what_follows_from_it() -> None:
    config = make_config()
    stalled = make_condition("Stalled", "True", "Conflict", "Service main-redis is another's.")
    config["status"]["conditions"][2] = stalled

    report = report_on(config, workloads=make_workloads(), pods=make_pods())

    assert report.next[0] == "It needs you (Conflict): Service main-redis is another's."


def test_agents_that_are_behind_are_counted() -> None:
    config = make_config(ready=True)
    config["metadata"]["generation"] = 7
    config["status"] |= {
        "observedGeneration": 7,
        "configGenerations": [{"generation": 7, "agents": 90}, {"generation": 6, "agents": 9}, {"generation": 2, "agents": 1}],
    }  # fmt: skip

    report = report_on(config)

    assert report.next == [
        "10 agents run an older config. A change reaches them within 90 s; what needs new pods takes as long as the rollout."
    ]


def test_a_resource_that_nobody_has_looked_at_yet_is_told_without_a_stumble() -> None:
    bare = {"metadata": {"name": "main"}, "spec": {"tier": "Hobby"}}
    report = report_on(bare)

    lines = list(render_report(report, NOW, 80))

    assert (report.ready, report.reason) == ("Unknown", "NoStatus")
    assert lines[0] == "TracingConfig main, Hobby tier: generation 1, seen 0"


def test_hostile_text_cannot_steer_the_terminal() -> None:
    config = make_config()
    config["status"]["conditions"][0]["message"] = "no\x1b[2J\u202e image"
    config["status"]["version"] = "\x1b]0;x\x07"

    text = "\n".join(render_report(report_on(config, workloads=make_workloads(), pods=make_pods()), NOW, None))  # fmt: skip

    assert "\x1b" not in text
    assert "\u202e" not in text


@pytest.mark.parametrize(
    ("moment", "told"),
    [
        ("2026-11-25T12:09:30Z", "30 s"),
        ("2026-11-25T12:20:00Z", "0 s"),
        ("2026-11-25T12:00:00", "-"),
        ("yesterday", "-"),
        ("", "-"),
    ],
)
def test_how_long_ago(moment: str, told: str) -> None:
    assert format_since(moment, NOW) == told
