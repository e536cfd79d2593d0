"""What is wrong with a resource, one sentence a fault: which field, what it is, what is allowed.

It knows pydantic's errors and no resource in particular. Values that may be secret or long are never shown: the sentence
goes to terminals, to logs and into a Kubernetes status.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

MAX_SHOWN = 80  # characters of a value
MAX_FAULTS = 20  # more than a person mends in one go
_SECRETIVE = re.compile("password|token|secret|credential|authorization|key", re.IGNORECASE)
_USER_IN_URL = re.compile(r"://[^/]*@")

# pydantic's error type → what is allowed, filled from the error's context.
_SENTENCES = {
    "missing": "is required",
    "literal_error": "must be {expected}",
    "value_error": "{error}",
    "string_type": "must be text",
    "string_unicode": "must be valid Unicode text",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping of fields",
    "too_long": "must have at most {max_length} entries",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "invalid_key": "has a key that is not text",
}


def describe_faults(
    error: ValidationError, *, model: type[BaseModel], examples: Mapping[str, str]
) -> list[str]:
    """One sentence per fault, at most MAX_FAULTS and one that counts the rest. `examples`: pattern → what fits it."""
    faults = error.errors(include_url=False)
    sentences = [_describe(fault, model, examples) for fault in faults[:MAX_FAULTS]]
    if len(faults) > MAX_FAULTS:
        sentences.append(f"and {len(faults) - MAX_FAULTS} more faults")
    return sentences


def _describe(fault: Any, model: type[BaseModel], examples: Mapping[str, str]) -> str:
    loc: Sequence[str | int] = fault["loc"]
    field = ".".join(_render_part(part) for part in loc) or "the document"
    kind = fault["type"]
    context = fault.get("ctx", {})
    if kind == "extra_forbidden":
        allowed = _advise(str(loc[-1]), _fields_at(model, loc[:-1]))
        return f"{field}: is not a field{_render_value(field, fault['input'])}; {allowed}"
    if kind == "missing":
        return f"{field}: is required{_render_choice(_annotation_at(model, loc))}"
    if kind == "string_pattern_mismatch":
        sentence = f"must look like {examples.get(context['pattern'], context['pattern'])}"
    else:
        sentence = _SENTENCES.get(kind, fault["msg"]).format_map(context)
    return f"{field}: {sentence}{_render_value(field, fault['input'])}"


def _advise(given: str, known: list[str]) -> str:
    close = difflib.get_close_matches(given, known, n=1)
    listed = f"known here are {', '.join(known)}" if known else "remove it"
    return f"did you mean {close[0]}? {listed}" if close else listed


def _fields_at(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    found = _model_in(_annotation_at(model, loc))
    if found is None:
        return []
    return [info.alias or name for name, info in found.model_fields.items()]


def _annotation_at(model: type[BaseModel], loc: Sequence[str | int]) -> Any:
    annotation: Any = model
    for part in loc:
        inside = _model_in(annotation)
        if inside is None or isinstance(part, int):
            continue  # an index: the list's own annotation holds its items'
        by_key = {info.alias or name: info for name, info in inside.model_fields.items()}
        annotation = by_key[part].annotation if part in by_key else None
    return annotation


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for a in get_args(annotation) if (m := _model_in(a)) is not None), None)


def _render_choice(annotation: Any) -> str:
    choices = [str(choice) for choice in get_args(annotation) if isinstance(choice, str)]
    return f": write {' or '.join(choices)}" if choices else ""


def _render_part(part: str | int) -> str:
    text = str(part)
    return _cut(text if text.isprintable() else ascii(text))


def _render_value(field: str, value: object) -> str:
    if _SECRETIVE.search(field) or (isinstance(value, str) and _USER_IN_URL.search(value)):
        return ""
    if isinstance(value, Mapping):
        return f" (it is a mapping of {len(value)})"
    if isinstance(value, list):
        return f" (it is a list of {len(value)})"
    return f" (it is {_cut(repr(value))})"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"
