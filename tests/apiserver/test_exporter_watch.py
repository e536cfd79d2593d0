"""What the exporter knows of a cluster, watched at a real API server with the rights that the install manifest grants.

Pods are real objects; their statuses are written as a kubelet would. The control plane is this module's own: it is cut and
restarted here.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from farcall_exporter.cluster.apiserver import ApiServer
from farcall_exporter.cluster.catalog import Catalog
from farcall_exporter.cluster.identity import Identity, identify
from farcall_exporter.cluster.watching import ClusterWatch
from farcall_exporter.counters import Counters
from farcall_exporter.services import find_name
from support_apiserver import ControlPlane, read_audit, running_control_plane, wait_until
from support_apiserver_access import Api
from support_apiserver_operator import NAMESPACE, install, read_installation

pytestmark = pytest.mark.apiserver

ACCOUNT = "farcall-exporter"
USER = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
NOBODY = "nobody"
WITHIN_S = 60
PODS = "/api/v1/namespaces/shop/pods"
Found = Callable[..., Identity | None]


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    folder = tmp_path_factory.mktemp("watched")
    with running_control_plane(folder, has_controllers=False) as started:
        install(started)
        with started.api() as api:
            api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
            # What the controllers would make; without it no pod is taken.
            api.create(build("v1", "ServiceAccount", "default"))
            api.create(build("v1", "ServiceAccount", NOBODY))
        yield started


@pytest.fixture
def api(plane: ControlPlane) -> Iterator[Api]:
    with plane.api() as opened:
        yield opened


@pytest.fixture(autouse=True)
def empty_namespace(plane: ControlPlane) -> Iterator[None]:
    yield
    with plane.api() as api:
        for path in (PODS, "/apis/apps/v1/namespaces/shop/replicasets"):
            api.http.delete(path, params={"gracePeriodSeconds": "0"})
        for service in api.list("/api/v1/namespaces/shop/services"):
            api.delete(f"/api/v1/namespaces/shop/services/{service['metadata']['name']}")


class Watched:
    """The exporter's watch, and what its catalog says."""

    def __init__(self, plane: ControlPlane, folder: Path, account: str, namespace: str) -> None:
        self.counters = Counters()
        self.catalog = Catalog()
        write_account(plane, folder, account, namespace)
        host = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(plane.port)}
        self.watch = ClusterWatch(
            lambda: ApiServer.in_cluster(folder, host), self.catalog, self.counters
        )

    def find(self, address: str, port: int = 8080, *, at_ns: int | None = None) -> Identity | None:
        with self.catalog.locked():
            segments = self.catalog.segments(address, port)
            owners = segments.at(at_ns or time.time_ns()) if segments else ()
            return identify(self.catalog, owners, port, None)

    def wait_for(self, label: str | None, address: str, port: int = 8080) -> Identity | None:
        def holds() -> bool:
            found = self.find(address, port)
            return (found.label if found else None) == label

        wait_until(holds, f"{address} is {label}", within_s=WITHIN_S, describe=lambda: self.find(address))  # fmt: skip
        return self.find(address, port)

    def watcher(self, kind: str) -> Any:
        return next(w for w in self.watch.watchers if w.resource.kind == kind)


@contextmanager
def watching(
    plane: ControlPlane, folder: Path, account: str = ACCOUNT, namespace: str = NAMESPACE
) -> Iterator[Watched]:
    watched = Watched(plane, folder, account, namespace)
    watched.watch.start()
    try:
        yield watched
    finally:
        watched.watch.stop()


@pytest.fixture
def watched(plane: ControlPlane, tmp_path: Path) -> Iterator[Watched]:
    with watching(plane, tmp_path) as started:
        assert started.watch.wait_listed(WITHIN_S)
        yield started


def write_account(plane: ControlPlane, folder: Path, account: str, namespace: str) -> None:
    """As the kubelet mounts it, the token made by the API server."""
    with plane.api() as api:
        answer = api.http.post(
            f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token",
            json={"spec": {"expirationSeconds": 3600}},
        ).raise_for_status()
    (folder / "token").write_text(answer.json()["status"]["token"])
    (folder / "ca.crt").write_bytes(plane.pki.ca.read_bytes())


def build(version: str, kind: str, name: str, **more: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "shop", **more.pop("metadata", {})}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **more}


CONTAINER = {
    "name": "app",
    "image": "example/app:1",
    "ports": [{"name": "http", "containerPort": 8080}],
}


def run_pod(
    api: Api,
    name: str,
    address: str,
    *,
    app: str,
    owner: dict[str, Any] | None = None,
    annotations: dict[str, str] | None = None,
) -> dict[str, Any]:
    references = [{**owner, "controller": True}] if owner else []
    api.create(
        build(
            "v1", "Pod", name,
            metadata={
                "labels": {"app": app},
                "ownerReferences": references,
                "annotations": annotations or {},
            },
            spec={"nodeName": "node-x", "containers": [CONTAINER]},
        )
    )  # fmt: skip
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    status = {
        "phase": "Running", "startTime": now, "podIP": address, "podIPs": [{"ip": address}],
    }  # fmt: skip
    return api.merge(f"{PODS}/{name}/status", {"status": status})


def end_pod(api: Api, name: str) -> None:
    api.delete(f"{PODS}/{name}", gracePeriodSeconds="0")


def make_replicas(api: Api, app: str) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": app}}, "spec": {"containers": [CONTAINER]}}
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": app, "uid": f"d-{app}", "controller": True}  # fmt: skip
    made = api.create(
        build(
            "apps/v1", "ReplicaSet", f"{app}-7d9c",
            metadata={"ownerReferences": [owner]},
            spec={"replicas": 1, "selector": {"matchLabels": {"app": app}}, "template": template},
        )
    )  # fmt: skip
    return {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{app}-7d9c", "uid": made["metadata"]["uid"]}  # fmt: skip


def test_a_pod_is_named_with_its_service_its_workload_and_its_node(
    watched: Watched, api: Api
) -> None:
    replicas = make_replicas(api, "cart")
    declared = {"resource.opentelemetry.io/service.name": "trolley"}
    run_pod(api, "cart-7d9c-x", "10.244.0.7", app="cart", owner=replicas, annotations=declared)
    made = api.create(
        build("v1", "Service", "basket", spec={"selector": {"app": "cart"}, "ports": [{"port": 80, "targetPort": "http"}]})
    )  # fmt: skip
    found = watched.wait_for("basket", "10.244.0.7")

    assert found is not None
    assert found.workload == ("Deployment", "cart")
    assert (found.namespace, found.pod, found.node) == ("shop", "cart-7d9c-x", "node-x")
    assert find_name(found) == "trolley"
    behind = watched.wait_for("basket", made["spec"]["clusterIP"], 80)
    assert behind is not None
    assert behind.workload == ("Deployment", "cart")


def test_an_address_that_another_pod_took_is_each_ones_at_its_time(
    watched: Watched, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farcall_exporter.cluster.timelines.SKEW_NS", 0)
    run_pod(api, "first", "10.244.0.8", app="first")
    watched.wait_for("first", "10.244.0.8")
    during_first = time.time_ns()
    end_pod(api, "first")
    watched.wait_for(None, "10.244.0.8")
    time.sleep(1.1)  # a start time has whole seconds
    run_pod(api, "second", "10.244.0.8", app="second")
    watched.wait_for("second", "10.244.0.8")
    before = watched.find("10.244.0.8", at_ns=during_first)

    assert before is not None
    assert before.label == "first"


def test_a_pod_that_is_done_gives_up_its_address(watched: Watched, api: Api) -> None:
    run_pod(api, "import", "10.244.0.9", app="import")
    watched.wait_for("import", "10.244.0.9")
    api.merge(f"{PODS}/import/status", {"status": {"phase": "Succeeded"}})

    watched.wait_for(None, "10.244.0.9")


def test_a_watch_that_is_cut_goes_on_where_it_was(watched: Watched, api: Api) -> None:
    run_pod(api, "before", "10.244.0.10", app="before")
    watched.wait_for("before", "10.244.0.10")
    lists = watched.counters.read()["kubernetes_lists"]
    watched.watcher("Pod").close()
    run_pod(api, "after", "10.244.0.11", app="after")
    watched.wait_for("after", "10.244.0.11")

    assert watched.counters.read()["kubernetes_lists"] == lists


def test_where_the_server_knows_the_place_no_more_all_is_read_again(
    plane: ControlPlane, tmp_path: Path, api: Api
) -> None:
    run_pod(api, "stays", "10.244.0.12", app="stays")
    run_pod(api, "leaves", "10.244.0.13", app="leaves")
    forget_history(plane)
    with watching(plane, tmp_path) as watched:
        watched.wait_for("leaves", "10.244.0.13")
        end_pod_unseen(watched, api, "leaves")
        watched.wait_for(None, "10.244.0.13")

        assert watched.find("10.244.0.12") is not None
        wait_until(
            lambda: watched.counters.read()["kubernetes_relists"] >= 1,
            "all is read again",
            within_s=WITHIN_S,
        )


def forget_history(plane: ControlPlane) -> None:
    """etcd drops what is older than now, as it does every five minutes in a cluster; the API server's own memory begins anew."""
    etcd = f"http://127.0.0.1:{plane.etcd_ports[0]}/v3/kv"
    revision = httpx.post(f"{etcd}/range", json={"key": "AA=="}).json()["header"]["revision"]
    httpx.post(f"{etcd}/compaction", json={"revision": revision}).raise_for_status()
    plane.stop_process("kube-apiserver")
    plane.run_apiserver()


def end_pod_unseen(watched: Watched, api: Api, name: str) -> None:
    """While the watch is cut; it goes on from a place that is too old, which it is told before it is cut: it is quick."""
    watcher = watched.watcher("Pod")
    wait_until(lambda: watcher._response is not None, "the watch is open", within_s=WITHIN_S)
    watcher._version = "1"
    watcher.close()
    end_pod(api, name)


def test_names_stay_while_the_api_server_is_away_and_grow_when_it_is_back(
    plane: ControlPlane, watched: Watched, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farcall_exporter.cluster.watching.TROUBLE_AFTER_S", 0.5)
    run_pod(api, "kept", "10.244.0.14", app="kept")
    watched.wait_for("kept", "10.244.0.14")
    plane.stop_process("kube-apiserver")
    try:
        wait_until(lambda: watched.watch.trouble() != "", "the trouble is said", within_s=WITHIN_S)
        assert "cannot be read" in watched.watch.trouble()
        assert watched.find("10.244.0.14") is not None
        assert watched.counters.read()["kubernetes_failures"] > 0
    finally:
        plane.run_apiserver()
    with plane.api() as again:
        run_pod(again, "new", "10.244.0.15", app="new")
        watched.wait_for("new", "10.244.0.15")

    wait_until(lambda: watched.watch.trouble() == "", "all is well", within_s=WITHIN_S)


def test_an_account_without_rights_is_told_in_a_sentence(
    plane: ControlPlane, tmp_path: Path
) -> None:
    with watching(plane, tmp_path, NOBODY, "shop") as watched:
        wait_until(
            lambda: all(w.failure for w in watched.watch.watchers), "refused", within_s=WITHIN_S
        )

        assert "403" in watched.watch.trouble()
        assert not watched.watch.wait_listed(0)


def test_the_exporter_asks_for_all_that_it_is_granted_and_for_nothing_else(
    plane: ControlPlane, watched: Watched
) -> None:
    events: list[dict[str, object]] = []

    def asked() -> set[tuple[str, str, str]]:
        with suppress(ValueError):  # the last line is half written
            events[:] = read_audit(plane.audit_log, USER)
        return {
            (r.get("apiGroup", ""), r["resource"], str(event["verb"]))
            for event in events
            if isinstance(r := event.get("objectRef"), dict)
        }

    (role,) = [
        m for m in read_installation()
        if m["kind"] == "ClusterRole" and m["metadata"]["name"] == ACCOUNT
    ]  # fmt: skip
    granted = {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }

    wait_until(lambda: asked() == granted, "all is asked", within_s=WITHIN_S, describe=asked)
    # The newest answer to each: an API server that has just been started again knows no roles yet, and refuses all.
    newest = {
        (r["resource"], event["verb"]): status["code"]
        for event in events
        if isinstance(r := event.get("objectRef"), dict)
        and isinstance(status := event.get("responseStatus"), dict)
    }
    assert set(newest.values()) == {200}
