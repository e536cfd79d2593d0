"""The CRD: in step with the model, in the shape an API server wants, and saying no where the model says no."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from farcall import generate
from farcall.attributes import REGISTRY
from farcall.crd import MAX_BYTES, build_crd, build_spec_schema, list_fields, render_crd
from farcall.crdrules import RULES
from farcall.effective import EffectiveConfig
from farcall.reference import (
    list_effective_fields,
    render_attributes_page,
    render_tracingconfig_page,
)
from farcall.tiers import TIER_NAMES
from farcall.tracingconfig import TracingConfigSpec
from support_ground import ROOT

pytestmark = pytest.mark.golden
Schema = dict[str, Any]


def test_generated_files_are_in_step_with_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--check"]) == 0, capsys.readouterr().err


def test_check_names_what_differs_and_generate_mends_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pyproject.toml").touch()

    assert generate.main(["--check"], root=tmp_path) == 1
    assert "crds/tracingconfigs.yaml differs" in capsys.readouterr().err
    assert generate.main([], root=tmp_path) == 0
    assert generate.main(["--check"], root=tmp_path) == 0
    (tmp_path / "crds/tracingconfigs.yaml").write_text("old")
    assert generate.main(["--check"], root=tmp_path) == 1


def test_generate_outside_a_checkout_is_refused(tmp_path: Path) -> None:
    assert generate.main([], root=tmp_path) == 2
    assert list(tmp_path.iterdir()) == []


def list_nodes(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from list_nodes(child, f"{path}.{name}")
    if "items" in schema:
        yield from list_nodes(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from list_nodes(schema["additionalProperties"], f"{path}.*")


@pytest.fixture(scope="module")
def root_schema() -> Schema:
    (version,) = build_crd()["spec"]["versions"]
    schema: Schema = version["schema"]["openAPIV3Schema"]
    return schema


def test_the_schema_is_structural_bounded_and_without_defaults(root_schema: Schema) -> None:
    for path, node in list_nodes(root_schema):
        assert node.get("type"), path
        assert not node.keys() & {
            "$ref",
            "default",
            "anyOf",
            "allOf",
            "oneOf",
            "nullable",
            "title",
        }, path
        if node["type"] == "string" and "enum" not in node:
            assert node["maxLength"] <= 32_768, path
        if node["type"] == "array":
            assert node["maxItems"] <= 256, path
        if "additionalProperties" in node:
            assert node["maxProperties"], path


def test_the_file_holds_no_null_and_is_small(root_schema: Schema) -> None:
    text = render_crd()

    assert len(text.encode()) < MAX_BYTES
    assert yaml.safe_load(text) == build_crd()
    assert not re.search(r"(: |- )(null|~)$", text, flags=re.MULTILINE)


def test_kubectl_knows_it_by_its_names_and_columns() -> None:
    spec = build_crd()["spec"]
    (version,) = spec["versions"]
    columns = {c["name"]: c for c in version["additionalPrinterColumns"]}

    assert spec["scope"] == "Cluster"
    assert spec["names"]["shortNames"] == ["tcfg"]
    assert spec["names"]["categories"] == ["farcall"]
    assert version["subresources"] == {"status": {}}
    assert [n for n, c in columns.items() if "priority" not in c] == [
        "Tier",
        "DNS TTL",
        "Ready",
        "Reason",
        "Probes",
        "Age",
    ]
    assert [n for n, c in columns.items() if "priority" in c] == ["Version", "Retention", "Paused"]
    assert version["selectableFields"] == [{"jsonPath": ".spec.tier"}]


def test_the_model_and_the_schema_have_the_same_fields() -> None:
    assert set(list_model_fields(TracingConfigSpec)) == {field.path for field in list_fields()}


def list_model_fields(model: Any, prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        path = prefix + (field.alias or name)
        yield path
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if hasattr(kind, "model_fields"):
                yield from list_model_fields(kind, f"{path}.")


def test_every_field_says_what_it_is() -> None:
    assert [field.path for field in list_fields() if not field.description] == []


def test_the_tier_is_required_and_closed() -> None:
    schema = build_spec_schema()

    assert schema["required"] == ["tier"]
    assert tuple(schema["properties"]["tier"]["enum"]) == TIER_NAMES


@pytest.mark.parametrize(
    "text", ["3d", "24h", "2w", "-3d", "0d", "3", "3m", "", "3d\n", "99999999d"]
)
def test_a_retention_is_told_apart_by_its_pattern(text: str) -> None:
    """As RE2 reads it: `$` is the end of the text, and not a place before a last line break."""
    field = build_spec_schema()["properties"]["retention"]["properties"]["traces"]
    pattern = field["pattern"].replace("$", r"\Z")
    accepted = bool(re.search(pattern, text)) and len(text) <= field["maxLength"]

    assert accepted is (text in ("3d", "24h", "2w"))


def test_the_rules_stand_at_the_fields_they_speak_of(root_schema: Schema) -> None:
    rules = {
        path: node["x-kubernetes-validations"][0]["rule"]
        for path, node in list_nodes(root_schema)
        if "x-kubernetes-validations" in node
    }

    assert sorted(rules) == sorted(["", *(f".spec.{path}" for path in RULES)])
    assert "isCIDR(self)" in rules[".spec.clusterCIDRs[]"]
    assert "has(self.clickhouse)" in rules[".spec.exporter"]


def test_the_reference_pages_name_every_field_attribute_and_setting() -> None:
    page = render_tracingconfig_page()
    assert [field.path for field in list_fields() if f"| `{field.path}`" not in page] == []
    attributes = render_attributes_page()
    assert [key for key in REGISTRY if f"| `{key}` |" not in attributes] == []
    for field, _, _, description in list_effective_fields(EffectiveConfig):
        assert description, field


def test_tables_of_the_reference_pages_are_well_formed() -> None:
    for path in sorted((ROOT / "docs/reference").glob("*.md")):
        width = 0
        for line in path.read_text(encoding="utf-8").splitlines():
            cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
            assert not (width and cells and cells != width), f"{path.name}: {line}"
            width = cells
