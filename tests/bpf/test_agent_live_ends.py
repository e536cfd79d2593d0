"""What `farcall agent`, as it is started in production, says of calls that fail; and `farcall tail` beside it."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from farcall.exchange import ExchangeFlag
from support_agent import packed
from support_agent_live import STREAM, Scene, running_scene
from support_ports import find_free_port

pytestmark = pytest.mark.bpf


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with running_scene(tmp_path_factory.mktemp("agent")) as scene:
        yield scene


def test_a_refused_connect_is_named_by_the_answer_before_it(scene: Scene) -> None:
    port = find_free_port()
    code = f"""
look_up("gone.live.test")
try: socket.create_connection((address, {port}), timeout=5)
except ConnectionRefusedError: pass
"""
    scene.run(code, name="refused")
    (row,) = scene.wait_rows("exchanges", "refused")

    assert (row["protocol"], row["operation"], row["error"]) == (
        "tcp",
        "connect",
        "connection_refused",
    )
    assert row["bound_name"] == "gone.live.test"
    assert (row["peer_address"], row["peer_port"]) == (packed(scene.address), port)
    assert row["flags"] & ExchangeFlag.UNCONNECTED and row["role"] == 0


def test_a_blocked_command_whose_client_goes_is_the_clients_end(scene: Scene) -> None:
    code = """
link = connect()
link.sendall(b"*3\\r\\n$5\\r\\nBLPOP\\r\\n$1\\r\\nq\\r\\n$1\\r\\n9\\r\\n")
time.sleep(0.3)
link.close()
"""
    scene.run(code, name="impatient")
    (row,) = scene.wait_rows("exchanges", "impatient")

    assert (row["operation"], row["error"]) == ("BLPOP", "client_closed")
    assert row["duration_ns"] >= 300_000_000


def test_a_streamed_response_lasts_to_its_last_chunk_at_both_ends(scene: Scene) -> None:
    code = f"""
last = [b"0\\r\\n\\r\\n"]
{STREAM}
link = stream()
"""
    scene.run(code, name="streamed")
    rows = scene.wait_rows("exchanges", "streamed", 2)

    client, server = sorted(rows, key=lambda r: r["role"])
    for row in (client, server):
        assert row["target"] == "/stream" and row["response_bytes"] == 47 + 10 + 5
    assert client["duration_ns"] >= 600_000_000 and client["request_duration_ns"] >= 100_000_000
    assert server["duration_ns"] >= server["first_byte_ns"] + 600_000_000


def test_tail_prints_what_the_agent_sends(scene: Scene) -> None:
    wanted = f"service:{scene.service('tailed')} operation:GET"
    words = ["tail", "--socket", str(scene.directory / "tail.sock"), "-q", wanted, "-n", "2"]
    with subprocess.Popen(
        [sys.executable, "-m", "farcall.commands", *words, "-o", "ndjson"],
        stdout=subprocess.PIPE,
        text=True,
    ) as tail:
        code = 'look_up("tail.live.test"); link = connect()\nfor _ in range(20): ask(link, b"GET", b"k"); time.sleep(0.1)'
        scene.run(code, name="tailed")
        out, _ = tail.communicate(timeout=60)
    rows = [json.loads(line) for line in out.splitlines()]

    assert tail.returncode == 0
    assert [(r["side"], r["protocol"], r["target"]) for r in rows] == [
        ("client", "redis", "GET ?")
    ] * 2
    assert {r["destination"] for r in rows} == {"tail.live.test"}
