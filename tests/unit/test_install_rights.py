"""What an installation may do: what is needed, and nothing that a reader of the manifest would have to swallow."""

import re
from typing import Any

import pytest

from farcall_operator.installing.rights import ROLES
from support_ground import ROOT
from support_install import DEPLOY, key_of, list_rules, read_objects

pytestmark = pytest.mark.unit

OBJECTS = read_objects(DEPLOY / "install.yaml")
WRITES = {"create", "update", "patch", "delete", "deletecollection"}


def name_rule(role: dict[str, Any], rule: dict[str, Any]) -> str:
    return f"{role['kind']} {role['metadata']['name']}: {rule}"


def test_the_only_cluster_wide_write_is_the_status_of_our_own_resource() -> None:
    writes = {
        (group, resource, verb)
        for role, rule in list_rules(OBJECTS)
        if role["kind"] == "ClusterRole"
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in set(rule["verbs"]) & WRITES
    }

    assert writes == {("farcall.dev", "tracingconfigs/status", "patch")}


def test_nothing_is_a_wildcard_and_nobody_hands_on_rights() -> None:
    for role, rule in list_rules(OBJECTS):
        words = {word for values in rule.values() for word in values}
        assert "*" not in words, name_rule(role, rule)
        assert not words & {"bind", "escalate", "impersonate"}, name_rule(role, rule)
        assert not {"roles", "rolebindings", "clusterroles", "clusterrolebindings"} & words
        assert "nonResourceURLs" not in rule


def test_secrets_are_read_by_name_only() -> None:
    rules = [(role, rule) for role, rule in list_rules(OBJECTS) if "secrets" in rule["resources"]]

    assert [role["metadata"]["namespace"] for role, _ in rules] == ["farcall"]
    assert [rule["resources"] for _, rule in rules] == [["secrets"]]
    assert set(rules[0][1]["verbs"]) == {"get", "create", "patch"}


def test_no_pod_may_be_entered_and_no_token_made() -> None:
    for role, rule in list_rules(OBJECTS):
        dangerous = {"pods/exec", "pods/attach", "pods/log", "serviceaccounts/token", "pods/ephemeralcontainers"}  # fmt: skip
        assert not dangerous & set(rule["resources"]), name_rule(role, rule)


def test_the_exporter_only_reads() -> None:
    rules = [
        rule for role, rule in list_rules(OBJECTS) if role["metadata"]["name"] == "farcall-exporter"
    ]

    assert rules
    assert all(set(rule["verbs"]) == {"list", "watch"} for rule in rules)


def test_every_role_is_bound_to_one_account_that_exists() -> None:
    keys = {key_of(manifest) for manifest in OBJECTS}
    bindings = [m for m in OBJECTS if m["kind"] in ("RoleBinding", "ClusterRoleBinding")]
    roles = [m for m in OBJECTS if m["kind"] in ("Role", "ClusterRole")]

    assert len(bindings) == len(roles) == len(ROLES)
    for binding in bindings:
        (subject,) = binding["subjects"]
        assert ("v1", "ServiceAccount", subject["namespace"], subject["name"]) in keys
        reference = binding["roleRef"]
        namespace = binding["metadata"].get("namespace", "")
        assert (
            "rbac.authorization.k8s.io/v1", reference["kind"], namespace, reference["name"],
        ) in keys  # fmt: skip


def test_every_right_has_a_reason_and_no_two_rules_of_a_role_grant_the_same() -> None:
    for role in ROLES:
        seen: set[tuple[str, str]] = set()
        for rule in role.rules:
            assert re.fullmatch(r"[A-Z].{15,}\.", rule.reason), rule
            pairs = {(rule.group, resource) for resource in rule.resources}
            assert not pairs & seen, rule
            seen |= pairs
        assert list(role.rules[0].verbs)


def test_the_page_on_rights_names_every_right() -> None:
    page = (ROOT / "docs/rbac.md").read_text(encoding="utf-8")
    for role in ROLES:
        for rule in role.rules:
            assert rule.reason in page
            for resource in rule.resources:
                assert f"`{resource}`" in page


def test_every_kind_that_is_applied_may_be_applied() -> None:
    """The kinds of a TracingConfig's objects, and the verbs that apply, prune and watch need."""
    import yaml

    plural = {"Ingress": "ingresses", "NetworkPolicy": "networkpolicies"}
    granted = {
        (group, resource): set(rule["verbs"])
        for role, rule in list_rules(OBJECTS)
        if role["kind"] == "Role" and role["metadata"]["namespace"] == "farcall"
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    golden = (ROOT / "tests/golden/render").glob("*.golden.yaml")
    objects = [
        document
        for path in golden
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
        if document
    ]

    assert objects
    for kind, version in {(m["kind"], m["apiVersion"]) for m in objects}:
        group = version.rpartition("/")[0]
        resource = plural.get(kind, f"{kind.lower()}s")
        verbs = granted[(group, resource)]
        watched = set() if kind == "ServiceMonitor" else {"watch"}  # the kind may not exist
        deleted = (
            set() if kind == "PersistentVolumeClaim" else {"delete"}
        )  # data goes with its owner or not at all
        assert {"get", "list", "create", "patch"} | deleted | watched <= verbs, kind
