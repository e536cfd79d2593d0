"""docs/commands.md: no command is missing in it, none is in it that does not exist, and each help shows examples."""

import re

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
