"""The status page's judgement: who is alive, what was lost, and what a person should read."""

from dataclasses import replace
from pathlib import Path

import pytest

from farcall.api import ComponentStatus
from farcall.effective import EffectiveWatcher, write_effective
from farcall_console.configuration import LiveConfig
from farcall_console.status import build_status
from support_console import NOW_NS, NS, make_config

pytestmark = pytest.mark.unit

AGENT = ComponentStatus(
    kind="agent",
    name="node-1",
    version="0.1.0",
    seen_ns=str(NOW_NS - 3 * NS),
    started_ns=str(NOW_NS - 60 * NS),
    config_generation=1,
    alive=False,
    capabilities=({"name": "syscalls/write", "on": "true", "why": "", "cost": ""},),
    counters={"records": "7", "dns_lost": "0"},
    gauges={"rss_bytes": 1.0},
)


def judge(
    directory: Path, *components: ComponentStatus, override: int | None = None
) -> tuple[list[ComponentStatus], list[str]]:
    config = make_config(directory, ttl_override_s=override)
    status = build_status(config, components, version="0.1.0", now_ns=NOW_NS)
    return list(status.components), list(status.warnings)


def test_a_healthy_instance_has_nothing_to_say(tmp_path: Path) -> None:
    components, warnings = judge(tmp_path, AGENT)
    assert components[0].alive and warnings == []


def test_silence_is_judged_by_the_clock_and_not_by_what_was_said(tmp_path: Path) -> None:
    silent = replace(AGENT, alive=True, seen_ns=str(NOW_NS - 31 * NS))
    components, warnings = judge(tmp_path, silent)
    assert not components[0].alive
    assert any("said nothing" in w for w in warnings)
    assert any("No agent speaks" in w for w in warnings)


def test_what_was_replaced_long_ago_is_forgotten(tmp_path: Path) -> None:
    gone = replace(AGENT, name="old", seen_ns=str(NOW_NS - 90_000 * NS))
    components, warnings = judge(tmp_path, gone, AGENT)
    assert [c.name for c in components] == ["node-1"] and warnings == []


def test_losses_are_told_with_their_numbers(tmp_path: Path) -> None:
    lossy = replace(AGENT, counters={"exchanges_lost": "12", "queue_dropped": "0", "seen": "5"})
    _, warnings = judge(tmp_path, lossy)
    assert warnings == ["The agent node-1 has lost something since it started: exchanges_lost 12."]


def test_what_retention_takes_is_no_loss(tmp_path: Path) -> None:
    store = replace(AGENT, kind="store", counters={"expired_days_dropped": "3"})
    _, warnings = judge(tmp_path, AGENT, store)
    assert warnings == []


def test_what_is_off_is_named(tmp_path: Path) -> None:
    blind = replace(
        AGENT,
        capabilities=({"name": "tls", "on": "false", "why": "no uprobes", "cost": "no HTTPS"},),
    )
    _, warnings = judge(tmp_path, blind)
    assert "tls is off" in warnings[0]


def test_an_overridden_time_to_live_comes_first(tmp_path: Path) -> None:
    _, warnings = judge(tmp_path, AGENT, override=5)
    assert "5 s instead of the Hobby tier's 3600 s" in warnings[0]


def test_an_old_config_is_noticed(tmp_path: Path) -> None:
    _, warnings = judge(tmp_path, replace(AGENT, config_generation=7))
    assert "generation 7" in warnings[0]


def test_a_broken_config_file_keeps_the_last_good_one(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    path = tmp_path / "effective.json"
    write_effective(config, path)
    live = LiveConfig(EffectiveWatcher(path))
    path.write_text("{broken")
    assert live.read() == config and live.fault is not None and "last good" in live.fault
    changed = config.model_copy(update={"generation": 2})
    write_effective(changed, path)
    assert live.read().generation == 2 and live.fault is None


def test_a_component_with_another_revision_is_named(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    late = replace(AGENT, config_revision="0123456789ab")
    current = replace(AGENT, name="node-2", config_revision=config.revision)
    (warning,) = build_status(config, [late, current], version="0.1.0", now_ns=NOW_NS).warnings

    assert "agent node-1 runs revision 0123456789ab" in warning and config.revision in warning


def test_a_config_that_just_changed_may_still_be_on_its_way(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    late = replace(AGENT, config_revision="0123456789ab", config_generation=config.generation)
    at = {"version": "0.1.0", "now_ns": NOW_NS}

    assert not build_status(config, [late], config_changed_ns=NOW_NS - 60 * 10**9, **at).warnings
    assert build_status(config, [late], config_changed_ns=NOW_NS - 200 * 10**9, **at).warnings
