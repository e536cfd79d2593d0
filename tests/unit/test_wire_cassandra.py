"""Cassandra's envelopes and frames: real ones whole, byte by byte, cut at every length, with bytes behind them, and any at all."""

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_probes import statements
from farcall_probes.sql import find_table, mask_sql
from farcall_probes.statements import Call, CassandraStatements
from farcall_probes.wire.cassandra import (
    CassandraRequest,
    CassandraResponse,
    OuterFrame,
    find_correlation,
    find_envelopes,
    parse_outer_frame,
    parse_request,
    parse_response,
)
from farcall_probes.wire.outcomes import NEED_MORE, NOT_MINE, Outcome, Truncated
from support_corpus import FOLDER, Pair, check_each_length, read_corpus, says_less

pytestmark = pytest.mark.unit

NAMES = ("v3", "v4", "v4-lz4", "v5", "v5-lz4")
CORPUS = [pair for name in NAMES for pair in read_corpus(f"cassandra-{name}")]
PLAIN = [pair for name in ("v3", "v4", "v5") for pair in read_corpus(f"cassandra-{name}")]
NUMBER = bytes(range(16))
QUERY, PREPARE, EXECUTE, BATCH, ERROR, RESULT = 0x07, 0x09, 0x0A, 0x0D, 0x00, 0x08


def envelope(
    opcode: int, body: bytes, *, version: int = 4, flags: int = 0, stream: int = 5
) -> bytes:
    return struct.pack(">BBhBi", version, flags, stream, opcode, len(body)) + body


def answer(opcode: int, body: bytes, *, flags: int = 0, stream: int = 5) -> bytes:
    return envelope(opcode, body, version=0x84, flags=flags, stream=stream)


def text(value: bytes) -> bytes:
    return struct.pack(">i", len(value)) + value


def short(value: bytes) -> bytes:
    return struct.pack(">H", len(value)) + value


def read(data: bytes) -> CassandraRequest:
    request = parse_request(data)
    assert isinstance(request, CassandraRequest)
    return request


def heard(data: bytes) -> CassandraResponse:
    response = parse_response(data)
    assert isinstance(response, CassandraResponse)
    return response


SELECT = envelope(QUERY, text(b"SELECT a FROM shop.t WHERE b = 'secret'") + b"\0\1\0")


def test_each_kind_of_request_says_what_it_runs() -> None:
    assert read(SELECT) == CassandraRequest(
        "QUERY", 5, 4, b"SELECT a FROM shop.t WHERE b = 'secret'"
    )
    assert read(envelope(PREPARE, text(b"SELECT 1"))).executions == 0
    assert read(envelope(EXECUTE, short(NUMBER) + bytes(5))).prepared == NUMBER
    texts = b"\0" + struct.pack(">H", 3) + b"\0" + text(b"DELETE FROM t") + b"\0\0"
    assert read(envelope(BATCH, texts)) == CassandraRequest(
        "BATCH", 5, 4, b"DELETE FROM t", None, 3
    )
    numbers = b"\0" + struct.pack(">H", 2) + b"\1" + short(NUMBER) + b"\0\0"
    assert read(envelope(BATCH, numbers)) == CassandraRequest("BATCH", 5, 4, None, NUMBER, 2)
    for opcode, name in (
        (1, "STARTUP"),
        (5, "OPTIONS"),
        (0x0B, "REGISTER"),
        (0x0F, "AUTH_RESPONSE"),
    ):
        assert read(envelope(opcode, text(b"secret"))) == CassandraRequest(name, 5, 4, executions=0)


def test_what_stands_before_a_body_is_skipped() -> None:
    payload = struct.pack(">H", 1) + short(b"k") + text(b"secret")
    assert read(envelope(QUERY, payload + text(b"SELECT 1"), flags=4)).statement == b"SELECT 1"
    before = bytes(16) + struct.pack(">H", 1) + short(b"careful") + payload
    assert (
        heard(answer(ERROR, before + struct.pack(">i", 0x2200), flags=2 | 4 | 8)).error == "Invalid"
    )


@pytest.mark.parametrize(
    ("code", "name"),
    [(0, "ServerError"), (0x1200, "ReadTimeout"), (0x2500, "Unprepared"), (0x7777, "error 0x7777")],
)
def test_errors_have_the_names_of_the_specification(code: int, name: str) -> None:
    assert heard(answer(ERROR, struct.pack(">i", code) + short(b"secret"))).error == name


def test_results_say_what_a_statement_is_called_and_which_keyspace_was_chosen() -> None:
    assert heard(answer(RESULT, struct.pack(">i", 4) + short(NUMBER))).prepared == NUMBER
    assert heard(answer(RESULT, struct.pack(">i", 3) + short(b"shop"))).keyspace == "shop"
    assert heard(answer(0x0C, short(b"TOPOLOGY_CHANGE"), stream=-1)).correlation == -1


def test_snappys_bodies_are_read_as_those_of_lz4_are() -> None:
    body = text(b"SELECT 1") + b"\0\1\0"
    packed = bytes((len(body), (len(body) - 1) << 2)) + body
    request = read(envelope(QUERY, packed, flags=1))
    assert request.is_compressed and request.statement == b"SELECT 1"


def test_a_response_to_another_stream_is_not_ours() -> None:
    assert parse_response(answer(2, b"", stream=6), read(SELECT)) is NOT_MINE


@pytest.mark.parametrize("pair", PLAIN, ids=lambda p: label(p.request))
def test_real_messages_are_read_at_each_length(pair: Pair) -> None:
    correlation = find_correlation(pair.request)
    if whole(pair.request):
        check_each_length(pair.request, parse_request, header=9, agrees=agrees)
    if pair.response is not None:
        assert find_correlation(pair.response) == correlation
        if whole(pair.response):
            check_each_length(pair.response, parse_response, header=9, agrees=agrees)


def label(data: bytes) -> str:
    outcome = parse_request(data, cut=True)
    partial = outcome.partial if isinstance(outcome, Truncated) else outcome
    return f"{data[0]}-{partial.operation}" if isinstance(partial, CassandraRequest) else "?"


def whole(data: bytes) -> bool:
    return len(data) == 9 + int.from_bytes(data[5:9], "big")


def agrees(partial: tuple[object, ...], entire: tuple[object, ...]) -> bool:
    """How many a batch runs, and that a statement is cut, hangs on where the cut is; an error's code may lie behind it."""
    if isinstance(partial, CassandraRequest) and isinstance(entire, CassandraRequest):
        sure = partial._replace(
            executions=entire.executions, is_statement_cut=entire.is_statement_cut
        )
        return says_less(sure, entire)
    if isinstance(partial, CassandraResponse) and isinstance(entire, CassandraResponse):
        if entire.error is not None and partial.error == "error":
            return says_less(partial._replace(error=None), entire)
    return says_less(partial, entire)


def test_compressed_messages_say_what_plain_ones_do() -> None:
    for plain, packed in (("v4", "v4-lz4"), ("v5", "v5-lz4")):
        said = [summary(pair.request) for pair in read_corpus(f"cassandra-{plain}")]
        assert said == [summary(pair.request) for pair in read_corpus(f"cassandra-{packed}")]


def summary(data: bytes) -> tuple[object, ...]:
    outcome = parse_request(data, cut=True)
    request = outcome.partial if isinstance(outcome, Truncated) else outcome
    assert isinstance(request, CassandraRequest)
    return request.operation, (request.statement or b"")[:900], request.prepared, request.executions


# ---- version 5's frames -----------------------------------------------------------------------------------------

FRAMES = [
    bytes.fromhex(json.loads(line)["sent"])
    for line in (FOLDER / "cassandra-frames.ndjson").read_text(encoding="ascii").splitlines()
]


def find_first_frame(stream: bytes) -> int:
    return next(
        at for at in range(len(stream)) if isinstance(parse_outer_frame(stream[at:]), OuterFrame)
    )


@pytest.mark.parametrize("stream", FRAMES, ids=["plain", "lz4"])
def test_envelopes_are_taken_out_of_real_frames(stream: bytes) -> None:
    start = find_first_frame(stream)
    found = [parse_request(data, cut=True) for data in find_envelopes(stream[start:])]
    names = [r.operation for r in found if isinstance(r, CassandraRequest)]

    assert names[:2] == ["AUTH_RESPONSE", "QUERY"]
    assert {"PREPARE", "EXECUTE", "BATCH"} <= set(names)


def test_frames_that_are_cut_give_what_stands_before_the_cut() -> None:
    for stream in FRAMES:
        data = stream[find_first_frame(stream) :][:600]
        entire = find_envelopes(data)
        for end in range(len(data)):
            found = find_envelopes(data[:end])
            assert all(
                part == data_[: len(part)] for part, data_ in zip(found, entire, strict=False)
            )


def test_a_frames_header_is_believed_only_with_its_checksum() -> None:
    data = FRAMES[0][find_first_frame(FRAMES[0]) :]
    for at in range(6):
        broken = bytearray(data)
        broken[at] ^= 1
        assert parse_outer_frame(bytes(broken)) is NOT_MINE
    assert parse_outer_frame(data[:5]) is NEED_MORE


# ---- what may be shown ------------------------------------------------------------------------------------------


def test_statements_lose_their_literals_and_name_their_table() -> None:
    known = CassandraStatements(masking=True)
    assert known.find(1, read(SELECT), None) == (
        Call("SELECT", "SELECT a FROM shop.t WHERE b = ?", 1, "shop", "t")
    )


@pytest.mark.parametrize(
    ("statement", "shown"),
    [
        (
            "SELECT * FROM t WHERE u = f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            "SELECT * FROM t WHERE u = ?",
        ),
        ("SELECT * FROM t WHERE u = f81d4fae-7dec-1", "SELECT * FROM t WHERE u = ?"),
        ("INSERT INTO t (a) VALUES (0xCAFE)", "INSERT INTO t (a) VALUES (?)"),
        (r"UPDATE t SET a = 'x\' WHERE b = 'secret'", "UPDATE t SET a = ? WHERE b = ?"),
        ("UPDATE t SET a = $$it's$$ // secret\nWHERE b = 1", "UPDATE t SET a = ? WHERE b = ?"),
        ("UPDATE t SET d = P1Y2M3D, e = 1h30m", "UPDATE t SET d = ?, e = ?"),
        ('SELECT "Name" FROM "T" WHERE a = \'it\'\'s', 'SELECT "Name" FROM "T" WHERE a = ?'),
    ],
)
def test_literals_of_cql_are_hidden(statement: str, shown: str) -> None:
    assert mask_sql(statement, "cassandra") == shown


@pytest.mark.parametrize(
    ("statement", "table"),
    [
        ("SELECT a FROM shop.orders", ("shop", "orders")),
        ("INSERT INTO orders (id) VALUES (?)", (None, "orders")),
        ('UPDATE "Shop"."Or""ders" SET a = ?', ("Shop", 'Or"ders')),
        ("CREATE TABLE IF NOT EXISTS shop.orders (a int)", ("shop", "orders")),
        ("TRUNCATE orders", (None, "orders")),
        ("BEGIN BATCH DELETE FROM orders", (None, "orders")),
        ("USE shop", (None, None)),
    ],
)
def test_the_first_table_of_a_statement_is_found(
    statement: str, table: tuple[str | None, str | None]
) -> None:
    assert find_table(statement) == table


def test_an_execution_on_any_connection_has_the_text_that_was_prepared_on_one() -> None:
    known = CassandraStatements(masking=True)
    prepare = read(envelope(PREPARE, text(b"SELECT a FROM t WHERE b = ?")))
    told = heard(answer(RESULT, struct.pack(">i", 4) + short(NUMBER)))
    execute = read(envelope(EXECUTE, short(NUMBER)))
    shown = "SELECT a FROM t WHERE b = ?"

    assert known.find(2, execute, None) == Call("EXECUTE", None, 1)
    assert known.find(1, prepare, told) == Call("PREPARE", shown, 0, None, "t")
    assert known.find(2, execute, None) == Call("SELECT", shown, 1, None, "t")


def test_a_short_number_means_something_on_its_own_connection_alone() -> None:
    known = CassandraStatements(masking=True)
    told = heard(answer(RESULT, struct.pack(">i", 4) + short(b"\0\1")))
    known.find(1, read(envelope(PREPARE, text(b"SELECT 1"))), told)
    execute = read(envelope(EXECUTE, short(b"\0\1")))
    assert [known.find(n, execute, None).operation for n in (1, 2)] == ["SELECT", "EXECUTE"]


def test_the_keyspace_that_a_connection_uses_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "MAX_KEYSPACES", 2)
    known = CassandraStatements(masking=True)
    use = read(envelope(QUERY, text(b"USE shop")))
    told = heard(answer(RESULT, struct.pack(">i", 3) + short(b"shop")))
    for connection in (1, 2, 3):
        known.find(connection, use, told)
    select = read(envelope(QUERY, text(b"SELECT a FROM t")))
    assert [known.find(n, select, None).namespace for n in (1, 2, 3)] == [None, "shop", "shop"]


def test_of_a_cut_statement_the_last_word_is_left_out() -> None:
    data = envelope(
        PREPARE, text(b"SELECT a FROM t WHERE u = f81d4fae-7dec-11d0-a765-00a0c91e6bf6")
    )
    for end in range(13, len(data)):
        outcome = parse_request(data[:end], cut=True)
        assert isinstance(outcome, Truncated)
        known = CassandraStatements(masking=True)
        told = CassandraResponse("RESULT", 5, prepared=NUMBER)
        shown = known.find(1, outcome.partial, told).text or ""
        executed = known.find(1, read(envelope(EXECUTE, short(NUMBER))), None).text or ""
        assert executed == shown
        assert "SELECT a FROM t WHERE u = ?".startswith(shown.rstrip()), shown


def test_no_secret_of_real_clients_is_shown() -> None:
    known = CassandraStatements(masking=True)
    shown = []
    for pair in CORPUS:
        outcome = parse_request(pair.request[:824], cut=True)
        request = outcome.partial if isinstance(outcome, Truncated) else outcome
        assert isinstance(request, CassandraRequest)
        shown.append(known.find(1, request, None).text or "")
    assert "secret" not in "".join(shown) and "SELECT" in "".join(shown)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        envelope(QUERY, b"", version=2),
        envelope(QUERY, b"", version=6),
        envelope(0x02, b""),  # a response's opcode
        envelope(QUERY, b"", flags=0x80),
        envelope(QUERY, b"\0\0\0\x09SELECT"),  # whole, and the statement reaches beyond it
        struct.pack(">BBhBi", 4, 0, 5, QUERY, -1),
    ],
)
def test_others_and_malformed_ones_are_not_ours(data: bytes) -> None:
    assert parse_request(data, cut=True) is NOT_MINE


@given(st.binary(max_size=300), st.booleans(), st.integers(0, 17), st.integers(0, 31))
def test_any_bytes_have_an_outcome(data: bytes, cut: bool, opcode: int, flags: int) -> None:
    made = [data, envelope(opcode, data, flags=flags), answer(opcode, data, flags=flags)]
    for whole_one in (*made, *(one[:-3] for one in made)):
        for parse in (parse_request, parse_response):
            outcome = parse(whole_one, cut=cut)
            assert isinstance(outcome, CassandraRequest | CassandraResponse | Truncated | Outcome)
            assert not cut or outcome is not NEED_MORE
        assert isinstance(find_envelopes(whole_one), list)


@given(st.sampled_from(CORPUS), st.data())
def test_real_messages_with_wrong_bytes_have_an_outcome(pair: Pair, data: st.DataObject) -> None:
    for entire, parse in ((pair.request, parse_request), (pair.response or b"", parse_response)):
        broken = bytearray(entire)
        for _ in range(3 if broken else 0):
            broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
        outcome = parse(bytes(broken), cut=True)
        assert (
            isinstance(outcome, CassandraRequest | CassandraResponse | Truncated)
            or outcome is NOT_MINE
        )
