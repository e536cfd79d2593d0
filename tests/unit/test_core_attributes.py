"""The attribute registry and the words of naming: one of each, and the same in both places."""

import pytest

from farcall.attributes import IS_SERVER_SPAN, REGISTRY
from farcall.names import (
    UNKNOWN_EXTERNAL_SERVICE,
    Confidence,
    DestinationKind,
    NameSource,
    UnknownReason,
)

pytestmark = pytest.mark.unit

OTEL_NAMESPACES = (
    "client.", "container.", "db.", "error.", "http.", "k8s.", "messaging.", "network.", "process.", "rpc.", "server.", "service.",
    "tls.", "url.", "user_agent.",
)  # fmt: skip


def test_each_key_stands_once() -> None:
    from farcall import attributes

    keys = [attribute.key for attribute in attributes._ALL]
    assert len(keys) == len(set(keys)) == len(REGISTRY)


@pytest.mark.parametrize("key", REGISTRY)
def test_a_key_follows_its_source(key: str) -> None:
    attribute = REGISTRY[key]
    if attribute.source == "farcall":
        assert key.startswith("farcall.")
    elif attribute.source == "brief":
        assert key == "metoro.is_server_span"
    else:
        assert key.startswith(OTEL_NAMESPACES)


@pytest.mark.parametrize("key", REGISTRY)
def test_a_key_explains_itself(key: str) -> None:
    attribute = REGISTRY[key]

    assert attribute.brief.endswith(".")
    assert attribute.example
    if attribute.values:
        assert attribute.example in attribute.values
        assert len(set(attribute.values)) == len(attribute.values)
    if attribute.type == "int":
        int(attribute.example)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("farcall.name.source", NameSource),
        ("farcall.name.confidence", Confidence),
        ("farcall.unknown.reason", UnknownReason),
        ("farcall.destination.kind", DestinationKind),
    ],
)
def test_closed_lists_are_the_words_of_naming(key: str, words: type) -> None:
    assert REGISTRY[key].values == tuple(words)


def test_the_briefs_own_words() -> None:
    assert IS_SERVER_SPAN == "metoro.is_server_span"
    assert REGISTRY[IS_SERVER_SPAN].values == ("true",)  # absent on client-side spans, never false
    assert UNKNOWN_EXTERNAL_SERVICE == "Unknown External Service"
    assert set(UnknownReason) == {
        "no_dns_seen", "expired", "ambiguous", "cache_unavailable", "cache_evicted",
        "agent_started_later", "dns_lost",
    }  # fmt: skip
