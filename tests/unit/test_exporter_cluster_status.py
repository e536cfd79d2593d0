"""An exporter that cannot read the API server works on, and says what that costs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from farcall_exporter.chores import Chores
from farcall_exporter.cluster.apiserver import ApiError, ApiServer, _parse_event, _split_lines
from farcall_exporter.cluster.objects import ObjectError, parse_pod, parse_time_ns
from farcall_exporter.cluster.watching import ClusterWatch
from farcall_exporter.context import Context
from farcall_exporter.pipeline import Pipeline
from farcall_exporter.selfstatus import SelfStatus
from support_cluster_objects import pod, put
from support_exporter import FakeWriter, make_context, wait_until

pytestmark = pytest.mark.unit


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Context]:
    """In a pod to which nobody gave an account."""
    context = make_context()
    watch = ClusterWatch(
        lambda: ApiServer.in_cluster(tmp_path, {}), context.catalog, context.counters
    )
    context.watch = watch
    watch.start()
    yield context
    watch.stop()


def read_capabilities(context: Context) -> dict[str, dict[str, str]]:
    pipeline = Pipeline(FakeWriter(), context)  # type: ignore[arg-type]
    status = SelfStatus(pipeline, node="").read(0.0)
    return {c["name"]: c for c in status.capabilities}


def test_without_an_account_names_are_off_and_the_reason_is_said(watched: Context) -> None:
    assert watched.watch is not None
    wait_until(lambda: watched.watch and watched.watch.trouble())
    found = read_capabilities(watched)["kubernetes names"]

    assert found["on"] == "false"
    assert "no access to the API server" in found["why"]
    assert found["cost"]
    assert watched.counters.read()["kubernetes_failures"] > 0


def test_outside_kubernetes_nothing_is_said_of_it() -> None:
    assert set(read_capabilities(make_context())) == {"dns cache"}


def test_objects_that_find_no_room_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farcall_exporter.cluster.catalog.MAX_PODS", 2)
    context = make_context()
    put(context.catalog, *(pod(f"p{n}", f"10.244.0.{n}") for n in range(5)))
    chores = Chores(Pipeline(FakeWriter(), context))  # type: ignore[arg-type]
    chores.run(0.0)
    chores.run(1.0)

    assert context.catalog.counts["pods"] == 2
    assert context.counters.read()["kubernetes_objects_refused"] == 3


@pytest.mark.parametrize(
    "item",
    [{}, {"metadata": []}, {"metadata": {"uid": "u", "name": 7, "namespace": "n"}}, {"metadata": {"name": "x"}}],
)  # fmt: skip
def test_an_object_without_a_name_or_uid_is_refused(item: dict[str, object]) -> None:
    with pytest.raises(ObjectError):
        parse_pod(item)


def test_fields_that_are_not_what_the_api_says_count_as_absent() -> None:
    item = pod("p", "10.244.0.1")
    item["spec"] |= {"containers": [None, {"ports": [{"containerPort": "x"}, 5]}], "hostNetwork": "yes"}  # fmt: skip
    item["status"] |= {"podIPs": [{"ip": "nonsense"}, {"ip": "FD00::1"}], "startTime": "yesterday"}
    item["metadata"]["labels"] = ["app"]
    found = parse_pod(item)

    assert (found.ports, found.is_host_network, found.labels) == ((), False, {})
    assert found.addresses == ("fd00::1",)
    assert found.started_ns == parse_time_ns(item["metadata"]["creationTimestamp"]) > 0


def test_lines_of_a_watch_are_put_together_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [b'{"a"', b': 1}\n\n{"b": 2}', b"\n", b"rest"]
    assert list(_split_lines(iter(parts))) == [b'{"a": 1}', b'{"b": 2}']
    monkeypatch.setattr("farcall_exporter.cluster.apiserver.MAX_LINE_BYTES", 10)
    with pytest.raises(ApiError, match="more than 10 bytes"):
        list(_split_lines(iter([b"x" * 11])))


@pytest.mark.parametrize("line", [b"[]", b"nonsense", b'{"type": "ADDED"}', b"[" * 100_000])
def test_a_line_that_is_no_event_ends_the_watch_and_nothing_else(line: bytes) -> None:
    with pytest.raises(ApiError):
        _parse_event(line)
