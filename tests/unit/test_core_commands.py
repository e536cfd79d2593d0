"""The command table: help lists all, nothing is imported before it is called, a mistake is exit code 2."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from farcall import commands

pytestmark = pytest.mark.unit

ROOMS = "probes exporter store console operator templates demo".split()


def run_farcall(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "farcall.commands", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("arguments", [(), ("help",), ("-h",), ("--help",)])
def test_help_lists_every_command(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.main(arguments) == commands.EXIT_OK

    text = capsys.readouterr().out
    for command in commands.COMMANDS:
        assert f"  {command.name} " in text
        assert command.brief in text


def test_each_command_stands_once() -> None:
    names = [command.name for command in commands.COMMANDS]

    assert len(set(names)) == len(names)


def test_the_version_is_the_distributions() -> None:
    done = run_farcall("--version")

    assert (done.returncode, done.stdout.split()[0]) == (0, "farcall")
    assert done.stdout.split()[1][0].isdigit()


@pytest.mark.parametrize("name", ["spam", "--spam", "", "UP", "\x1b[31m"])
def test_an_unknown_command_is_exit_code_2_and_one_line(name: str) -> None:
    done = run_farcall(name)

    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "`farcall help` lists them" in done.stderr
    assert "\x1b" not in done.stderr


def test_importing_the_table_imports_no_room_and_nothing_heavy() -> None:
    code = "import sys, farcall.commands; print(*sorted(sys.modules))"
    modules = set(run_python(code).split())

    assert not {f"farcall_{room}" for room in ROOMS} & {m.split(".")[0] for m in modules}
    assert not {"numpy", "pyarrow", "pydantic", "redis", "yaml", "kopf", "litestar"} & modules


@pytest.mark.parametrize("command", commands.COMMANDS, ids=lambda c: c.name)
def test_every_target_is_a_function_of_the_room(command: commands.Command) -> None:
    module, _, _ = command.target.partition(":")

    assert importlib.util.find_spec(module) is not None, module
    assert callable(commands.load(command))


def test_a_room_that_is_not_installed_is_one_sentence(tmp_path: Path) -> None:
    """As in an image that holds only its own rooms."""
    code = (
        "import sys\n"
        "sys.modules['farcall_console'] = None\n"
        "from farcall.commands import main\n"
        "print(main(['console']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    assert done.stdout.strip() == "2", done.stderr
    assert "farcall console is not part of this installation" in done.stderr
