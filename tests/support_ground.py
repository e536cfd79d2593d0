"""Shared by the tests of the ground: example configs and golden files."""

import os
from pathlib import Path

from farcall.effective import EffectiveConfig, Endpoints
from farcall.meaning import build_effective
from farcall.tracingconfig import read_tracingconfig

ROOT = Path(__file__).resolve().parent.parent
CONTRACTS = ROOT / "tests/golden/contracts"
UPDATE = "UPDATE_GOLDEN"


def build_example(name: str, *, dns_ttl_override_s: int | None = None) -> EffectiveConfig:
    """What examples/<name>.yaml means in local mode."""
    return build_effective(
        read_tracingconfig(ROOT / f"examples/{name}.yaml"),
        mode="local",
        endpoints=Endpoints(
            exporter_ingest="http://127.0.0.1:4319",
            exporter_otlp_http="http://127.0.0.1:4318",
            redis="unix:///run/farcall/main/redis.sock",
            store="http://127.0.0.1:8123",
            console="http://127.0.0.1:8080",
        ),
        secrets_dir="/run/farcall/main/secrets",
        state_dir="/var/lib/farcall/main",
        node="node-1",
        discovered_resolvers=["10.96.0.10"],
        dns_ttl_override_s=dns_ttl_override_s,
    )


def check_golden(name: str, text: str, *, folder: Path = CONTRACTS) -> None:
    """Compares with <folder>/<name>; UPDATE_GOLDEN=1 writes it anew, for the review to show."""
    path = folder / name
    if os.environ.get(UPDATE) == "1" and os.environ.get("CI") != "true":
        path.write_text(text, encoding="utf-8")
    expected = path.read_text(encoding="utf-8") if path.exists() else ""
    assert text == expected, f"{path} differs; if that is meant: {UPDATE}=1 pytest -m golden"
