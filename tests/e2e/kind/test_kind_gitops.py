"""TracingConfigs from a git repository: pull and apply, again and again, as GitOps tools do. Nothing drifts by itself."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from support_cluster import NAMESPACE, Cluster, Object, wait_until
from support_cluster_shop import CONFIG, SHOP, Shop, build_config

pytestmark = pytest.mark.kind

MANAGER = ("--server-side", "--field-manager", "gitops")
AUTHOR = ("-c", "user.name=platform", "-c", "user.email=platform@example.com")


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *AUTHOR, *arguments], cwd=folder, check=True, capture_output=True)


class Repository:
    """A bare repository, a clone that people commit to, and one that the cluster's loop pulls into."""

    def __init__(self, folder: Path) -> None:
        self.people, self.loop = folder / "people", folder / "loop"
        git(folder, "init", "--bare", "--initial-branch=main", "tracing.git")
        for clone in (self.people, self.loop):
            git(folder, "clone", f"file://{folder}/tracing.git", clone.name)

    def commit(self, config: Object, message: str) -> None:
        (self.people / "tracing.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        git(self.people, "add", "tracing.yaml")
        git(self.people, "commit", "--message", message)
        git(self.people, "push", "origin", "HEAD:main")

    def pull(self) -> Path:
        git(self.loop, "pull", "--ff-only", "origin", "main")
        return self.loop


@pytest.fixture
def repository(cluster: Cluster, shop: Shop, tmp_path: Path) -> Iterator[Repository]:
    cluster.wait_current(CONFIG)
    yield Repository(tmp_path)
    # Whoever applied owns the fields: they go back, or the tests to come would have a conflict.
    cluster.apply(build_config(), force=True)
    nothing = {key: value for key, value in build_config().items() if key != "spec"}
    cluster.kubectl("apply", *MANAGER, "-f", "-", stdin=json.dumps(nothing))
    cluster.wait_current(CONFIG)


def sync(cluster: Cluster, repository: Repository) -> None:
    cluster.kubectl("apply", *MANAGER, "--force-conflicts", "-f", str(repository.pull()))


def has_drifted(cluster: Cluster, repository: Repository) -> bool:
    """As GitOps tools see it, who leave out the status: `kubectl diff` would tell of one that is written meanwhile."""
    dry = ("apply", *MANAGER, "--force-conflicts", "--dry-run=server", "-o", "json")
    wanted = json.loads(cluster.kubectl(*dry, "-f", str(repository.pull())))
    there = cluster.get("tracingconfig", CONFIG)
    return bool(declared(wanted) != declared(there))


def declared(config: Object) -> Object:
    metadata = config["metadata"]
    return {
        "spec": config["spec"],
        "labels": metadata.get("labels"),
        "annotations": metadata.get("annotations"),
    }


def generation(cluster: Cluster) -> int:
    found: int = cluster.get("tracingconfig", CONFIG)["metadata"]["generation"]
    return found


def is_held(cluster: Cluster) -> bool:
    config = json.loads(cluster.get("configmap", f"{CONFIG}-config")["data"]["effective.json"])
    return bool(config["dns"]["hold_while_connected"])


def pods_of(cluster: Cluster) -> set[str]:
    found = cluster.items("pods", "-l", f"farcall.dev/tracingconfig={CONFIG}")
    return {pod["metadata"]["uid"] for pod in found}


def test_what_git_holds_is_applied_once_and_no_sync_after_it_changes_anything(
    cluster: Cluster, repository: Repository
) -> None:
    pods = pods_of(cluster)
    repository.commit(build_config(), "As it is")
    sync(cluster, repository)
    first = generation(cluster)
    repository.commit(build_config(dns={"holdWhileConnected": True}), "Hold names")
    assert has_drifted(cluster, repository)
    sync(cluster, repository)
    cluster.wait_current(CONFIG)
    wait_until(lambda: is_held(cluster), "the change is in the effective config")

    for _ in range(2):
        assert not has_drifted(cluster, repository)
        sync(cluster, repository)
        assert generation(cluster) == first + 1

    repository.commit(build_config(), "Not so")
    sync(cluster, repository)
    wait_until(lambda: not is_held(cluster), "what is gone from git is gone")
    cluster.wait_current(CONFIG)
    assert not has_drifted(cluster, repository)
    assert generation(cluster) == first + 2
    assert pods_of(cluster) == pods


def test_what_somebody_edits_by_hand_is_drift_that_the_next_sync_takes_back(
    cluster: Cluster, repository: Repository
) -> None:
    repository.commit(build_config(), "As it is")
    sync(cluster, repository)
    # The shop is traced all the while: the tests to come count its calls.
    patch = {"spec": {"namespaces": {"include": [SHOP, "elsewhere"]}}}
    cluster.kubectl("patch", "tracingconfig", CONFIG, "--type", "merge", "-p", json.dumps(patch))
    assert has_drifted(cluster, repository)

    sync(cluster, repository)

    assert not has_drifted(cluster, repository)
    namespaces = cluster.get("tracingconfig", CONFIG)["spec"]["namespaces"]
    assert namespaces == build_config()["spec"]["namespaces"]
    cluster.wait_current(CONFIG)


def test_the_parts_are_no_part_of_git_and_no_tool_has_to_know_them(
    cluster: Cluster, shop: Shop
) -> None:
    """Owned by the TracingConfig, so that Argo CD and Flux show them below it, and labelled by none of their tracking labels."""
    config = cluster.get("tracingconfig", CONFIG)
    children = cluster.items("ds,sts,deploy,svc,cm", "-l", f"farcall.dev/tracingconfig={CONFIG}", namespace=NAMESPACE)  # fmt: skip
    for child in children:
        (owner,) = child["metadata"]["ownerReferences"]
        assert owner["uid"] == config["metadata"]["uid"]
        labels = child["metadata"]["labels"]
        assert not any("argocd" in label or "fluxcd" in label for label in labels)
