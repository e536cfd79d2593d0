"""Prints the part of requirements.lock that one image needs: `pick_requirements.py EXTRA_OR_PACKAGE…`, hashes included.

Read from pyproject.toml (what the extras ask for) and from the lock's own "# via" lines (who asked for what). Standard
library alone: it runs in the image's build, before anything is installed.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def main() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = list(project["dependencies"])
    for name in sys.argv[1:]:
        wanted += project["optional-dependencies"].get(name, [name])
    sys.stdout.write(pick_requirements(lock, {find_name(text) for text in wanted}))


def pick_requirements(lock: str, wanted: set[str]) -> str:
    """The blocks of `wanted` and of all they need. Raises KeyError for a name that is not locked."""
    blocks = split_lock(lock)
    parents = {name: find_parents(block) for name, block in blocks.items()}
    picked = {normalise(name) for name in wanted}
    if unknown := picked - blocks.keys():
        raise KeyError(f"not in the lock: {', '.join(sorted(unknown))}")
    while more := {name for name in blocks if name not in picked and parents[name] & picked}:
        picked |= more
    return "".join(blocks[name] for name in sorted(picked))


def split_lock(lock: str) -> dict[str, str]:
    """By name: from a line that begins with it to the next such line."""
    starts = [m.start() for m in re.finditer(r"^[A-Za-z0-9]", lock, flags=re.MULTILINE)]
    blocks = [lock[a:b] for a, b in zip(starts, [*starts[1:], len(lock)], strict=True)]
    return {normalise(find_name(block)): block for block in blocks}


def find_parents(block: str) -> set[str]:
    """Names in the comment that says who asked for the block: `# via a`, or one a line below `# via`."""
    comments = [line.strip().lstrip("#").strip() for line in block.splitlines() if "#" in line]
    words = [line.removeprefix("via").strip() for line in comments if line != "via"]
    return {normalise(find_name(word)) for word in words if word}


def find_name(text: str) -> str:
    match = _NAME.match(text)
    return match[0] if match else ""


def normalise(name: str) -> str:
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
