"""The TLS ClientHello: one of a real client, cut at every length, hostile names, and any bytes at all."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_probes.wire.clienthello import ClientHello, parse_client_hello
from farcall_probes.wire.outcomes import NEED_MORE, NOT_MINE, Outcome, Truncated
from support_tls_hello import make_hello

pytestmark = pytest.mark.unit


HELLO = make_hello("api.example.com", ["h2", "http/1.1"])


def test_a_real_clients_name_and_protocols_are_read() -> None:
    assert parse_client_hello(HELLO) == ClientHello("api.example.com", ("h2", "http/1.1"))
    assert parse_client_hello(make_hello(None, [])) == ClientHello(None, ())


def test_one_that_is_cut_is_never_wrong() -> None:
    for end in range(len(HELLO)):
        assert parse_client_hello(HELLO[:end]) is NEED_MORE
        outcome = parse_client_hello(HELLO[:end], cut=True) if end else None
        if isinstance(outcome, Truncated):
            assert outcome.partial.server_name in (None, "api.example.com")


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n", b"\x17\x03\x03\0\5hello", b"\x16\x03\x03\0\5\x02rest"]
)
def test_others_are_not_ours(data: bytes) -> None:
    assert parse_client_hello(data, cut=True) is NOT_MINE


def test_a_hostile_name_is_bounded_and_printable() -> None:
    name = b"\x1b[31m" + b"a" * 400
    entry = b"\0" + struct.pack(">H", len(name)) + name
    extension = struct.pack(">HHH", 0, len(entry) + 2, len(entry)) + entry
    body = bytes(34) + b"\0" + b"\0\2\0\1" + b"\1\0" + struct.pack(">H", len(extension)) + extension
    hello = b"\x16\x03\x01\0\0\x01\0\0\0" + body
    found = parse_client_hello(hello, cut=True)

    assert isinstance(found, ClientHello) and found.server_name is not None
    assert found.server_name.isprintable() and len(found.server_name) <= 270


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_have_an_outcome(data: bytes, cut: bool) -> None:
    for raw in (data, HELLO[:9] + data, HELLO[:80] + data):
        assert isinstance(parse_client_hello(raw, cut=cut), ClientHello | Truncated | Outcome)
