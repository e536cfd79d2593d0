"""The effective config: every field marked, no secret in it, written in one step, watched through breakage and repair."""

import dataclasses
import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall import secretfiles
from farcall.effective import (
    EffectiveConfig,
    EffectiveConfigError,
    EffectiveWatcher,
    read_effective,
    read_listen_address,
    render_effective,
    write_effective,
)
from farcall.meaning import build_effective
from farcall.sections import Section, is_section
from farcall.tracingconfig import DNS_TTL_OVERRIDE, InvalidConfigError, check_tracingconfig
from support_ground import build_example

pytestmark = pytest.mark.unit


def fields_of(section: type[Section], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each field's path and metadata."""
    for field in dataclasses.fields(section):
        yield f"{prefix}{field.name}", field.metadata
        if is_section(field.type):
            yield from fields_of(field.type, f"{prefix}{field.name}.")


def test_every_field_is_marked_live_or_restart_and_described() -> None:
    for name, info in fields_of(EffectiveConfig):
        assert info["json_schema_extra"]["farcall.applies"] in ("live", "restart"), name
        assert info["description"], name


def test_discovered_networks_and_the_ttl_apply_without_a_restart() -> None:
    marks = {n: i["json_schema_extra"]["farcall.applies"] for n, i in fields_of(EffectiveConfig)}

    assert marks["cluster_cidrs"] == marks["dns.ttl_s"] == marks["dns.ttl_override_s"] == "live"
    assert marks["mode"] == marks["endpoints.redis"] == marks["state_dir"] == "restart"


def test_no_field_is_for_a_secret() -> None:
    words = ("password", "token", "secret", "credential", "cookie")
    names = [n for n, _ in fields_of(EffectiveConfig) if any(w in n.lower() for w in words)]

    assert names == ["secrets_dir"]
    assert not [
        name for name in secretfiles.ALL if name in render_effective(build_example("hobby"))
    ]


def test_a_field_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    value = json.loads(render_effective(build_example("hobby"))) | {"api_token": "x"}
    path = tmp_path / "effective.json"
    path.write_text(json.dumps(value))

    with pytest.raises(EffectiveConfigError, match="api_token"):
        read_effective(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [("schema_version", 2), ("generation", "1"), ("tier", "Large"), ("dns", {"ttl_s": 0})],
)
def test_a_file_that_does_not_fit_names_the_field(
    tmp_path: Path, field: str, value: object
) -> None:
    path = tmp_path / "effective.json"
    path.write_text(
        json.dumps(json.loads(render_effective(build_example("hobby"))) | {field: value})
    )

    with pytest.raises(EffectiveConfigError, match=rf"effective.json: {field}"):
        read_effective(path)


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"[]", b"null", b"NaN", b'{"a":' * 5000])
def test_what_is_no_config_is_an_effective_config_error(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "effective.json"
    path.write_bytes(raw)

    with pytest.raises(EffectiveConfigError, match=r"effective.json: "):
        read_effective(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)
SECTIONS = sorted(field.name for field in dataclasses.fields(EffectiveConfig))


@given(st.dictionaries(st.sampled_from(SECTIONS), JSON, min_size=1, max_size=4))
def test_any_json_is_a_config_or_an_effective_config_error(changes: dict[str, object]) -> None:
    value = json.loads(render_effective(build_example("hobby"))) | changes
    with TemporaryDirectory() as folder:
        path = Path(folder) / "effective.json"
        path.write_text(json.dumps(value))
        try:
            config = read_effective(path)
        except EffectiveConfigError as e:
            assert "\n" not in str(e)
        else:
            json.loads(render_effective(config), parse_constant=pytest.fail)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    config = build_example("scale", dns_ttl_override_s=5)
    write_effective(config, tmp_path / "effective.json")

    assert read_effective(tmp_path / "effective.json") == config
    assert os.listdir(tmp_path) == ["effective.json"]


def test_the_same_arguments_give_the_same_bytes() -> None:
    assert render_effective(build_example("hobby")) == render_effective(build_example("hobby"))


def test_the_override_is_in_force_while_it_is_there() -> None:
    assert build_example("hobby").dns.effective_ttl_s == 3_600
    assert build_example("scale").dns.effective_ttl_s == 604_800
    overridden = build_example("hobby", dns_ttl_override_s=5).dns
    assert (overridden.effective_ttl_s, overridden.ttl_s) == (5, 3_600)


def test_the_revision_is_of_what_the_config_says_not_of_its_generation() -> None:
    config = build_example("hobby")
    later = config.model_copy(update={"generation": config.generation + 1})
    other = config.model_copy(update={"cluster_cidrs": ["10.0.0.0/8"]})

    assert config.revision == later.revision == build_example("hobby").revision
    assert other.revision != config.revision


def test_a_network_that_is_none_is_refused_before_a_component_meets_it(tmp_path: Path) -> None:
    path = tmp_path / "effective.json"
    value = json.loads(render_effective(build_example("hobby"))) | {"cluster_cidrs": ["10.0.0.1/8"]}
    path.write_text(json.dumps(value))

    with pytest.raises(EffectiveConfigError, match="cluster_cidrs"):
        read_effective(path)


def publish(volume: Path, config: EffectiveConfig | bytes, version: str) -> None:
    """As the kubelet does: files in a new folder, and `..data` turned to it in one step."""
    folder = volume / f"..{version}"
    folder.mkdir()
    content = config if isinstance(config, bytes) else render_effective(config).encode()
    (folder / "effective.json").write_bytes(content)
    link = volume / "..data_tmp"
    link.symlink_to(folder.name)
    old = (volume / "..data").resolve() if (volume / "..data").is_symlink() else None
    link.rename(volume / "..data")
    if old is not None:
        shutil.rmtree(old)


def test_a_configmap_volume_is_followed_through_its_links(tmp_path: Path) -> None:
    hobby, scale = build_example("hobby"), build_example("scale")
    publish(tmp_path, hobby, "2026_1")
    path = tmp_path / "effective.json"
    path.symlink_to("..data/effective.json")
    watcher = EffectiveWatcher(path)
    assert watcher.poll() is None

    publish(tmp_path, scale, "2026_2")
    assert watcher.poll() == scale
    assert watcher.poll() is None

    publish(tmp_path, b"{", "2026_3")
    with pytest.raises(EffectiveConfigError):
        watcher.poll()
    assert watcher.poll() is None
    assert watcher.current == scale

    publish(tmp_path, hobby, "2026_4")
    assert watcher.poll() == hobby


def read_annotated(text: str | None) -> EffectiveConfig:
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": "{}" * 1000}
    if text is not None:
        annotations[DNS_TTL_OVERRIDE] = text
    config = check_tracingconfig(
        {
            "apiVersion": "farcall.dev/v1alpha1",
            "kind": "TracingConfig",
            "metadata": {"name": "main", "annotations": annotations},
            "spec": {"tier": "Hobby"},
        },
        source="here",
    )
    example = build_example("hobby")
    return build_effective(
        config,
        mode="local",
        endpoints=example.endpoints,
        secrets_dir=example.secrets_dir,
        state_dir=example.state_dir,
    )


def test_an_annotation_overrides_the_ttl_for_tests() -> None:
    overridden, ordinary = read_annotated("30"), read_annotated(None)

    assert overridden.dns.effective_ttl_s == overridden.dns.ttl_override_s == 30
    assert ordinary.dns.effective_ttl_s == 3_600 and ordinary.dns.ttl_override_s is None
    assert overridden.revision != ordinary.revision


@pytest.mark.parametrize("text", ["", "0", "-1", "1h", "1.5", "9" * 10, "１２"])
def test_an_override_that_is_no_number_of_seconds_is_refused(text: str) -> None:
    with pytest.raises(InvalidConfigError, match="dns-ttl-override-s"):
        read_annotated(text)


def test_a_reader_never_sees_half_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "effective.json"
    configs = [build_example("hobby"), build_example("scale")]
    write_effective(configs[0], path)
    stop = threading.Event()

    def write_on() -> None:
        while not stop.is_set():
            for config in configs:
                write_effective(config, path)

    writer = threading.Thread(target=write_on)
    writer.start()
    try:
        for _ in range(500):
            assert read_effective(path) in configs
    finally:
        stop.set()
        writer.join()


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "effective.json"
    path.mkdir()  # os.replace cannot put a file over a directory, root or not

    with pytest.raises(OSError, match=r"effective\.json"):
        write_effective(build_example("hobby"), path)
    assert os.listdir(tmp_path) == ["effective.json"]


def test_the_watcher_tells_a_change_once(tmp_path: Path) -> None:
    path = tmp_path / "effective.json"
    write_effective(build_example("hobby"), path)
    watcher = EffectiveWatcher(path)
    assert watcher.poll() is None

    write_effective(build_example("hobby", dns_ttl_override_s=7), path)
    changed = watcher.poll()

    assert changed is not None
    assert changed.dns.effective_ttl_s == watcher.current.dns.effective_ttl_s == 7
    assert watcher.poll() is None


def test_a_broken_file_is_one_error_and_the_last_good_config_stays(tmp_path: Path) -> None:
    path = tmp_path / "effective.json"
    write_effective(build_example("hobby"), path)
    watcher = EffectiveWatcher(path)

    path.write_text("{")
    with pytest.raises(EffectiveConfigError):
        watcher.poll()
    assert watcher.poll() is None
    assert watcher.current == build_example("hobby")

    write_effective(build_example("scale"), path)
    assert watcher.poll() == build_example("scale")


def test_a_file_that_goes_and_comes_back_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "effective.json"
    write_effective(build_example("hobby"), path)
    watcher = EffectiveWatcher(path)

    path.unlink()
    with pytest.raises(EffectiveConfigError, match="cannot be read"):
        watcher.poll()
    assert watcher.poll() is None
    write_effective(build_example("scale"), path)

    assert watcher.poll() == build_example("scale")


def test_a_configmaps_symlink_swap_is_seen(tmp_path: Path) -> None:
    for version, name in enumerate(("hobby", "scale")):
        (tmp_path / f"..{version}").mkdir()
        write_effective(build_example(name), tmp_path / f"..{version}" / "effective.json")
    (tmp_path / "..data").symlink_to("..0")
    (tmp_path / "effective.json").symlink_to("..data/effective.json")
    watcher = EffectiveWatcher(tmp_path / "effective.json")

    (tmp_path / "..new").symlink_to("..1")
    os.replace(tmp_path / "..new", tmp_path / "..data")

    assert watcher.poll() == build_example("scale")


@pytest.mark.parametrize(
    ("mode", "endpoint", "expected"),
    [
        ("local", "http://127.0.0.1:8123", ("127.0.0.1", 8123)),
        ("local", "http://[::1]:8123", ("::1", 8123)),
        ("local", "http://node-1:80", ("node-1", 80)),
        ("kubernetes", "https://hobby-exporter.farcall.svc:4319", ("", 4319)),
        ("kubernetes", "http://127.0.0.1:8123", ("127.0.0.1", 8123)),
        ("kubernetes", "http://localhost:8123", ("localhost", 8123)),
    ],
)
def test_a_service_listens_on_all_addresses_of_its_pod(
    mode: str, endpoint: str, expected: tuple[str, int]
) -> None:
    config = build_example("hobby").model_copy(update={"mode": mode})

    assert read_listen_address(config, endpoint) == expected


@pytest.mark.parametrize(
    "endpoint", ["", "http://", "http://a", "unix:///x", "http://:80", "http://a:0", "http://a:99999", "http://[::1"]
)  # fmt: skip
def test_an_endpoint_without_host_and_port_is_a_value_error(endpoint: str) -> None:
    with pytest.raises(ValueError):
        read_listen_address(build_example("hobby"), endpoint)
