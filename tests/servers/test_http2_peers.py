"""Real HTTP/2 and gRPC peers under the real programs: every call is one exchange at each end, with what its client says of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farcall.exchange import ExchangeFlag
from support_agent_room import Rows
from support_http2_live import (
    Live,
    build_peer,
    check_twins,
    python_peer,
    running_nginx,
    serving,
    watching,
)

pytestmark = pytest.mark.servers

SERVICE = "/farcall.test.Echo"
MS = 1_000_000


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with watching(tmp_path_factory.mktemp("live")) as live:
        yield live


@pytest.fixture(scope="module")
def peer() -> Path:
    return build_peer()


@pytest.fixture(scope="module")
def go(peer: Path) -> Iterator[tuple[int, int]]:
    """(HTTP port, gRPC port)"""
    with serving(peer, "serve") as (web, calls):
        yield web, calls


@pytest.fixture(scope="module")
def grpcio() -> Iterator[int]:
    with serving(*python_peer("serve")) as (port,):
        yield port


def check_times(rows: Rows, told: list[dict[str, Any]], naps: int) -> None:
    """No exchange took longer than its client says, and none less than its server slept, so many times."""
    for row in rows:
        n = int(row["trace_id"].hex(), 16) - 1
        assert row["duration_ns"] <= told[n]["ms"] * MS
        assert row["duration_ns"] >= naps * (n % 20) * MS - MS
        assert (row["first_byte_ns"] or 0) <= row["duration_ns"]


@pytest.mark.parametrize("client_kind", ["go", "grpcio"])
@pytest.mark.parametrize("server_kind", ["go", "grpcio"])
@pytest.mark.parametrize(("method", "count"), [("Unary", 1), ("Unary", 100), ("Stream", 30)])
def test_grpc_calls_have_method_status_and_time(
    live: Live,
    peer: Path,
    go: tuple[int, int],
    grpcio: int,
    server_kind: str,
    client_kind: str,
    method: str,
    count: int,
) -> None:
    port = go[1] if server_kind == "go" else grpcio
    client_argv = [str(peer)] if client_kind == "go" else python_peer()
    told = live.run(*client_argv, "call", f"127.0.0.1:{port}", method, str(count))
    client, server = live.take(port, count)

    assert [r["status"] for r in told] == [0] * count
    for end in (client, server):
        assert len(end) == count, live.losses
        assert {(r["protocol"], r["operation"], r["target"]) for r in end} == {
            ("grpc", "POST", f"{SERVICE}/{method}")
        }
        assert {(r["status"], r["rpc_status"], r["error"]) for r in end} == {(200, "0", None)}
        assert {r["host"] for r in end} == {f"127.0.0.1:{port}"}
        assert sorted(int(r["trace_id"].hex(), 16) for r in end) == list(range(1, count + 1))
        check_times(end, told, 3 if method == "Stream" else 1)
        assert method == "Unary" or any(r["first_byte_ns"] for r in end)
    check_twins(client, server)


@pytest.mark.parametrize("kind", ["go", "grpcio"])
def test_a_failing_call_has_its_code_and_message(
    live: Live, peer: Path, go: tuple[int, int], grpcio: int, kind: str
) -> None:
    port = go[1] if kind == "go" else grpcio
    client_argv = [str(peer)] if kind == "go" else python_peer()
    told = live.run(*client_argv, "call", f"127.0.0.1:{port}", "Fail", "20")
    ends = live.take(port, 20)

    assert {r["status"] for r in told} == {5}
    for end in ends:
        assert [(r["rpc_status"], r["message"]) for r in end] == [("5", "no such thing: é")] * 20


def test_an_unknown_method_is_unimplemented(live: Live, peer: Path, go: tuple[int, int]) -> None:
    live.run(peer, "call", f"127.0.0.1:{go[1]}", "Nothing", "3")
    for end in live.take(go[1], 3):
        assert [r["rpc_status"] for r in end] == ["12"] * 3


def test_a_call_that_its_client_cancels_is_told_at_both_ends(live: Live, grpcio: int) -> None:
    live.run(*python_peer("cancel", f"127.0.0.1:{grpcio}"))
    for end in live.take(grpcio, 1):
        (row,) = end
        assert (row["error"], row["rpc_status"]) == ("CANCEL", None)
        assert 200 * MS < row["duration_ns"] < 1_500 * MS


def test_a_hundred_streams_of_one_connection_have_their_own_status_and_time(
    live: Live, peer: Path, go: tuple[int, int]
) -> None:
    told = live.run(peer, "get", f"http://127.0.0.1:{go[0]}/a/b?status=418&ms=20&size=30000", "100")
    client, server = live.take(go[0], 100)

    assert {r["status"] for r in told} == {418}
    for end in (client, server):
        assert len(end) == 100
        assert {(r["protocol"], r["operation"], r["target"], r["status"]) for r in end} == {
            ("http2", "GET", "/a/b", 418)
        }
        assert {r["query"] for r in end} == {"status=?&ms=?&size=?&n=?"}
        assert all(19 * MS <= r["duration_ns"] for r in end)
        assert all(30_000 < r["response_bytes"] < 31_000 for r in end)
        assert max(r["duration_ns"] for r in end) <= max(r["ms"] for r in told) * MS
    check_twins(client, server)


def test_curl_and_nginx_are_seen(live: Live, tmp_path: Path) -> None:
    curl = "curl -sS -o /dev/null --http2-prior-knowledge -H traceparent:$1 "
    script = curl + '"$2/ok/1?key=secret"; ' + curl + '-H "authorization: $3" "$2/no/2?key=secret"'
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    with running_nginx(tmp_path) as port:
        url = f"http://127.0.0.1:{port}"
        live.run("sh", "-ec", script, "sh", trace, url, "Bearer " + "x" * 3_000)
        client, server = live.take(port, 2)

    for end in (client, server):
        assert [(r["target"], r["status"]) for r in end] == [("/ok/1", 204), ("/no/2", 404)]
        assert {r["query"] for r in end} == {"key=?"}
        assert {r["host"] for r in end} == {f"127.0.0.1:{port}"}
        assert {r["user_agent"][:5] for r in end} == {"curl/"}
        assert {r["trace_id"].hex() for r in end} == {"a" * 32}
        assert not any(r["flags"] & (ExchangeFlag.CUT | ExchangeFlag.LATE) for r in end)
    check_twins(client, server)


def test_nginx_answers_streams_of_one_connection(live: Live, peer: Path, tmp_path: Path) -> None:
    with running_nginx(tmp_path) as port:
        told = live.run(peer, "get", f"http://127.0.0.1:{port}/no/x?a=b", "50")
        client, server = live.take(port, 50)

    assert {r["status"] for r in told} == {404}
    for end in (client, server):
        assert [(r["target"], r["status"]) for r in end] == [("/no/x", 404)] * 50
    check_twins(client, server)


def test_nothing_was_lost_on_the_way(live: Live) -> None:
    """After all of the above: other traffic of the machine may lose its place, ours had none to lose."""
    counters = live.counters
    assert counters["http2_unread"] == counters["http2_cut"] == 0
