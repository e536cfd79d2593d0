"""`python -m farcall.generate [--check]`: writes the files that are made of the code, or says which differ from it."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from farcall.commands import EXIT_FAULT, EXIT_OK, EXIT_USAGE
from farcall.crd import render_crd
from farcall.reference import (
    render_attributes_page,
    render_effective_page,
    render_effective_schema,
    render_tracingconfig_page,
)

# The checkout that this file is part of.
ROOT = Path(__file__).resolve().parents[2]
FILES: dict[str, Callable[[], str]] = {
    "crds/tracingconfigs.yaml": render_crd,
    "docs/reference/tracingconfig.md": render_tracingconfig_page,
    "docs/reference/attributes.md": render_attributes_page,
    "docs/reference/effective-config.md": render_effective_page,
    "docs/reference/effective-config.schema.json": render_effective_schema,
}


def main(argv: Sequence[str], *, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(prog="python -m farcall.generate", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing, fail when a file differs"
    )
    check = parser.parse_args(argv).check
    if not (root / "pyproject.toml").exists():
        sys.stderr.write(f"generate: {root} is no checkout of farcall: run it from one\n")
        return EXIT_USAGE
    stale = [name for name, render in FILES.items() if not is_current(root / name, render())]
    for name in stale:
        if check:
            sys.stderr.write(
                f"generate: {name} differs from the code; write it with: make generate\n"
            )
        else:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(FILES[name](), encoding="utf-8")
            sys.stdout.write(f"generate: {name}\n")
    return EXIT_FAULT if stale and check else EXIT_OK


def is_current(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
