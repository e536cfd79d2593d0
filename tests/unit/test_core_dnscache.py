"""The pure half of the DNS cache: one key per address however it is written, and freshness counted from the answer."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall.dnscache import NamedAt, canonical_ip, cluster_key, expires_at_ms, fresh_names
from farcall.tiers import TIERS

pytestmark = pytest.mark.unit

ADDRESSES = st.ip_addresses(v=4) | st.ip_addresses(v=6)


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("203.0.113.10", "203.0.113.10"),
        ("::ffff:203.0.113.10", "203.0.113.10"),
        ("::FFFF:CB00:710A", "203.0.113.10"),
        ("2001:0DB8:0000::0001", "2001:db8::1"),
        ("::1", "::1"),
    ],
)
def test_an_address_has_one_text(written: str, canonical: str) -> None:
    assert canonical_ip(written) == canonical
    assert cluster_key(written) == f"fc1:w:{canonical}"


@given(ADDRESSES)
def test_every_spelling_of_an_address_has_one_key(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    spellings = {str(address), address.exploded, str(address).upper()}
    if isinstance(address, ipaddress.IPv4Address):
        spellings.add(f"::ffff:{address}")

    assert len({cluster_key(spelling) for spelling in spellings}) == 1


@pytest.mark.parametrize("text", ["", "host", "1.2.3", "1.2.3.4/32", "1.2.3.4:80"])
def test_what_is_no_address_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="IPv4 or IPv6"):
        canonical_ip(text)


@pytest.mark.parametrize("ttl_s", [TIERS["Hobby"].dns_ttl_s, TIERS["Scale"].dns_ttl_s])
def test_a_name_is_fresh_until_the_tiers_ttl_has_passed(ttl_s: int) -> None:
    name = NamedAt(name="api.example.com", answered_at=1_000.25)

    assert fresh_names([name], now=1_000.25 + ttl_s - 0.001, ttl_s=ttl_s) == (name,)
    assert fresh_names([name], now=1_000.25 + ttl_s, ttl_s=ttl_s) == ()


def test_fresh_names_come_newest_first() -> None:
    names = [NamedAt(name=n, answered_at=t) for n, t in (("b", 2.0), ("c", 3.0), ("a", 1.0))]

    assert [n.name for n in fresh_names(names, now=4.0, ttl_s=3)] == ["c", "b"]


@given(st.floats(min_value=1e9, max_value=4e9), st.sampled_from([3_600, 7_200, 604_800]))
def test_a_key_outlives_its_newest_name_by_no_more_than_a_millisecond(
    answered_at: float, life_s: int
) -> None:
    assert 0 <= expires_at_ms(answered_at, life_s) - (answered_at + life_s) * 1000 < 1.001
