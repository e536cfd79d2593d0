"""Renders templates to Kubernetes objects. Values enter as quoted YAML scalars, never as text that YAML would interpret.

The templates are in farcall_templates/kubernetes (what a TracingConfig becomes) and /install (what is installed once);
every `{{ … }}` in them ends with the filter `yaml`, and a test
insists on it. Deterministic: the same view gives the same text.
"""

import functools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

import jinja2
import yaml

Manifest = dict[str, Any]
# ASCII that stands for itself in a double-quoted YAML scalar; everything else is written as an escape, because YAML
# takes some characters for line breaks (U+2028) and refuses others (DEL, U+FFFE).
_UNSAFE = re.compile(r"[^\x20-\x7e]")


def render_value(value: object) -> str:
    """`value` on one line, in YAML's flow style."""
    return _UNSAFE.sub(_escape, json.dumps(_to_plain(value), ensure_ascii=False))


def _to_plain(value: object) -> object:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


@functools.cache  # it holds the compiled templates, and nothing of what was rendered
def make_environment(folder: str = "kubernetes") -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("farcall_templates", folder),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # YAML, not HTML; the filter below is what escapes
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["yaml"] = render_value
    return environment


def render_objects(
    templates: Sequence[str], view: object, *, folder: str = "kubernetes"
) -> Iterator[Manifest]:
    """The objects of the templates, in their order; a document that a condition left empty is none."""
    environment = make_environment(folder)
    for name in templates:
        text = environment.get_template(name).render(view=view)
        # libyaml, which every wheel of PyYAML brings: 3.5 ms for a TracingConfig instead of 35.
        yield from (
            document for document in yaml.load_all(text, Loader=yaml.CSafeLoader) if document
        )


class _Dumper(yaml.SafeDumper):
    """Block style; text with line breaks as a literal block; no anchors, which few people can read."""

    def ignore_aliases(self, data: object) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def render_manifests(manifests: Sequence[Manifest]) -> str:
    return "".join(
        "---\n"
        + yaml.dump(manifest, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
        for manifest in manifests
    )
