"""PostgreSQL's messages: whole, byte by byte, cut at every length, and any bytes at all; prepared statements by connection."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_probes import statements
from farcall_probes.statements import Call, PostgresStatements
from farcall_probes.wire.outcomes import NEED_MORE, NOT_MINE, Outcome, Truncated
from farcall_probes.wire.postgresql import PostgresRequest, find_error, parse_request

pytestmark = pytest.mark.unit


def message(kind: bytes, content: bytes = b"") -> bytes:
    return kind + struct.pack(">I", len(content) + 4) + content


def parse(name: bytes, text: bytes) -> bytes:
    return message(b"P", name + b"\0" + text + b"\0\0\0")


def bind(name: bytes) -> bytes:
    return message(b"B", b"\0" + name + b"\0\0\0\0\1\0\0\0\1x\0\0")


EXECUTE, SYNC = message(b"E", b"\0\0\0\0\0"), message(b"S")
QUERY = message(b"Q", b"SELECT 1\0")
TRIP = parse(b"s1", b"SELECT $1") + bind(b"s1") + EXECUTE + SYNC


def read(data: bytes) -> PostgresRequest:
    request = parse_request(data)
    assert isinstance(request, PostgresRequest)
    return request


def test_whole_round_trips_are_read() -> None:
    assert read(QUERY) == (b"SELECT 1", (), None, 1)
    assert read(TRIP) == (b"SELECT $1", ((b"s1", b"SELECT $1"),), b"s1", 1)
    assert read(bind(b"") + EXECUTE + EXECUTE + SYNC) == (None, (), b"", 2)
    assert read(parse(b"a", b"X") + parse(b"b", b"Y") + SYNC).parsed == ((b"a", b"X"), (b"b", b"Y"))


def test_one_that_grows_byte_by_byte_needs_more_until_it_is_whole() -> None:
    assert parse_request(TRIP) is not NEED_MORE
    ends = {len(parse(b"s1", b"SELECT $1")), len(TRIP) - len(SYNC)}
    ends.add(len(TRIP) - len(SYNC) - len(EXECUTE))
    for end in set(range(len(TRIP))) - ends:
        assert parse_request(TRIP[:end]) is NEED_MORE, end


def test_one_that_is_cut_keeps_what_was_there() -> None:
    for end in range(1, len(QUERY)):
        outcome = parse_request(QUERY[:end], cut=True)
        assert isinstance(outcome, Truncated)
        assert b"SELECT 1".startswith(outcome.partial.statement or b"")


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n", b"Q\0\0\0\3abc", b"Q\xff\xff\xff\xff", b"*1\r\n"]
)
def test_others_are_not_ours(data: bytes) -> None:
    assert parse_request(data, cut=True) is NOT_MINE


def test_rubbish_behind_a_whole_message_leaves_it_standing() -> None:
    assert read(QUERY + b"\xff\xff\xff\xff\xff\xff") == (b"SELECT 1", (), None, 1)


def test_the_error_is_found_behind_other_messages() -> None:
    error = message(b"E", b"SERROR\0VERROR\0C23505\0Mduplicate key\0\0")
    assert find_error(error) == "23505"
    assert find_error(message(b"1") + message(b"2") + error + message(b"Z", b"E")) == "23505"
    assert find_error(message(b"C", b"SELECT 1\0")) is None
    assert find_error(message(b"D", b"\0\1\0\0\0\1E")) is None
    assert find_error(error[:12]) == "error"  # the code lies behind the cut


@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_have_an_outcome(data: bytes, cut: bool) -> None:
    outcome = parse_request(data, cut=cut)
    assert isinstance(outcome, PostgresRequest | Truncated | Outcome)
    assert cut is False or outcome is not NEED_MORE
    code = find_error(data)
    assert code is None or (code.isalnum() and len(code) == 5)


def test_an_execution_has_the_text_of_what_its_connection_prepared() -> None:
    known = PostgresStatements(masking=True)
    prepared = known.find(1, read(parse(b"s1", b"SELECT a FROM t WHERE b = 'x'") + SYNC))
    executed = known.find(1, read(bind(b"s1") + EXECUTE + SYNC))
    elsewhere = known.find(2, read(bind(b"s1") + EXECUTE + SYNC))

    assert prepared == Call("PREPARE", "SELECT a FROM t WHERE b = ?", 0)
    assert executed == Call("SELECT", "SELECT a FROM t WHERE b = ?", 1)
    assert elsewhere == Call("EXECUTE", "EXECUTE s1", 1)


def test_prepared_statements_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "MAX_STATEMENTS", 3)
    known = PostgresStatements(masking=True)
    for number in range(5):
        known.find(number, read(parse(b"s", b"SELECT 1") + SYNC))

    assert known.find(0, read(bind(b"s") + EXECUTE + SYNC)).operation == "EXECUTE"
    assert known.find(4, read(bind(b"s") + EXECUTE + SYNC)).operation == "SELECT"
