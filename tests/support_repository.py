"""The repository as the tests of its hygiene see it: files that git holds or would take, and the rooms' modules."""

import subprocess
from pathlib import Path

from support_ground import ROOT

# Source root → the one package in it (pyproject's `packages`).
PACKAGES = {
    "core": "farcall",
    "probes": "farcall_probes",
    "exporter": "farcall_exporter",
    "store": "farcall_store",
    "console": "farcall_console",
    "operator": "farcall_operator",
    "templates": "farcall_templates",
    "examples": "farcall_demo",
}


def list_files() -> list[Path]:
    """What a clone would hold after committing everything: tracked, or new and not ignored."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    paths = sorted({ROOT / name.decode() for name in names if name})
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def list_texts() -> dict[Path, str]:
    """Every file of `list_files` that is UTF-8 text, by its path below the root."""
    texts = {}
    for path in list_files():
        try:
            texts[path.relative_to(ROOT)] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
    return texts


def list_modules() -> list[Path]:
    """The Python files of all rooms."""
    return [
        path
        for path in list_files()
        if path.suffix == ".py" and path.relative_to(ROOT).parts[:2] in set(PACKAGES.items())
    ]
