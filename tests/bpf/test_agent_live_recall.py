"""A connection that is older than the agent, over a Redis that dies and comes back empty: programs, processes and kernel are real."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from farcall.envelope import STATUS_PATH
from support_agent_live import CLIENT, Scene, child, running_scene, wait

pytestmark = pytest.mark.bpf

# Old enough to be remembered, and then idle.
OLD_CONNECTION = """
look_up("old.live.test")
link = connect()
ask(link, b"PING")
time.sleep(10.5)
ask(link, b"PING")
sys.stdin.readline()
"""


def recalled(scene: Scene) -> int:
    """By any agent."""
    bodies = [json.loads(p.body) for p in list(scene.exporter.posted) if p.path == STATUS_PATH]
    return max((b["counters"].get("cache_bindings_recalled", 0) for b in bodies), default=0)


def find_key(scene: Scene) -> str | None:
    peer = f"{scene.address}:{scene.port}"
    try:
        return next((k for k in scene.cache.scan_iter("fc1:b:*") if k.endswith(f">{peer}")), None)
    except redis.ConnectionError:  # between two of them
        return None


def test_its_name_is_there_again_as_the_agent_before_wrote_it(tmp_path: Path) -> None:
    with running_scene(tmp_path) as scene:
        argv = (sys.executable, "-c", f"{CLIENT}{OLD_CONNECTION}")
        where = (scene.resolver, scene.address, str(scene.port))
        environment = {**os.environ, "OTEL_SERVICE_NAME": scene.service("old")}
        with child(*argv, *where, env=environment, stdin=subprocess.PIPE):
            wait(lambda: find_key(scene), within_s=120)
            key = find_key(scene)
            assert key is not None
            before = scene.cache.hgetall(key), scene.cache.pexpiretime(key)
            assert before[0]["name"] == "old.live.test"  # type: ignore[index]

            scene.agent.send_signal(signal.SIGKILL)
            scene.agent.wait()
            assert recalled(scene) == 0
            ready = tmp_path / "ready-again"
            agent = (sys.executable, "-m", "farcall.commands", "agent")
            files = ("--config", str(tmp_path / "effective.json"), "--ready-file", str(ready))
            with child(*agent, *files):
                wait(lambda: recalled(scene), within_s=120)
                scene.cache.shutdown(nosave=True)
                with child("redis-server", str(tmp_path / "cache.conf")):
                    wait(lambda: find_key(scene), within_s=120)
                    assert find_key(scene) == key
                    after = scene.cache.hgetall(key), scene.cache.pexpiretime(key)

    assert after == before
