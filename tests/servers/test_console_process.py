"""The console as a process: started as the operator starts it, beside a real store that may come and go."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import farcall_store
from farcall import secretfiles
from farcall.effective import EffectiveConfig, write_effective
from support_console import Process, make_config, problem_of, running
from support_console_rows import span_id, trace_id
from support_console_shop import UNKNOWN, build_shop

pytestmark = pytest.mark.servers

DEADLINE_S = 60


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    directory = tmp_path_factory.mktemp("console")
    config = make_config(directory, ttl_override_s=7)
    with running("store", config, directory) as store:
        password = store.secret(secretfiles.STORE_WRITER_PASSWORD)
        writer = farcall_store.open_writer(config.endpoints.store, password=password)
        writer.write(build_shop(time.time_ns()).tables(), token="shop")
        with running("console", config, directory) as process:
            yield process


def launch(config: EffectiveConfig, directory: Path, *extra: str) -> subprocess.Popen[str]:
    file = directory / "effective.json"
    write_effective(config, file)
    command = [sys.executable, "-m", "farcall.commands", "console", "--config", str(file), *extra]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_a_trace_with_its_linked_calls_comes_out_of_the_store(console: Process) -> None:
    with console.api() as api:
        trace = api.get(f"/api/v1/traces/{trace_id('checkout')}").json()
    assert trace["total_spans"] == 8 and not trace["truncated"]
    assert trace["effective_trace_ids"] == [trace_id("checkout")]
    by_id = {span["span_id"]: span for span in trace["spans"]}
    assert by_id[span_id("pay")]["effective_span_id"] == span_id("charge")
    assert by_id[span_id("fraud")]["destination"] == UNKNOWN


def test_evidence_comes_out_of_the_store(console: Process) -> None:
    path = f"/api/v1/traces/{trace_id('cart-calls')}/spans/{span_id('cart')}/evidence"
    with console.api() as api:
        evidence = api.get(path).json()
    assert (evidence["source"], evidence["label"]) == ("dns", "cache.example.com")
    assert [a["question"] for a in evidence["answers"] if a["used"]] == ["cache.example.com"]
    assert evidence["rivals"] == ["old-cache.example.com"]
    assert evidence["ttl_s"] == 3_600  # in force then, whatever is overridden now


def test_syntax_errors_of_the_real_language_point_at_the_place(console: Process) -> None:
    with console.api() as api:
        for path in ("traces", "spans", "logs", "logs/histogram"):
            response = api.get(f"/api/v1/{path}", params={"q": "error (left"})
            problem = problem_of(response)
            assert (response.status_code, problem["field"], problem["position"]) == (400, "q", 6)


def test_every_page_of_logs_is_reached_by_its_cursor(console: Process) -> None:
    seen: list[str] = []
    cursor: str | None = ""
    with console.api() as api:
        whole = api.get("/api/v1/logs", params={"limit": 1_000}).json()["items"]
        while cursor is not None:
            page = api.get("/api/v1/logs", params={"limit": 7, "cursor": cursor}).json()
            seen += [line["id"] for line in page["items"]]
            cursor = page["next"]
    assert seen == [line["id"] for line in whole] and len(set(seen)) == len(seen) > 30


def test_an_overridden_time_to_live_is_said_loudly(console: Process) -> None:
    with console.api() as api:
        status = api.get("/api/v1/status").json()
    assert status["dns_ttl_overridden"] and status["dns_ttl_s"] == 7
    assert "overridden" in status["warnings"][0]
    with console.browserlike() as browser:
        browser.get(console.login_path())
        assert "DNS TTL overridden: 7 s" in browser.get("/status").text


def test_static_files_are_cached_for_ever_and_pages_never(console: Process) -> None:
    with console.browserlike() as browser:
        browser.get(console.login_path())
        page = browser.get("/traces")
        script = page.text.split('src="/static/build/')[1].split('"')[0]
        bundle = browser.get(f"/static/build/{script}")
    assert page.headers["cache-control"] == "no-store"
    assert "immutable" in bundle.headers["cache-control"]
    assert bundle.headers["content-encoding"] == "gzip"
    for path in ("/static/../serve.py", "/static/%2e%2e/serve.py", "/static/build/../../serve.py"):
        assert httpx.get(f"{console.url}{path}").status_code in (401, 404), path


def test_requests_by_another_host_name_are_turned_away(console: Process) -> None:
    response = httpx.get(f"{console.url}/login", headers={"host": "attacker.example"})
    assert response.status_code == 421


def test_it_starts_before_the_store_and_outlives_it(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    with running("console", config, tmp_path) as console, console.api() as api:
        response = api.get("/api/v1/traces")
        assert response.status_code == 503 and "retry-after" in response.headers
        assert "does not answer" in api.get("/api/v1/status").json()["warnings"][0]
        with running("store", config, tmp_path):
            wait_for(api, 200)
        assert api.get("/api/v1/traces").status_code == 503
        with running("store", config, tmp_path):
            wait_for(api, 200)


def wait_for(api: httpx.Client, status: int) -> None:
    until = time.monotonic() + DEADLINE_S
    while (response := api.get("/api/v1/traces")).status_code != status:
        assert time.monotonic() < until, response.text
        time.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_cleanly_at_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    config = make_config(tmp_path)
    ready = tmp_path / "ready"
    process = launch(config, tmp_path, "--ready-file", str(ready))
    until = time.monotonic() + DEADLINE_S
    while not ready.exists():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=15)
    assert process.returncode == 0 and "Traceback" not in errors


def test_a_missing_secret_is_one_sentence_and_exit_code_two(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    (Path(config.secrets_dir) / secretfiles.COOKIE_KEY).unlink()
    process = launch(config, tmp_path)
    _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 2
    assert secretfiles.COOKIE_KEY in errors and len(errors.splitlines()) == 1


def test_a_taken_port_is_said_with_its_address(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    port = int(config.endpoints.console.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)):
        process = launch(config, tmp_path)
        _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1 and config.endpoints.console in errors
