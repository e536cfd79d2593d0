"""Sections of a config file: frozen dataclasses that check themselves, whoever makes them. Strict, and without a library.

pydantic would do it too, for 18 MB of every component. It still renders the schema (farcall.reference), because it reads
the same annotations and the same metadata; a test holds what is accepted here against what it accepts.
"""

import dataclasses
import json
import math
import types
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self, get_args, get_origin, get_type_hints

MAX_TEXT = 120  # characters of a refused value in a message
_BOUNDS: dict[str, tuple[Callable[[Any, Any], bool], str]] = {
    "gt": (lambda value, limit: value > limit, "must be greater than"),
    "ge": (lambda value, limit: value >= limit, "must be at least"),
    "le": (lambda value, limit: value <= limit, "must be at most"),
}


class MisfitError(ValueError):
    """A value is not what its field may hold. `path` leads to it, outermost name first."""

    def __init__(self, why: str, path: tuple[str, ...] = ()) -> None:
        self.why = why
        self.path = path
        super().__init__(f"{'.'.join(path) or 'the document'}: {why}")

    def below(self, name: str) -> "MisfitError":
        return MisfitError(self.why, (name, *self.path))


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """In an Annotated: a function that raises ValueError where the value does not do."""

    call: Callable[[Any], object]


def section_field(
    description: str,
    *,
    applies: str | None = None,
    default: Any = dataclasses.MISSING,
    **bounds: float,  # gt, ge, le
) -> Any:
    metadata: dict[str, Any] = {"description": description, **bounds}
    if applies is not None:
        metadata["json_schema_extra"] = {"farcall.applies": applies}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Raises MisfitError when one of its fields may not hold what it is given."""

    __pydantic_config__ = {"extra": "forbid", "strict": True, "allow_inf_nan": False}  # noqa: RUF012

    def __post_init__(self) -> None:
        for field, kind in _fields(self.__class__):
            given = getattr(self, field.name)
            value = _check_field(field, kind, given)
            if value is not given:
                object.__setattr__(self, field.name, value)

    def model_copy(self, *, update: dict[str, Any]) -> Self:
        """Changed, and checked anew. Named as pydantic's, so that both kinds of config are changed alike."""
        return dataclasses.replace(self, **update)


def parse_section(kind: type[Section], text: bytes) -> Any:
    """A `kind` of JSON text. Raises MisfitError."""
    try:
        raw = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as e:
        raise MisfitError("it is nested too deeply") from e
    except MisfitError:
        raise
    except ValueError as e:
        raise MisfitError(f"it is not JSON: {e}") from e
    return _check(kind, raw)


def dump_section(section: Section) -> dict[str, Any]:
    """Plain values, as JSON has them."""
    return dataclasses.asdict(section)


def is_section(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


_known: dict[type[Section], list[tuple[dataclasses.Field[Any], Any]]] = {}


def _fields(kind: type[Section]) -> list[tuple[dataclasses.Field[Any], Any]]:
    """Each field and its type, read once."""
    if kind not in _known:
        hints = get_type_hints(kind, include_extras=True)
        _known[kind] = [(field, hints[field.name]) for field in dataclasses.fields(kind)]
    return _known[kind]


def _refuse_constant(text: str) -> float:
    raise MisfitError(f"{text} is no number of JSON")


def _check(kind: Any, value: Any) -> Any:
    """The value as it is kept: a whole number becomes a float where one is meant, an object of JSON a section."""
    if is_section(kind):
        return value if isinstance(value, kind) else _make(kind, value)
    origin = get_origin(kind)
    if origin is Annotated:
        inner, *checks = get_args(kind)
        value = _check(inner, value)
        for check in checks:
            _call(check, value)
        return value
    if origin is Literal:
        return _check_word(value, get_args(kind))
    if origin is types.UnionType:
        (inner,) = (one for one in get_args(kind) if one is not types.NoneType)
        return None if value is None else _check(inner, value)
    if origin is list:
        return _check_list(get_args(kind)[0], value)
    return _check_plain(kind, value)


def _check_field(field: dataclasses.Field[Any], kind: Any, value: Any) -> Any:
    try:
        value = _check(kind, value)
        _check_bounds(field, value)
    except MisfitError as e:
        raise e.below(field.name) from None
    return value


def _make(kind: type[Section], value: Any) -> Section:
    if not isinstance(value, dict):
        raise MisfitError(f"must be an object, not {_quote(value)}")
    checked = {}  # what it is made of: the sections below are made once
    for field, type_ in _fields(kind):
        no_default = field.default is dataclasses.MISSING
        if field.name in value:
            checked[field.name] = _check_field(field, type_, value[field.name])
        elif no_default and field.default_factory is dataclasses.MISSING:
            raise MisfitError("is missing", (field.name,))
    for name in value:
        if name not in checked:
            raise MisfitError("there is no such field", (_quote(name).strip("'"),))
    return kind(**checked)


def _check_list(kind: Any, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise MisfitError(f"must be a list, not {_quote(value)}")
    checked = []
    for index, item in enumerate(value):
        try:
            checked.append(_check(kind, item))
        except MisfitError as e:
            raise e.below(str(index)) from None
    same = all(a is b for a, b in zip(checked, value, strict=True))
    return value if same else checked


def _check_word(value: Any, words: tuple[Any, ...]) -> Any:
    # True == 1, and must not pass for it.
    if not any(value == word and type(value) is type(word) for word in words):
        raise MisfitError(f"must be one of {', '.join(map(repr, words))}, not {_quote(value)}")
    return value


def _check_plain(kind: Any, value: Any) -> Any:
    if kind is float and type(value) is int:
        try:
            value = float(value)
        except OverflowError as e:
            raise MisfitError("is too large") from e
    if type(value) is not kind:
        word = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[kind]
        raise MisfitError(f"must be {word}, not {_quote(value)}")
    if kind is float and not math.isfinite(value):
        raise MisfitError("must be a finite number")
    if kind is str and any("\ud800" <= character <= "\udfff" for character in value):
        raise MisfitError("is not Unicode text")
    return value


def _call(check: Any, value: Any) -> None:
    if isinstance(check, Check):
        try:
            check.call(value)
        except ValueError as e:
            raise MisfitError(str(e)) from e


def _check_bounds(field: dataclasses.Field[Any], value: Any) -> None:
    for name, (holds, words) in _BOUNDS.items():
        limit = field.metadata.get(name)
        if limit is not None and value is not None and not holds(value, limit):
            raise MisfitError(f"{words} {limit}, not {value}")


def _quote(value: Any) -> str:
    text = ascii(value)  # one line, whatever is in it
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…"
