"""`farcall up --once`: the FAQ's promises, each with its expectation, on both tiers."""

import subprocess
from pathlib import Path

import pytest

from farcall_demo import network
from farcall_demo.plan import NAMES
from support_e2e import EXAMPLES, ONCE_WITHIN_S, farcall, name_instance, up_options

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("example", ["hobby.yaml", "scale.yaml"])
def test_every_expectation_holds_and_nothing_is_left(tmp_path: Path, example: str) -> None:
    done = subprocess.run(
        farcall(
            *("up", "--once", "-f", str(EXAMPLES / example)),
            *("--instance", name_instance(example), *up_options(tmp_path)),
        ),
        capture_output=True,
        text=True,
        timeout=ONCE_WITHIN_S,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "every expectation held" in done.stdout
    assert "✗" not in done.stdout
    assert not list((tmp_path / "run").glob("*"))
    names = f"{NAMES}{name_instance(example)}-*"
    assert not list(network.RUN_NETNS.glob(names))
    assert not list(network.ETC_NETNS.glob(names))
