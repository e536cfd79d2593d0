"""`farcall spans|traces|logs|explain|login` against a real HTTP server."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from farcall import query
from farcall.effective import Endpoints, write_effective
from farcall.logintoken import check_login_token
from farcall.meaning import build_effective
from farcall.rundir import RunDir
from farcall.secretfiles import ADMIN_SECRET, API_TOKEN
from farcall.tracingconfig import parse_tracingconfig
from support_api import SPAN, SPAN_ID, TOKEN, TRACE_ID, Content, make_spans, serve_api

pytestmark = pytest.mark.servers
ADMIN = "a" * 32


@pytest.fixture
def content() -> Content:
    return Content()


@pytest.fixture
def url(content: Content) -> Iterator[str]:
    with serve_api(content) as address:
        yield address


@pytest.fixture
def run_root(tmp_path: Path, url: str) -> Path:
    """The run directories of a machine on which one instance runs."""
    run_dir = RunDir(tmp_path / "run" / "main")
    run_dir.make()
    (run_dir.secrets / API_TOKEN).write_text(TOKEN)
    (run_dir.secrets / ADMIN_SECRET).write_text(ADMIN)
    write_config(run_dir, url)
    return run_dir.path.parent


def write_config(run_dir: RunDir, console: str) -> None:
    config = parse_tracingconfig(
        b"{apiVersion: farcall.dev/v1alpha1, kind: TracingConfig, metadata: {name: main}, spec: {tier: Hobby}}",
        source="test",
    )
    endpoints = Endpoints(
        exporter_ingest="http://127.0.0.1:1",
        exporter_otlp_http="http://127.0.0.1:1",
        redis="unix:///none",
        store="http://127.0.0.1:1",
        console=console,
    )
    effective = build_effective(
        config,
        mode="local",
        endpoints=endpoints,
        secrets_dir=str(run_dir.secrets),
        state_dir="/none",
    )
    write_effective(effective, run_dir.effective)


def test_spans_are_json_in_the_apis_own_shape(
    run_root: Path, content: Content, capsys: pytest.CaptureFixture[str]
) -> None:
    code = query.main_spans(["--run-root", str(run_root), "-q", "service:cart", "-o", "json"])

    document = json.loads(capsys.readouterr().out)
    assert code == 0
    assert document["next"] is None
    assert document["items"][0]["span_id"] == SPAN_ID
    assert document["items"][0]["links"] == [{"trace_id": "1" * 32, "span_id": "2" * 16}]
    assert content.tokens == [f"Bearer {TOKEN}"]
    assert content.asked == [("/api/v1/spans", {"limit": ["100"], "q": ["service:cart"]})]


def test_a_limit_above_a_pages_takes_several_pages(
    run_root: Path, content: Content, capsys: pytest.CaptureFixture[str]
) -> None:
    content.spans = make_spans(2_500)

    code = query.main_spans(["--run-root", str(run_root), "--limit", "2200", "-o", "ndjson"])

    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert [json.loads(line)["span_id"] for line in lines] == [
        span.span_id for span in content.spans[:2200]
    ]
    assert [asked[1]["limit"] for asked in content.asked] == [["1000"], ["1000"], ["200"]]


def test_the_table_shows_names_and_escapes_them(
    run_root: Path, content: Content, capsys: pytest.CaptureFixture[str]
) -> None:
    content.spans = (replace(SPAN, destination="evil\x1b[2J\u202e.example"),)

    query.main_spans(["--run-root", str(run_root)])

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["TIME", "SERVICE", "KIND"]
    assert "evil\\x1b[2J\\u202e.example" in lines[1]


def test_nothing_found_is_no_failure(
    run_root: Path, content: Content, capsys: pytest.CaptureFixture[str]
) -> None:
    content.spans = ()

    assert query.main_spans(["--run-root", str(run_root)]) == 0
    assert capsys.readouterr().err == "no spans found\n"


def test_traces_are_listed(run_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert query.main_traces(["--run-root", str(run_root)]) == 0
    assert TRACE_ID in capsys.readouterr().out


def test_logs_are_asked_for_by_trace_and_span(
    run_root: Path, content: Content, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [
        "--trace",
        TRACE_ID,
        "--span",
        SPAN_ID,
        "--oldest-first",
        "--from",
        "100",
        "--to",
        "200",
    ]

    assert query.main_logs(["--run-root", str(run_root), *options]) == 0
    assert "order 1 paid" in capsys.readouterr().out
    assert content.asked[0][1] == {
        "limit": ["100"],
        "from": ["100"],
        "to": ["200"],
        "trace": [TRACE_ID],
        "span": [SPAN_ID],
        "order": ["asc"],
    }


def test_explain_finds_the_trace_by_the_span(
    run_root: Path, content: Content, capsys: pytest.CaptureFixture[str]
) -> None:
    assert query.main_explain(["--run-root", str(run_root), SPAN_ID.upper()]) == 0
    assert "because: expired" in capsys.readouterr().out
    assert content.asked[0][1]["q"] == [f"span:{SPAN_ID}"]


def test_explain_as_json_is_the_apis_evidence(
    run_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert query.main_explain(["--run-root", str(run_root), TRACE_ID, SPAN_ID, "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["unknown_reason"] == "expired"


def test_explain_of_an_unknown_span_says_so(
    run_root: Path, content: Content, capsys: pytest.CaptureFixture[str]
) -> None:
    content.spans = ()

    assert query.main_explain(["--run-root", str(run_root), "0" * 16]) == 1
    assert "there is no span 0000000000000000" in capsys.readouterr().err


def test_login_prints_a_link_that_the_secret_signed(
    run_root: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert query.main_login(["--run-root", str(run_root)]) == 0

    link = urlsplit(capsys.readouterr().out.strip())
    assert f"{link.scheme}://{link.netloc}" == url
    (token,) = parse_qs(link.query)["token"]
    check_login_token(ADMIN, token, now_s=0)


@pytest.mark.parametrize(
    ("status", "body", "code", "message"),
    [
        (
            400,
            b'{"title":"Bad query","status":400,"detail":"unclosed quote","field":"q","position":2}',
            2,
            "Bad query (q): unclosed quote, at character 3 of q",
        ),
        (401, b'{"title":"Unauthorized","status":401,"detail":"wrong token"}', 1, "wrong token"),
        (503, b"<html>down</html>", 1, "Service Unavailable: <html>down</html>"),
        (200, b"<html>", 1, "did not answer in JSON"),
        (200, b'{"items":[{}],"next":null}', 1, "the answer.items[0] lacks trace_id"),
        (500, b"[]", 1, "Internal Server Error"),
    ],
)
def test_a_refusal_is_a_sentence_and_an_exit_code(
    run_root: Path,
    content: Content,
    capsys: pytest.CaptureFixture[str],
    status: int,
    body: bytes,
    code: int,
    message: str,
) -> None:
    content.replies["/api/v1/spans"] = (status, body)

    assert query.main_spans(["--run-root", str(run_root)]) == code
    assert message in capsys.readouterr().err


def test_a_server_that_is_away_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)

    code = query.main_spans(["--url", "http://127.0.0.1:1", "--token-file", str(token)])

    assert code == 1
    assert "no answer from http://127.0.0.1:1: Connection refused" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--url", "http://127.0.0.1:1"], "--url needs --token-file"),
        (["--token-file", "x"], "--token-file needs --url"),
        (["--limit", "0"], "--limit must be at least 1"),
        (["--from", "soon"], "is no time"),
        (["--from", "now", "--to", "5m"], "--from must be before --to"),
    ],
)
def test_arguments_that_make_no_sense_are_exit_code_2(
    run_root: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    local = [] if "--url" in arguments else ["--run-root", str(run_root)]

    assert query.main_spans([*local, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_two_instances_ask_for_a_choice(
    run_root: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = RunDir(run_root / "other")
    other.make()
    write_config(other, url)

    assert query.main_spans(["--run-root", str(run_root)]) == 1
    assert "choose one with --instance (main, other)" in capsys.readouterr().err
    assert query.main_spans(["--run-root", str(run_root), "--instance", "main"]) == 0


def test_the_readers_end_of_a_pipe_may_close_early(run_root: Path, content: Content) -> None:
    content.spans = make_spans(3_000)
    command = [sys.executable, "-m", "farcall.commands", "spans", "--run-root", str(run_root)]
    with subprocess.Popen(
        [*command, "--limit", "3000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        complaint = process.stderr.read()

        assert process.wait(60) == 0
        assert complaint == b""


def test_following_prints_each_span_once(run_root: Path, content: Content) -> None:
    content.spans = make_spans(2)
    command = [sys.executable, "-m", "farcall.commands", "spans", "--run-root", str(run_root)]
    with subprocess.Popen(
        [*command, "-f", "-o", "ndjson"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        first = [json.loads(process.stdout.readline())["span_id"] for _ in range(2)]
        newer = replace(SPAN, span_id="f" * 16)
        content.spans = (newer, *content.spans)
        third = json.loads(process.stdout.readline())["span_id"]
        process.send_signal(2)

        assert process.wait(60) == 0
        assert first == ["0000000000000001", "0000000000000000"]
        assert third == "f" * 16
