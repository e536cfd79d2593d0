"""Documentation that is checked: columns, attributes, reasons, commands, make targets and links exist as written."""

import dataclasses
import re
from pathlib import Path

import pytest

from farcall import api, exchange
from farcall.attributes import REGISTRY
from farcall.commands import COMMANDS
from farcall.envelope import AgentStatus
from farcall.names import UnknownReason
from farcall.tracingconfig import parse_tracingconfig
from support_ground import ROOT
from support_repository import list_files

pytestmark = pytest.mark.unit

README = ROOT / "README.md"
HEADER = exchange.BatchHeader(
    kind="dns", node="n", boot_id="0" * 32, number=1, dns_watched_since_ns=0
)


def read_section(page: Path, heading: str) -> str:
    text = page.read_text(encoding="utf-8")
    match = re.search(rf"^##+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", text, re.M | re.S)
    assert match, f"{page} has no section {heading!r}"
    return match[1]


def first_cells(section: str) -> list[str]:
    return re.findall(r"^\| `([^`]+)`", section, re.M)


@pytest.mark.parametrize(
    ("heading", "names"),
    [
        ("Exchanges", [c.name for c in exchange.EXCHANGES]),
        ("DNS answers", [c.name for c in exchange.DNS_ANSWERS]),
        ("Connections", [c.name for c in exchange.CONNECTIONS]),
        ("The agent's status", [field.name for field in dataclasses.fields(AgentStatus)]),
        ("With every batch", [key.decode() for key in HEADER.metadata()]),
    ],
)  # fmt: skip
def test_what_leaves_a_node_is_listed_to_the_last_column(heading: str, names: list[str]) -> None:
    section = read_section(ROOT / "docs/what-leaves-a-node.md", heading)

    assert first_cells(section) == names


def test_the_readme_says_what_to_do_about_every_unknown_reason() -> None:
    section = read_section(README, "Why is a destination unknown?")

    assert sorted(first_cells(section)) == sorted(UnknownReason)


def test_attributes_in_the_readme_exist() -> None:
    section = read_section(README, "How to read a span")
    shown = first_cells(section)

    assert set(shown) <= set(REGISTRY)
    assert {key for key in REGISTRY if key.startswith("farcall.") or "metoro" in key} <= set(shown)


def test_the_readme_names_every_command() -> None:
    text = README.read_text(encoding="utf-8")

    assert [c.name for c in COMMANDS if f"farcall {c.name}" not in text] == []


def test_the_tracingconfig_in_the_readme_is_valid() -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S)

    assert parse_tracingconfig(block.encode(), source="README.md").spec.tier == "Hobby"


def test_the_reference_lists_every_field_and_attribute() -> None:
    tracingconfig = first_cells((ROOT / "docs/reference/tracingconfig.md").read_text())
    attributes = first_cells((ROOT / "docs/reference/attributes.md").read_text())

    assert set(attributes) == set(REGISTRY)
    for path in ("tier", "clusterCIDRs", "dns.holdWhileConnected", "exporter.otlp.endpoint"):
        assert path in tracingconfig


def test_the_api_page_lists_every_path() -> None:
    table = re.findall(r"^\| GET (/[^ ?]+)", api.__doc__ or "", re.M)
    page = re.findall(r"^\| `GET (/[^`]+)`", (ROOT / "docs/api.md").read_text(), re.M)

    assert page == table


def list_pages() -> list[Path]:
    return [path for path in list_files() if path.suffix == ".md"]


def test_commands_and_targets_in_the_pages_exist() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.M))
    commands = {command.name for command in COMMANDS} | {"help", "version"}
    for page in list_pages():
        text = page.read_text(encoding="utf-8")
        code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.S))
        for target in re.findall(r"(?<![-\w])make ([a-z][a-z0-9-]*)", code):
            assert target in targets or target.startswith("bench-"), f"{page}: make {target}"
        for name in re.findall(r"(?<![-\w./])(?<!-n )(?<!--namespace )farcall ([a-z]+)\b", code):
            assert name in commands, f"{page}: farcall {name}"


def test_links_between_the_pages_lead_somewhere() -> None:
    dead = []
    for page in list_pages():
        code = r"```.*?```|`[^`\n]*`"
        text = re.sub(code, "", page.read_text(encoding="utf-8"), flags=re.S)
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)|<img [^>]*src=\"([^\"]+)\"", text):
            link = "".join(target)
            if "://" not in link and not (page.parent / link).exists():
                dead.append(f"{page.relative_to(ROOT)}: {link}")

    assert dead == []


def test_files_named_in_the_pages_exist() -> None:
    dead = []
    for page in list_pages():
        text = page.read_text(encoding="utf-8")
        rooms = "core|probes|exporter|store|console|operator|templates|examples|tests|docs|deploy|crds|bench"
        for name in re.findall(rf"`((?:{rooms})/[\w./-]+)`", text):
            if not (ROOT / name).exists():
                dead.append(f"{page.relative_to(ROOT)}: {name}")

    assert dead == []


def test_decisions_are_numbered_without_a_gap() -> None:
    names = sorted(path.name for path in (ROOT / "docs/decisions").glob("*.md"))

    assert [name[:3] for name in names] == [f"{i:03}" for i in range(1, len(names) + 1)]
    assert all(re.fullmatch(r"\d{3}-[a-z0-9-]+\.md", name) for name in names)


def test_the_changelog_keeps_its_order() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    order = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
    for release in re.split(r"^## ", text, flags=re.M)[1:]:
        headings = re.findall(r"^### (\w+)", release, re.M)
        assert headings == [heading for heading in order if heading in headings]
    assert "## [Unreleased]" in text
