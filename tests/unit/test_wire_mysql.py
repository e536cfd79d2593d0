"""MySQL's commands: whole, cut at every length, and any bytes at all; prepared statements by the number the server gives."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_probes.statements import Call, MysqlStatements
from farcall_probes.wire.mysql import MysqlRequest, find_error, find_prepared, parse_request
from farcall_probes.wire.outcomes import NEED_MORE, NOT_MINE, Outcome, Truncated

pytestmark = pytest.mark.unit


def packet(payload: bytes, sequence: int = 0) -> bytes:
    return struct.pack("<I", len(payload))[:3] + bytes((sequence,)) + payload


QUERY = packet(b"\x03SELECT 1")
PREPARED = packet(b"\0\7\0\0\0\1\0\1\0\0\0\0", 1)


def read(data: bytes) -> MysqlRequest:
    request = parse_request(data)
    assert isinstance(request, MysqlRequest)
    return request


def test_whole_commands_are_read() -> None:
    assert read(QUERY) == ("QUERY", b"SELECT 1", None)
    assert read(packet(b"\x03\x00\x01SELECT 1")) == ("QUERY", b"SELECT 1", None)
    assert read(packet(b"\x02shop")) == ("USE", b"shop", None)
    assert read(packet(b"\x17\x07\0\0\0\0\1\0\0\0")) == ("EXECUTE", None, 7)


def attributes(*pairs: tuple[int, bytes, bytes], nulls: bytes = b"\0") -> bytes:
    """(type, name, value as it is on the wire) before a statement."""
    names = b"".join(struct.pack("<HB", kind, len(name)) + name for kind, name, _ in pairs)
    return bytes((len(pairs), 1)) + nulls + b"\1" + names + b"".join(value for _, _, value in pairs)


def test_attributes_before_a_statement_are_never_shown() -> None:
    set_of = attributes(
        (254, b"user", b"\x07hunter2"), (8, b"n", bytes(8)), (254, b"x", b"\xfc\x03\x00abc")
    )
    assert read(packet(b"\x03" + set_of + b"SELECT 1")).text == b"SELECT 1"
    null = attributes((254, b"user", b""), nulls=b"\1")
    assert read(packet(b"\x03" + null + b"SELECT 1")).text == b"SELECT 1"
    for end in range(6, len(set_of)):
        outcome = parse_request(packet(b"\x03" + set_of[:end]), cut=True)
        assert isinstance(outcome, MysqlRequest) and outcome.text == b"", end


def test_one_that_grows_byte_by_byte_needs_more_until_it_is_whole() -> None:
    assert {parse_request(QUERY[:end]) for end in range(len(QUERY))} == {NEED_MORE}


def test_one_that_is_cut_keeps_what_was_there() -> None:
    for end in range(5, len(QUERY)):
        outcome = parse_request(QUERY[:end], cut=True)
        assert isinstance(outcome, Truncated)
        assert outcome.partial == ("QUERY", b"SELECT 1"[: end - 5], None)


@pytest.mark.parametrize("data", [packet(b"\x0e"), packet(b"\x03SELECT", 1), b"GET / HTTP/1.1\r\n"])
def test_others_are_not_ours(data: bytes) -> None:
    assert parse_request(data, cut=True) is NOT_MINE


def test_errors_have_the_servers_number() -> None:
    assert find_error(packet(b"\xff\x7a\x04#42S02no such table", 1)) == "1146"
    assert find_error(packet(b"\0\0\0\2\0\0\0", 1)) is None


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_have_an_outcome(data: bytes, cut: bool) -> None:
    assert isinstance(parse_request(data, cut=cut), MysqlRequest | Truncated | Outcome)
    code = find_error(data)
    assert code is None or code.isdigit()
    assert find_prepared(data) is None or len(data) >= 9


def test_an_execution_has_the_text_of_what_its_connection_prepared() -> None:
    known = MysqlStatements(masking=True)
    execute = read(packet(b"\x17\x07\0\0\0\0\1\0\0\0"))
    prepared = known.find(1, read(packet(b"\x16SELECT a FROM t WHERE b = 4")), PREPARED)

    assert prepared == Call("PREPARE", "SELECT a FROM t WHERE b = ?", 0)
    assert known.find(1, execute, b"") == Call("SELECT", "SELECT a FROM t WHERE b = ?", 1)
    assert known.find(2, execute, b"") == Call("EXECUTE", None, 1)
