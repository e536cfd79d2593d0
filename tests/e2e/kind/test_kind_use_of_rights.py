"""What operator and exporter asked of the API server in all tests before, by its audit log: what they may, and no more."""

from pathlib import Path

import pytest

from support_apiserver import read_audit
from support_cluster import NAMESPACE, Cluster, docker
from support_cluster_shop import Shop
from support_rights import Right, list_asked, list_granted, list_refused

pytestmark = pytest.mark.kind

AUDIT_LOG = "/var/log/kubernetes/audit.log"
OPERATOR, EXPORTER = "farcall-operator", "farcall-exporter"


def read_events(shop: Shop, folder: Path, account: str) -> list[dict[str, object]]:
    copy = folder / "audit.log"
    copy.write_text(docker("exec", shop.nodes[0], "cat", AUDIT_LOG), encoding="utf-8")
    events = read_audit(copy, f"system:serviceaccount:{NAMESPACE}:{account}")
    assert events, f"{account} has asked for nothing"
    return events


@pytest.mark.parametrize("account", [OPERATOR, EXPORTER])
def test_nothing_was_asked_that_is_not_granted_and_nothing_granted_was_refused(
    cluster: Cluster, shop: Shop, tmp_path: Path, account: str
) -> None:
    events = read_events(shop, tmp_path, account)
    granted = list_granted(account)

    assert list_asked(events) - granted == set()
    # An API server that has just been started refuses for a moment what it will grant.
    assert list_refused(events) - granted == set()


def test_the_exporter_uses_every_right_that_it_has(
    cluster: Cluster, shop: Shop, tmp_path: Path
) -> None:
    assert list_granted(EXPORTER) - list_asked(read_events(shop, tmp_path, EXPORTER)) == set()


def test_the_operator_uses_its_rights_to_what_every_tracingconfig_has(
    cluster: Cluster, shop: Shop, tmp_path: Path
) -> None:
    """Kinds that only some have (an Ingress, several exporters) are toured on the API server alone, to the last verb."""
    unused = list_granted(OPERATOR) - list_asked(read_events(shop, tmp_path, OPERATOR))

    assert {right for right in unused if not is_of_some(right)} == set()


def is_of_some(right: Right) -> bool:
    _, _, resource, verb = right
    seldom = {"ingresses", "poddisruptionbudgets", "horizontalpodautoscalers", "servicemonitors"}
    # Children are removed by Kubernetes' own garbage collection, but for those that a change makes superfluous.
    # Secrets are patched when a certificate is due or a key is lost, classes are asked for when a volume grows.
    rare = {("storageclasses", "get"), ("secrets", "patch")}
    return resource in seldom or verb == "delete" or (resource, verb) in rare


def test_agents_and_the_cache_have_no_token_to_ask_anything_with(
    cluster: Cluster, shop: Shop
) -> None:
    for pod in cluster.items("pods"):
        component = pod["metadata"]["labels"].get("app.kubernetes.io/component")
        if component in ("probe", "dns-cache"):
            assert "serviceAccountToken" not in str(pod["spec"]["volumes"])
