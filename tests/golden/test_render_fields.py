"""Each field of TracingConfig changes a manifest, or is listed here with the reason why not."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from farcall.crd import list_fields as list_crd_fields
from farcall.tracingconfig import TracingConfigSpec
from farcall_operator.kubernetes import build_manifests, build_view
from support_fields import CHANGES, find_base, put
from support_render import BASE, CONTEXT, make

pytestmark = pytest.mark.golden

# Fields that no manifest of this version depends on: a value → why.
NO_LOGTAIL = "Reserved: there is no log tail yet"
INERT: dict[str, tuple[Any, str]] = {
    "logs.enabled": (False, NO_LOGTAIL),
    "logs.exclude": (["kube-system"], NO_LOGTAIL),
    "logs.paths": (["/var/log/app.log"], NO_LOGTAIL),
    "console.oidc": (
        {"issuer": "https://id.example.com"},
        "Reserved: the console's login is a link",
    ),
    "console.publicShare": (True, "Reserved: every share link asks for a login"),
    "paused": (True, "the operator does nothing then, and would do the same as before afterwards"),
}


@pytest.mark.parametrize("path", CHANGES)
def test_a_changed_field_changes_a_manifest(path: str) -> None:
    base = find_base(path)
    before = build_manifests(make(base), CONTEXT)

    after = build_manifests(make(put(find_base(path), path, CHANGES[path])), CONTEXT)
    assert after != before
    assert build_manifests(make(find_base(path)), CONTEXT) == before


@pytest.mark.parametrize("path", INERT)
def test_a_field_without_effect_has_none_and_says_so(path: str) -> None:
    value, reason = INERT[path]
    descriptions = {field.path: field.description for field in list_crd_fields()}

    changed = build_manifests(make(put(find_base(path), path, value)), CONTEXT)
    assert changed == build_manifests(make(find_base(path)), CONTEXT)
    assert ("Reserved" in descriptions[path]) == ("Reserved" in reason)


def test_every_field_changes_a_manifest_or_is_known_to_be_inert() -> None:
    known = {*CHANGES, *INERT}
    missing = [
        path
        for path in list_fields(TracingConfigSpec)
        if not any(k == path or k.startswith(f"{path}.") or path.startswith(f"{k}.") for k in known)
    ]

    assert missing == []


def list_fields(model: Any, prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        path = prefix + (field.alias or name)
        yield path
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if hasattr(kind, "model_fields"):
                yield from list_fields(kind, f"{path}.")


def test_a_live_field_does_not_replace_pods_and_a_restart_field_does() -> None:
    def hashes(spec: dict[str, Any]) -> dict[str, str]:
        return build_view(make(spec), CONTEXT).restart_hashes

    base = hashes(BASE)
    assert hashes({**BASE, "clusterCIDRs": ["10.1.0.0/16"]}) == base
    assert hashes({**BASE, "retention": {"traces": "9d"}}) == base
    otlp = hashes({**BASE, "exporter": {"otlp": {"endpoint": "http://o:4318"}}})
    assert otlp["exporter"] != base["exporter"]
    assert otlp["redis"] == base["redis"]
    assert hashes({**BASE, "tier": "Scale"})["redis"] != base["redis"]


def test_several_replicas_come_only_with_a_clickhouse_server() -> None:
    def find(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
        return next(m for m in build_manifests(make(spec), CONTEXT) if m["kind"] == kind)

    embedded = find("Deployment", BASE)["spec"]
    assert (embedded["replicas"], embedded["strategy"]) == (1, {"type": "Recreate"})
    assert [c["name"] for c in embedded["template"]["spec"]["containers"]] == [
        "store",
        "exporter",
        "console",
    ]

    outgrown = {**BASE, "exporter": {"clickhouse": {"url": "http://c:8123"}}}
    deployment = find("Deployment", outgrown)["spec"]
    assert (deployment["replicas"], deployment["strategy"]["type"]) == (2, "RollingUpdate")
    assert [c["name"] for c in deployment["template"]["spec"]["containers"]] == [
        "exporter",
        "console",
    ]
    assert (
        find("PodDisruptionBudget", outgrown)["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    )


def test_a_service_monitor_comes_only_where_its_kind_exists() -> None:
    with_kind = build_manifests(make(BASE), replace(CONTEXT, has_service_monitors=True))
    monitors = [m for m in with_kind if m not in build_manifests(make(BASE), CONTEXT)]

    assert [m["kind"] for m in monitors] == ["ServiceMonitor"] * 2
    for monitor in monitors:
        selector = monitor["spec"]["selector"]["matchLabels"].items()
        ports = [
            port["name"]
            for m in with_kind
            if m["kind"] == "Service" and selector <= m["metadata"]["labels"].items()
            for port in m["spec"]["ports"]
        ]
        assert ports.count(monitor["spec"]["endpoints"][0]["port"]) == 1
