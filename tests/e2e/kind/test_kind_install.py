"""From `kubectl apply` to Ready: what a TracingConfig becomes, what the status says, and that nothing drifts."""

import pytest
import yaml

from support_argocd import judge
from support_cluster import NAMESPACE, ROOT, Cluster, wait_until
from support_cluster_shop import CONFIG, Shop, build_config

pytestmark = pytest.mark.kind


def test_a_config_becomes_an_agent_on_each_node_a_dns_cache_and_an_exporter_all_ready(
    cluster: Cluster, shop: Shop
) -> None:
    probe = cluster.get("daemonset", f"{CONFIG}-probe")["status"]
    redis = cluster.get("statefulset", f"{CONFIG}-redis")["status"]
    exporter = cluster.get("deployment", f"{CONFIG}-exporter")["status"]

    assert (probe["desiredNumberScheduled"], probe["numberReady"]) == (len(shop.nodes),) * 2
    assert redis["readyReplicas"] == 1
    assert exporter["readyReplicas"] == 1
    assert cluster.kstatus(CONFIG) == "Current"


def test_the_table_of_kubectl_says_that_it_is_ready(cluster: Cluster, shop: Shop) -> None:
    header, row = cluster.kubectl("get", "tracingconfigs", CONFIG).splitlines()

    assert header.split()[:2] == ["NAME", "TIER"]
    assert row.split()[:2] == [CONFIG, "Hobby"]
    assert "True" in row.split()


def test_argo_cd_calls_it_healthy(cluster: Cluster, shop: Shop) -> None:
    status, message = judge(cluster.wait_current(CONFIG))

    assert status == "Healthy", message


def test_a_second_apply_changes_nothing_and_a_dry_run_has_no_difference(
    cluster: Cluster, shop: Shop
) -> None:
    kinds = "daemonsets,statefulsets,deployments,configmaps,services,secrets,networkpolicies"
    before = versions(cluster, kinds)
    config = cluster.get("tracingconfig", CONFIG)

    cluster.apply(build_config())

    wait_same(cluster, "-f", "-", stdin=yaml.safe_dump(build_config()))
    after = cluster.get("tracingconfig", CONFIG)
    assert after["metadata"]["generation"] == config["metadata"]["generation"]
    assert versions(cluster, kinds) == before


def wait_same(cluster: Cluster, *what: str, stdin: str | None = None) -> None:
    """`kubectl diff` looks twice, and tells of a status too that is written between."""

    def look() -> bool:
        done = cluster.try_kubectl(
            "diff", "--server-side", "--field-manager", "kubectl", *what, stdin=stdin
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return True

    wait_until(look, "a dry run has no difference")


def versions(cluster: Cluster, kinds: str) -> dict[str, str]:
    """Of the specs alone where there is a generation: a status may move at any time."""
    owned = cluster.items(kinds, "-l", f"farcall.dev/tracingconfig={CONFIG}")
    return {
        f"{o['kind']}/{o['metadata']['name']}": str(
            o["metadata"].get("generation") or o["metadata"]["resourceVersion"]
        )
        for o in owned
    }


def test_no_part_of_farcall_was_restarted(cluster: Cluster, shop: Shop) -> None:
    restarts = {
        f"{pod['metadata']['name']}/{one['name']}": one["restartCount"]
        for pod in cluster.items("pods")
        for one in pod["status"].get("containerStatuses", [])
    }

    assert set(restarts.values()) == {0}, restarts


def test_the_agents_run_with_five_capabilities_and_all_others_pass_the_restricted_standard(
    cluster: Cluster, shop: Shop
) -> None:
    """A dry run in a namespace that enforces it says what would be refused."""
    probe = cluster.get("daemonset", f"{CONFIG}-probe")["spec"]["template"]["spec"]
    security = probe["containers"][0]["securityContext"]
    assert security["privileged"] is False
    assert security["capabilities"]["drop"] == ["ALL"]
    assert len(security["capabilities"]["add"]) == 5
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}

    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": "restricted",
                "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
            },
        }
    )
    for pod in cluster.items("pods"):
        if pod["metadata"]["labels"].get("app.kubernetes.io/component") == "probe":
            continue
        spec = {k: v for k, v in pod["spec"].items() if k not in ("nodeName", "serviceAccountName", "serviceAccount")}  # fmt: skip
        clone = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": pod["metadata"]["name"], "namespace": "restricted"},
            "spec": spec,
        }
        done = cluster.try_kubectl(
            "create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(clone)
        )
        assert done.returncode == 0, done.stderr


def test_what_is_installed_is_what_the_manifest_says(cluster: Cluster, shop: Shop) -> None:
    wait_same(cluster, "-f", str(ROOT / "deploy/install.yaml"))

    assert cluster.get("deployment", "farcall-operator")["metadata"]["namespace"] == NAMESPACE


def test_the_agents_see_all_that_they_can_see_with_five_capabilities(
    cluster: Cluster, shop: Shop
) -> None:
    def look() -> bool:
        with cluster.open_api(CONFIG) as api:
            agents = [c for c in api.read_status().components if c.kind == "agent" and c.alive]
        assert len(agents) == len(shop.nodes)
        names = {row["name"] for agent in agents for row in agent.capabilities}
        off = {row["name"]: row["why"] for a in agents for row in a.capabilities if row["on"] != "true"}  # fmt: skip
        assert any(name.startswith("tls/") for name in names), str(names)  # the nodes have libssl
        assert off == {}
        return True

    wait_until(look, "every agent has told what it sees")
