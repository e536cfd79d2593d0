"""The search language compiled to a WHERE condition with bound parameters. User text never becomes SQL text.

The grammar is in `syntax`. Whether a regex is one only the engine knows (RE2): `find_regexes` lets the reader
say which one it refused.

Fields of spans: trace, span, parent, service, name, kind, status, source, destination, unknown, duration, connection,
message, is:server|client|root|error|unknown|external|linked. Of logs: trace, span, service, level, body, event,
is:error. Any other key is an attribute of the span or line, or of its resource.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from farcall.storeport import QuerySyntaxError
from farcall_store import fields
from farcall_store.literals import find_required_words, lower_ascii, split_words
from farcall_store.syntax import (
    And,
    Anything,
    Field,
    Node,
    Not,
    Or,
    Phrase,
    Range,
    Regex,
    Word,
    parse_query,
    walk,
)

MAX_TOKENS = 64  # of one hasAllTokens; the engine refuses more
Value = str | int | float | list[str]

UNKNOWN_REASON = "farcall.unknown.reason"

# Bounds of the reader's window, as overlays are searched within them too.
WINDOW = (
    "Timestamp >= fromUnixTimestamp64Nano({from_ns:Int64})"
    " AND Timestamp < fromUnixTimestamp64Nano({to_ns:Int64})"
)
LATE = f"SELECT SpanId FROM late_names WHERE {WINDOW}"
# Of a row of late_names: the reason that it corrects; "" where it gives a name.
LATE_REASON = f"Attributes['{UNKNOWN_REASON}']"
NAMED = f"{LATE} AND {LATE_REASON} = ''"
IS_UNKNOWN = f"UnknownReason != '' AND SpanId NOT IN ({NAMED})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicate:
    """`sql` is a condition, "1" for an empty query; `params` are what it binds (names begin with `q`)."""

    sql: str
    params: dict[str, Value]


def compile_spans(text: str) -> Predicate:
    """For otel_traces; refers to {from_ns:Int64} and {to_ns:Int64}. Raises QuerySyntaxError."""
    return _compile(text, _Spans())


def compile_logs(text: str) -> Predicate:
    """For otel_logs. Raises QuerySyntaxError."""
    return _compile(text, _Logs())


def find_regexes(text: str) -> list[Regex]:
    """Every regex of a query that `compile_…` accepts, by position."""
    node = parse_query(text)
    found = []
    for part in walk(node) if node is not None else ():
        value = part.value if isinstance(part, Field) else part
        if isinstance(value, Regex):
            found.append(value)
    return sorted(found, key=lambda regex: regex.position)


def _compile(text: str, table: "_Table") -> Predicate:
    node = parse_query(text)
    if node is None:
        return Predicate(sql="1", params={})
    return Predicate(sql=table.render(node), params=table.params)


@dataclass
class _Table:
    """What both tables share: logic, text, attributes."""

    params: dict[str, Value] = field(default_factory=dict)

    text = ""  # expression of lower-case searchable text, indexed by words
    items = ""  # array of 'key=value'
    attributes = ""  # map

    def bind(self, value: Value, kind: str = "String") -> str:
        name = f"q{len(self.params)}"
        self.params[name] = value
        return f"{{{name}:{kind}}}"

    def render(self, node: Node) -> str:
        match node:
            case And(parts=parts):
                return "(" + " AND ".join(self.render(part) for part in parts) + ")"
            case Or(parts=parts):
                return "(" + " OR ".join(self.render(part) for part in parts) + ")"
            case Not(part=part):
                return f"(NOT {self.render(part)})"
            case Field():
                return f"({self.render_field(node)})"
            case Regex():
                return f"({self.render_regex(node)})"
            case Word() | Phrase():
                return f"({self.render_text(node)})"

    def render_field(self, node: Field) -> str:
        raise NotImplementedError

    def render_regex(self, node: Regex) -> str:
        raise NotImplementedError

    def render_text(self, node: Word | Phrase) -> str:
        return self.render_contains(self.text, node)

    def render_contains(self, expression: str, node: Word | Phrase) -> str:
        """Whole words, ASCII case ignored; what is between them must be there as written."""
        if isinstance(node, Word) and "*" in node.text:
            like = self.bind(fields.render_like(f"*{lower_ascii(node.text)}*"))
            return f"{expression} LIKE {like}"
        wanted = lower_ascii(node.text)
        words = split_words(node.text)
        conditions = self.render_words(expression, words)
        if words != [wanted]:
            conditions.append(f"position({expression}, {self.bind(wanted)}) > 0")
        return " AND ".join(conditions)

    def render_words(self, expression: str, words: list[str]) -> list[str]:
        batches = [words[n : n + MAX_TOKENS] for n in range(0, len(words), MAX_TOKENS)]
        return [
            f"hasAllTokens({expression}, {self.bind(batch, 'Array(String)')})" for batch in batches
        ]

    def render_column(self, column: str, node: Field) -> str:
        """A text column by value, glob, regex or presence."""
        match node.value:
            case Anything():
                return f"{column} != ''"
            case Regex(pattern=pattern):
                return f"match({column}, {self.bind(pattern)})"
            case Word(text=text) if node.operator == ":" and "*" in text:
                return f"{column} LIKE {self.bind(fields.render_like(text))}"
            case Word(text=text) | Phrase(text=text) if node.operator == ":":
                return f"{column} = {self.bind(text)}"
        raise QuerySyntaxError(
            f"{node.key} is text: write {node.key}:value", position=node.value.position
        )

    def render_choice(self, column: str, node: Field, choices: dict[str, str]) -> str:
        if isinstance(node.value, Anything):
            return "1"
        return f"{column} = {self.bind(fields.parse_choice(self.need_word(node), choices))}"

    def need_word(self, node: Field) -> Word:
        if node.operator != ":" or not isinstance(node.value, Word | Phrase):
            raise QuerySyntaxError(
                f"{node.key} takes one value, as in {node.key}:value", position=node.value.position
            )
        return Word(text=node.value.text, position=node.value.position)

    def render_attribute(self, node: Field) -> str:
        own = self.render_attribute_of(node, self.attributes, self.items)
        resource = self.render_attribute_of(node, "ResourceAttributes", "ResourceAttributeItems")
        return f"{own} OR {resource}"

    def render_attribute_of(self, node: Field, attributes: str, items: str) -> str:
        """A map's subscript is not indexed, the list of 'key=value' is: equality goes there."""
        key = self.bind(node.key)
        match node.value:
            case Anything():
                return f"mapContains({attributes}, {key})"
            case Regex(pattern=pattern):
                return f"(mapContains({attributes}, {key}) AND match({attributes}[{key}], {self.bind(pattern)}))"
            case Range(low=low, high=high, position=position):
                return self.render_between(node.key, f"{attributes}[{key}]", low, high, position)
            case Word(text=text, position=position) if node.operator != ":":
                number = fields.parse_attribute_number(node.key, text, position)
                bound = self.bind(number, "Float64")
                return f"ifNull(toFloat64OrNull({attributes}[{key}]) {node.operator} {bound}, 0)"
            case Word(text=text) if "*" in text:
                like = self.bind(fields.render_like(text))
                return f"(mapContains({attributes}, {key}) AND {attributes}[{key}] LIKE {like})"
            case Word(text=text) | Phrase(text=text):
                return f"has({items}, {self.bind(f'{node.key}={text}')})"

    def render_between(self, key: str, value: str, low: str, high: str, position: int) -> str:
        first = self.bind(fields.parse_attribute_number(key, low, position), "Float64")
        last = self.bind(fields.parse_attribute_number(key, high, position), "Float64")
        return f"ifNull(toFloat64OrNull({value}) BETWEEN {first} AND {last}, 0)"


class _Spans(_Table):
    text = "SearchText"
    items = "SpanAttributeItems"
    attributes = "SpanAttributes"

    _COLUMNS: ClassVar = {
        "service": "ServiceName",
        "name": "SpanName",
        "connection": "ConnectionId",
        "message": "StatusMessage",
    }
    _CAUSED = f"SELECT EbpfSpanId FROM trace_links WHERE {WINDOW} AND Method = 'cause'"
    _JOINED = f"SELECT SpanId FROM span_joins WHERE {WINDOW}"

    def render_text(self, node: Word | Phrase) -> str:
        stored = self.render_contains(self.text, node)
        late = self.render_contains("lower(DestinationLabel)", node)
        return f"({stored}) OR SpanId IN ({NAMED} AND {late})"

    def render_regex(self, node: Regex) -> str:
        pattern = self.bind(node.pattern)
        words = self.render_words(self.text, find_required_words(node.pattern))
        found = (
            f"(match(SpanName, {pattern}) OR match(DestinationLabel, {pattern}) OR "
            f"match(StatusMessage, {pattern}) OR arrayExists(v -> match(v, {pattern}), mapValues(SpanAttributes)))"
        )
        return " AND ".join([*words, found])

    def render_field(self, node: Field) -> str:
        key = node.key
        if key in self._COLUMNS:
            return self.render_column(self._COLUMNS[key], node)
        special: dict[str, Callable[[Field], str]] = {
            "trace": self._render_trace,
            "span": self._render_span,
            "parent": self._render_parent,
            "kind": lambda n: self.render_choice("SpanKind", n, fields.KINDS),
            "status": lambda n: self.render_choice("StatusCode", n, fields.STATUSES),
            "source": lambda n: self.render_choice("Source", n, fields.SOURCES),
            "duration": self._render_duration,
            "is": self._render_is,
            "destination": self._render_destination,
            "farcall.destination.name": self._render_destination,
            "unknown": self._render_unknown,
            "farcall.unknown.reason": self._render_unknown,
        }
        if key in special:
            return special[key](node)
        if key == "server.address" or key.startswith("farcall."):
            return self._render_overlaid(node)
        return self.render_attribute(node)

    def _bind_hex(self, node: Field, digits: int, what: str) -> str:
        return self.bind(fields.parse_hex(self.need_word(node), digits, what))

    def _render_trace(self, node: Field) -> str:
        """Its own spans, and the eBPF spans that are linked to it."""
        trace = self._bind_hex(node, 32, "a trace ID")
        return f"TraceId = {trace} OR SpanId IN (SELECT EbpfSpanId FROM trace_links WHERE OtelTraceId = {trace})"

    def _render_span(self, node: Field) -> str:
        span = self._bind_hex(node, 16, "a span ID")
        linked = (
            f"SELECT EbpfSpanId FROM trace_links WHERE OtelSpanId = {span} AND Method != 'cause'"
        )
        return f"SpanId = {span} OR SpanId IN ({linked})"

    def _render_parent(self, node: Field) -> str:
        """Also where the parent became known after its child was stored."""
        parent = self._bind_hex(node, 16, "a span ID")
        late = f"ParentSpanId = '' AND SpanId IN ({self._CAUSED} AND OtelSpanId = {parent})"
        return f"ParentSpanId = {parent} OR ({late})"

    def _render_duration(self, node: Field) -> str:
        if isinstance(node.value, Range):
            position = node.value.position
            low = self.bind(fields.parse_duration_ns(node.value.low, position), "UInt64")
            high = self.bind(fields.parse_duration_ns(node.value.high, position), "UInt64")
            return f"Duration BETWEEN {low} AND {high}"
        if not isinstance(node.value, Word):
            raise QuerySyntaxError(
                "a duration is compared: write duration>100ms", position=node.value.position
            )
        limit = self.bind(fields.parse_duration_ns(node.value.text, node.value.position), "UInt64")
        return f"Duration {'=' if node.operator == ':' else node.operator} {limit}"

    def _render_is(self, node: Field) -> str:
        conditions = {
            "server": "IsServerSpan",
            "client": "SpanKind = 'Client'",
            "root": f"ParentSpanId = '' AND SpanId NOT IN ({self._CAUSED})",
            "error": "StatusCode = 'Error'",
            "unknown": IS_UNKNOWN,
            "external": "has(SpanAttributeItems, 'farcall.destination.kind=external')"
            f" OR SpanId IN ({LATE} AND has(AttributeItems, 'farcall.destination.kind=external'))",
            "linked": f"SpanId IN (SELECT EbpfSpanId FROM trace_links WHERE {WINDOW} AND Method != 'cause')",
        }
        return fields.parse_choice(self.need_word(node), conditions)

    def _render_destination(self, node: Field) -> str:
        stored = self.render_column("DestinationLabel", node)
        late = self.render_column("DestinationLabel", node)
        return f"({stored} AND SpanId NOT IN ({NAMED})) OR SpanId IN ({NAMED} AND {late})"

    def _render_unknown(self, node: Field) -> str:
        """A name that came late takes the reason away, and a reason that came late its place."""
        stored = self.render_column("UnknownReason", node)
        late = self.render_column(LATE_REASON, node)
        now = f"({stored} AND SpanId NOT IN ({LATE})) OR SpanId IN ({LATE} AND {late})"
        return f"({now}) AND SpanId NOT IN ({NAMED})"

    def _render_overlaid(self, node: Field) -> str:
        """An attribute that a late name or a join may have laid over the stored one."""
        key = self.bind(node.key)
        stored = self.render_attribute(node)
        has_key = f"mapContains(Attributes, {key})"
        laid = self.render_attribute_of(node, "Attributes", "AttributeItems")
        over = f"{LATE} AND {has_key} UNION ALL {self._JOINED} AND {has_key}"
        match = f"{LATE} AND {laid} UNION ALL {self._JOINED} AND {laid}"
        return f"(({stored}) AND SpanId NOT IN ({over})) OR SpanId IN ({match})"


class _Logs(_Table):
    text = "lower(Body)"
    items = "LogAttributeItems"
    attributes = "LogAttributes"

    def render_regex(self, node: Regex) -> str:
        words = self.render_words(self.text, find_required_words(node.pattern))
        return " AND ".join([*words, f"match(Body, {self.bind(node.pattern)})"])

    def render_field(self, node: Field) -> str:
        match node.key:
            case "service":
                return self.render_column("ServiceName", node)
            case "event":
                return self.render_column("EventName", node)
            case "level" | "severity":
                return self._render_level(node)
            case "body" | "message" | "msg":
                return self._render_body(node)
            case "trace":
                trace = self.bind(fields.parse_hex(self.need_word(node), 32, "a trace ID"))
                return f"TraceId IN (SELECT {trace} UNION ALL SELECT OtelTraceId FROM trace_links WHERE EbpfTraceId = {trace})"
            case "span":
                span = self.bind(fields.parse_hex(self.need_word(node), 16, "a span ID"))
                return f"SpanId IN (SELECT {span} UNION ALL SELECT OtelSpanId FROM trace_links WHERE EbpfSpanId = {span})"
            case "is":
                return fields.parse_choice(self.need_word(node), {"error": "SeverityNumber >= 17"})
        return self.render_attribute(node)

    def _render_body(self, node: Field) -> str:
        match node.value:
            case Anything():
                return "Body != ''"
            case Regex():
                return self.render_regex(node.value)
            case Word() | Phrase() if node.operator == ":":
                return self.render_text(node.value)
        raise QuerySyntaxError("the body is text: write body:word", position=node.value.position)

    def _render_level(self, node: Field) -> str:
        if isinstance(node.value, Anything):
            return "SeverityNumber > 0"
        if isinstance(node.value, Range):
            position = node.value.position
            low, _ = fields.parse_level(Word(text=node.value.low, position=position))
            _, high = fields.parse_level(Word(text=node.value.high, position=position))
            return f"SeverityNumber BETWEEN {low} AND {high}"
        if not isinstance(node.value, Word | Phrase):
            raise QuerySyntaxError(
                "a level is a word: write level>=warn", position=node.value.position
            )
        first, last = fields.parse_level(Word(text=node.value.text, position=node.value.position))
        bounds = {
            ":": f"SeverityNumber BETWEEN {first} AND {last}",
            ">=": f"SeverityNumber >= {first}",
            ">": f"SeverityNumber > {last}",
            "<=": f"SeverityNumber BETWEEN 1 AND {last}",
            "<": f"SeverityNumber BETWEEN 1 AND {first - 1}",
        }
        return bounds[node.operator]
