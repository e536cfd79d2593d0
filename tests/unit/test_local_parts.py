"""Local mode's pure and small parts: hierarchies, checks, log files, Redis' configuration."""

import json
from pathlib import Path

import pytest

from farcall.cacheacl import AGENT, EXPORTER, KEY_PATTERN, render_acl_rule
from farcall.dnscache import PREFIX
from farcall.tiers import TIERS
from farcall_operator.local.cgroup import Hierarchy, find_current, find_hierarchy
from farcall_operator.local.checks import Machine, RoomFile, list_missing
from farcall_operator.local.logfiles import Follower, bound_log, read_last_words, summarise
from farcall_operator.local.session import Every, read_resolvers
from farcall_operator.local.up import main
from farcall_operator.redisconf import build_redis_settings, quote, render_redis_conf

pytestmark = pytest.mark.unit

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
HYBRID = """\
25 24 0:22 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
26 24 0:23 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
27 24 0:24 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
V1 = HYBRID.splitlines()[0]


@pytest.mark.parametrize(
    ("mountinfo", "mount", "key"),
    [
        (V2, "/sys/fs/cgroup", ""),
        (HYBRID, "/sys/fs/cgroup/unified", ""),
        (V1, "/sys/fs/cgroup/memory", "memory"),
    ],
    ids=["v2", "hybrid", "v1"],
)
def test_the_hierarchy_is_version_two_wherever_it_is_mounted(
    mountinfo: str, mount: str, key: str
) -> None:
    assert find_hierarchy(mountinfo) == Hierarchy(mount=Path(mount), key=key)


def test_without_a_hierarchy_there_is_none() -> None:
    assert find_hierarchy("22 1 8:1 / / rw - ext4 /dev/sda1 rw\nnonsense\n") is None


def test_the_current_cgroup_is_the_line_of_the_hierarchy(tmp_path: Path) -> None:
    (tmp_path / "user").mkdir()
    own = "4:memory:/elsewhere\n0::/user\n"

    assert find_current(Hierarchy(mount=tmp_path, key=""), own) == tmp_path / "user"
    assert find_current(Hierarchy(mount=tmp_path, key="memory"), own) == tmp_path


def machine(tmp_path: Path, **changes: object) -> Machine:
    values: dict[str, object] = {
        "is_root": True,
        "find_program": lambda name: f"/usr/bin/{name}",
        "find_room": lambda _package: tmp_path,
        "kernel_types": tmp_path,
        "room_files": (),
    }
    return Machine(**{**values, **changes})  # type: ignore[arg-type]


def test_nothing_is_said_when_nothing_is_missing(tmp_path: Path) -> None:
    assert list_missing(machine(tmp_path), demo=True) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"is_root": False}, ("not root", "sudo")),
        (
            {"find_program": lambda name: None if name == "redis-server" else name},
            ("redis-server is not installed", "apt-get install"),
        ),
        (
            {"find_program": lambda name: None if name == "dnsmasq" else name},
            ("dnsmasq is not installed", "dnsmasq-base"),
        ),
        (
            {"find_program": lambda name: None if name == "ip" else name},
            ("ip is not installed", "iproute2"),
        ),
        ({"kernel_types": Path("/nowhere/vmlinux")}, ("/nowhere/vmlinux", "apt-get install")),
        (
            {"room_files": (RoomFile(package="p", relative="bpf/a.json", what="the programs"),)},
            ("the programs are missing", "bpf/a.json", "make setup"),
        ),
        (
            {
                "room_files": (RoomFile(package="p", relative="a", what="b"),),
                "find_room": lambda _p: None,
            },
            ("package p", "make setup"),
        ),
    ],
    ids=["root", "redis", "dnsmasq", "ip", "kernel", "file", "package"],
)
def test_each_missing_thing_is_one_sentence_with_its_cure(
    tmp_path: Path, changes: dict[str, object], says: tuple[str, ...]
) -> None:
    (sentence,) = list_missing(machine(tmp_path, **changes), demo=True)

    assert all(words in sentence for words in says)
    assert "\n" not in sentence


def test_the_demos_tools_are_asked_for_only_with_the_demo(tmp_path: Path) -> None:
    bare = machine(tmp_path, find_program=lambda name: name if name == "redis-server" else None)

    assert list_missing(bare, demo=False) == []


@pytest.mark.parametrize("option", ["--instance=Upper", "--console-port=0", "--otlp-port=x"])
def test_an_impossible_argument_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([option])

    assert ended.value.code == 2
    assert "farcall up: error:" in capsys.readouterr().err


def test_a_run_root_too_long_for_a_unix_socket_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["--run-root", f"/tmp/{'x' * 120}"], machine=machine(tmp_path))

    assert code == 2
    assert "too long for a Unix socket" in capsys.readouterr().err


def test_last_words_are_the_last_line_since_the_start_escaped(tmp_path: Path) -> None:
    log = tmp_path / "agent.log"
    log.write_bytes(b"of the former run\n")
    before = log.stat().st_size

    assert read_last_words(log, since=before) == ""

    with open(log, "ab") as file:
        file.write(b"Traceback\nValueError: \x1b[2J\n\n")

    assert read_last_words(log, since=before) == "ValueError: \\x1b[2J"
    assert read_last_words(tmp_path / "none.log") == ""


def test_a_structured_line_is_told_by_its_event_and_error() -> None:
    line = json.dumps({"event": "store unavailable", "error": "refused\nagain", "level": "error"})

    assert summarise(line) == "store unavailable: refused again"
    assert summarise("[1, 2]") == "[1, 2]"
    assert len(summarise("x" * 5_000)) == 300


def test_a_log_that_grew_too_large_is_cut_and_its_past_kept_once(tmp_path: Path) -> None:
    log = tmp_path / "store.log"
    log.write_bytes(b"x" * 100)

    assert not bound_log(log, max_bytes=100)
    assert bound_log(log, max_bytes=99)
    assert (log.stat().st_size, (tmp_path / "store.log.1").stat().st_size) == (0, 100)
    assert not bound_log(tmp_path / "none.log")


def test_a_follower_gives_each_complete_line_once(tmp_path: Path) -> None:
    out = tmp_path / "demo.out"
    follower = Follower(out)

    assert follower.read_lines() == []

    out.write_bytes(b"one\ntw")
    assert follower.read_lines() == ["one"]
    with open(out, "ab") as file:
        file.write(b"o\n\xff\n")
    assert follower.read_lines() == ["two", "\ufffd"]


def test_resolvers_come_from_resolv_conf(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text(
        "# nameserver 1.1.1.1\nnameserver 10.0.0.2\nnameserver fe80::1%eth0\nnameserver\n"
    )

    assert read_resolvers(path) == ("10.0.0.2", "fe80::1")
    assert read_resolvers(tmp_path / "none") == ()


def test_something_periodic_is_due_once_per_period() -> None:
    times = iter([0.0, 0.5, 1.0, 1.1])
    every = Every(1.0, clock=lambda: next(times))

    assert [every.is_due() for _ in range(4)] == [True, False, True, False]


def test_redis_never_evicts_nothing_and_has_no_default_user() -> None:
    settings = build_redis_settings(
        TIERS["Hobby"].redis,
        memory_bytes=96 << 20,
        listen=("port 0",),
        data_dir='/a "b"',
        append_only=False,
    )
    lines = render_redis_conf(settings, acl_lines=("user default off",)).splitlines()

    assert "maxmemory-policy volatile-ttl" in lines
    assert "appendonly no" in lines
    assert f"maxmemory {96 * 2**20 * 75 // 100}" in lines
    assert 'dir "/a \\"b\\""' in lines
    with pytest.raises(ValueError):
        quote("a\nuser default on")


def test_acl_rules_hold_the_digest_and_only_our_keys() -> None:
    assert KEY_PATTERN == f"{PREFIX}*"
    for user in (AGENT, EXPORTER):
        rule = render_acl_rule(user, "the password")
        assert "the password" not in rule
        assert f"~{PREFIX}* -@all +" in rule
    assert not {"hset", "zadd", "pexpireat"} & set(EXPORTER.commands)
