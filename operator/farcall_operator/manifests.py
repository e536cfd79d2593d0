"""Renders templates to Kubernetes objects. Values never pass through text, so that YAML interprets none of them.

The templates are in farcall_templates/kubernetes (what a TracingConfig becomes) and /install (what is installed once);
every `{{ … }}` in them ends with the filter `yaml`, and a test insists on it. The filter leaves a numbered hole in the text,
and values are put into the holes once YAML was parsed. So all resources of one shape (the same branches taken) have the
same text, which is parsed once: parsing took three quarters of a rendering. Deterministic: the same view gives the same.
"""

import functools
import json
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import fields, is_dataclass
from typing import Any

import jinja2
import yaml

Manifest = dict[str, Any]
HOLE = "\0"  # begins the scalar that stands for a value; no template holds the character
# Texts of templates, parsed: ten a shape, 30 KB each at most.
SHAPES = 160
_SCALARS = frozenset((str, int, bool, type(None)))
_values: ContextVar[list[object]] = ContextVar("values")


@jinja2.pass_context  # not needed, but such a filter is never applied to constants when a template is compiled
def leave_hole(_context: jinja2.runtime.Context, value: object) -> str:
    values = _values.get()
    values.append(_to_plain(value))
    return f'"\\0{len(values) - 1}"'


def _to_plain(value: object) -> object:
    """As JSON has it, and nobody else's: what comes out may be changed. Raises TypeError for what JSON does not have."""
    if type(value) in _SCALARS:  # most are
        return value
    if type(value) is dict and all(type(key) is str for key in value):
        return {key: _to_plain(inner) for key, inner in value.items()}
    if type(value) is list or type(value) is tuple:
        return [_to_plain(inner) for inner in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _to_plain(getattr(value, field.name)) for field in fields(value)}
    found: object = json.loads(json.dumps(value))
    return found


@functools.cache  # it holds the compiled templates, and nothing of what was rendered
def make_environment(folder: str = "kubernetes") -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("farcall_templates", folder),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # YAML, not HTML; no value becomes text
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["yaml"] = leave_hole
    return environment


def render_objects(
    templates: Sequence[str], view: object, *, folder: str = "kubernetes"
) -> Iterator[Manifest]:
    """The objects of the templates, in their order; a document that a condition left empty is none."""
    environment = make_environment(folder)
    for name in templates:
        values: list[object] = []
        token = _values.set(values)
        try:
            text = environment.get_template(name).render(view=view)
        finally:
            _values.reset(token)
        for shape in _parse_shapes(text):
            yield _fill(shape, values)


@functools.lru_cache(SHAPES)
def _parse_shapes(text: str) -> tuple[Manifest, ...]:
    # libyaml, which every wheel of PyYAML brings: ten times as fast as Python.
    documents = yaml.load_all(text, Loader=yaml.CSafeLoader)
    return tuple(document for document in documents if document)


def _fill(shape: Any, values: Sequence[object]) -> Any:
    """A copy of `shape` with values for its holes, which may be keys."""
    if isinstance(shape, dict):
        return {_fill(key, values): _fill(inner, values) for key, inner in shape.items()}
    if isinstance(shape, list):
        return [_fill(inner, values) for inner in shape]
    if isinstance(shape, str) and shape.startswith(HOLE):
        return values[int(shape[1:])]
    return shape


_UNICODE_BREAKS = frozenset("\x85\u2028\u2029")


class _Dumper(yaml.SafeDumper):
    """Block style; text with line breaks as a literal block; no anchors, which few people can read."""

    def ignore_aliases(self, data: object) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    if not _UNICODE_BREAKS.isdisjoint(text):
        style = '"'  # escaped: YAML 1.1 takes them for line breaks, and in other styles they come back as spaces
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def render_manifests(manifests: Sequence[Manifest]) -> str:
    return "".join(
        "---\n"
        + yaml.dump(manifest, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
        for manifest in manifests
    )
