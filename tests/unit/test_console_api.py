"""The HTTP API as a client meets it: parameters, pages, problems, and who may ask."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from farcall.api import ComponentStatus, DnsEvidence, LogQuery, SpanQuery
from farcall.effective import EffectiveWatcher, write_effective
from farcall.logintoken import mint_login_token
from farcall.storeport import StoreRefusedError, StoreUnavailableError
from farcall_console.access import Access
from farcall_console.application import Parts, build_application
from farcall_console.assets import Assets
from farcall_console.border import build_allowed_hosts
from farcall_console.configuration import LiveConfig
from support_console import (
    NOW_NS,
    SPAN,
    TRACE,
    MemoryReader,
    make_config,
    make_log,
    make_span,
    problem_of,
)

pytestmark = pytest.mark.unit

API_TOKEN = "api-" + "t" * 40
ADMIN_SECRET = "admin-" + "s" * 40
BEARER = {"authorization": f"Bearer {API_TOKEN}"}

Ask = Callable[..., httpx.Response]


class Console:
    """The application without a socket: requests go straight into it, cookies are kept."""

    def __init__(self, directory: Path, reader: MemoryReader) -> None:
        self.reader = reader
        self.now_s = time.time()
        config = make_config(directory)
        write_effective(config, directory / "effective.json")
        self.app = build_application(
            Parts(
                reader=reader,
                access=Access(
                    api_token=API_TOKEN,
                    admin_secret=ADMIN_SECRET,
                    cookie_key="cookie-" + "k" * 40,
                    cookie_name="farcall-hobby",
                    is_https=False,
                    clock=lambda: self.now_s,
                ),
                live_config=LiveConfig(EffectiveWatcher(directory / "effective.json")),
                assets=Assets(script="build/app.js", style="build/app.css"),
                allowed_hosts=build_allowed_hosts(config.endpoints.console, ["farcall.example"]),
            )
        )
        self.cookies = httpx.Cookies()

    def ask(self, path: str, *, method: str = "GET", **kwargs: object) -> httpx.Response:
        return asyncio.run(self._ask(method, path, **kwargs))

    def api(self, path: str, **kwargs: object) -> httpx.Response:
        return self.ask(f"/api/v1{path}", headers=BEARER, **kwargs)

    def log_in(self) -> httpx.Response:
        token = mint_login_token(ADMIN_SECRET, now_s=self.now_s)
        return self.ask(f"/login?token={token}")

    async def _ask(self, method: str, path: str, **kwargs: object) -> httpx.Response:
        transport = httpx.ASGITransport(app=self.app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost", cookies=self.cookies
        ) as client:
            response = await client.request(method, path, **kwargs)  # type: ignore[arg-type]
            self.cookies = client.cookies
            return response


@pytest.fixture
def console(tmp_path: Path) -> Console:
    return Console(tmp_path, MemoryReader(spans=[make_span()], logs=[make_log()]))


def test_a_stranger_is_refused_everywhere_but_at_the_door(console: Console) -> None:
    for path in ("/api/v1/traces", f"/api/v1/traces/{TRACE}", "/api/v1/logs", "/api/v1/status"):
        response = console.ask(path)
        assert (response.status_code, problem_of(response)["status"]) == (401, 401), path
        assert response.headers["www-authenticate"].startswith("Bearer")
    assert console.ask("/api/v1/openapi.json").status_code == 401
    assert console.ask("/healthz").status_code == 200
    page = console.ask("/traces")
    assert page.status_code == 401 and "farcall login" in page.text
    assert console.reader.asked == []


def test_a_wrong_token_is_no_token(console: Console) -> None:
    for value in ("Bearer nonsense", f"Basic {API_TOKEN}", f"Bearer {API_TOKEN}x", "Bearer"):
        response = console.ask("/api/v1/traces", headers={"authorization": value})
        assert response.status_code == 401, value


def test_the_api_token_opens_the_api_and_no_page(console: Console) -> None:
    assert console.api("/traces").status_code == 200
    assert console.ask("/traces", headers=BEARER).status_code == 401


def test_a_login_link_works_once(console: Console) -> None:
    token = mint_login_token(ADMIN_SECRET, now_s=console.now_s)
    first = console.ask(f"/login?token={token}")
    cookie = first.headers["set-cookie"]
    assert first.status_code == 200
    assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower() and "Path=/" in cookie
    assert console.ask("/traces").status_code == 200
    assert console.ask("/api/v1/traces").status_code == 200
    console.cookies = httpx.Cookies()
    again = console.ask(f"/login?token={token}")
    assert again.status_code == 403 and "used before" in again.text
    assert "set-cookie" not in again.headers


def test_an_old_or_forged_link_says_so(console: Console) -> None:
    old = mint_login_token(ADMIN_SECRET, now_s=console.now_s - 3_600)
    forged = mint_login_token("another" * 8, now_s=console.now_s)
    assert "has expired" in console.ask(f"/login?token={old}").text
    for token in (forged, "x", "..", "é.b.c", "1.2.3"):
        response = console.ask("/login", params={"token": token})
        assert response.status_code == 403 and "not valid" in response.text, token


def test_a_session_ends_after_a_working_day(console: Console) -> None:
    console.log_in()
    console.now_s += 13 * 3_600
    assert console.ask("/api/v1/traces").status_code == 401


def test_signing_out_needs_the_sessions_own_token_and_then_holds(console: Console) -> None:
    console.log_in()
    kept = httpx.Cookies(console.cookies)
    refused = console.ask("/logout", method="POST", data={"csrf": "guess"})
    assert refused.status_code == 403
    page = console.ask("/traces").text
    csrf = page.split('name="csrf" value="')[1].split('"')[0]
    assert console.ask("/logout", method="POST", data={"csrf": csrf}).status_code == 303
    console.cookies = kept  # whoever kept the cookie has nothing
    assert console.ask("/api/v1/traces").status_code == 401


def test_a_shared_link_followed_from_another_site_is_tried_again_from_ours(
    console: Console,
) -> None:
    path = f"/traces/{TRACE}?span={SPAN}&tab=logs"
    headers = {"sec-fetch-site": "cross-site"}
    page = console.ask(path, headers=headers)
    assert page.status_code == 200
    assert f'content="0;url=/traces/{TRACE}?span={SPAN}&amp;tab=logs"' in page.text
    assert console.ask(path, headers={"sec-fetch-site": "same-origin"}).status_code == 401


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost,evil"])
def test_a_host_name_that_is_not_ours_is_not_answered(console: Console, host: str) -> None:
    for path in ("/login", "/api/v1/traces", "/static/icon.svg"):
        response = console.ask(path, headers={**BEARER, "host": host})
        assert response.status_code == 421, path


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1", "[::1]:80", "Farcall.Example"])
def test_loopback_and_given_host_names_are_answered(console: Console, host: str) -> None:
    assert console.ask("/api/v1/traces", headers={**BEARER, "host": host}).status_code == 200


def test_a_kubelet_may_ask_for_health_by_any_name(console: Console) -> None:
    assert console.ask("/healthz", headers={"host": "10.244.0.9:8080"}).status_code == 200


@pytest.mark.parametrize("path", ["/login", "/nowhere", "/static/icon.svg", "/api/v1/traces"])
def test_every_answer_carries_the_security_headers(console: Console, path: str) -> None:
    headers = console.ask(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy and "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers


def test_traces_and_spans_come_as_the_contract_says(console: Console) -> None:
    summary = console.api("/traces").json()["items"][0]
    assert summary["trace_id"] == TRACE and summary["start_ns"] == str(NOW_NS)
    trace = console.api(f"/traces/{TRACE.upper()}").json()
    assert trace["spans"][0]["span_id"] == SPAN and trace["effective_trace_ids"] == [TRACE]
    assert console.api(f"/traces/{TRACE}/spans/{SPAN}").json()["destination"] == "cache.example.com"
    assert console.api("/spans").json()["items"][0]["duration_ns"] == "1200000"


def test_parameters_reach_the_store(console: Console) -> None:
    console.api("/spans?q=GET&from=2026-01-31T12:00:00.000000001Z&to=2000000000000000000&limit=7")
    query = console.reader.asked[-1]
    assert isinstance(query, SpanQuery) and query.window is not None
    assert (query.q, query.limit) == ("GET", 7)
    assert query.window.from_ns == 1_769_860_800_000_000_001
    assert query.window.to_ns == 2_000_000_000_000_000_000
    console.api(f"/logs?trace={TRACE}&trace={'b' * 32},{TRACE}&span={SPAN}&order=asc&cursor=0")
    logs = console.reader.asked[-1]
    assert isinstance(logs, LogQuery)
    assert (logs.trace_ids, logs.span_ids) == ((TRACE, "b" * 32), (SPAN,))
    assert logs.ascending and logs.cursor == "0" and logs.window is None


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=ten", "limit"),
        ("from=yesterday", "from"),
        ("from=2026-13-01T00:00:00Z", "from"),
        ("to=99999999999999999999", "to"),
        ("to=1960-01-01T00:00:00Z", "to"),
        ("from=20&to=10", "from"),
        ("q=" + "x" * 4_097, "q"),
        ("cursor=" + "x" * 1_025, "cursor"),
        ("trace=nonsense", "trace"),
        ("span=12", "span"),
        ("order=random", "order"),
    ],
)
def test_a_bad_parameter_is_named(console: Console, query: str, name: str) -> None:
    response = console.api(f"/logs?{query}")
    assert response.status_code == 400
    problem = problem_of(response)
    assert problem["field"] == name and problem["detail"]
    assert console.reader.asked == []


def test_pages_follow_each_other_to_the_end(tmp_path: Path) -> None:
    lines = [make_log(id=str(i), time_ns=str(NOW_NS + i)) for i in range(5)]
    console = Console(tmp_path, MemoryReader(logs=lines))
    seen, cursor = [], ""
    while cursor is not None:
        page = console.api("/logs", params={"limit": 2, "cursor": cursor}).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next"]
    assert seen == ["4", "3", "2", "1", "0"]


def test_a_query_that_cannot_be_understood_points_at_the_place(console: Console) -> None:
    for path in ("/logs?q=(", "/logs/histogram?q=("):
        response = console.api(path)
        problem = problem_of(response)
        assert (response.status_code, problem["field"], problem["position"]) == (400, "q", 0)
        assert problem["detail"] == "this bracket does not close"


@pytest.mark.parametrize("error", [StoreUnavailableError("gone"), StoreRefusedError("full")])
def test_the_stores_troubles_are_not_the_callers(
    console: Console, error: StoreUnavailableError | StoreRefusedError
) -> None:
    console.reader.error = error
    response = console.api("/traces")
    assert response.status_code == 503 and response.headers["retry-after"] == "2"
    assert str(error) in str(problem_of(response)["detail"])


def test_a_fault_of_ours_tells_nothing(console: Console) -> None:
    console.reader.spans = None  # type: ignore[assignment]
    response = console.api("/traces")
    assert response.status_code == 500
    assert "NoneType" not in response.text and "Traceback" not in response.text


def test_what_is_not_stored_is_not_found(console: Console) -> None:
    for path in (
        f"/traces/{'c' * 32}",
        f"/traces/{TRACE}/spans/{'c' * 16}",
        f"/traces/{TRACE}/spans/{'c' * 16}/evidence",
        "/nonsense",
    ):
        response = console.api(path)
        assert (response.status_code, problem_of(response)["status"]) == (404, 404), path
    assert console.api("/traces/nonsense").status_code == 400


def test_the_first_spans_of_a_big_trace_can_be_asked_for(tmp_path: Path) -> None:
    spans = [make_span(span_id=f"{n:016x}", start_ns=str(NOW_NS + n)) for n in range(5)]
    console = Console(tmp_path, MemoryReader(spans=spans))
    trace = console.api(f"/traces/{TRACE}?limit=2").json()
    assert (len(trace["spans"]), trace["total_spans"], trace["truncated"]) == (2, 5, True)
    assert console.api(f"/traces/{TRACE}?limit=100001").status_code == 400


def test_a_trace_is_compressed_for_who_can_read_it(tmp_path: Path) -> None:
    spans = [make_span(span_id=f"{n:016x}") for n in range(50)]
    console = Console(tmp_path, MemoryReader(spans=spans))
    packed = console.api(f"/traces/{TRACE}")
    plain = console.ask(
        f"/api/v1/traces/{TRACE}", headers={**BEARER, "accept-encoding": "identity"}
    )
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.json() == plain.json() and len(plain.json()["spans"]) == 50


def test_lines_outside_the_range_are_counted(console: Console) -> None:
    histogram = console.api(f"/logs/histogram?trace={TRACE}&from=1&to=10").json()
    assert (histogram["total"], histogram["outside"]) == (0, 1)


def test_evidence_is_read_from_the_connection_and_its_clients_answers(console: Console) -> None:
    console.reader.connections["boot:1"] = {"ClientKey": "c:1", "AnsweredAt": str(NOW_NS - 5)}
    console.reader.answers = [
        DnsEvidence(
            time_ns=str(NOW_NS - 5),
            client=client,
            service="checkout",
            resolver="10.96.0.10",
            question="cache.example.com",
            address="203.0.113.10",
            canonical_name="",
            used=False,
        )
        for client in ("c:1", "c:2")
    ]
    evidence = console.api(f"/traces/{TRACE}/spans/{SPAN}/evidence").json()
    assert [(a["client"], a["used"]) for a in evidence["answers"]] == [("c:1", True)]
    assert evidence["peer"] == "203.0.113.10:6379" and evidence["ttl_s"] == 3_600


def test_status_answers_when_the_store_does_not(console: Console) -> None:
    console.reader.error = StoreUnavailableError("connection refused")
    status = console.api("/status").json()
    assert status["components"] == [] and "connection refused" in status["warnings"][0]


def test_status_lists_the_components(console: Console) -> None:
    console.reader.statuses = [
        ComponentStatus(
            kind="agent",
            name="node-1",
            version="0.1.0",
            seen_ns=str(time.time_ns()),
            started_ns="1",
            config_generation=1,
            alive=False,
            capabilities=(),
            counters={"dns_lost": "0"},
            gauges={},
        )
    ]
    status = console.api("/status").json()
    assert status["components"][0]["alive"] is True and status["warnings"] == []


def test_openapi_lists_every_path_of_the_contract(console: Console) -> None:
    import farcall.api

    document = json.loads(console.api("/openapi.json").content)
    promised = {
        line.split("GET ")[1].split(" ")[0].split("?")[0]
        for line in (farcall.api.__doc__ or "").splitlines()
        if line.startswith("| GET ")
    }
    assert promised - {"/api/v1/openapi.json"} == set(document["paths"])
    span = document["components"]["schemas"]["Span"]["properties"]
    assert span["start_ns"] == {"type": "string"}
