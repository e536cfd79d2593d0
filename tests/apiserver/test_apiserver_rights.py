"""The operator's rights are what it needs: nothing that it asks is refused, and nothing is granted that it never asks.

Read from the API server's audit log, after all other tests and a tour of our own through every kind of child.
"""

import pytest

from support_apiserver import ControlPlane, read_audit
from support_apiserver_configs import Configs
from support_apiserver_former import leave_unchangeable, leave_unwanted
from support_apiserver_operator import NAMESPACE, USER, OperatorProcess
from support_rights import Right, list_asked, list_granted, list_refused

pytestmark = pytest.mark.apiserver

# Granted and not asked for in these tests, each with the reason why it is granted all the same.
NEVER_ASKED: dict[tuple[str, str], str] = {
    ("monitoring.coreos.com/servicemonitors", "*"): "only where the Prometheus operator is installed",
}  # fmt: skip


@pytest.fixture
def toured(configs: Configs, name: str, operator: OperatorProcess) -> Configs:
    """Every kind of child made, changed, deleted by hand, and pruned."""
    clickhouse = {"clickhouse": {"url": "http://clickhouse.data.svc:8123"}}
    everything = {
        "exporter": {**clickhouse, "autoscaling": {"minReplicas": 2, "maxReplicas": 3}},
        "console": {"ingress": {"host": "traces.example.com"}},
        "dnsCache": {"persistence": {"enabled": True, "size": "1Gi"}},
    }
    leave_unchangeable(configs, name)
    configs.apply(name, **everything)
    configs.wait_settled(name)
    leave_unwanted(configs, name)
    secret = configs.path("Secret", f"{name}-secrets")
    lost = sorted(configs.api.get(secret)["data"])[0]
    configs.api.merge(secret, {"data": {lost: None}})
    operator.stop()  # whatever is read at a start is read
    operator.start()
    configs.nudge(name)
    larger = {"persistence": {"enabled": True, "size": "2Gi"}}
    configs.apply(name, **{**everything, "dnsCache": larger})
    configs.wait_settled(name)
    configs.apply(name, exporter={"storage": {"size": "12Gi"}})
    configs.wait_settled(name)
    return configs


def test_the_operator_may_do_what_it_does_and_nothing_else(
    plane: ControlPlane, toured: Configs
) -> None:
    events = read_audit(plane.audit_log, USER)
    granted, asked = list_granted(), list_asked(events)

    # An API server that has just been started refuses for a moment what it will grant: those are no lack.
    assert list_refused(events) - granted == set()
    unused = sorted(
        " ".join(right)
        for right in granted - asked
        if not any(is_excused(right, pattern) for pattern in NEVER_ASKED)
    )
    assert not unused, "granted and never used:\n" + "\n".join(unused)


def test_nothing_cluster_wide_may_be_written_but_our_own_status() -> None:
    writes = {r for r in list_granted() if not r[0] and r[3] not in ("get", "list", "watch")}

    assert writes == {("", "farcall.dev", "tracingconfigs/status", "patch")}


def test_secrets_cannot_be_listed_and_nothing_is_granted_by_a_star() -> None:
    granted = list_granted()

    assert not [r for r in granted if r[2] == "secrets" and r[3] in ("list", "watch", "delete")]
    assert not [r for r in granted if "*" in r]
    assert {r[0] for r in granted} <= {"", NAMESPACE, "default"}


def is_excused(right: Right, pattern: tuple[str, str]) -> bool:
    _, group, resource, verb = right
    return pattern[0] == f"{group}/{resource}" and pattern[1] in ("*", verb)
