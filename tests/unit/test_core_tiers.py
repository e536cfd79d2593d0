"""The tiers' table keeps the brief's numbers, and quantities mean what people mean by them."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall.quantities import QUANTITY_PATTERN, parse_bytes, parse_duration_s, parse_quantity
from farcall.tiers import TIER_NAMES, TIERS

pytestmark = pytest.mark.unit


def test_a_dns_answer_lives_an_hour_on_hobby_and_a_week_on_scale() -> None:
    assert TIERS["Hobby"].dns_ttl_s == 3_600
    assert TIERS["Scale"].dns_ttl_s == 604_800 == 168 * 3_600


def test_each_tier_is_in_the_table_under_its_own_name() -> None:
    assert tuple(TIERS) == TIER_NAMES == ("Hobby", "Scale")
    assert all(tier.name == name for name, tier in TIERS.items())


@pytest.mark.parametrize("name", TIER_NAMES)
def test_sizes_are_quantities_and_fit_each_other(name: str) -> None:
    tier = TIERS[name]  # type: ignore[index]

    assert parse_bytes(tier.store_volume) > 0
    assert 0 < tier.redis.maxmemory_percent <= 75
    assert (tier.redis.volume is not None) == tier.redis.append_only
    for resources in (tier.probe, tier.exporter):
        assert parse_bytes(resources.memory_request) <= parse_bytes(resources.memory_limit)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("1h", 3_600), ("168h", 604_800), ("3d", 259_200), ("1w", 604_800)],
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"), [("512", 512), ("1Ki", 1024), ("8Gi", 8 << 30), ("2Ti", 2 << 40)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    "text", ["", "0d", "-3d", "3", "3 d", "3d ", "3d\n", "\n3d", "03d", "1.5d", "3D", "3M", "٣d", "9" * 9 + "d"]
)  # fmt: skip
def test_what_is_no_duration_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match="whole number above 0 and a unit"):
        parse_duration_s(text)


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "8G", "8GB", "8gi", "8Gi\n", " 8Gi", "1e3", "８Gi"]
)
def test_what_is_no_size_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match="Ki, Mi, Gi or Ti"):
        parse_bytes(text)


@given(st.text(max_size=10))
def test_any_text_is_a_quantity_or_a_value_error(text: str) -> None:
    for parse in (parse_duration_s, parse_bytes):
        try:
            assert parse(text) > 0
        except ValueError:
            pass


@pytest.mark.parametrize("name", TIER_NAMES)
def test_what_was_measured_fits_what_is_given(name: str) -> None:
    """RSS with 100,000 connections, and the kernel's maps."""
    probe = TIERS[name].probe  # type: ignore[index]
    agent = 90 * 10**6 + 41 * 2**20

    assert agent <= parse_bytes(probe.memory_request)
    assert agent * 1.5 <= parse_bytes(probe.memory_limit)


def test_scale_is_nowhere_smaller_than_hobby() -> None:
    hobby, scale = TIERS["Hobby"], TIERS["Scale"]

    assert scale.dns_ttl_s > hobby.dns_ttl_s
    assert scale.retention_traces_s >= hobby.retention_traces_s
    assert scale.retention_logs_s >= hobby.retention_logs_s
    assert parse_bytes(scale.redis.memory) >= parse_bytes(hobby.redis.memory)
    assert parse_bytes(scale.store_volume) >= parse_bytes(hobby.store_volume)
    for part in ("probe", "exporter"):
        small, large = getattr(hobby, part), getattr(scale, part)
        assert parse_quantity(large.cpu_request) >= parse_quantity(small.cpu_request)
        assert parse_bytes(large.memory_request) >= parse_bytes(small.memory_request)
        assert parse_bytes(large.memory_limit) >= parse_bytes(small.memory_limit)


@pytest.mark.parametrize(
    ("text", "number"),
    [("100m", "1/10"), ("1.5", "3/2"), ("2", "2"), ("1k", "1000"), ("0.5Gi", str(1 << 29)), ("1G", str(10**9))],
)  # fmt: skip
def test_quantities_of_kubernetes(text: str, number: str) -> None:
    assert parse_quantity(text) == Fraction(number)


@given(st.from_regex(QUANTITY_PATTERN, fullmatch=True))
def test_whatever_the_crd_takes_for_a_quantity_is_a_number_above_zero(text: str) -> None:
    assert parse_quantity(text.rstrip("\n")) > 0


@pytest.mark.parametrize("text", ["", "m", "1e3", "-1", "1 Gi", "1gi", "٣", "1Gi\n", "0x10"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        parse_quantity(text)
