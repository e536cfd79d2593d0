"""What the agent is not given, it names, with what mends it: exit code 2 and one sentence, and nothing was started."""

import subprocess
import sys
from pathlib import Path

import pytest

from farcall.secretfiles import INGEST_TOKEN
from support_agent import make_config, write_config

pytestmark = pytest.mark.servers

AGENT = [sys.executable, "-m", "farcall.commands", "agent"]


def run(*argv: str, before: tuple[str, ...] = ()) -> tuple[int, str]:
    done = subprocess.run([*before, *AGENT, *argv], capture_output=True, text=True, timeout=60)
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_without_the_right_to_trace_it_says_how_to_get_it(tmp_path: Path) -> None:
    path = write_config(make_config(tmp_path), tmp_path)
    ready = tmp_path / "ready"
    code, said = run(
        "--config",
        str(path),
        "--ready-file",
        str(ready),
        before=("setpriv", "--bounding-set=-bpf,-perfmon,-sys_admin", "--inh-caps=-all"),
    )

    assert code == 2
    assert "CAP_BPF and CAP_PERFMON" in said and "sudo farcall agent" in said
    assert said.count("\n") == 1
    assert not ready.exists()


def test_without_a_token_it_names_the_file(tmp_path: Path) -> None:
    path = write_config(make_config(tmp_path), tmp_path)
    token = tmp_path / "secrets" / INGEST_TOKEN
    token.unlink()
    code, said = run("--config", str(path))

    assert code == 2 and str(token) in said and said.count("\n") == 1


def test_without_a_config_it_says_so(tmp_path: Path) -> None:
    code, said = run("--config", str(tmp_path / "none.json"))
    assert code == 2 and "none.json" in said


def test_a_broken_config_is_named_by_its_field(tmp_path: Path) -> None:
    path = tmp_path / "effective.json"
    path.write_text('{"schema_version": 7}')
    code, said = run("--config", str(path))
    assert code == 2 and "schema_version" in said
