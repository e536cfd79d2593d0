"""Why a span has its name, told from what was stored: every rule and every reason has its sentence."""

from dataclasses import replace
from pathlib import Path

import pytest

from farcall.api import DnsEvidence, Span
from farcall.names import UNKNOWN_EXTERNAL_SERVICE, NameSource, UnknownReason
from farcall_console.evidence import (
    ADVICE,
    NOT_NAMED,
    NOTHING_KNOWN,
    REASONS,
    RULES,
    SERVER_SIDE,
    Deadline,
    address_called,
    answer_window,
    build_evidence,
    client_asked_about,
    deadline_of,
)
from support_console import NOW_NS, NS, make_config, make_span

pytestmark = pytest.mark.unit

DEADLINE = Deadline(ttl_s=3_600, tier="Hobby", is_overridden=False)


def answer(name: str, *, ago_s: int, client: str = "c:1") -> DnsEvidence:
    return DnsEvidence(
        time_ns=str(NOW_NS - ago_s * NS),
        client=client,
        service="checkout",
        resolver="10.96.0.10",
        question=name,
        address="203.0.113.10",
        canonical_name="",
        used=False,
    )


def test_every_source_and_every_reason_has_a_sentence() -> None:
    assert set(RULES) == set(NameSource)
    assert set(REASONS) == set(UnknownReason) == set(ADVICE)


@pytest.mark.parametrize("source", list(NameSource))
def test_a_name_tells_its_rule(source: NameSource) -> None:
    span = make_span(attributes={"farcall.name.source": source.value})
    evidence = build_evidence(span, {}, [], DEADLINE)
    assert (evidence.source, evidence.rule) == (source, RULES[source])
    assert evidence.unknown_reason == ""


@pytest.mark.parametrize("reason", list(UnknownReason))
def test_an_unknown_tells_its_reason_and_the_cure(reason: UnknownReason) -> None:
    span = make_span(
        destination=UNKNOWN_EXTERNAL_SERVICE, unknown_reason=reason.value, attributes={}
    )
    evidence = build_evidence(span, {}, [], DEADLINE)
    assert (evidence.rule, evidence.advice) == (REASONS[reason], ADVICE[reason])
    assert evidence.source == ""


def test_the_answer_that_the_connection_was_opened_with_is_marked() -> None:
    answers = [
        answer("cache.example.com", ago_s=5),
        answer("other.example.com.", ago_s=20),
        answer("cache.example.com", ago_s=60),
        answer("cache.example.com", ago_s=90),
    ]
    connection = {
        "ClientKey": "c:1",
        "Opened": str(NOW_NS - 30 * NS),
        "AnsweredAt": str(NOW_NS - 60 * NS),
        "Rivals": '["third, with comma", "other.example.com"]',
    }
    evidence = build_evidence(make_span(), connection, answers, DEADLINE)
    assert [a.used for a in evidence.answers] == [False, False, True, False]
    assert evidence.rivals == ("third, with comma", "other.example.com")
    assert (evidence.age_s, evidence.answered_at_ns) == (60, str(NOW_NS - 60 * NS))
    assert evidence.connection_opened_ns == str(NOW_NS - 30 * NS)
    assert (evidence.client, evidence.peer) == ("c:1", "203.0.113.10:6379")


def test_an_answer_whose_time_was_rounded_on_its_way_is_still_the_one() -> None:
    """Seconds in a double lose nanoseconds: the connection's row said …473004544, the answer …473004668."""
    read = replace(answer("cache.example.com", ago_s=0), time_ns="1795600479473004668")
    span = make_span(
        start_ns="1795600536587683732",
        destination="cache.example.com",
        attributes={"farcall.name.source": "dns"},
    )
    connection = {"ClientKey": "c:1", "AnsweredAt": "1795600479473004544"}
    evidence = build_evidence(span, connection, [read], DEADLINE)
    assert [a.used for a in evidence.answers] == [True]


def test_an_answer_after_the_call_is_never_the_one() -> None:
    late = [answer("cache.example.com", ago_s=-5)]
    evidence = build_evidence(make_span(), {}, late, DEADLINE)
    assert [a.used for a in evidence.answers] == [False] and evidence.answered_at_ns == ""


def test_the_time_to_live_is_the_one_that_was_in_force(tmp_path: Path) -> None:
    config = make_config(tmp_path, ttl_override_s=4)
    assert deadline_of(config, make_span(), {"TtlSeconds": "3600"}) == Deadline(
        ttl_s=3_600, tier="Hobby", is_overridden=True
    )
    for nothing in ({}, {"TtlSeconds": ""}, {"TtlSeconds": "0"}, {"TtlSeconds": "x"}):
        assert deadline_of(config, make_span(), nothing).ttl_s == 4


def expired(answered_ago_s: int) -> tuple[Span, dict[str, str]]:
    """A call over a connection that was opened on Hobby, and the row of that connection."""
    answered_at = str(NOW_NS - answered_ago_s * NS)
    reason = UnknownReason.EXPIRED.value
    span = make_span(destination=UNKNOWN_EXTERNAL_SERVICE, unknown_reason=reason, attributes={})
    return span, {"TtlSeconds": "3600", "AnsweredAt": answered_at}


def named(age_s: int) -> tuple[Span, dict[str, str]]:
    span = make_span(attributes={"farcall.name.source": "dns", "farcall.name.age_s": str(age_s)})
    return span, {"TtlSeconds": "3600"}


def test_a_name_that_expired_early_was_judged_by_the_shorter_time_of_today(tmp_path: Path) -> None:
    shorter = make_config(tmp_path, ttl_override_s=20)
    assert deadline_of(shorter, *expired(30)).ttl_s == 20
    assert deadline_of(shorter, *expired(4_000)).ttl_s == 3_600


def test_a_name_that_outlived_its_hour_was_judged_by_the_week_of_today(tmp_path: Path) -> None:
    longer = make_config(tmp_path, ttl_override_s=604_800)
    assert deadline_of(longer, *named(4_000)).ttl_s == 604_800
    assert deadline_of(longer, *named(3_600)).ttl_s == 3_600


def test_a_name_that_is_held_may_be_older_than_its_time_to_live(tmp_path: Path) -> None:
    config = make_config(tmp_path, ttl_override_s=604_800)
    held = replace(config, dns=replace(config.dns, hold_while_connected=True))
    assert deadline_of(held, *named(4_000)).ttl_s == 3_600


def test_answers_are_looked_for_as_far_back_as_they_can_matter() -> None:
    window = answer_window(make_span(), DEADLINE)
    assert window.from_ns == NOW_NS - 7_200 * NS and window.to_ns > NOW_NS
    assert answer_window(make_span(start_ns="5"), DEADLINE).from_ns == 0


def test_spans_that_farcall_does_not_name_say_so() -> None:
    bare = make_span(attributes={}, destination="")
    assert build_evidence(replace(bare, source="otel"), {}, [], DEADLINE).rule == NOT_NAMED
    assert build_evidence(replace(bare, is_server_span=True), {}, [], DEADLINE).rule == SERVER_SIDE
    assert build_evidence(bare, {}, [], DEADLINE).rule == NOTHING_KNOWN


def test_words_of_a_newer_exporter_do_not_break_the_page() -> None:
    span = make_span(unknown_reason="brand_new", attributes={"farcall.name.source": "telepathy"})
    evidence = build_evidence(span, {"Rivals": "{broken", "Opened": "soon"}, [], DEADLINE)
    assert (evidence.source, evidence.unknown_reason) == ("", "")
    assert evidence.rivals == () and evidence.connection_opened_ns == ""


def test_a_name_from_the_whole_cluster_shows_whoever_asked() -> None:
    own = {"ClientKey": "c:1"}
    shared = make_span(attributes={"farcall.name.source": "cluster"})
    assert client_asked_about(make_span(), own) == "c:1"
    assert client_asked_about(shared, own) is None
    other = answer("cache.example.com", ago_s=9, client="c:2")
    assert build_evidence(shared, own, [other], DEADLINE).answers[0].used


def test_on_the_servers_side_there_is_no_name_to_look_for() -> None:
    assert address_called(make_span(is_server_span=True)) == ""
    assert address_called(make_span()) == "203.0.113.10"


def test_an_ipv6_peer_stands_in_brackets() -> None:
    span = make_span(attributes={"network.peer.address": "2001:db8::1", "network.peer.port": "443"})
    assert build_evidence(span, {}, [], DEADLINE).peer == "[2001:db8::1]:443"
