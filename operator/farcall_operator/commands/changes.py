"""Two versions of a child as a unified diff of YAML. Pure; no secret's value passes through."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from farcall_operator.cluster.port import DESIRED_HASH, Manifest, Ref

Action = Literal["none", "create", "change", "recreate", "delete", "refused"]
HIDDEN = "(hidden)"
CHANGED = "(hidden, another one)"
# Written by the server at each change, or the same for all children.
SERVER_FIELDS = frozenset(
    ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink", "ownerReferences")
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Of one child. `diff`: a unified diff of YAML, line by line; `notes`: warnings of the server, or why it refuses."""

    kind: str
    namespace: str
    name: str
    action: Action
    diff: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def build_change(
    ref: Ref,
    action: Action,
    *,
    before: Manifest | None = None,
    after: Manifest | None = None,
    notes: list[str] | None = None,
) -> Change:
    """A `change` without a difference becomes `none`."""
    lines = list(diff_manifests(ref, before, after)) if before or after else []
    return Change(
        kind=ref.kind,
        namespace=ref.namespace,
        name=ref.name,
        action="none" if action == "change" and not lines else action,
        diff=lines,
        notes=notes or [],
    )


def diff_manifests(ref: Ref, before: Manifest | None, after: Manifest | None) -> Iterator[str]:
    if ref.kind == "Secret":
        before, after = hide_secret(before, after)
    old, new = (render(m) if m is not None else [] for m in (before, after))
    name = f"{ref.kind}/{ref.name}"
    return difflib.unified_diff(old, new, f"live/{name}", f"desired/{name}", lineterm="")


def hide_secret(
    before: Manifest | None, after: Manifest | None
) -> tuple[Manifest | None, Manifest | None]:
    """The keys stay; of the values only whether they differ."""
    old = _data_of(before)
    shown_before = _with_data(before, {key: HIDDEN for key in old})
    new = _data_of(after)
    shown_after = {
        key: HIDDEN if key not in old or old[key] == value else CHANGED
        for key, value in new.items()
    }
    return shown_before, _with_data(after, shown_after)


def _data_of(secret: Manifest | None) -> dict[str, Any]:
    found = secret or {}
    return {**(found.get("data") or {}), **(found.get("stringData") or {})}


def _with_data(secret: Manifest | None, data: dict[str, str]) -> Manifest | None:
    if secret is None:
        return None
    return {**{k: v for k, v in secret.items() if k != "stringData"}, "data": data}


def render(manifest: Manifest) -> list[str]:
    """Lines of YAML, keys sorted, without what is no wish of anybody's."""
    text: str = yaml.dump(clean(manifest), Dumper=_Dumper, sort_keys=True, width=160)
    return text.splitlines()


class _Dumper(yaml.SafeDumper):
    """Text with line breaks as a block, so that a changed line of a config is a changed line here."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def clean(manifest: Manifest) -> Manifest:
    metadata = {k: v for k, v in manifest["metadata"].items() if k not in SERVER_FIELDS}
    annotations = {
        k: v for k, v in (metadata.pop("annotations", None) or {}).items() if k != DESIRED_HASH
    }
    if annotations:
        metadata["annotations"] = annotations
    return {**{k: v for k, v in manifest.items() if k != "status"}, "metadata": metadata}


def count_lines(diff: list[str]) -> str:
    """`+3 -1`: lines that come and go, without the two of the heading."""
    body = diff[2:]
    added, removed = (sum(line.startswith(sign) for line in body) for sign in "+-")
    return f"+{added} -{removed}" if body else ""
