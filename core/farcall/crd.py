"""The CustomResourceDefinition, made from the pydantic model. Pure.

A structural schema in the form the API server stores: no references, no nulls, no defaults (a default that is written
back makes every GitOps tool report a difference that nobody made), every string and list bounded, so that the rules'
cost stays within the server's budget. What a pattern cannot say is a CEL rule; what neither says, the operator reports.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from farcall.crdrules import NAME, RULES, Rule
from farcall.tracingconfig import GROUP, KIND, VERSION, TracingConfigSpec

Schema = dict[str, Any]
PLURAL = "tracingconfigs"
MAX_BYTES = 100_000  # client-side apply keeps a copy in an annotation, which may hold 262,144
MAX_TEXT = 1_024  # characters where the model says no less
_KEPT = ("type", "enum", "pattern", "minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """What `kubectl get` prints. `wide` only with `-o wide`."""

    name: str
    path: str
    type: str = "string"
    wide: bool = False

    def build(self) -> Schema:
        column: Schema = {"jsonPath": self.path, "name": self.name}
        if self.wide:
            column["priority"] = 1
        return {**column, "type": self.type}


COLUMNS = (
    Column(name="Tier", path=".spec.tier"),
    Column(name="DNS TTL", path=".status.effective.dnsTTLSeconds", type="integer"),
    Column(name="Ready", path='.status.conditions[?(@.type=="Ready")].status'),
    Column(name="Reason", path='.status.conditions[?(@.type=="Ready")].reason'),
    Column(name="Probes", path=".status.probes"),
    Column(name="Age", path=".metadata.creationTimestamp", type="date"),
    Column(name="Version", path=".status.version", wide=True),
    Column(name="Retention", path=".status.effective.retention.traces", wide=True),
    Column(name="Paused", path=".spec.paused", type="boolean", wide=True),
)


def build_crd() -> Schema:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            # The server fills in these two names and the strategy; left out, they would be a difference for ever.
            "conversion": {"strategy": "None"},
            "group": GROUP,
            "names": {
                "categories": ["farcall"],
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "shortNames": ["tcfg"],
                "singular": KIND.lower(),
            },
            "scope": "Cluster",
            "versions": [build_version()],
        },
    }


def build_version() -> Schema:
    return {
        "additionalPrinterColumns": [column.build() for column in COLUMNS],
        "name": VERSION,
        "schema": {"openAPIV3Schema": build_root_schema()},
        "selectableFields": [{"jsonPath": ".spec.tier"}],
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
    }


def build_root_schema() -> Schema:
    return {
        "description": "What farcall traces in this cluster, and how long it keeps what it saw.",
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "maxLength": MAX_TEXT},
            "kind": {"type": "string", "maxLength": MAX_TEXT},
            "metadata": {"type": "object"},
            "spec": build_spec_schema(),
            "status": build_status_schema(),
        },
        "x-kubernetes-validations": _render_rules((NAME,)),
    }


def build_spec_schema() -> Schema:
    whole = TracingConfigSpec.model_json_schema(by_alias=True)
    schema = _convert(whole, whole.get("$defs", {}), "")
    return {"description": "What a user writes; the tier decides what is left out.", **schema}


def _convert(node: Schema, definitions: dict[str, Schema], path: str) -> Schema:
    """One node of pydantic's schema as a structural one. `path` is the field's, with `[]` for a list's entries."""
    merged = _resolve(node, definitions)
    found: Schema = {}
    if "description" in node or "description" in merged:
        found["description"] = node.get("description", merged.get("description"))
    found.update({key: merged[key] for key in _KEPT if key in merged})
    if merged.get("type") == "string" and "enum" not in merged:
        found.setdefault("maxLength", MAX_TEXT)
    if merged.get("type") == "integer":
        found["format"] = "int32"
    if "items" in merged:
        found["items"] = _convert(merged["items"], definitions, f"{path}[]")
    if merged.get("type") == "object":
        found.update(_convert_object(merged, definitions, path))
    if path in RULES:
        found["x-kubernetes-validations"] = _render_rules(RULES[path])
    return found


def _render_rules(rules: tuple[Rule, ...]) -> list[Schema]:
    return [{"message": rule.message, "rule": rule.rule} for rule in rules]


def _convert_object(node: Schema, definitions: dict[str, Schema], path: str) -> Schema:
    if "properties" in node:
        found: Schema = {"required": node["required"]} if "required" in node else {}
        prefix = f"{path}." if path else ""
        found["properties"] = {
            name: _convert(field, definitions, prefix + name)
            for name, field in node["properties"].items()
        }
        return found
    if node.get("additionalProperties") is True:
        # Tolerations, affinity and the like: their schema is the API server's own business, at the workload.
        return {"x-kubernetes-preserve-unknown-fields": True}
    value = _convert(node["additionalProperties"], definitions, f"{path}.*")
    return {"additionalProperties": value, "maxProperties": node["maxProperties"]}


def _resolve(node: Schema, definitions: dict[str, Schema]) -> Schema:
    """Follows a reference, and takes the one kind that is not null: an optional field is simply not required."""
    if "$ref" in node:
        return _resolve(definitions[node["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in node:
        (kind,) = [k for k in node["anyOf"] if k.get("type") != "null"]
        return _resolve(kind, definitions)
    return node


def build_status_schema() -> Schema:
    """Structural throughout: a field that the operator writes and this does not name would be refused."""
    return {
        "description": "Written by the operator alone.",
        "type": "object",
        "properties": {
            "conditions": _conditions_schema(),
            "configGenerations": {
                "description": "How many agents run which generation of the spec, newest first.",
                "type": "array",
                "maxItems": 16,
                "items": _object(generation=_count(), agents=_count()),
            },
            "effective": _effective_schema(),
            "nodes": {
                "description": "How many nodes there are, how many get an agent, and why the others get none.",
                **_object(
                    total=_count(),
                    traced=_count(),
                    leftOut={"description": "Reason to number of nodes.", **_map(_count())},
                ),
            },
            "observedGeneration": {
                "description": "Of the spec that the rest of the status speaks of.",
                **_count(),
            },
            "probes": {"description": "Ready of wanted, for example `12/12`.", **_text()},
            "version": {"description": "Of the operator that wrote this.", **_text()},
        },
    }


def _conditions_schema() -> Schema:
    condition = _object(
        lastTransitionTime={"type": "string", "format": "date-time", "maxLength": 64},
        message=_text(32_768),
        observedGeneration=_count(),
        reason=_text(),
        status={"type": "string", "enum": ["True", "False", "Unknown"]},
        type=_text(),
    )
    return {
        "description": "Ready is the summary; Reconciling and Stalled as kstatus reads them.",
        "type": "array",
        "maxItems": 32,
        "items": {
            **condition,
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
        },
        "x-kubernetes-list-map-keys": ["type"],
        "x-kubernetes-list-type": "map",
    }


def _effective_schema() -> Schema:
    texts = {"type": "array", "maxItems": 64, "items": _text()}
    return {
        "description": "What the resource means after tier and discovery.",
        **_object(
            tier=_text(),
            dnsTTLSeconds={"description": "How long a DNS answer is kept.", **_count()},
            clusterCIDRs={"description": "What counts as inside; the first 64.", **texts},
            clusterCIDRsTotal={"description": "How many there are.", **_count()},
            clusterCIDRsFrom={"description": "Where they came from.", **texts},
            retention=_object(traces=_text(), logs=_text(), maxSize=_text()),
            replicas={"description": "Of the exporter.", **_count()},
            images={"description": "Container to image.", **_map(_text())},
            resources={
                "description": "Container to what it requests and may use.",
                **_map(_object(requests=_map(_text()), limits=_map(_text()))),
            },
            volumes={"description": "Volume claim to the size asked for.", **_map(_text())},
        ),
    }


def _text(most: int = MAX_TEXT) -> Schema:
    return {"type": "string", "maxLength": most}


def _count() -> Schema:
    return {"type": "integer", "format": "int64"}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties}


def _map(value: Schema) -> Schema:
    return {"type": "object", "maxProperties": 64, "additionalProperties": value}


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldEntry:
    """One field of the spec as the reference page shows it."""

    path: str
    type: str
    required: bool
    allowed: str
    description: str


def list_fields(*, of_entries: bool = False) -> Iterator[FieldEntry]:
    """Every field of the spec, parents first; with `of_entries` also those of a list's objects, as `list[].field`."""
    yield from _list_fields(build_spec_schema(), "", of_entries)


def _list_fields(schema: Schema, prefix: str, of_entries: bool) -> Iterator[FieldEntry]:
    for name, field in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        yield FieldEntry(
            path=path,
            type=_name_type(field),
            required=name in schema.get("required", ()),
            allowed=_tell_allowed(field),
            description=field.get("description", ""),
        )
        yield from _list_fields(field, f"{path}.", of_entries)
        if of_entries and "items" in field:
            yield from _list_fields(field["items"], f"{path}[].", of_entries)


def _name_type(field: Schema) -> str:
    kind = str(field["type"])
    if kind == "array":
        return f"list of {_name_type(field['items'])}"
    if "additionalProperties" in field:
        return f"map to {_name_type(field['additionalProperties'])}"
    return {"object": "object", "integer": "integer", "boolean": "boolean"}.get(kind, "text")


def _tell_allowed(field: Schema) -> str:
    """The rule that a person would ask about; the bounds on length are for the server."""
    if "items" in field:
        return _tell_allowed(field["items"])
    rules = [rule["message"] for rule in field.get("x-kubernetes-validations", ())]
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "pattern" in field:
        return "; ".join([f"`{field['pattern']}`", *rules])
    if rules:
        return "; ".join(rules)
    if "minimum" in field and "maximum" in field:
        return f"{field['minimum']} to {field['maximum']}"
    return ""


def render_crd() -> str:
    head = "# Generated by `make generate` from core/farcall/tracingconfig.py; do not edit.\n"
    return head + yaml.safe_dump(build_crd(), sort_keys=True, allow_unicode=True, width=120)
