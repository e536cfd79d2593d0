"""OTLP's values as text, bounded: what the collector's tables hold. And the trace that a JSON log line names itself."""

import base64
import json
import re
from collections.abc import Iterable
from typing import Any

MAX_VALUE_CHARACTERS = 32_768
MAX_ATTRIBUTES = 256
MAX_BODY_CHARACTERS = 131_072
_MAX_JSON_BODY = 65_536  # a longer line is not parsed for IDs
_TRACE_ID = re.compile(r"^[0-9a-fA-F]{32}$")
_SPAN_ID = re.compile(r"^[0-9a-fA-F]{16}$")
_TRACE_KEYS = ("trace_id", "traceId", "traceid", "trace.id")
_SPAN_KEYS = ("span_id", "spanId", "spanid", "span.id")

Pairs = list[tuple[str, str]]


def render_value(value: Any) -> str:
    """An opentelemetry.proto.common.v1.AnyValue as text; lists and maps as JSON."""
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return str(value.string_value)[:MAX_VALUE_CHARACTERS]
    if kind is None:
        return ""
    plain = to_plain(value)
    text = plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
    return text[:MAX_VALUE_CHARACTERS]


def to_plain(value: Any) -> Any:
    """The AnyValue as what JSON knows. Depth is bounded by the protobuf parser (100)."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [to_plain(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: to_plain(pair.value) for pair in value.kvlist_value.values}
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode("ascii")
    return getattr(value, kind)


def render_attributes(pairs: Iterable[Any]) -> Pairs:
    """Each key once, the last one wins (OTLP forbids repeats, senders do not always know)."""
    texts: dict[str, str] = {}
    for pair in pairs:
        if len(texts) >= MAX_ATTRIBUTES:
            break
        texts[pair.key[:MAX_VALUE_CHARACTERS]] = render_value(pair.value)
    return list(texts.items())


def hex_id(raw: bytes, size: int) -> str:
    """Lower-case hex, "" for an ID that is absent or invalid (W3C: zeros)."""
    return raw.hex() if len(raw) == size and any(raw) else ""


def find_trace(body: str, attributes: Pairs) -> tuple[str, str]:
    """The trace and span that a log line names itself, in a JSON body or in its attributes; "" for none."""
    for fields in (dict(attributes), _parse_object(body)):
        trace = _pick(fields, _TRACE_KEYS, _TRACE_ID)
        if trace:
            return trace, _pick(fields, _SPAN_KEYS, _SPAN_ID)
    return "", ""


def _parse_object(body: str) -> dict[str, Any]:
    text = body.strip()
    if not text.startswith("{") or len(text) > _MAX_JSON_BODY or "race" not in text:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _pick(fields: dict[str, Any], keys: tuple[str, ...], pattern: re.Pattern[str]) -> str:
    for key in keys:
        value = fields.get(key)
        if isinstance(value, str) and pattern.match(value) and value.strip("0"):
            return value.lower()
    return ""
