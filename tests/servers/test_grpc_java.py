"""gRPC of Java, whose Netty makes its system calls and its TLS in native code: each call is one exchange at each end."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from farcall.exchange import ExchangeFlag
from support_agent_room import Rows
from support_http2_live import Live, check_twins, watching
from support_jvm import read_line, talking
from support_tlslib import libraries_of, make_certificate

pytestmark = pytest.mark.servers

ONE_BY_ONE, AT_ONCE = 23, 100
UNARY = ONE_BY_ONE + AT_ONCE
CALLS = UNARY + 2  # one that streams, one that fails
MS = 1_000_000


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with watching(tmp_path_factory.mktemp("live")) as live:
        yield live


def make_calls(
    live: Live, folder: Path, certificate: tuple[Path, Path] | None
) -> tuple[int, list[dict[str, Any]], tuple[Rows, Rows]]:
    """(port, what the client says, what the agent saw at both ends). Each process has a TLS library of its own, unpacked and deleted."""
    of_server, of_client = certificate or (), certificate[:1] if certificate else ()
    with ExitStack() as stack:
        server = stack.enter_context(talking("grpc", "serve", *of_server, folder=folder))
        port = read_line(server)
        numbers = port, str(ONE_BY_ONE), str(AT_ONCE)
        client = stack.enter_context(talking("grpc", "call", *numbers, *of_client, folder=folder))
        assert read_line(client) == "ready"
        if certificate:
            for process in server, client:
                directory = folder / str(process.pid)
                directory.mkdir()
                libraries = stack.enter_context(
                    libraries_of(live.capture, directory, process.pid, only="tcnative")
                )
                (found,) = [x for x in libraries.list_libraries() if "tcnative" in x.path]
                assert found.kind == "openssl", libraries.refused
        live.forget()
        assert client.stdin is not None
        client.stdin.write("go\n")
        client.stdin.flush()
        told = live.follow(client)
        return int(port), told, live.take(int(port), CALLS)


@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "tls"])
def test_calls_of_java_have_method_status_and_time(
    live: Live, tmp_path: Path, over_tls: bool
) -> None:
    port, told, ends = make_calls(live, tmp_path, make_certificate(tmp_path) if over_tls else None)

    assert [call["status"] for call in told] == [0] * (CALLS - 1) + [5]
    for end in ends:
        by_number = {int(row["trace_id"].hex(), 16) - 1: row for row in end}
        assert len(end) == CALLS and sorted(by_number) == list(range(CALLS)), live.losses
        rows = [by_number[n] for n in range(CALLS)]
        methods = ["Unary"] * UNARY + ["Stream", "Fail"]
        assert [row["target"] for row in rows] == [f"/farcall.test.Echo/{m}" for m in methods]
        assert {(row["protocol"], row["operation"], row["host"]) for row in rows} == {
            ("grpc", "POST", f"127.0.0.1:{port}")
        }
        assert [(row["status"], row["rpc_status"], row["message"]) for row in rows] == [
            *[(200, "0", None)] * (CALLS - 1),
            (200, "5", "no such thing: é"),
        ]
        assert all(bool(row["flags"] & ExchangeFlag.TLS) == over_tls for row in rows)
        for n, row in enumerate(rows):
            naps = 1 if n < UNARY else 3 if n == UNARY else 0
            assert naps * (n % 20) * MS - MS <= row["duration_ns"] <= told[n]["ms"] * MS
    check_twins(*ends)
