"""docs/commands.md: no command is missing in it, none is in it that does not exist, and each help shows examples."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from farcall.commands import COMMANDS, Command, load
from support_ground import ROOT

pytestmark = pytest.mark.unit

PAGE = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
OURS = [c for c in COMMANDS if c.target.startswith("farcall_operator.commands.")]


def test_every_command_is_on_the_page_once() -> None:
    listed = re.findall(r"^\| `farcall ([a-z]+)` \|", PAGE, re.M)

    assert sorted(listed) == sorted(command.name for command in COMMANDS)


@pytest.mark.parametrize("command", OURS, ids=lambda c: c.name)
def test_the_help_ends_with_examples_of_that_command(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    main = load(command)
    with pytest.raises(SystemExit) as ended:
        main(["--help"])

    assert ended.value.code == 0
    _, _, examples = capsys.readouterr().out.partition("examples:\n")
    assert f"farcall {command.name} " in f"{examples} "


@pytest.mark.parametrize("command", OURS, ids=lambda c: c.name)
def test_each_has_a_section_of_its_own(command: Command) -> None:
    assert f"\n## {command.name}\n" in PAGE


SHIM = ROOT / "deploy/kubectl-farcall"


def run_shim(path: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [SHIM, *arguments], env={"PATH": path}, capture_output=True, text=True, timeout=60
    )


def test_kubectl_farcall_is_farcall() -> None:
    """kubectl runs a program of this name, with the arguments as they are."""
    bin_dir = str(Path(sys.executable).parent)
    path = f"{bin_dir}:{os.environ['PATH']}"

    assert run_shim(path, "help").stdout == run_farcall(path, "help")
    assert run_shim(path, "validate", "-f", "no such file").returncode == 2
    assert os.access(SHIM, os.X_OK)


def run_farcall(path: str, *arguments: str) -> str:
    command = [sys.executable, "-m", "farcall.commands", *arguments]
    return subprocess.run(command, env={"PATH": path}, capture_output=True, text=True).stdout


def test_kubectl_farcall_without_farcall_says_what_to_do(tmp_path: Path) -> None:
    done = run_shim(str(tmp_path), "status")

    assert done.returncode == 2
    assert "farcall is not on the path" in done.stderr
