"""What every component shares: arguments, exit codes, readiness and a quiet stop."""

import os
import signal
import subprocess
import sys
import time
from argparse import ArgumentParser
from pathlib import Path

import pytest

from farcall.component import parse_launch, refuse
from farcall.effective import write_effective
from support_ground import build_example

pytestmark = pytest.mark.unit


def exit_of(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[object, str]:
    with pytest.raises(SystemExit) as caught:
        parse_launch("agent", "the node agent", argv)
    return caught.value.code, capsys.readouterr().err


def test_a_good_launch_holds_config_and_ready_file(tmp_path: Path) -> None:
    config, ready = tmp_path / "effective.json", tmp_path / "ready"
    write_effective(build_example("hobby"), config)

    launch = parse_launch("agent", "x", ["--config", str(config), "--ready-file", str(ready)])

    assert launch.watcher.current == build_example("hobby")
    assert not ready.exists()
    launch.mark_ready()
    assert ready.read_text() == "ready\n"


def test_a_predecessors_ready_file_is_removed_at_start(tmp_path: Path) -> None:
    config, ready = tmp_path / "effective.json", tmp_path / "ready"
    write_effective(build_example("hobby"), config)
    ready.touch()

    parse_launch("agent", "x", ["--config", str(config), "--ready-file", str(ready)])

    assert not ready.exists()


def test_nobody_may_ask_for_readiness(tmp_path: Path) -> None:
    write_effective(build_example("hobby"), tmp_path / "effective.json")

    parse_launch("agent", "x", ["--config", str(tmp_path / "effective.json")]).mark_ready()

    assert os.listdir(tmp_path) == ["effective.json"]


def test_a_components_own_arguments_are_handed_on(tmp_path: Path) -> None:
    write_effective(build_example("hobby"), tmp_path / "effective.json")

    def add(parser: ArgumentParser) -> None:
        parser.add_argument("--threads", type=int, default=1)

    argv = ["--config", str(tmp_path / "effective.json"), "--threads", "4"]
    assert parse_launch("agent", "x", argv, add).extra.threads == 4


@pytest.mark.parametrize("argv", [(), ("--config",), ("--config", "a", "--spam"), ("a",)])
def test_wrong_arguments_are_exit_code_2(
    capsys: pytest.CaptureFixture[str], argv: tuple[str, ...]
) -> None:
    code, said = exit_of(capsys, *argv)

    assert code == 2
    assert said.startswith("usage: farcall agent")


def test_a_bad_config_is_exit_code_2_and_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "effective.json"
    for raw in (None, "{", "{}"):
        if raw is not None:
            config.write_text(raw)

        code, said = exit_of(capsys, "--config", str(config))

        assert code == 2
        assert said.startswith(f"farcall agent: {config}: ")
        assert said.count("\n") == 1


def test_refusing_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        refuse("store", "port 8123 is taken")

    assert caught.value.code == 2
    assert capsys.readouterr().err == "farcall store: port 8123 is taken\n"


COMPONENT = """
import sys, time
from farcall.component import on_stop
calls = []
on_stop(lambda: calls.append(1))
print("up", flush=True)
while not calls:
    time.sleep(0.01)
signal_again = sys.stdin.readline()
print(len(calls), flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_does_not_stop_twice(number: signal.Signals) -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", COMPONENT], stdin=pipe, stdout=pipe, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "up\n"
        for _ in range(3):
            process.send_signal(number)
            time.sleep(0.02)  # signals of one kind that wait are merged
        process.stdin.write("\n")
        process.stdin.close()
        assert process.stdout.readline() == "1\n"
        assert process.wait(60) == 0
