"""memcached's commands: text, meta and binary, several at once, cut, and any bytes at all."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_probes.wire.memcached import (
    MemcachedRequest,
    find_error,
    mask_request,
    parse_request,
)
from farcall_probes.wire.outcomes import NEED_MORE, NOT_MINE, Outcome, Truncated

pytestmark = pytest.mark.unit

SET = b"set key 0 0 5\r\nvalue\r\n"
BINARY = struct.pack(">BBHBBHIIQ", 0x80, 0x01, 3, 8, 0, 0, 16, 0, 0) + bytes(8) + b"keyvalue"


@pytest.mark.parametrize(
    ("data", "name", "arguments", "commands"),
    [
        (b"get a\r\n", "get", 1, 1),
        (b"get a b c\r\n", "get", 3, 1),
        (SET, "set", 1, 1),
        (SET + b"get key\r\n" + SET, "set", 1, 3),
        (b"ms key 5 T0\r\nvalue\r\n", "ms", 1, 1),
        (b"mg key v t\r\n", "mg", 3, 1),
        (b"version\r\n", "version", 0, 1),
        (BINARY + BINARY, "set", 1, 2),
    ],
)
def test_whole_commands_are_read(data: bytes, name: str, arguments: int, commands: int) -> None:
    assert parse_request(data) == MemcachedRequest(name, arguments, commands)


def test_one_that_is_cut_keeps_what_was_there() -> None:
    for end in range(4, len(SET)):
        outcome = parse_request(SET[:end], cut=True)
        assert isinstance(outcome, Truncated), SET[:end]
        assert outcome.partial.name == "set"
        assert parse_request(SET[:end]) is NEED_MORE


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n", b"hello world\r\n", b"\x80\xff" + bytes(30)]
)
def test_others_are_not_ours(data: bytes) -> None:
    assert parse_request(data, cut=True) is NOT_MINE


def test_errors_are_told_from_answers() -> None:
    assert find_error(b"SERVER_ERROR out of memory storing object\r\n") == "SERVER_ERROR"
    assert find_error(b"ERROR\r\n") == "ERROR"
    assert find_error(b"NOT_FOUND\r\n") is None
    assert find_error(b"\x81\x00\0\0\0\0\0\x82" + bytes(16)) == "130"
    assert find_error(b"\x81\x00\0\0\0\0\0\x01" + bytes(16)) is None


def test_no_key_is_shown() -> None:
    request = parse_request(b"get session:hunter2 b\r\n")
    assert isinstance(request, MemcachedRequest)
    assert mask_request(request) == "get ? ?"


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_have_an_outcome(data: bytes, cut: bool) -> None:
    assert isinstance(parse_request(data, cut=cut), MemcachedRequest | Truncated | Outcome)
    find_error(data)
