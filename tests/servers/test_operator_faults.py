"""The operator's own process against an API server that fails on order: it goes on, it counts, and it says what is wrong.

What is refused for a while is done afterwards; what is refused for ever is asked ever less often; nothing ends silently.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support_fake_apiserver import FakeApiserver, serve_api
from support_fake_faults import Cut, CutStream, Fault, Garbage, Gone, Refuse, Silent, Slow
from support_operator_commands import NAMESPACE
from support_operator_faults import (
    NODE,
    find_child,
    has_children,
    put_config,
    read_status,
    run_operator,
    wait_for,
)

pytestmark = pytest.mark.servers


@pytest.fixture
def server() -> Iterator[FakeApiserver]:
    with serve_api() as running:
        running.put(NODE)
        yield running


def test_a_resource_becomes_its_children_and_a_quiet_server_is_left_alone(
    server: FakeApiserver, tmp_path: Path
) -> None:
    put_config(server)
    with run_operator(server, tmp_path) as operator:
        wait_for(lambda: has_children(server) and read_status(server), "its children", operator)
        assert operator.get("/healthz") == (200, "ok\n")
        assert operator.get("/readyz") == (200, "leader\n")
        assert operator.metric("operator_reconcile_errors_total") == 0
        wait_for(lambda: operator.metric("operator_queue_depth") == 0, "an empty queue", operator)


# The fault, and the code that it is counted under.
PASSING: tuple[tuple[Fault, int], ...] = (
    (Refuse(code=429, retry_after_s=1), 429),
    (Refuse(code=500), 500),
    (Refuse(code=503), 503),
    (Refuse(code=409, reason="Conflict"), 409),
    (Cut(), 0),
    (Cut(carried_out=True), 0),
    (Garbage(), 200),
)


def test_writes_that_fail_for_a_while_are_done_in_the_end_and_counted(
    server: FakeApiserver, tmp_path: Path
) -> None:
    put_config(server)
    rules = [server.fail("(patch|create) (?!leases|events).*", fault) for fault, _ in PASSING]
    with run_operator(server, tmp_path) as operator:
        wait_for(
            lambda: has_children(server) and read_status(server).get("observedGeneration") == 1,
            "what was refused at first",
            operator,
        )
        assert [rule.met for rule in rules] == [1] * len(PASSING)
        for code in {code for _, code in PASSING}:
            assert operator.answers(code) >= 1, code
        assert operator.get("/healthz")[0] == 200


def test_reads_that_fail_at_the_start_are_waited_out_and_told(
    server: FakeApiserver, tmp_path: Path
) -> None:
    put_config(server)
    server.fail("get /version", Cut(), times=1)
    server.fail("(list|get) .*", Refuse(code=500), times=5)
    with run_operator(server, tmp_path) as operator:
        wait_for(lambda: has_children(server), "its children", operator)
        assert operator.answers(500) >= 1
        assert "warning" in operator.said()


@pytest.mark.parametrize("fault", [Refuse(code=500), Refuse(code=429)], ids=["500", "429"])  # fmt: skip
def test_what_is_refused_for_ever_is_asked_ever_less_often(
    fault: Fault, server: FakeApiserver, tmp_path: Path
) -> None:
    put_config(server)
    server.fail("patch daemonsets", fault, times=-1)
    with run_operator(server, tmp_path) as operator:
        wait_for(lambda: read_status(server), "a status", operator)
        wait_for(lambda: server.count("patch daemonsets") >= 2, "a second try", operator)
        before = len(server.requests)
        time.sleep(4)
        # A lease is renewed every three seconds; the rest is what failing costs.
        assert len(server.requests) - before < 80
        ready = {c["type"]: c for c in read_status(server)["conditions"]}["Ready"]
        assert ready["status"] == "False"
        assert find_child(server, "StatefulSet", "main-redis"), "one refusal holds nothing else up"
        server.heal()
        wait_for(lambda: find_child(server, "DaemonSet", "main-probe"), "the probe", operator)


def test_a_watch_that_is_too_old_is_begun_anew_and_nothing_is_missed(
    server: FakeApiserver, tmp_path: Path
) -> None:
    put_config(server)
    with run_operator(server, tmp_path) as operator:
        wait_for(lambda: has_children(server), "its children", operator)
        lists = operator.metric("operator_watch_lists_total", kind="ConfigMap")
        server.fail("watch configmaps", Gone(), times=1)
        server.cut_streams()
        server.remove("v1", "ConfigMap", "main-config", NAMESPACE)
        wait_for(lambda: find_child(server, "ConfigMap", "main-config"), "its return", operator)
        # The other kinds' streams were cut too: one of them may have been what brought it back.
        wait_for(
            lambda: operator.metric("operator_watch_lists_total", kind="ConfigMap") > lists,
            "a new list",
            operator,
        )


def test_streams_that_are_cut_are_opened_again_without_haste(
    server: FakeApiserver, tmp_path: Path
) -> None:
    put_config(server)
    with run_operator(server, tmp_path) as operator:
        wait_for(lambda: has_children(server), "its children", operator)
        server.fail("watch .*", CutStream(), times=-1)
        server.cut_streams()
        before = server.count("watch tracingconfigs")
        time.sleep(3)
        assert server.count("watch tracingconfigs") - before <= 10
        server.heal()
        put_config(server, tier="Scale")
        wait_for(lambda: read_status(server).get("observedGeneration") == 2, "the change", operator)


def test_a_watch_that_falls_silent_fails_the_health_check_by_name(
    server: FakeApiserver, tmp_path: Path
) -> None:
    put_config(server)
    with run_operator(server, tmp_path, stale_after_s=3) as operator:
        wait_for(lambda: has_children(server), "its children", operator)
        wait_for(lambda: operator.get("/healthz")[0] == 200, "health", operator)
        server.fail("watch .*", Silent(), times=-1)
        server.mute_streams()
        wait_for(lambda: operator.get("/healthz")[0] == 503, "ill health", operator)
        wait_for(
            lambda: "the watch of TracingConfig is stale\n" in operator.get("/healthz")[1],
            "the reason",
            operator,
        )
        assert operator.metric("operator_watch_age_seconds", kind="TracingConfig") > 3


def test_slow_answers_slow_it_down_and_no_more(server: FakeApiserver, tmp_path: Path) -> None:
    put_config(server)
    server.fail("(patch|create) (?!leases).*", Slow(by_s=0.4), times=-1)
    with run_operator(server, tmp_path) as operator:
        wait_for(lambda: has_children(server), "its children", operator)
        assert operator.get("/healthz")[0] == 200
        assert operator.metric("operator_reconcile_errors_total") == 0


def test_a_token_that_expired_is_read_anew_by_requests_and_watches(
    server: FakeApiserver, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    server.tokens = {"first"}
    put_config(server)
    with run_operator(server, tmp_path, token_file=token) as operator:
        wait_for(lambda: has_children(server), "its children", operator)
        token.write_text("second")
        server.tokens = {"second"}
        server.cut_streams()
        put_config(server, tier="Scale")
        wait_for(lambda: read_status(server).get("observedGeneration") == 2, "the change", operator)
        assert operator.answers(401) >= 1
        assert {r.token for r in server.requests[-5:]} == {"second"}


def test_a_token_that_is_late_is_waited_for(server: FakeApiserver, tmp_path: Path) -> None:
    """The API server knows us no more, for longer than the lease lasts; then the token comes."""
    token = tmp_path / "token"
    token.write_text("first")
    server.tokens = {"first"}
    put_config(server)
    with run_operator(server, tmp_path, token_file=token) as operator:
        wait_for(lambda: has_children(server), "its children", operator)
        server.tokens = {"second"}
        server.cut_streams()
        wait_for(lambda: operator.answers(401, verb="watch") >= 3, "refusals", operator)
        before = len(server.requests)
        time.sleep(4)
        assert len(server.requests) - before < 200
        token.write_text("second")
        put_config(server, tier="Scale")
        wait_for(lambda: read_status(server).get("observedGeneration") == 2, "the change", operator)


def test_a_server_that_is_away_for_a_while_is_waited_for(
    server: FakeApiserver, tmp_path: Path
) -> None:
    put_config(server)
    with run_operator(server, tmp_path) as operator:
        wait_for(lambda: has_children(server), "its children", operator)
        server.fail(".*", Cut(), times=-1)
        server.cut_streams()
        wait_for(lambda: operator.answers(0, verb="watch") >= 13, "failures", operator)
        time.sleep(8)  # longer than the lease may go without a renewal
        server.heal()
        server.remove("v1", "ConfigMap", "main-config", NAMESPACE)
        put_config(server, tier="Scale")
        wait_for(
            lambda: (
                read_status(server).get("observedGeneration") == 2
                and find_child(server, "ConfigMap", "main-config")
            ),
            "all that was missed",
            operator,
        )


def test_whoever_lost_the_lease_writes_no_more_and_says_so(
    server: FakeApiserver, tmp_path: Path
) -> None:
    put_config(server)
    with run_operator(server, tmp_path, ends_with=1) as operator:
        wait_for(lambda: has_children(server), "its children", operator)
        lease = server.find("coordination.k8s.io/v1", "Lease", "farcall-operator", NAMESPACE) or {}
        metadata = {k: v for k, v in lease["metadata"].items() if k != "resourceVersion"}
        spec = {**lease["spec"], "holderIdentity": "another"}
        server.put({**lease, "metadata": metadata, "spec": spec})
        assert operator.process.wait(60) == 1
        assert "another leads now" in operator.said()


def test_a_definition_that_is_deleted_ends_it_with_its_lease_released_so_that_the_next_waits_for_it(
    server: FakeApiserver, tmp_path: Path
) -> None:
    put_config(server)
    with run_operator(server, tmp_path, ends_with=1) as operator:
        wait_for(lambda: has_children(server), "its children", operator)
        server.fail("(list|watch) tracingconfigs.*", Refuse(code=404, reason="NotFound"), times=-1)
        server.cut_streams()
        assert operator.process.wait(60) == 1
        assert "was the CRD deleted?" in operator.said()
        lease = server.find("coordination.k8s.io/v1", "Lease", "farcall-operator", NAMESPACE) or {}
        assert not lease["spec"].get("holderIdentity"), lease
