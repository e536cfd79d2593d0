"""TracingConfig refuses what it cannot use with one sentence a fault: the field, the value, what is allowed."""

import json
import math
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from farcall.tracingconfig import (
    MAX_FILE_BYTES,
    InvalidConfigError,
    TracingConfig,
    parse_tracingconfig,
    read_tracingconfig,
)

pytestmark = pytest.mark.unit

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
HEAD = "apiVersion: farcall.dev/v1alpha1\nkind: TracingConfig\nmetadata: {name: main}\nspec:\n"


def parse_spec(spec: str) -> TracingConfig:
    return parse_tracingconfig(f"{HEAD}{spec}\n".encode(), source="t.yaml")


def problems_of(raw: str) -> list[str]:
    with pytest.raises(InvalidConfigError) as caught:
        parse_tracingconfig(raw.encode(), source="t.yaml")
    return caught.value.problems


@pytest.mark.parametrize(("name", "tier"), [("hobby", "Hobby"), ("scale", "Scale")])
def test_the_examples_are_valid(name: str, tier: str) -> None:
    config = read_tracingconfig(EXAMPLES / f"{name}.yaml")

    assert config.spec.tier == tier
    assert config.spec.cluster_cidrs == ["10.244.0.0/16", "10.96.0.0/12"]


# spec → the one sentence: it begins with the field, holds the value and says what is allowed.
BAD = {
    "  {}": ("spec.tier:", "required", "Hobby or Scale"),
    "  tier: Large": ("spec.tier:", "'Large'", "'Hobby' or 'Scale'"),
    "  tier: hobby": ("spec.tier:", "'hobby'", "'Hobby' or 'Scale'"),
    "  tier: 3": ("spec.tier:", "3", "'Hobby' or 'Scale'"),
    "  tier: Hobby\n  retention: {traces: -3d}": ("spec.retention.traces:", "'-3d'", "3d"),
    "  tier: Hobby\n  retention: {logs: 0d}": ("spec.retention.logs:", "'0d'", "above 0"),
    "  tier: Hobby\n  retention: {logs: 3}": ("spec.retention.logs:", "3", "text"),
    "  tier: Hobby\n  retention: {logs: 90s}": ("spec.retention.logs:", "'90s'", "h, d or w"),
    "  tier: Hobby\n  retention: {logs: 9999w}": ("spec.retention.logs:", "'9999w'", "3650d"),
    "  tier: Hobby\n  retention: {maxSize: 8GB}": ("spec.retention.maxSize:", "'8GB'", "8Gi"),
    "  tier: Hobby\n  retention: {maxSize: 8193Ti}": ("spec.retention.maxSize:", "'8193Ti'", "most"),
    "  tier: Hobby\n  clusterCIDRs: [10.244.0.0]": ("spec.clusterCIDRs.0:", "'10.244.0.0'", "/16"),
    "  tier: Hobby\n  clusterCIDRs: [10.0.0.0/33]": ("spec.clusterCIDRs.0:", "/33'", "/16"),
    "  tier: Hobby\n  clusterCIDRs: [10.0.0.1/8]": ("spec.clusterCIDRs.0:", "'10.0.0.1/8'", "host bits"),
    "  tier: Hobby\n  clusterCIDRs: [10.0.0.0/255.0.0.0]": ("spec.clusterCIDRs.0:", "255", "prefix"),
    "  tier: Hobby\n  clusterCIDRs: 10.0.0.0/8": ("spec.clusterCIDRs:", "'10.0.0.0/8'", "a list"),
    "  tier: Hobby\n  colour: red": ("spec.colour:", "'red'", "known here are tier,"),
    "  tier: Hobby\n  retention: {trace: 3d}": ("spec.retention.trace:", "'3d'", "did you mean traces?"),
    "  tier: Hobby\n  cluster_cidrs: [10.0.0.0/8]": ("spec.cluster_cidrs:", "list", "mean clusterCIDRs?"),
    "  tier: Hobby\n  tier: Scale": ("gives the key 'tier' twice", "line 6", "column 3"),
    "  tier: Hobby\n  exporter: {replicas: 0}": ("spec.exporter.replicas:", "0", "at least 1"),
    "  tier: Hobby\n  exporter: {replicas: 2}": ("spec.exporter:", "is 2", "without clickhouse.url"),
    "  tier: Hobby\n  paused: 'yes'": ("spec.paused:", "'yes'", "true or false"),
    "  tier: Hobby\n  dns: {resolvers: [dns.local]}": ("spec.dns.resolvers.0:", "'dns.local'", "10.96"),
    "  tier: Hobby\n  dns: {resolvers: ['fe80::1%eth0']}": ("spec.dns.resolvers.0:", "%eth0", "10.96"),
    "  tier: Hobby\n  namespaces: {exclude: [no]}": ("spec.namespaces.exclude.0:", "False", "text"),
    "  tier: Hobby\n  namespaces: {exclude: [A_b]}": ("spec.namespaces.exclude.0:", "'A_b'", "lower-case"),
    "  tier: Hobby\n  capture: {protocols: [htpp]}": ("spec.capture.protocols.0:", "'htpp'", "'http'"),
    "  tier: Hobby\n  capture: {headers: [X-Id]}": ("spec.capture.headers.0:", "'X-Id'", "lower-case"),
    "  tier: Hobby\n  logs: []": ("spec.logs:", "list of 0", "mapping"),
    "  tier: Hobby\n  tls: {mode: off}": ("spec.tls.mode:", "False", "'operator'"),
}  # fmt: skip


@pytest.mark.parametrize("spec", BAD)
def test_bad_input_is_one_sentence_with_field_value_and_what_is_allowed(spec: str) -> None:
    problems = problems_of(HEAD + spec + "\n")

    assert len(problems) == 1, problems
    assert problems[0].startswith(BAD[spec][0])
    for part in BAD[spec]:
        assert part in problems[0]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("farcall.dev/v1alpha1", "farcall.dev/v2", "apiVersion: must be 'farcall.dev/v1alpha1'"),
        ("kind: TracingConfig", "kind: Tracing", "kind: must be 'TracingConfig'"),
        ("name: main", "name: Main", "metadata.name: must look like main"),
        ("name: main", f"name: {'m' * 41}", "metadata.name: must"),
        ("name: main", "labels: {}", "metadata.name: is required"),
        ("metadata: {name: main}\n", "", "metadata: is required"),
    ],
)
def test_the_frame_of_the_resource_is_checked_too(old: str, new: str, expected: str) -> None:
    (problem,) = problems_of(HEAD.replace(old, new) + "  tier: Hobby\n")

    assert problem.startswith(expected)


def test_every_fault_has_its_own_sentence() -> None:
    problems = problems_of(HEAD + "  tier: X\n  paused: 1\n  colour: red\n")

    assert [p.split(":")[0] for p in problems] == ["spec.tier", "spec.paused", "spec.colour"]


def test_a_thousand_faults_are_not_a_thousand_sentences() -> None:
    problems = problems_of(HEAD + "  tier: Hobby\n" + "".join(f"  x{i}: 1\n" for i in range(1000)))

    assert len(problems) == 21
    assert problems[-1] == "and 980 more faults"


@pytest.mark.parametrize(
    "spec",
    [
        "  tier: Hobby\n  exporter: {clickhouse: {url: 'http://me:hunter2@ch'}}",
        "  tier: Hobby\n  exporter: {otlp: {endpoint: 'http://me:hunter2@ch'}}",
        "  tier: Hobby\n  exporter: {clickhouse: {url: 'http://ch', password: hunter2}}",
        "  tier: Hobby\n  exporter: {otlp: {endpoint: 'http://c', headers: {a: hunter2}}}",
        "  tier: Hobby\n  dnsCache: {existingSecret: Hunter2_hunter2}",
    ],
)
def test_what_may_be_a_secret_is_not_shown(spec: str) -> None:
    assert "hunter2" not in " ".join(problems_of(HEAD + spec + "\n"))


def test_control_characters_of_a_field_do_not_reach_the_terminal() -> None:
    (problem,) = problems_of(HEAD + '  tier: Hobby\n  "\\e[31mred": 1\n')

    assert "\x1b" not in problem
    assert "\\x1b[31mred" in problem


def test_dates_and_passed_through_parts_keep_their_text() -> None:
    config = parse_spec("  tier: Hobby\n  probe: {affinity: {since: 2026-01-02}}")

    assert config.spec.probe is not None
    assert config.spec.probe.affinity == {"since": "2026-01-02"}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("", "holds 0 YAML documents"),
        ("---\na: 1\n---\nb: 1\n", "holds 2 YAML documents"),
        ("a: b: c", "is not YAML"),
        ("\0", "is not YAML"),
        ("just text", "the document: must be a mapping"),
        ("x" * (MAX_FILE_BYTES + 1), "is larger than"),
    ],
)
def test_a_file_that_holds_no_resource_says_so(raw: str, expected: str) -> None:
    (problem,) = problems_of(raw)

    assert problem.startswith(expected)


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfigError, match=r"none.yaml: cannot be read: No such file"):
        read_tracingconfig(tmp_path / "none.yaml")
    with pytest.raises(InvalidConfigError, match="cannot be read: Is a directory"):
        read_tracingconfig(tmp_path)


def test_an_endless_file_is_not_read_to_its_end() -> None:
    with pytest.raises(InvalidConfigError, match="is larger than"):
        read_tracingconfig(Path("/dev/zero"))


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4)
    ),
    max_leaves=20,
)


def parse_or_refuse(raw: bytes) -> None:
    try:
        parse_tracingconfig(raw, source="t.yaml")
    except InvalidConfigError as e:
        assert 1 <= len(e.problems) <= 21
        for problem in e.problems:
            assert "\n" not in problem
            assert len(problem) < 1000


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda t: t.encode(errors="replace")))
def test_any_bytes_are_a_config_or_invalid(raw: bytes) -> None:
    parse_or_refuse(raw)


@given(VALUES)
def test_any_value_is_a_config_or_invalid(value: object) -> None:
    parse_or_refuse(yaml.safe_dump(value).encode())
    parse_or_refuse(json.dumps(value).encode())


FIELDS = sorted(
    set(re.findall(r'"([a-zA-Z]+)":', json.dumps(TracingConfig.model_json_schema(by_alias=True))))
)


@given(st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), VALUES, max_size=6))
def test_any_spec_is_a_config_or_invalid(spec: dict[str, object]) -> None:
    document = {
        "apiVersion": "farcall.dev/v1alpha1",
        "kind": "TracingConfig",
        "metadata": {"name": "main"},
        "spec": {"tier": "Hobby", **spec},
    }
    parse_or_refuse(yaml.safe_dump(document).encode())


YAML_PIECES = ["!!int ", "!!float ", "!!bool ", "!!timestamp ", "!!binary ", "!!set ", "!!omap ",
               "!!python/name:os.x ", "&a ", "*a ", "<<: ", "? ", "- ", "a: ", "\n", " ", "[", "]",
               "{", "}", ",", "'", '"', "#", "|", ">", "%YAML 1.1\n", "---\n", "...\n", "0x", "1:2",
               ".inf", ".nan", "2026-99-99", "\\ud800", "~", "="]  # fmt: skip


@given(st.lists(st.sampled_from(YAML_PIECES), max_size=30).map("".join))
def test_any_yaml_syntax_is_a_config_or_invalid(text: str) -> None:
    parse_or_refuse(text.encode())
    parse_or_refuse((HEAD + "  tier: " + text).encode())


def test_what_is_not_json_is_refused_in_passed_through_parts() -> None:
    assert math.isinf(yaml.safe_load(".inf"))
    (problem,) = problems_of(HEAD + "  tier: Hobby\n  probe: {affinity: {weight: .inf}}\n")
    assert "number that JSON cannot hold (line 6" in problem
