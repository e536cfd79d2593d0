"""Whose answers speak for the whole cluster."""

import ipaddress
from pathlib import Path

import pytest

from farcall_probes.resolvers import read_node_netns, speaks_for_all, trusted_resolvers

pytestmark = pytest.mark.unit


def packed(text: str) -> bytes:
    ip = ipaddress.ip_address(text)
    return ip.packed if ip.version == 6 else bytes(10) + b"\xff\xff" + ip.packed


@pytest.mark.parametrize("resolver", ["127.0.0.53", "::1"])
def test_loopback_is_the_nodes_resolver_in_the_nodes_namespace_alone(resolver: str) -> None:
    trusted = trusted_resolvers([], [resolver])
    assert speaks_for_all(packed(resolver), trusted, of_node=True)
    assert not speaks_for_all(packed(resolver), trusted, of_node=False)


def test_another_address_is_trusted_wherever_it_is_asked_and_only_if_it_is_listed() -> None:
    trusted = trusted_resolvers(["10.96.0.10"], [])
    assert speaks_for_all(packed("10.96.0.10"), trusted, of_node=False)
    assert not speaks_for_all(packed("8.8.8.8"), trusted, of_node=True)


def test_the_nodes_namespace_is_the_first_process_else_ours(tmp_path: Path) -> None:
    assert read_node_netns(tmp_path) == 0
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/net").touch()
    assert read_node_netns(tmp_path) == (tmp_path / "self/ns/net").stat().st_ino
    (tmp_path / "1/ns").mkdir(parents=True)
    (tmp_path / "1/ns/net").touch()
    assert read_node_netns(tmp_path) == (tmp_path / "1/ns/net").stat().st_ino
