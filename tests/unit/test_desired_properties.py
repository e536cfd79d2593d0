"""Desired state, whatever the resource: the same every time, nothing without effect, no secret, no needless restart.

In the way Acto explores operators: any right resource, one field changed, and back.
"""

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from farcall.tracingconfig import TracingConfig
from farcall_operator.cluster.port import DESIRED_HASH, Manifest
from farcall_operator.context import Context, Credentials, Discovery
from farcall_operator.kubernetes import build_manifests, build_view, hash_manifest
from farcall_operator.layout import SECRET_FILES
from farcall_operator.manifests import render_manifests
from farcall_operator.view import View
from support_fields import CHANGES, QUIET, put
from support_render import CONTEXT, make
from support_tracingconfigs import Spec, specs

pytestmark = pytest.mark.unit

CREDENTIALS = Credentials(
    hashes=dict.fromkeys(SECRET_FILES, "0011223344556677"),
    ca_pem="-----BEGIN CERTIFICATE-----\nhunter2\n",
    ingest_token="hunter2hunter2hunter2hunter2hunter2",
)
FULL = Context(
    namespace="tracing",
    discovery=Discovery(cidrs=("10.0.0.0/8",), sources=("nodes",), resolvers=("10.96.0.10",)),
    credentials=CREDENTIALS,
    has_service_monitors=True,
)


def list_templates(manifests: list[Manifest]) -> dict[str, Any]:
    """What a pod is made of, by workload; a change of one replaces its pods."""
    return {
        m["metadata"]["labels"]["app.kubernetes.io/component"]: m["spec"]["template"]
        for m in manifests
        if "template" in m.get("spec", {})
    }


@settings(max_examples=10)  # writing YAML is slow
@given(specs())
def test_the_same_resource_is_the_same_text(spec: Spec) -> None:
    config = make(spec)
    text = render_manifests(build_manifests(config, FULL))

    assert render_manifests(build_manifests(make(deepcopy(spec)), FULL)) == text
    assert list(yaml.safe_load_all(text)) == build_manifests(config, FULL)
    assert config == make(spec)


@pytest.mark.parametrize("text", ["a\x85b", "\u2028", "a\n\u2029 b: c", "\U00104ce8\x85í"])
def test_text_with_line_breaks_of_unicode_comes_back_as_it_was(text: str) -> None:
    manifest = {"metadata": {"annotations": {"a": text}}}

    assert list(yaml.safe_load_all(render_manifests([manifest]))) == [manifest]


@settings(max_examples=40)
@given(specs())
def test_each_object_carries_the_hash_of_the_rest_of_it(spec: Spec) -> None:
    for manifest in build_manifests(make(spec), FULL):
        assert manifest["metadata"]["annotations"][DESIRED_HASH] == hash_manifest(manifest)


@settings(max_examples=40)
@given(specs())
def test_no_value_of_a_secret_is_in_any_object(spec: Spec) -> None:
    assert "hunter2" not in json.dumps(build_manifests(make(spec), FULL))


ALL_PODS = {"probe", "dns-cache", "exporter"}
OWN_PODS = {
    "probe": {"probe"},
    "dnsCache": {"dns-cache"},
    "exporter": {"exporter"},
    "console": {"exporter"},
}
# What a field needs to have an effect, of (before, after); without it, it has none, and that is meant.
Need = Callable[[View, View], bool]
NEEDS: dict[str, Need] = {
    "dnsCache.persistence.enabled": lambda before, _: before.redis_volume is None,
    "dnsCache.persistence.size": lambda _, after: after.redis_volume is not None,
    "dnsCache.persistence.storageClassName": lambda _, after: after.redis_volume is not None,
    "exporter.storage.enabled": lambda before, _: before.store_volume is not None,
    "exporter.storage.size": lambda _, after: after.store_volume is not None,
    "exporter.storage.storageClassName": lambda _, after: after.store_volume is not None,
    "images.digests.redis": lambda _, after: "@" in after.image("redis"),
    # Without a uid there is no owner that a store's volume could be without.
    "deletionPolicy": lambda _, after: after.redis_volume is not None,
}


@given(specs(), st.sampled_from(sorted(CHANGES)))
def test_a_change_of_any_field_is_reflected_and_reverting_it_restores_everything(
    spec: Spec, path: str
) -> None:
    config, changed = make(spec), make_changed(spec, path)
    before, after = build_manifests(config, CONTEXT), build_manifests(changed, CONTEXT)

    assert after != before
    replaced = list_replaced(before, after)
    assert bool(replaced) != path.startswith(QUIET)
    # A part that says how its own pods run replaces no others. A password is known to those who use it, and with a
    # ClickHouse of their own exporters may be several, among which the agents choose.
    if path not in ("dnsCache.existingSecret", "exporter.clickhouse.url"):
        assert replaced <= OWN_PODS.get(path.partition(".")[0], ALL_PODS)
    assert build_manifests(make(spec), CONTEXT) == before


def make_changed(spec: Spec, path: str) -> TracingConfig:
    """The resource with that one field changed; an example without such a change is no example."""
    try:
        changed = make(put(deepcopy(spec), path, CHANGES[path]))
    except ValidationError:  # what this field may not stand beside
        reject()
    views = build_view(make(spec), CONTEXT), build_view(changed, CONTEXT)
    assume(changed != make(spec) and NEEDS.get(path, lambda *_: True)(*views))
    return changed


def list_replaced(before: list[Manifest], after: list[Manifest]) -> set[str]:
    old, new = list_templates(before), list_templates(after)
    return {name for name in new if new[name] != old[name]}


@settings(max_examples=40)
@given(specs())
def test_what_is_discovered_reaches_the_pods_without_a_restart(spec: Spec) -> None:
    discovered = replace(
        FULL, discovery=Discovery(cidrs=("10.9.0.0/16",), resolvers=("10.9.0.10",))
    )
    before, after = (build_manifests(make(spec), c) for c in (FULL, discovered))

    assert list_templates(after) == list_templates(before)
    assert after != before


@settings(max_examples=40)
@given(specs(), st.sampled_from(sorted(SECRET_FILES)))
def test_a_changed_secret_replaces_the_pods_that_see_it_and_no_others(
    spec: Spec, workload: str
) -> None:
    hashes = {**CREDENTIALS.hashes, workload: "ffffffffffffffff"}
    changed = replace(FULL, credentials=replace(CREDENTIALS, hashes=hashes))
    before, after = (build_manifests(make(spec), c) for c in (FULL, changed))

    component = {"redis": "dns-cache"}.get(workload, workload)
    assert list_replaced(before, after) == {component}
