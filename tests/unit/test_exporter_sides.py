"""Which addresses are inside, against the standard library's own answer."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_exporter.sides import Cluster

pytestmark = pytest.mark.unit

CIDRS = (
    "10.244.0.0/16",
    "10.96.0.0/12",
    "172.18.0.2/32",
    "0.0.0.0/1",
    "fd00::/48",
    "2001:db8::1/128",
    "::/0",
)
ADDRESSES = st.ip_addresses().map(str) | st.sampled_from(
    ["10.244.255.255", "10.245.0.0", "172.18.0.2", "172.18.0.3", "127.9.9.9", "::1", "fd00::1", "2001:db8::2"]
)  # fmt: skip


@given(st.lists(st.sampled_from(CIDRS), unique=True), ADDRESSES)
def test_an_address_is_inside_when_a_network_holds_it_or_it_is_loopback(
    cidrs: list[str], text: str
) -> None:
    address = ip_address(text)
    expected = address.is_loopback or any(address in ip_network(c) for c in cidrs)

    assert Cluster(tuple(cidrs)).is_inside(text) == expected
