"""What holds for every test: one tier each, no silent skip in CI, a tier that cannot run says what mends it.

It must not hold fixtures of a room; those stand in `support_<room>.py` or beside their tests.
"""

import functools
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

TIERS = ("unit", "golden", "bpf", "servers", "browser", "apiserver", "e2e", "kind")
FOLDERS = {tier: f"tests/{tier}" for tier in TIERS} | {"kind": "tests/e2e/kind"}
ROOT = Path(__file__).resolve().parent.parent
INSTALL = "make setup-test"

# No deadline: two shared cores say nothing about a single example. The same examples each time in CI.
settings.register_profile(
    "farcall",
    deadline=None,
    derandomize=os.environ.get("CI") == "true",
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("farcall")

# A shell that starts tests in the background lets them ignore Ctrl-C, and what they start inherits that: then nothing
# that is interrupted in a test would ever stop.
signal.signal(signal.SIGINT, signal.default_int_handler)


def is_ci() -> bool:
    return os.environ.get("CI") == "true"


def _lacks_root() -> str | None:
    return None if os.geteuid() == 0 else "needs root: run it with sudo"


def _lacks_program(name: str) -> Callable[[], str | None]:
    return lambda: None if shutil.which(name) else f"needs {name}: run `{INSTALL}`"


@functools.cache
def _lacks_kubernetes() -> str | None:
    """Helm, which a few of that tier want, is their own affair: they say so themselves."""
    check = ROOT / "tests/cluster/build-kube.sh"
    done = subprocess.run([check, "--check"], capture_output=True)
    return None if done.returncode == 0 else "needs Kubernetes' programs: run `make kube`"


def _lacks_file(path: Path, made_by: str) -> Callable[[], str | None]:
    return lambda: None if path.exists() else f"needs {path}: {made_by}"


_ARTEFACT = _lacks_file(ROOT / "probes/farcall_probes/bpf/artefact.json", "run `make setup`")
_BUNDLE = _lacks_file(
    ROOT / "console/farcall_console/static/build/manifest.json", "run `make setup`"
)
_BTF = _lacks_file(Path("/sys/kernel/btf/vmlinux"), "a kernel with CONFIG_DEBUG_INFO_BTF")

_CLUSTER = _lacks_file(
    Path("/run/farcall-cluster") / os.environ.get("FARCALL_CLUSTER", "farcall") / "kubeconfig",
    "run `make cluster`",
)

# What each tier needs beside the virtual environment; each answers with a sentence when it is missing.
NEEDS: dict[str, tuple[Callable[[], str | None], ...]] = {
    "unit": (),
    "golden": (),
    "bpf": (_lacks_root, _BTF, _ARTEFACT),
    "servers": (_lacks_program("redis-server"),),
    "browser": (_lacks_program("chromium"), _BUNDLE),
    "apiserver": (_lacks_kubernetes, _lacks_program("openssl")),
    "kind": (_lacks_root, _CLUSTER, _lacks_program("docker")),
    "e2e": (
        _lacks_root,
        _BTF,
        _ARTEFACT,
        _BUNDLE,
        *(_lacks_program(name) for name in ("redis-server", "chromium", "dnsmasq", "ip")),
    ),
}


def tiers_of(item: pytest.Item) -> list[str]:
    return [tier for tier in TIERS if item.get_closest_marker(tier) is not None]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Before `-m` deselects anything: a test without a tier would never run, one with two would run twice."""
    wrong = [item.nodeid for item in items if len(tiers_of(item)) != 1]
    if wrong:
        raise pytest.UsageError(
            f"each test has exactly one tier marker ({', '.join(TIERS)}); these do not: "
            + ", ".join(wrong[:20])
        )
    astray = [item.nodeid for item in items if not _is_at_home(item)]
    if astray:
        raise pytest.UsageError(
            "a tier is run by its folder, so each test stands in its tier's; these do not: "
            + ", ".join(astray[:20])
        )


def _is_at_home(item: pytest.Item) -> bool:
    folder = item.path.parent
    if not folder.is_relative_to(ROOT / "tests"):  # planted, to see what this file does
        return True
    (tier,) = tiers_of(item)
    return folder == ROOT / FOLDERS[tier]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A tier that cannot run is an error with the command that mends it, never a skip."""
    for tier in tiers_of(item):
        lacking = [sentence for need in NEEDS[tier] if (sentence := need()) is not None]
        if lacking:
            pytest.fail(f"the {tier} tier {'; '.join(lacking)}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[pytest.TestReport]:
    report = yield
    if is_ci() and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"CI=true forbids skips, and {item.nodeid} was skipped: {call.excinfo}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[pytest.CollectReport]:
    """A module that skips itself as a whole (`importorskip`) is a skip as well."""
    report = yield
    if is_ci() and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"CI=true forbids skips, and {collector.nodeid} skipped itself"
    return report
