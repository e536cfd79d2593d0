"""`farcall operator` as processes: who works, from when on, and how it ends."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support_operator_fake import (
    FakeServer,
    Served,
    child_path,
    config_path,
    write_kubeconfig,
)
from support_operator_process import Running, build_child, build_config, operating

pytestmark = pytest.mark.servers
LEASE = "/apis/coordination.k8s.io/v1/namespaces/farcall/leases/farcall-operator"


@pytest.fixture
def served() -> Iterator[Served]:
    with Served() as started:
        yield started


@pytest.fixture
def fake(served: Served) -> FakeServer:
    return served.fake


@pytest.fixture
def kubeconfig(fake: FakeServer, tmp_path: Path) -> Path:
    return write_kubeconfig(tmp_path / "kubeconfig", fake.url)


def fill(fake: FakeServer, configs: int, children: int) -> None:
    for number in range(configs):
        name = f"t{number}"
        fake.put(config_path(name), build_config(name))
        for child in range(children):
            fake.put(
                child_path("configmaps", f"{name}-{child}"), build_child(name, f"{name}-{child}")
            )
    fake.put("/api/v1/nodes/n1", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})


def holder(fake: FakeServer) -> str:
    spec: dict[str, Any] = fake.objects.get(LEASE, {}).get("spec", {})
    return str(spec.get("holderIdentity") or "")


def test_the_first_reconciliation_sees_the_whole_picture(
    served: Served, fake: FakeServer, kubeconfig: Path, tmp_path: Path
) -> None:
    """250 configs and 750 children are several pages; a half-read list would show fewer."""
    served.call(fill, fake, 250, 3)
    with operating(tmp_path, kubeconfig) as operator:
        operator.wait(lambda: len(operator.calls()) >= 250, "all are reconciled")
        first = operator.calls()[0]

    assert first["configs"] == 250
    assert first["nodes"] == ["n1"]
    assert all(len(call["children"]) >= 3 for call in operator.calls())


def test_an_edit_a_deleted_child_and_a_deleted_config_are_each_noticed(
    served: Served, fake: FakeServer, kubeconfig: Path, tmp_path: Path
) -> None:
    served.call(fill, fake, 1, 0)
    own = child_path("configmaps", "t0-own")
    with operating(tmp_path, kubeconfig) as operator:
        operator.wait(lambda: own in fake.objects, "the child is made")
        served.call(fake.put, config_path("t0"), build_config("t0", "Scale"))
        operator.wait(lambda: fake.objects[own]["data"] == {"tier": "Scale"}, "the edit arrives")
        served.call(fake.delete, own)
        operator.wait(lambda: own in fake.objects, "the child is made again")
        served.call(fake.delete, config_path("t0"))
        operator.wait(lambda: operator.calls()[-1]["tier"] is None, "the end arrives")


def test_nothing_is_written_but_the_lease_and_what_the_reconciler_wrote(
    served: Served, fake: FakeServer, kubeconfig: Path, tmp_path: Path
) -> None:
    served.call(fill, fake, 3, 1)
    with operating(tmp_path, kubeconfig) as operator:
        operator.wait(lambda: len(operator.calls()) >= 6, "each is seen again after its own child")
        assert operator.stop() == 0

    written = {a for a in fake.asked if a[0] not in ("get", "list", "watch")}
    assert written == {
        ("create", "leases.coordination.k8s.io"),
        ("update", "leases.coordination.k8s.io"),
        ("patch", "configmaps"),
    }
    assert "annotations" not in fake.objects[config_path("t0")]["metadata"]
    read = {resource for verb, resource in fake.asked if verb != "patch"}
    assert not read & {"secrets", "namespaces", "customresourcedefinitions.apiextensions.k8s.io"}


def test_only_what_is_ours_is_asked_for(
    served: Served, fake: FakeServer, kubeconfig: Path, tmp_path: Path
) -> None:
    selectors: dict[str, set[str]] = {}

    def note(request: Any) -> None:
        plural = request.path.rpartition("/")[2]
        selectors.setdefault(plural, set()).add(request.query.get("labelSelector", ""))

    fake.refuse = note
    with operating(tmp_path, kubeconfig) as operator:
        operator.wait_for_event("watching")
        operator.stop()

    ours = {"app.kubernetes.io/managed-by=farcall-operator"}
    for plural in ("pods", "configmaps", "deployments", "networkpolicies"):
        assert selectors[plural] == ours, plural
    for plural in ("tracingconfigs", "nodes"):
        assert selectors[plural] == {""}, plural


def test_a_killed_leader_is_replaced_and_a_stopped_one_at_once(
    served: Served, fake: FakeServer, kubeconfig: Path, tmp_path: Path
) -> None:
    served.call(fill, fake, 1, 0)
    with (
        operating(tmp_path, kubeconfig, "first") as first,
        operating(tmp_path, kubeconfig, "second") as second,
        operating(tmp_path, kubeconfig, "third") as third,
    ):
        running = {"first": first, "second": second, "third": third}
        for number in (signal.SIGKILL, signal.SIGTERM):
            leader = wait_for_leader(fake, running)
            standbys = [o for name, o in running.items() if name != leader]
            assert all(o.calls() == [] for o in standbys), "a standby only waits"
            assert all(o.get("/readyz").text == "standby\n" for o in standbys)
            assert running.pop(leader).stop(number) == (-number if number == signal.SIGKILL else 0)
        wait_for_leader(fake, running)


def wait_for_leader(fake: FakeServer, running: dict[str, Running]) -> str:
    def leads() -> str:
        name = holder(fake).partition("_")[0]
        return name if name in running and running[name].calls() else ""

    next(iter(running.values())).wait(lambda: bool(leads()), "somebody leads and works")
    return leads()


def test_whoever_lost_the_lease_ends_and_writes_no_more(
    served: Served, fake: FakeServer, kubeconfig: Path, tmp_path: Path
) -> None:
    served.call(fill, fake, 1, 0)
    with operating(tmp_path, kubeconfig) as operator:
        operator.wait(lambda: len(operator.calls()) >= 1, "it works")
        lease = json.loads(json.dumps(fake.objects[LEASE]))
        lease["spec"]["holderIdentity"] = "another"
        served.call(fake.put, LEASE, lease)

        assert operator.process.wait(60) == 1
        assert holder(fake) == "another"
        assert "another leads now" in [e.get("error") for e in operator.entries()]


def test_an_operator_whose_crd_is_missing_says_so_and_waits_for_it(
    served: Served, fake: FakeServer, kubeconfig: Path, tmp_path: Path
) -> None:
    served.call(fill, fake, 1, 0)
    fake.hidden = {"TracingConfig"}
    with operating(tmp_path, kubeconfig) as operator:
        operator.wait(lambda: any("CRD" in e for e in operator.events()), "it says what is missing")
        fake.hidden = set()
        operator.wait(lambda: len(operator.calls()) >= 1, "it works")


def test_it_is_ready_once_the_api_server_was_reached_and_tells_of_itself(
    served: Served, fake: FakeServer, kubeconfig: Path, tmp_path: Path
) -> None:
    refusing = [True]

    def refuse(_request: Any) -> Any:
        from support_operator_fake import fail

        return fail(503, "ServiceUnavailable") if refusing[0] else None

    fake.refuse = refuse
    condition = {"type": "Ready", "status": "True"}
    config = {**build_config("main"), "status": {"conditions": [condition]}}
    served.call(fake.put, config_path("main"), config)
    with operating(tmp_path, kubeconfig) as operator:
        assert operator.get("/readyz").status_code == 503
        assert operator.get("/healthz").status_code == 200
        refusing[0] = False
        operator.wait(lambda: len(operator.calls()) >= 1, "it works")
        assert operator.get("/readyz").text == "leader\n"
        metrics = operator.get("/metrics").text
        gauge = 'farcall_tracingconfig_condition{name="main",type="Ready",status="True"} 1'
        assert gauge in metrics
        assert (
            'farcall_operator_api_requests_total{verb="watch",resource="pods",code="200"}'
            in metrics
        )
        assert "farcall_operator_leader 1" in metrics
        served.call(fake.delete, config_path("main"))
        operator.wait(lambda: gauge not in operator.get("/metrics").text, "the gauge goes")


def test_a_port_that_is_taken_and_a_cluster_that_is_unknown_end_it_with_a_sentence(
    kubeconfig: Path, tmp_path: Path
) -> None:
    with operating(tmp_path, kubeconfig, "first") as first:
        address = f"127.0.0.1:{first.port}"
        with pytest.raises(AssertionError, match="address already in use"):
            with operating(tmp_path, kubeconfig, "second", "--listen", address):
                pass
