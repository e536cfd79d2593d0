"""The trace that a request says it belongs to: W3C traceparent, B3 in one or in several headers, Jaeger's uber-trace-id. Pure.

W3C Trace Context 3.2, https://www.w3.org/TR/trace-context/ · B3, https://github.com/openzipkin/b3-propagation ·
Jaeger, https://www.jaegertracing.io/sdk-migration/#propagation-format

Several may be there, because proxies and libraries add their own; they are asked in this order, and the first that is valid
counts. IDs of 64 bits are filled up with zeros on the left, as OpenTelemetry's propagators do.
"""

import re
from binascii import unhexlify
from collections.abc import Mapping

W3C, B3, JAEGER = 0, 1, 2  # formats
Ids = tuple[bytes | None, bytes | None]  # trace ID, span ID: both or neither
NOBODY: Ids = (None, None)
MAX_VALUE = (
    128  # bytes: the longest valid one of any format has 85, with its colons percent-encoded
)

CARRIERS = frozenset(  # headers of a message, in lower case
    (b"traceparent", b"tracestate", b"b3", b"x-b3-traceid", b"x-b3-spanid", b"uber-trace-id")
)
_TRACEPARENT = re.compile(
    rb"[ \t]*(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?[ \t]*"
)
_TRACE_64_OR_128 = rb"([0-9a-fA-F]{32}|[0-9a-fA-F]{16})"
_B3 = re.compile(_TRACE_64_OR_128 + rb"-([0-9a-fA-F]{16})(?:-[01d](?:-[0-9a-fA-F]{16})?)?")
_B3_DECISION = frozenset((b"0", b"1", b"d"))  # about sampling alone: no trace is named
_B3_TRACE = re.compile(_TRACE_64_OR_128)
_B3_SPAN = re.compile(rb"[0-9a-fA-F]{16}")
# Leading zeros may be left out; the parent's ID is deprecated, and its flags are not ours to follow.
_JAEGER = re.compile(
    rb"([0-9a-fA-F]{1,32})(?::|%3[aA])([0-9a-fA-F]{1,16})(?::|%3[aA])[0-9a-fA-F]{0,16}(?::|%3[aA])[0-9a-fA-F]{1,2}"
)
# W3C Trace Context 3.3.1. A list of members `key=value`; what vendors write into a value is their own.
MAX_STATE = 512  # characters: as many as every party is asked to pass on
MAX_STATE_RAW = 8_192  # bytes that are looked at; there is no longer head
MAX_MEMBERS = 32
_KEY = rb"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
_MEMBER = re.compile(rb"(" + _KEY + rb")=([ -+\--<>-~]{0,255}[!-+\--<>-~])")
_TOKEN = re.compile(rb"eyJ[A-Za-z0-9_.+/-]{8,}")  # base64 of a JSON object: a JSON Web Token
_WHOLE = 55  # of version 00: 00-<32>-<16>-<2>
_PACKED = 26  # without its dashes
_DASH = ord("-")
_ZERO_TRACE = bytes(16)
_ZERO_SPAN = bytes(8)


def parse_traceparent(raw: bytes) -> Ids:
    """Two Nones for anything that the recommendation calls invalid. A version after 00 may go on after one more dash."""
    value = raw.strip(b" \t")
    if len(value) == _WHOLE and value[2] == value[35] == value[52] == _DASH and value.islower():
        # Nearly always; the pattern below, which decides about all others, costs half as much again.
        try:
            packed = unhexlify(value.replace(b"-", b""))
        except ValueError:
            return NOBODY
        trace, span = packed[1:17], packed[17:25]
        if len(packed) == _PACKED and not packed[0] and trace != _ZERO_TRACE and span != _ZERO_SPAN:
            return trace, span
    match = _TRACEPARENT.fullmatch(raw)
    if match is None or (match[1] == b"00" and match[4]):
        return NOBODY
    return _build(match[2], match[3])


def parse_b3(raw: bytes) -> Ids:
    """The header `b3`."""
    match = _B3.fullmatch(raw.strip(b" \t")[:MAX_VALUE])
    return _build(match[1], match[2]) if match is not None else NOBODY


def parse_b3_parts(trace_id: bytes, span_id: bytes) -> Ids:
    """The headers `X-B3-TraceId` and `X-B3-SpanId`."""
    trace, span = trace_id.strip(b" \t"), span_id.strip(b" \t")
    is_valid = _B3_TRACE.fullmatch(trace) and _B3_SPAN.fullmatch(span)
    return _build(trace, span) if is_valid else NOBODY


def parse_jaeger(raw: bytes) -> Ids:
    """The header `uber-trace-id`."""
    match = _JAEGER.fullmatch(raw.strip(b" \t")[:MAX_VALUE])
    return _build(match[1], match[2]) if match is not None else NOBODY


def parse_tracestate(raw: bytes) -> str | None:
    """The header `tracestate`, of a request whose traceparent is valid; several are to be joined by commas before.

    None for a list with anything in it that the recommendation calls invalid: then all of it counts for nothing. Members
    at the end that are beyond MAX_STATE are left out whole. Tokens that somebody put into a value are masked.
    """
    parts = [part.strip(b" \t") for part in raw[: MAX_STATE_RAW + 1].split(b",")]
    members = [_MEMBER.fullmatch(part) for part in parts if part]
    if len(raw) > MAX_STATE_RAW or len(members) > MAX_MEMBERS:
        return None
    kept: list[str] = []
    keys, room = set(), MAX_STATE
    for member in members:
        if member is None or member[1] in keys:
            return None
        keys.add(member[1])
        shown = (member[1] + b"=" + _TOKEN.sub(b"?", member[2])).decode("ascii")
        room -= len(shown) + bool(kept)
        if room >= 0:
            kept.append(shown)
    return ",".join(kept) or None


def choose(
    *, b3: bytes | None, b3_trace: bytes | None, b3_span: bytes | None, jaeger: bytes | None
) -> tuple[Ids, int, bool]:
    """(IDs, their format, whether one of the headers is invalid) of those that stand in for traceparent. None: not there."""
    has_parts = b3_trace is not None or b3_span is not None
    is_decision = b3 is not None and b3.strip(b" \t") in _B3_DECISION
    found = [
        (B3, parse_b3(b3)) if b3 is not None and not is_decision else None,
        (B3, parse_b3_parts(b3_trace or b"", b3_span or b"")) if has_parts else None,
        (JAEGER, parse_jaeger(jaeger)) if jaeger is not None else None,
    ]
    given = [each for each in found if each is not None]
    valid = [each for each in given if each[1][0] is not None]
    form, ids = valid[0] if valid else (W3C, NOBODY)
    return ids, form, len(valid) < len(given)


def read_carrier(said: Mapping[bytes, bytes]) -> tuple[Ids, int, str | None]:
    """IDs, their format and tracestate of a message's headers, whose names are in lower case."""
    ids, form, state = NOBODY, W3C, None
    if b"traceparent" in said:
        ids = parse_traceparent(said[b"traceparent"])
        if ids[0] is not None and b"tracestate" in said:
            state = parse_tracestate(said[b"tracestate"])
    if ids[0] is None and not CARRIERS.isdisjoint(said):
        ids, form, _ = choose(
            b3=said.get(b"b3"),
            b3_trace=said.get(b"x-b3-traceid"),
            b3_span=said.get(b"x-b3-spanid"),
            jaeger=said.get(b"uber-trace-id"),
        )
    return ids, form, state


def _build(trace_id: bytes, span_id: bytes) -> Ids:
    trace, span = unhexlify(trace_id.rjust(32, b"0")), unhexlify(span_id.rjust(16, b"0"))
    return NOBODY if trace == _ZERO_TRACE or span == _ZERO_SPAN else (trace, span)
