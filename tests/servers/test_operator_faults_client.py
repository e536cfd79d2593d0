"""The cluster client alone against a server that fails on order: what it waits out, what it hands on, what it never does."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from farcall.tracingconfig import API_VERSION
from farcall_operator.cluster import client
from farcall_operator.cluster.access import read_kubeconfig
from farcall_operator.cluster.client import ApiCluster
from farcall_operator.cluster.paths import Asked
from farcall_operator.cluster.port import ClusterError, Manifest, Ref, ref_of
from support_fake_apiserver import FakeApiserver, serve_api
from support_fake_faults import Cut, Garbage, Refuse, Slow

pytestmark = pytest.mark.servers

T = TypeVar("T")
CONFIG_MAP: Manifest = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "main-config", "namespace": "farcall"},
    "data": {"a": "1"},
}
REF = ref_of(CONFIG_MAP)
SECRET: Manifest = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "main-secrets", "namespace": "farcall"},
    "data": {"k": "aHVzaC1odXNo"},
}
PATIENCE_S = client.PATIENCE_S


@pytest.fixture
def server() -> Iterator[FakeApiserver]:
    with serve_api() as running:
        yield running


class Counts(dict[tuple[str, int], int]):
    def add(self, asked: Asked, code: int) -> None:
        key = (f"{asked.verb} {asked.resource}", code)
        self[key] = self.get(key, 0) + 1


def ask(
    server: FakeApiserver,
    folder: Path,
    question: Callable[[ApiCluster], Awaitable[T]],
    counts: Counts | None = None,
    token_file: Path | None = None,
) -> T:
    access = read_kubeconfig(server.write_kubeconfig(folder / "config", token_file=token_file))

    async def run() -> T:
        async with ApiCluster(
            access, count=(Counts() if counts is None else counts).add
        ) as cluster:
            return await question(cluster)

    return asyncio.run(run())


def refusal(
    server: FakeApiserver, folder: Path, question: Callable[[ApiCluster], Awaitable[object]]
) -> ClusterError:
    with pytest.raises(ClusterError) as raised:
        ask(server, folder, question)
    return raised.value


def test_objects_go_in_and_come_out(server: FakeApiserver, tmp_path: Path) -> None:
    async def question(cluster: ApiCluster) -> None:
        assert await cluster.get(REF) is None
        applied = await cluster.apply(CONFIG_MAP)
        assert (await cluster.list("v1", "ConfigMap", "farcall"))[0] == applied.live
        again = await cluster.apply(CONFIG_MAP)
        assert again.live == applied.live
        await cluster.apply({**CONFIG_MAP, "data": {"a": "2"}}, dry_run=True)
        assert (await cluster.get(REF) or {})["data"] == {"a": "1"}
        await cluster.delete(REF, uid=applied.live["metadata"]["uid"])
        await cluster.delete(REF)
        assert await cluster.get(REF) is None

    ask(server, tmp_path, question)


def test_too_many_requests_are_waited_out_as_long_as_the_server_says(
    server: FakeApiserver, tmp_path: Path
) -> None:
    server.put(CONFIG_MAP)
    server.fail("get configmaps", Refuse(code=429, retry_after_s=1))
    counts = Counts()

    assert ask(server, tmp_path, lambda cluster: cluster.get(REF), counts) is not None
    first, second = [r.at for r in server.requests if r.asked == "get configmaps"]
    assert second - first >= 1
    assert counts == {("get configmaps", 429): 1, ("get configmaps", 200): 1}


def test_a_longer_wait_is_left_to_the_caller_who_learns_how_long(
    server: FakeApiserver, tmp_path: Path
) -> None:
    server.fail("get configmaps", Refuse(code=429, retry_after_s=30))

    error = refusal(server, tmp_path, lambda cluster: cluster.get(REF))

    assert (error.status, error.retry_after_s) == (429, 30)
    assert server.count("get configmaps") == 1


def test_nothing_is_asked_for_ever(server: FakeApiserver, tmp_path: Path) -> None:
    """Refused at each try, without a hint how long to wait."""
    server.fail("get configmaps", Refuse(code=429), times=-1)

    error = refusal(server, tmp_path, lambda cluster: cluster.get(REF))

    assert error.status == 429
    assert 2 <= server.count("get configmaps") <= PATIENCE_S + 1


@pytest.mark.parametrize("code", [400, 403, 409, 410, 422, 500, 503, 504])
def test_other_refusals_are_handed_on_at_once(
    code: int, server: FakeApiserver, tmp_path: Path
) -> None:
    server.fail("patch configmaps", Refuse(code=code, reason="Why", message="because"))

    error = refusal(server, tmp_path, lambda cluster: cluster.apply(CONFIG_MAP))

    assert (error.status, error.reason, error.message) == (code, "Why", "because")
    assert server.count("patch configmaps") == 1


def test_a_cut_connection_is_tried_again(server: FakeApiserver, tmp_path: Path) -> None:
    server.put(CONFIG_MAP)
    server.fail("get configmaps", Cut(), times=2)

    assert ask(server, tmp_path, lambda cluster: cluster.get(REF)) is not None


def test_an_apply_that_was_cut_after_it_was_carried_out_ends_well(
    server: FakeApiserver, tmp_path: Path
) -> None:
    server.fail("patch configmaps", Cut(carried_out=True))

    applied = ask(server, tmp_path, lambda cluster: cluster.apply(CONFIG_MAP))

    assert applied.live["data"] == {"a": "1"}


def test_a_create_is_never_sent_twice(server: FakeApiserver, tmp_path: Path) -> None:
    """It may have been carried out: the second one would say AlreadyExists of our own object."""
    server.fail("create configmaps", Cut(carried_out=True))

    error = refusal(server, tmp_path, lambda cluster: cluster.create(CONFIG_MAP))

    assert (error.status, error.reason) == (0, "Unreachable")
    assert server.count("create configmaps") == 1


def test_a_server_that_is_away_is_one_sentence_after_a_few_seconds(
    server: FakeApiserver, tmp_path: Path
) -> None:
    server.fail(".*", Cut(), times=-1)
    began = time.monotonic()

    error = refusal(server, tmp_path, lambda cluster: cluster.get(REF))

    assert (error.status, error.reason) == (0, "Unreachable")
    assert "\n" not in error.message
    assert time.monotonic() - began < PATIENCE_S + 10


def test_an_answer_that_does_not_come_is_given_up(
    server: FakeApiserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ANSWER_WITHIN_S", 0.3)
    server.fail("get configmaps", Slow(by_s=5))

    error = refusal(server, tmp_path, lambda cluster: cluster.get(REF))

    assert (error.status, error.reason) == (0, "Timeout")


def test_an_answer_that_is_no_json_is_no_traceback(server: FakeApiserver, tmp_path: Path) -> None:
    server.fail("get configmaps", Garbage())

    error = refusal(server, tmp_path, lambda cluster: cluster.get(REF))

    assert error.reason == "BadAnswer"


def test_a_conflict_is_handed_on(server: FakeApiserver, tmp_path: Path) -> None:
    async def question(cluster: ApiCluster) -> None:
        live = (await cluster.apply(CONFIG_MAP)).live
        server.put({**CONFIG_MAP, "data": {"a": "another's"}})
        await cluster.replace({**live, "data": {"a": "3"}})

    assert refusal(server, tmp_path, question).status == 409


def test_an_expired_token_is_read_anew(server: FakeApiserver, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")
    server.tokens = {"old"}
    server.put(CONFIG_MAP)
    counts = Counts()

    async def question(cluster: ApiCluster) -> None:
        assert await cluster.get(REF) is not None
        server.tokens = {"new"}
        token.write_text("new")
        assert await cluster.get(REF) is not None

    ask(server, tmp_path, question, counts, token_file=token)
    assert [r.token for r in server.requests] == ["old", "old", "new"]


def test_a_token_that_stays_bad_is_asked_with_once(server: FakeApiserver, tmp_path: Path) -> None:
    server.tokens = {"another"}

    error = refusal(server, tmp_path, lambda cluster: cluster.get(REF))

    assert error.status == 401
    assert server.count("get configmaps") == 1


def test_what_is_said_of_a_secret_never_holds_it(server: FakeApiserver, tmp_path: Path) -> None:
    quoted = f"Secret is invalid: {json.dumps(SECRET['data'])}"
    server.fail("patch secrets", Refuse(code=422, reason="Invalid", message=quoted))

    error = refusal(server, tmp_path, lambda cluster: cluster.apply(SECRET))

    assert "aHVzaC1odXNo" not in f"{error} {error.causes}"
    assert "main-secrets" in error.message


def test_a_kind_that_is_not_there_is_none(server: FakeApiserver, tmp_path: Path) -> None:
    ref = Ref("monitoring.coreos.com/v1", "ServiceMonitor", "farcall", "main")

    assert ask(server, tmp_path, lambda cluster: cluster.get(ref)) is None
    error = refusal(server, tmp_path, lambda cluster: cluster.list(ref.api_version, ref.kind))
    assert error.status == 404


def test_a_list_of_nothing_is_empty(server: FakeApiserver, tmp_path: Path) -> None:
    assert ask(server, tmp_path, lambda c: c.list(API_VERSION, "TracingConfig")) == []
