"""The console applies every live field while it runs: what the status says follows, and so does every page's head."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from farcall.effective import EffectiveConfig, write_effective
from support_console import Process, make_config, running
from support_live_config import CONSOLE_FIELDS, change, wait

pytestmark = pytest.mark.servers


class Console:
    """The process and its config; no store runs, which the status page must not need."""

    def __init__(self, process: Process, config: EffectiveConfig) -> None:
        self.process, self.config = process, config
        self.file = process.log.parent / "effective.json"

    def apply(self, field: str, value: object) -> None:
        self.config = change(self.config, field, value)
        write_effective(self.config, self.file)
        wait(lambda: self.status()["config_revision"] == self.config.revision)

    def status(self) -> dict[str, Any]:
        with self.process.api() as api:
            found: dict[str, Any] = api.get("/api/v1/status").json()
            return found


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    directory = tmp_path_factory.mktemp("console")
    config = make_config(directory)
    with running("console", config, directory) as process:
        yield Console(process, config)


def check_generation(console: Console) -> None:
    console.apply("generation", 41)
    wait(lambda: console.status()["config_generation"] == console.config.generation)


def check_tier(console: Console) -> None:
    console.apply("tier", "Scale")
    assert console.status()["tier"] == "Scale"


def check_cidrs(console: Console) -> None:
    console.apply("cluster_cidrs", ["192.0.2.0/24"])
    assert console.status()["cluster_cidrs"] == ["192.0.2.0/24"]


def check_source(console: Console) -> None:
    for source in ("given", "discovered"):
        console.apply("cluster_cidrs_source", source)
        assert console.status()["cluster_cidrs_source"] == source


def check_ttl(console: Console) -> None:
    console.apply("dns.ttl_s", 604_800)
    assert console.status()["dns_ttl_s"] == 604_800


def check_override(console: Console) -> None:
    console.apply("dns.ttl_override_s", 7)
    status = console.status()
    assert status["dns_ttl_overridden"] and status["dns_ttl_s"] == 7
    assert any("overridden: 7 s" in warning for warning in status["warnings"])
    with console.process.browserlike() as browser:
        browser.get(console.process.login_path())
        assert "DNS TTL overridden: 7 s" in browser.get("/logs").text
        console.apply("dns.ttl_override_s", None)
        assert "overridden" not in browser.get("/logs").text


CHECKS: dict[str, Callable[[Console], None]] = {
    "generation": check_generation,
    "tier": check_tier,
    "cluster_cidrs": check_cidrs,
    "cluster_cidrs_source": check_source,
    "dns.ttl_s": check_ttl,
    "dns.ttl_override_s": check_override,
}


def test_every_field_of_the_console_has_its_check() -> None:
    assert set(CHECKS) == CONSOLE_FIELDS


@pytest.mark.parametrize("field", sorted(CHECKS))
def test_a_live_field_is_applied_while_the_console_runs(console: Console, field: str) -> None:
    CHECKS[field](console)


def test_a_broken_config_is_said_for_as_long_as_it_lies_there(console: Console) -> None:
    console.file.write_text("{")
    wait(lambda: any("config file is broken" in w for w in console.status()["warnings"]))
    assert console.status()["config_revision"] == console.config.revision

    console.apply("generation", console.config.generation + 1)
    wait(lambda: not any("config file is broken" in w for w in console.status()["warnings"]))
