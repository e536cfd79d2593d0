"""What a pod's own service is called in its spans: what its process says, the annotation, the workload, the pod."""

from typing import Any

import pytest

from farcall_exporter.batches import build_batch
from farcall_exporter.context import Context
from support_cluster_objects import Json, controller, owned_by, pod, put
from support_exporter import (
    Row,
    decoded,
    exchange,
    identified,
    make_context,
    seen_from_server,
    to_rows,
    who,
)

pytestmark = pytest.mark.unit

ANNOTATION = "resource.opentelemetry.io/service.name"
DEPLOYMENT = {"kind": "Deployment", "name": "cart", "uid": "d-cart"}


@pytest.fixture
def context() -> Context:
    return make_context()


def run(context: Context, owner: Json | None, name: str = "cart-7d9c-x", **more: Any) -> str:
    """The pod's UID."""
    made = pod(name, "10.244.0.5", owner=owner, **more)
    put(context.catalog, made)
    return str(made["metadata"]["uid"])


def deploy(context: Context, **more: Any) -> str:
    replicas = controller("ReplicaSet", "cart-7d9c", DEPLOYMENT)
    put(context.catalog, replicas)
    return run(context, owned_by(replicas), **more)


def service_of(context: Context, uid: str, **changes: Any) -> str:
    """Of a process in the pod's container `app`, which says nothing of itself unless changed."""
    row: Row = exchange(pod_uid=uid, **{"service": "app", "container": "app", **changes})
    (span,) = to_rows(build_batch(decoded([row]), context)["spans"])
    assert span["ResourceAttributes"]["service.name"] == span["ServiceName"]
    return str(span["ServiceName"])


def test_a_pod_that_says_nothing_is_called_like_its_workload(context: Context) -> None:
    assert service_of(context, deploy(context)) == "cart"


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet", "Rollout"])
def test_every_kind_of_workload_gives_its_name(context: Context, kind: str) -> None:
    assert service_of(context, run(context, {"kind": kind, "name": "db", "uid": "u"})) == "db"


def test_a_job_of_a_cron_job_is_called_like_that(context: Context) -> None:
    job = controller("Job", "report-2891", {"kind": "CronJob", "name": "report", "uid": "c"})
    put(context.catalog, job)

    assert service_of(context, run(context, owned_by(job))) == "report"


def test_the_annotation_wins_over_the_workload(context: Context) -> None:
    uid = deploy(context, annotations={ANNOTATION: "basket"})

    assert service_of(context, uid) == "basket"


def test_what_the_process_says_wins_over_all(context: Context) -> None:
    uid = deploy(context, annotations={ANNOTATION: "basket"})

    assert service_of(context, uid, service="said-so") == "said-so"


def test_labels_do_not_name_a_service(context: Context) -> None:
    labels = {"app.kubernetes.io/name": "nginx", "app.kubernetes.io/instance": "blue"}

    assert service_of(context, deploy(context, labels=labels)) == "cart"


def test_a_pod_of_its_own_gives_its_name(context: Context) -> None:
    assert service_of(context, run(context, None, name="debug")) == "debug"


def test_a_static_pod_gives_its_name(context: Context) -> None:
    uid = run(context, {"kind": "Node", "name": "node-1", "uid": "n"}, name="etcd-node-1")

    assert service_of(context, uid, service="etcd", container="etcd") == "etcd-node-1"


def test_without_the_api_server_it_is_the_containers_name(context: Context) -> None:
    assert service_of(context, "uid-nobody-knows") == "app"


@pytest.mark.parametrize("strange", [7, None, ["a"], {"a": "b"}, ""])
def test_an_annotation_that_is_no_text_is_none(context: Context, strange: object) -> None:
    assert service_of(context, deploy(context, annotations={ANNOTATION: strange})) == "cart"


def test_what_a_server_is_called_is_said_at_its_clients_span_too(context: Context) -> None:
    client = identified(service="web")
    server = seen_from_server(client, pod_uid=deploy(context), service="app", container="app")
    (span,) = to_rows(build_batch(decoded([client, server]), context)["spans"])

    assert span["ServiceName"] == "web"
    assert span["SpanAttributes"]["farcall.server.service.name"] == "cart"


def test_answers_and_connections_have_the_same_name(context: Context) -> None:
    identity = who(pod_uid=deploy(context), service="app", container="app")
    answer = {
        **identity, "time": 1, "resolver": "10.96.0.10", "question": "a.test", "question_type": "A",
        "rcode": 0, "address": "203.0.113.10", "ttl_s": 30, "canonical_name": None,
    }  # fmt: skip
    row = exchange(**identity)
    connection = {
        **identity, "time": 1, "opened": 1, "rivals": [],
        **{k: row[k] for k in ("connection_id", "role", "protocol", "flags", "netns", "local_address", "local_port", "peer_address", "peer_port", "bound_name", "bound_answered")},
    }  # fmt: skip
    [told] = to_rows(build_batch(decoded([answer], "dns"), context)["dns_answers"])
    [seen] = to_rows(build_batch(decoded([connection], "connections"), context)["connections"])

    assert (told["ServiceName"], seen["ServiceName"]) == ("cart", "cart")
