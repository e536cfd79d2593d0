"""The version that is installed. Python's own reader of packages' metadata brings 1 MB of modules along, for one line of a file."""

import sys
from functools import cache
from pathlib import Path

_FOLDERS = (
    "farcall.dist-info",
    "farcall-*.dist-info",
)  # as our images have it; as installers make it


class NotInstalledError(Exception):
    """farcall runs from where it was never installed."""


@cache
def read_version() -> str:
    """Raises NotInstalledError."""
    for place in map(Path, sys.path):
        for folder in _FOLDERS:
            for path in place.glob(f"{folder}/METADATA"):
                for line in path.read_text(encoding="utf-8").splitlines():
                    if line.startswith("Version: "):
                        return line.removeprefix("Version: ")
    raise NotInstalledError("no metadata of farcall on Python's path")
