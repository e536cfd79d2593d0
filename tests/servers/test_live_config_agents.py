"""The operator learns from a real exporter what each agent runs, and a sentence where it cannot."""

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from farcall.envelope import AGENTS_PATH
from farcall_operator.agents import URL_OVERRIDE, AgentsAnswer, fetch_agents
from support_exporter import wait_until
from support_exporter_process import ExporterProcess, running_exporter
from support_ports import find_free_port
from support_status import make_agent_status

pytestmark = pytest.mark.servers

NOBODY: dict[str, str] = {}
STATUS = make_agent_status(
    node="node-1",
    boot_id="a" * 32,
    config_generation=3,
    dns_ttl_s=3_600,
    config_revision="0123456789ab",
)


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExporterProcess]:
    with running_exporter(tmp_path_factory.mktemp("exporter")) as running:
        yield running


def speak(exporter: ExporterProcess, **changes: object) -> None:
    status = replace(STATUS, time_ns=time.time_ns(), **changes)  # type: ignore[arg-type]
    body = json.dumps(status.to_json()).encode()
    assert exporter.post_status(body).status_code == 200


def ask(exporter: ExporterProcess, **changes: str) -> AgentsAnswer:
    given = {"url": exporter.config.endpoints.exporter_ingest, "token": exporter.token, **changes}
    return asyncio.run(fetch_agents(given["url"], given["token"], environment=NOBODY))


def test_each_agent_is_listed_with_what_it_last_said(exporter: ExporterProcess) -> None:
    speak(exporter, node="b")
    speak(exporter, node="a", config_generation=4, config_revision="")
    speak(exporter, node="b", config_generation=5)

    answer = ask(exporter)
    runs = {run.node: run for run in answer.runs}
    assert answer.problem == ""
    assert [run.node for run in answer.runs] == sorted(runs)
    assert (runs["a"].config_generation, runs["a"].config_revision) == (4, "")
    assert (runs["b"].config_generation, runs["b"].config_revision) == (5, "0123456789ab")
    assert all(0 <= run.age_s < 60 for run in answer.runs)


def test_an_agent_that_speaks_to_another_exporter_is_listed_too(exporter: ExporterProcess) -> None:
    """Another exporter would write into the same store, as this one does when its agents speak; here it is restarted."""
    speak(exporter, node="elsewhere", config_generation=9)
    wait_until(lambda: "elsewhere" in {s.name for s in exporter.reader().read_statuses()})
    exporter.kill()
    exporter.start()

    runs = {run.node: run for run in ask(exporter).runs}
    assert runs["elsewhere"].config_generation == 9
    assert runs["elsewhere"].age_s < 60


def test_without_the_store_this_exporters_own_agents_are_listed(exporter: ExporterProcess) -> None:
    speak(exporter, node="near", config_generation=6)
    exporter.store.kill()
    try:
        runs = {run.node: run for run in ask(exporter).runs}
        assert runs["near"].config_generation == 6
    finally:
        exporter.store.start()


def test_a_wrong_token_is_a_sentence(exporter: ExporterProcess) -> None:
    answer = ask(exporter, token="x" * 40)

    assert answer.runs == ()
    assert "401" in answer.problem


def test_only_reading_is_possible(exporter: ExporterProcess) -> None:
    assert exporter.post(AGENTS_PATH, b"").status_code == 405
    assert httpx.get(exporter.config.endpoints.exporter_ingest + AGENTS_PATH).status_code == 401


@pytest.mark.parametrize("token", ["", "with\nnewline"])
def test_whatever_is_wrong_is_no_exception(exporter: ExporterProcess, token: str) -> None:
    assert ask(exporter, token=token).problem
    assert ask(exporter, url=f"http://127.0.0.1:{find_free_port()}").problem
    assert ask(exporter, url="https://127.0.0.1:1").problem
    assert ask(exporter, url="nonsense").problem


def test_an_operator_outside_the_cluster_is_told_where_to_ask(exporter: ExporterProcess) -> None:
    environment = {URL_OVERRIDE: exporter.config.endpoints.exporter_ingest}
    answer = asyncio.run(
        fetch_agents(
            "http://main-exporter.farcall.svc:8440", exporter.token, environment=environment
        )
    )
    assert answer.problem == ""


async def serve_bytes(answer: bytes, *, hold: bool = False) -> AgentsAnswer:
    """What comes of a server that is none of ours."""

    ended = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        if hold:
            await reader.read()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        found = await fetch_agents(
            f"http://127.0.0.1:{port}", "t", environment=NOBODY, within_s=0.5
        )
        await ended.wait()
        return found


OK = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        OK + b"{",
        OK + b'{"agents": [1]}',
        OK + b"x" * 5_000_000,
    ],
    ids=["closed", "no HTTP", "redirect", "no JSON", "other JSON", "too long"],
)
def test_a_hostile_answer_is_a_sentence(answer: bytes) -> None:
    found = asyncio.run(serve_bytes(answer))

    assert found.runs == () and found.problem and len(found.problem) < 400


def test_a_silent_exporter_costs_the_time_limit(exporter: ExporterProcess) -> None:
    found = asyncio.run(serve_bytes(b"", hold=True))

    assert "within 0.5 s" in found.problem
    assert wait_until(lambda: ask(exporter).problem == "")
