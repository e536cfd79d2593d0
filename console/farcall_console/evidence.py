"""Why a span has its name, or none: what was stored at the time, put into sentences. Pure.

Decides nothing about names: the exporter did, and wrote down by which rule. Here the rule is only told.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from farcall.api import DnsEvidence, Evidence, Span, Window
from farcall.dnscache import tombstone_life_s
from farcall.effective import EffectiveConfig
from farcall.names import Confidence, NameSource, UnknownReason

Word = TypeVar("Word", NameSource, UnknownReason)

_FROM_DNS = (NameSource.DNS, NameSource.CACHE, NameSource.CLUSTER)

NS = 1_000_000_000
# A name's time is in seconds, as a double, on its way through Redis and the exporter: 240 ns coarse at today's date.
ROUNDING_NS = 1_000
MAX_AGENT_CLOCK_STEP_S = 60  # an answer read just after the call began still belongs to it

CONNECTION_ID = "farcall.connection.id"
PEER_ADDRESS = "network.peer.address"
PEER_PORT = "network.peer.port"

RULES: dict[NameSource, str] = {
    NameSource.KUBERNETES: "The address belongs to the cluster, so the call is labelled with the Kubernetes service or workload behind it.",
    NameSource.SERVER: "The address belongs to the cluster, and the server saw the same call: its own process says which service it is.",
    NameSource.HTTP: "The request itself names its host (the HTTP Host header or :authority), and that is the name.",
    NameSource.SNI: "The TLS handshake names the server (SNI), and that is the name.",
    NameSource.DNS: "The newest DNS answer that this client got before it connected contains this address, and the connection was opened with it.",
    NameSource.CACHE: "The DNS cache knows one name that this client asked for and that led to this address.",
    NameSource.CLUSTER: "This client's own look-ups could not have been seen, and all of the cluster knows this address by one name, from a trusted resolver.",
}
NAME_ADVICE: dict[NameSource, str] = {
    NameSource.CLUSTER: "The name is another client's. Restart the client once the agent runs, and its own look-ups will be seen.",
}
REASONS: dict[UnknownReason, str] = {
    UnknownReason.NO_DNS_SEEN: "This client was watched from its start, and it made no DNS query that led to this address: it called a bare IP address.",
    UnknownReason.EXPIRED: "The DNS answer that led to this address is older than the tier keeps answers, and nobody has asked again since.",
    UnknownReason.AMBIGUOUS: "Several names lead to this address, and none of them is tied to this connection; a guess could be wrong.",
    UnknownReason.CACHE_UNAVAILABLE: "The DNS cache (Redis) could not be asked when this call was named.",
    UnknownReason.CACHE_EVICTED: "The DNS cache knew this address and gave it up before its time, because it was full.",
    UnknownReason.AGENT_STARTED_LATER: "The connection is older than the agent, so the DNS query before it was not seen.",
    UnknownReason.DNS_LOST: "DNS records of this node were lost while this client ran, so its look-up may be among them.",
}
ADVICE: dict[UnknownReason, str] = {
    UnknownReason.NO_DNS_SEEN: "Call the service by a host name, or read the address below: that is all that is known of it.",
    UnknownReason.EXPIRED: "Set spec.dns.holdWhileConnected: true to keep a name for as long as its connection lives, choose the Scale tier (one week), or let the client reconnect within the time.",
    UnknownReason.AMBIGUOUS: "Let the client reconnect: the next connection is tied to the answer it was opened with.",
    UnknownReason.CACHE_UNAVAILABLE: "Look at the DNS cache on the status page. Spans of the last minutes are mended by themselves once it answers.",
    UnknownReason.CACHE_EVICTED: "Give the DNS cache more memory (spec.dnsCache.resources), or choose the Scale tier.",
    UnknownReason.AGENT_STARTED_LATER: "Let the client reconnect once; every later connection is seen from its start.",
    UnknownReason.DNS_LOST: "Look at the agent's losses on the status page and give it more CPU (spec.probe.resources).",
}
MENDED = "The name became known after the call, and was laid over the span."
NOTHING_KNOWN = "Nothing was written down about how this destination was named."
NOT_NAMED = "This span comes from an application's own instrumentation; farcall names only the calls it sees itself."
SERVER_SIDE = "This is the server's side of the call: the span belongs to the service that was asked, so there is no destination to name."


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """The tier's TTL as it was in force, and whether somebody overrode it."""

    ttl_s: int
    tier: str
    is_overridden: bool


def deadline_of(config: EffectiveConfig, span: Span, connection: Mapping[str, str]) -> Deadline:
    """What was stored with the connection wins over what the config says today.

    It was stored when the connection was opened, and the tier may have changed while it lived. Where the span cannot have
    been named by that one, it was by today's.
    """
    stored = connection.get("TtlSeconds", "")
    ttl_s = int(stored) if stored.isdecimal() else 0
    if not ttl_s or _was_another(span, connection, ttl_s, config.dns.hold_while_connected):
        ttl_s = config.dns.effective_ttl_s
    return Deadline(
        ttl_s=ttl_s,
        tier=config.tier,
        is_overridden=config.dns.ttl_override_s is not None,
    )


def _was_another(span: Span, connection: Mapping[str, str], ttl_s: int, is_held: bool) -> bool:
    """Too young to have expired, or too old to have had a name."""
    age_s = _age_s(span, _nanoseconds(connection.get("AnsweredAt", "")))
    if age_s is None:
        return False
    if span.unknown_reason:
        return span.unknown_reason == UnknownReason.EXPIRED and age_s < ttl_s
    is_from_dns = span.attributes.get("farcall.name.source") in _FROM_DNS
    return is_from_dns and age_s > ttl_s and not is_held


def answer_window(span: Span, deadline: Deadline) -> Window:
    """Where the answers lie that can have mattered: as far back as tombstones live."""
    at_ns = int(span.start_ns)
    return Window(
        from_ns=max(0, at_ns - tombstone_life_s(deadline.ttl_s) * NS),
        to_ns=at_ns + MAX_AGENT_CLOCK_STEP_S * NS,
    )


def address_called(span: Span) -> str:
    """The address whose name is in question; "" on the server's side, where the peer is the caller."""
    return "" if span.is_server_span else span.attributes.get(PEER_ADDRESS, "")


def client_asked_about(span: Span, connection: Mapping[str, str]) -> str | None:
    """Whose answers count: the client's own, or everybody's when the name came from the whole cluster."""
    if span.attributes.get("farcall.name.source") == NameSource.CLUSTER:
        return None
    return connection.get("ClientKey")


def build_evidence(
    span: Span,
    connection: Mapping[str, str],
    answers: Sequence[DnsEvidence],
    deadline: Deadline,
) -> Evidence:
    """`connection` is the row of `connections`, or empty when there is none."""
    source = _known(NameSource, span.attributes.get("farcall.name.source", ""))
    reason = _known(UnknownReason, span.unknown_reason)
    answered_at_ns = _nanoseconds(connection.get("AnsweredAt", ""))
    answered_at_ns = answered_at_ns or _used_answer_ns(span, answers)
    return Evidence(
        trace_id=span.trace_id,
        span_id=span.span_id,
        label=span.destination,
        source=source or "",
        confidence=span.attributes.get("farcall.name.confidence", ""),
        unknown_reason=reason or "",
        rule=_rule(span, source, reason),
        advice=_advice(source, reason),
        client=connection.get("ClientKey", ""),
        service=span.service,
        peer=_peer(span),
        connection_opened_ns=_nanoseconds(connection.get("Opened", "")),
        span_time_ns=span.start_ns,
        answered_at_ns=answered_at_ns,
        age_s=_age_s(span, answered_at_ns),
        ttl_s=deadline.ttl_s,
        tier=deadline.tier,
        ttl_overridden=deadline.is_overridden,
        answers=mark_used(answers, span.destination, answered_at_ns),
        rivals=_rivals(connection, answers, span.destination),
    )


def mark_used(
    answers: Sequence[DnsEvidence], label: str, answered_at_ns: str
) -> tuple[DnsEvidence, ...]:
    """The one answer the name came from: the newest for that name, not newer than the one written down."""
    used = next(
        (
            index
            for index, answer in enumerate(answers)
            if answered_at_ns
            and _is_same_name(answer.question, label)
            and int(answer.time_ns) <= int(answered_at_ns) + ROUNDING_NS
        ),
        None,
    )
    return tuple(replace(answer, used=index == used) for index, answer in enumerate(answers))


def _rule(span: Span, source: NameSource | None, reason: UnknownReason | None) -> str:
    if reason is not None:
        return REASONS[reason]
    if source is not None:
        confidence = span.attributes.get("farcall.name.confidence")
        shared = source is NameSource.CACHE and confidence == Confidence.SHARED
        return RULES[NameSource.CLUSTER if shared else source]
    if span.source != "ebpf":
        return NOT_NAMED
    return SERVER_SIDE if span.is_server_span else NOTHING_KNOWN


def _advice(source: NameSource | None, reason: UnknownReason | None) -> str:
    if reason is not None:
        return ADVICE[reason]
    return NAME_ADVICE.get(source, "") if source is not None else ""


def _known(words: type[Word], text: str) -> Word | None:
    """A word of a closed list; None for nothing, and for what a newer exporter may have written."""
    try:
        return words(text)
    except ValueError:
        return None


def _peer(span: Span) -> str:
    address = span.attributes.get(PEER_ADDRESS, "")
    port = span.attributes.get(PEER_PORT, "")
    if not address:
        return ""
    host = f"[{address}]" if ":" in address else address
    return f"{host}:{port}" if port else host


def _age_s(span: Span, answered_at_ns: str) -> int | None:
    stored = span.attributes.get("farcall.name.age_s", "")
    if stored.isdecimal():
        return int(stored)
    if not answered_at_ns:
        return None
    return max(0, (int(span.start_ns) - int(answered_at_ns)) // NS)


def _used_answer_ns(span: Span, answers: Sequence[DnsEvidence]) -> str:
    """For a name from DNS or the cache whose time was not written down with the connection."""
    if span.attributes.get("farcall.name.source") not in _FROM_DNS:
        return ""
    before = [
        answer
        for answer in answers
        if int(answer.time_ns) <= int(span.start_ns)
        and _is_same_name(answer.question, span.destination)
    ]
    return before[0].time_ns if before else ""


def _rivals(
    connection: Mapping[str, str], answers: Sequence[DnsEvidence], label: str
) -> tuple[str, ...]:
    """Other names that led to the same address: those written down then, and those in the answers."""
    stored = _names(connection.get("Rivals", ""))
    asked = [answer.question.rstrip(".") for answer in answers]
    names = dict.fromkeys(name for name in (*stored, *asked) if name)
    return tuple(name for name in names if not _is_same_name(name, label))


def _names(text: str) -> list[str]:
    """A JSON list of strings, as the reader renders columns that are lists."""
    try:
        listed = json.loads(text or "[]")
    except ValueError:
        return []
    return [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []


def _is_same_name(question: str, label: str) -> bool:
    return question.rstrip(".").lower() == label.rstrip(".").lower()


def _nanoseconds(text: str) -> str:
    """Times come as decimal nanoseconds, "" or "0" for none."""
    return text if text.isdecimal() and int(text) else ""
