"""The bundle that esbuild left: which hashed file stands behind `app.js` and `app.css`."""

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

STATIC_DIRECTORY = Path(str(files("farcall_console") / "static"))
MANIFEST = STATIC_DIRECTORY / "build" / "manifest.json"


class AssetsError(Exception):
    """The bundle was not built; the message says how to build it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assets:
    """Paths below /static/. Their names hold a hash of their content, so they may be cached for ever."""

    script: str
    style: str


def read_assets(manifest: Path = MANIFEST) -> Assets:
    try:
        named = json.loads(manifest.read_text(encoding="utf-8"))
        return Assets(script=str(named["app.js"]), style=str(named["app.css"]))
    except (OSError, ValueError, KeyError) as e:
        raise AssetsError(
            f"{manifest}: the page bundle is missing or broken ({e}); build it with: make setup"
        ) from e
