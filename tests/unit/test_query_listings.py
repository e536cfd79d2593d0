"""Times as people write them, and evidence as sentences."""

from dataclasses import replace

import pytest

from farcall import listings
from farcall.api import DnsEvidence
from farcall.query import UsageError, parse_time_ns
from support_api import EVIDENCE, LINE, SPAN, SUMMARY

pytestmark = pytest.mark.unit
NOW_NS = 1_795_591_234_000_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW_NS),
        ("15m", NOW_NS - 900 * 10**9),
        ("2h", NOW_NS - 7_200 * 10**9),
        ("1795591234000000000", NOW_NS),
        ("2026-11-25T07:20:34Z", NOW_NS),
        ("2026-11-25T08:20:34.000001+01:00", NOW_NS + 1_000),
    ],
)
def test_a_time_is_read_as_it_is_meant(text: str, expected: int) -> None:
    assert parse_time_ns(text, NOW_NS) == expected


@pytest.mark.parametrize("text", ["yesterday", "2026-11-25T08:00:00", "-5m", "", "0m"])
def test_what_is_no_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match=r"write 15m|time zone"):
        parse_time_ns(text, NOW_NS)


@pytest.mark.parametrize(
    ("ns", "text"),
    [("999", "999 ns"), ("1500", "1.50 µs"), ("3210000", "3.21 ms"), ("2500000000", "2.50 s")],
)
def test_a_duration_is_in_the_unit_that_reads_best(ns: str, text: str) -> None:
    assert listings.format_duration(ns) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(42, "42 s"), (720, "12 min"), (12_600, "3.5 h"), (604_800, "7 d")]
)
def test_an_age_is_in_the_unit_that_reads_best(seconds: int, text: str) -> None:
    assert listings.format_age(seconds) == text


@pytest.mark.parametrize(
    ("listing", "item"),
    [(listings.SPANS, SPAN), (listings.TRACES, SUMMARY), (listings.LOGS, LINE)],
)
def test_a_listing_has_a_cell_per_column(listing: listings.Listing, item: object) -> None:
    assert len(listing.row(item)) == len(listing.columns)


def test_a_span_says_what_named_it_or_why_nothing_did() -> None:
    unknown = replace(SPAN, destination="Unknown External Service", unknown_reason="no_dns_seen")

    assert listings.name_evidence(SPAN) == "http"
    assert listings.name_evidence(unknown) == "no_dns_seen"


def test_an_expired_name_is_told_with_its_age_and_the_cure() -> None:
    told = "\n".join(listings.render_evidence(EVIDENCE))

    assert "cart called 203.0.113.12:6379" in told
    assert "Unknown External Service, because: expired" in told
    assert "66 min before the call" in told
    assert "answers are good for 60 min (Hobby tier)" in told
    assert "What to change: set spec.dns.holdWhileConnected" in told


def test_answers_are_told_with_who_asked_whom() -> None:
    answer = DnsEvidence(
        time_ns="1795591233900000000",
        client="p:node:4711:99",
        service="cart",
        resolver="10.96.100.10",
        question="cache.example.com",
        address="203.0.113.12",
        canonical_name="cache-7f3a.provider.example.net",
        used=True,
    )

    told = list(listings.render_evidence(replace(EVIDENCE, answers=(answer,))))

    assert any(
        line.startswith(" * ") and "cart asked 10.96.100.10 for cache.example.com" in line
        for line in told
    )


def test_evidence_from_the_wire_cannot_steer_the_terminal() -> None:
    told = list(listings.render_evidence(replace(EVIDENCE, service="x\x1b[2J\nfake line")))

    assert not any("\x1b" in line or "\n" in line for line in told)
