"""`farcall agent` as it is started in production: real programs, real processes, a real DNS exchange and a real Redis."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from farcall.envelope import STATUS_PATH
from farcall.exchange import ExchangeFlag
from support_agent import packed
from support_agent_live import STREAM, Scene, running_scene

pytestmark = pytest.mark.bpf


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with running_scene(tmp_path_factory.mktemp("agent")) as scene:
        yield scene


def test_a_connection_is_bound_to_the_answer_before_it(scene: Scene) -> None:
    scene.run('look_up("cache.live.test"); ask(connect(), b"SET", b"k", b"secret")', name="cart")
    (row,) = scene.wait_rows("exchanges", "cart")

    assert (row["protocol"], row["target"], row["role"]) == ("redis", "SET ? ?", 0)
    assert row["bound_name"] == "cache.live.test"
    assert row["connection_opened"] >= row["bound_answered"]
    assert (row["peer_address"], row["peer_port"]) == (packed(scene.address), scene.port)
    assert row["flags"] & ExchangeFlag.WATCHED and not row["flags"] & ExchangeFlag.LATE
    (answer,) = scene.rows("dns", "cart")
    assert (answer["question"], answer["address"]) == ("cache.live.test", packed(scene.address))
    assert answer["client_key"] == row["client_key"]


def test_the_answer_is_in_the_cache_with_the_tiers_ttl(scene: Scene) -> None:
    scene.run('look_up("ttl.live.test")', name="ttl")
    (answer,) = scene.wait_rows("dns", "ttl")
    key = f"fc1:a:{answer['client_key']}:{scene.address}"

    assert scene.cache.zrange(key, 0, -1) == ["ttl.live.test"]
    expiry_s = scene.cache.pexpiretime(key) / 1000
    assert expiry_s == pytest.approx(answer["time"].value / 1e9 + 3600, abs=0.01)
    assert "ttl.live.test" in scene.cache.zrange(f"fc1:w:{scene.address}", 0, -1)


def test_a_bare_address_has_no_name_although_others_know_one(scene: Scene) -> None:
    scene.run('look_up("other.live.test")', name="knows")
    scene.run('ask(connect(), b"PING")', name="bare")
    (row,) = scene.wait_rows("exchanges", "bare")

    assert row["bound_name"] is None
    assert row["flags"] & ExchangeFlag.WATCHED


def test_a_forked_worker_uses_what_its_parent_looked_up(scene: Scene) -> None:
    code = """
look_up("parent.live.test")
if os.fork():
    os.wait()
    os._exit(0)
ask(connect(), b"PING")
"""
    scene.run(code, name="forks")
    (row,) = scene.wait_rows("exchanges", "forks")

    assert row["bound_name"] == "parent.live.test"


def test_both_ends_of_a_call_carry_the_same_key(scene: Scene) -> None:
    scene.run(
        'link = connect()\nfor n in range(5): ask(link, b"INCR", b"n"); time.sleep(0.01)',
        name="twin",
    )
    mine = scene.wait_rows("exchanges", "twin", 5)

    def theirs() -> list[dict[str, object]]:
        ports = {r["local_port"] for r in mine}
        return [r for r in scene.server_rows() if r["peer_port"] in ports]

    scene.exporter.wait_for(lambda _: len(theirs()) >= 5)
    keys = [
        {
            (r["isn_client"], r["isn_server"], r["request_seq"])
            for r in side
            if r["flags"] & ExchangeFlag.IDENTITY
        }
        for side in (mine, theirs())
    ]
    assert keys[0] & keys[1]
    assert {r["service"] for r in theirs()} == {"redis-server"}
    assert len({r["request_seq"] for r in mine}) == 5


def test_a_connection_that_lives_keeps_its_binding_in_the_cache(scene: Scene) -> None:
    code = """
look_up("long.live.test")
link = connect()
ask(link, b"PING")
time.sleep(10.5)
ask(link, b"PING")
"""
    scene.run(code, name="long")
    row = scene.wait_rows("exchanges", "long", 2)[-1]
    local = f"127.0.0.1:{row['local_port']}"
    peer = f"{scene.address}:{scene.port}"
    keys = [
        k for k in scene.cache.scan_iter("fc1:b:*") if k.endswith(f"{row['local_port']}>{peer}")
    ]

    assert len(keys) == 1, local
    assert scene.cache.hget(keys[0], "name") == "long.live.test"


def test_http_requests_are_seen_from_both_ends(scene: Scene, tmp_path: Path) -> None:
    code = """
import http.server, threading, urllib.request
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
trace = {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "X-Token": "x" * 3000, "tracestate": "vendor=t61,other=1"}
url = f"http://127.0.0.1:{server.server_port}/none?user=me"
try:
    urllib.request.urlopen(urllib.request.Request(url, headers=trace))
except OSError:
    pass
"""
    scene.run(code, name="web")
    rows = scene.wait_rows("exchanges", "web", 2)

    assert {r["role"] for r in rows} == {0, 1}
    for row in rows:
        assert (row["target"], row["query"], row["status"]) == ("/none", "user=?", 404)
        assert row["host"].startswith("127.0.0.1:")
        assert row["trace_id"] == bytes.fromhex("a" * 32)
        assert row["trace_state"] == "vendor=t61,other=1"
        assert not row["flags"] & ExchangeFlag.CUT


@pytest.mark.parametrize(
    ("headers", "flag"),
    [
        ({"b3": f"{'a' * 32}-{'b' * 16}-1"}, ExchangeFlag.TRACE_B3),
        ({"X-B3-TraceId": "a" * 32, "X-B3-SpanId": "b" * 16}, ExchangeFlag.TRACE_B3),
        ({"uber-trace-id": f"{'a' * 32}:{'b' * 16}:0:1"}, ExchangeFlag.TRACE_JAEGER),
        (
            {
                "b3": f"{'c' * 32}-{'d' * 16}-1",
                "uber-trace-id": f"{'e' * 32}:{'f' * 16}:0:1",
                "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
            },
            0,
        ),
    ],
    ids=["b3", "b3-parts", "jaeger", "traceparent-before-all"],
)
def test_the_trace_of_a_request_is_read_in_each_format(
    scene: Scene, headers: dict[str, str], flag: int, request: pytest.FixtureRequest
) -> None:
    name = f"ctx-{request.node.callspec.id[:9]}"
    code = f"""
import http.server, threading, urllib.request
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{{server.server_port}}/none"
try:
    urllib.request.urlopen(urllib.request.Request(url, headers={headers!r}))
except OSError:
    pass
"""
    scene.run(code, name=name)
    formats = ExchangeFlag.TRACE_B3 | ExchangeFlag.TRACE_JAEGER

    for row in scene.wait_rows("exchanges", name, 2):
        assert (row["trace_id"].hex(), row["parent_span_id"].hex()) == ("a" * 32, "b" * 16)
        assert row["flags"] & formats == flag


def test_it_ends_with_zero_and_sends_what_it_has(tmp_path: Path) -> None:
    with running_scene(tmp_path) as scene:
        scene.run('ask(connect(), b"PING")', name="last")
        stream = (
            f"last = []\n{STREAM}\nlink = stream()\nprint('streams', flush=True)\ntime.sleep(60)\n"
        )
        with scene.start(stream, name="streaming") as client:
            assert client.stdout is not None and client.stdout.readline() == "streams\n"
            scene.agent.terminate()
            assert scene.agent.wait(timeout=30) == 0  # a pod's grace, if it says no other
        assert scene.rows("exchanges", "last")
        assert {r["target"] for r in scene.rows("exchanges", "streaming")} == {"/stream"}
        assert any(p.path == STATUS_PATH for p in scene.exporter.posted)


def test_its_own_calls_are_not_traced(scene: Scene) -> None:
    scene.run('ask(connect(), b"PING")', name="marker")
    scene.wait_rows("exchanges", "marker")
    tgids = {r["tgid"] for table in scene.exporter.batches("exchanges") for r in table.to_pylist()}
    assert scene.agent.pid not in tgids
    assert subprocess.run(["kill", "-0", str(scene.agent.pid)], check=False).returncode == 0
