"""MongoDB's messages: real ones whole, byte by byte, cut at every length, with bytes behind them, and any bytes at all."""

import struct
import zlib
from typing import Any

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_probes.wire.mongodb import (
    MongoRequest,
    MongoResponse,
    find_correlation,
    parse_request,
    parse_response,
    render_text,
)
from farcall_probes.wire.outcomes import NEED_MORE, NOT_MINE, Outcome, Truncated
from support_corpus import Pair, check_each_length, read_corpus, says_less

pytestmark = pytest.mark.unit

CORPUS = read_corpus("mongodb")
MSG, QUERY, REPLY, COMPRESSED = 2013, 2004, 1, 2012


def message(opcode: int, body: bytes, *, number: int = 7, answers: int = 0) -> bytes:
    return struct.pack("<iiii", len(body) + 16, number, answers, opcode) + body


def command(document: dict[str, Any], *sections: bytes, flags: int = 0, **header: int) -> bytes:
    body = struct.pack("<I", flags) + b"\0" + bson.encode(document) + b"".join(sections)
    return message(MSG, body + (b"\1\2\3\4" if flags & 1 else b""), **header)


def section(name: bytes, *documents: dict[str, Any]) -> bytes:
    content = name + b"\0" + b"".join(map(bson.encode, documents))
    return b"\1" + struct.pack("<i", len(content) + 4) + content


def read(data: bytes) -> MongoRequest:
    request = parse_request(data)
    assert isinstance(request, MongoRequest)
    return request


def reply(document: dict[str, Any], **flags: int) -> MongoResponse:
    response = parse_response(command(document, answers=7, **flags))
    assert isinstance(response, MongoResponse)
    return response


FIND = command({"find": "orders", "filter": {"customer": "secret"}, "limit": 3, "$db": "shop"})


def test_a_command_is_its_first_key_and_the_collection_its_value() -> None:
    request = read(FIND)

    assert (request.operation, request.target, request.database) == ("find", "orders", "shop")
    assert request.correlation == 7
    assert render_text(request) == "find orders {filter: {customer: ?}, limit: ?}"


def test_a_string_that_is_no_collection_is_not_taken_for_one() -> None:
    for name in ("createUser", "usersInfo", "saslStart", "whatever"):
        request = read(command({name: "secret", "pwd": "secret", "$db": "admin"}))
        assert (request.operation, request.collection, request.database) == (name, None, "admin")
        assert "secret" not in (render_text(request) or "")


def test_collections_are_found_where_other_commands_keep_them() -> None:
    assert read(command({"getMore": 5, "collection": "orders", "$db": "shop"})).target == "orders"
    explained = read(command({"explain": {"find": "orders"}, "$db": "shop"}))
    assert (explained.operation, explained.target, explained.database) == (
        "explain",
        "orders",
        "shop",
    )
    assert read(command({"aggregate": 1, "pipeline": [], "$db": "admin"})).target is None


def test_documents_in_a_section_are_counted_and_those_to_insert_are_never_shown() -> None:
    insert = {"insert": "orders", "ordered": True, "$db": "shop"}
    rows = section(b"documents", {"secret": 1}, {"secret": 2})
    for data in (command(insert, rows), command(insert, rows, flags=1)):
        assert read(data).documents == 2
        assert render_text(read(data)) == "insert orders {ordered: ?}"
    inside = command({"insert": "orders", "documents": [{"secret": 1}], "$db": "shop"})
    assert render_text(read(inside)) == "insert orders"

    changed = section(b"updates", {"q": {"_id": 1}, "u": {"$set": {"n": "secret"}}})
    update = read(command({"update": "orders", "$db": "shop"}, changed))
    assert render_text(update) == "update orders [{q: {_id: ?}, u: {$set: {n: ?}}}]"


def test_a_section_before_the_command_changes_nothing() -> None:
    rows = section(b"documents", {"a": 1})
    body = struct.pack("<I", 0) + rows + b"\0" + bson.encode({"insert": "orders", "$db": "shop"})
    assert read(message(MSG, body)).target == "orders"


def test_flags_say_whether_and_how_often_it_is_answered() -> None:
    assert read(FIND).is_answered and not read(FIND).is_exhaust
    assert not read(command({"insert": "orders"}, flags=2)).is_answered
    assert read(command({"hello": 1}, flags=1 << 16)).is_exhaust
    assert parse_request(command({"hello": 1}, flags=4), cut=True) is NOT_MINE
    assert reply({"ok": 1}, flags=2).more_to_come


def test_the_handshake_of_drivers_and_old_queries_are_read() -> None:
    head = struct.pack("<i", 0) + b"admin.$cmd\0" + struct.pack("<ii", 0, -1)
    hello = read(message(QUERY, head + bson.encode({"hello": 1, "client": {"secret": "x"}})))
    assert (hello.operation, hello.database, render_text(hello)) == ("hello", "admin", "hello")
    wrapped = read(message(QUERY, head + bson.encode({"$query": {"count": "orders"}})))
    assert (wrapped.operation, wrapped.target) == ("count", "orders")
    old = head.replace(b"admin.$cmd", b"shop.orders")
    found = read(message(QUERY, old + bson.encode({"customer": "secret"})))
    assert (found.operation, found.database, found.target) == ("find", "shop", "orders")
    removed = read(message(2006, struct.pack("<i", 0) + b"shop.orders\0" + bytes(4)))
    assert (removed.operation, removed.target, removed.is_answered) == ("delete", "orders", False)


def compressed(kind: int, packed: bytes, size: int = 0) -> bytes:
    return message(COMPRESSED, struct.pack("<iiB", MSG, size, kind) + packed)


def test_compressed_commands_are_read_but_for_those_of_zstd_which_say_so() -> None:
    plain = FIND[16:]
    literal = bytes((len(plain), 60 << 2, len(plain) - 1)) + plain
    for kind, name, packed in (
        (0, "noop", plain),
        (1, "snappy", literal),
        (2, "zlib", zlib.compress(plain)),
    ):
        request = read(compressed(kind, packed))
        assert (request.compression, request.operation, request.target) == (name, "find", "orders")
    for kind, name in ((3, "zstd"), (9, "unknown")):
        request = read(compressed(kind, b"\x28\xb5\x2f\xfd" + bytes(30)))
        assert (request.compression, request.operation) == (name, None)
        assert render_text(request) is None
    response = parse_response(compressed(2, zlib.compress(command({"ok": 0, "code": 13})[16:])))
    assert isinstance(response, MongoResponse) and response.error == "Unauthorized"


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ({"ok": 1.0}, None),
        ({"n": 1, "ok": 1}, None),
        ({"ok": True}, None),
        (
            {"ok": 0.0, "errmsg": "secret", "code": 59, "codeName": "CommandNotFound"},
            "CommandNotFound",
        ),
        ({"code": 26, "ok": 0}, "NamespaceNotFound"),
        ({"ok": bson.Int64(0), "code": 12345}, "12345"),
        ({"ok": False, "errmsg": "secret"}, "error"),
        ({"ok": 0.0, "codeName": "secret value"}, "error"),
        (
            {"n": 0, "writeErrors": [{"index": 0, "code": 11000, "errmsg": "secret"}], "ok": 1.0},
            "DuplicateKey",
        ),
        ({"writeErrors": [], "ok": 1}, None),
        (
            {"ok": 1, "writeConcernError": {"code": 64, "codeName": "WriteConcernTimeout"}},
            "WriteConcernTimeout",
        ),
        ({"cursor": {"firstBatch": [{"ok": 0, "code": 1}]}, "ok": 1.0}, None),
    ],
)
def test_a_replys_error_is_the_servers_name_for_it(
    document: dict[str, Any], error: str | None
) -> None:
    assert reply(document) == MongoResponse(7, 7, error)


def test_a_cut_list_of_write_errors_says_the_first() -> None:
    errors = [{"index": n, "code": 11000, "errmsg": "secret" * 20} for n in range(20)]
    cut = parse_response(
        command({"n": 0, "writeErrors": errors, "ok": 1.0}, answers=7)[:824], cut=True
    )
    assert isinstance(cut, Truncated) and cut.partial.error == "DuplicateKey"


def test_old_replies_fail_by_a_flag() -> None:
    head = struct.pack("<iqii", 2, 0, 0, 1)
    failed = message(REPLY, head + bson.encode({"$err": "secret", "code": 13}), answers=7)
    assert parse_response(failed) == MongoResponse(7, 7, "Unauthorized")


def test_a_reply_to_another_request_is_not_ours() -> None:
    assert parse_response(command({"ok": 1}, answers=8), read(FIND)) is NOT_MINE


@pytest.mark.parametrize("pair", CORPUS, ids=lambda p: str(read_any(p.request).operation))
def test_real_messages_are_read_at_each_length(pair: Pair) -> None:
    request = read_any(pair.request)
    if len(pair.request) == int.from_bytes(pair.request[:4], "little"):
        check_each_length(pair.request, parse_request, header=16, agrees=agrees)
    if pair.response is not None:
        assert find_correlation(pair.response) == request.correlation
        check_each_length(pair.response, parse_response, header=16, agrees=agrees)


def read_any(data: bytes) -> MongoRequest:
    outcome = parse_request(data, cut=True)
    request = outcome.partial if isinstance(outcome, Truncated) else outcome
    assert isinstance(request, MongoRequest)
    return request


def agrees(partial: Any, whole: Any) -> bool:
    """Flags and counts are known only once they were captured; that it failed may be known before it is known how."""
    if getattr(partial, "error", None) == "error" and whole.error is not None:
        whole = whole._replace(error="error")
    unsure = {"documents", "is_answered", "is_exhaust", "more_to_come"} & set(whole._fields)
    same = {name: getattr(whole, name) for name in unsure}
    assert getattr(partial, "documents", 0) <= getattr(whole, "documents", 0)
    return says_less(partial._replace(**same), whole)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x",
        b"*1\r\n$4\r\nPING\r\n******",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(20),
        message(2014, bytes(20)),
        struct.pack("<iiii", 15, 1, 0, MSG) + bytes(20),
        struct.pack("<iiii", -1, 1, 0, MSG) + bytes(20),
        message(MSG, bytes(4) + b"\2" + bytes(8)),
        message(MSG, bytes(4) + b"\0" + bytes(8)),
        message(MSG, bytes(4) + section(b"secret", {})),
    ],
)
def test_others_and_malformed_ones_are_not_ours(data: bytes) -> None:
    assert parse_request(data, cut=True) is NOT_MINE


def test_keys_are_made_printable_and_few() -> None:
    odd = {"find": "orders", "filter": {"a\x1b[31m\n": 1, **{f"k{n}": n for n in range(99)}}}
    shown = render_text(read(command(odd))) or ""
    assert shown.startswith("find orders {filter: {a\\x1b[31m\\n: ?, k0: ?")
    assert shown.endswith(", …}}") and shown.isprintable()
    deep: dict[str, Any] = {}
    for _ in range(40):
        deep = {"d": deep}
    assert (render_text(read(command({"find": "o", "filter": deep}))) or "").count("d: ") == 6


@given(st.binary(max_size=400), st.booleans(), st.sampled_from([1, 2004, 2005, 2006, 2012, 2013]))
def test_any_bytes_have_an_outcome(data: bytes, cut: bool, opcode: int) -> None:
    for made in (data, message(opcode, data), message(opcode, data)[:-3]):
        for parse in (parse_request, parse_response):
            outcome = parse(made, cut=cut)
            assert isinstance(outcome, MongoRequest | MongoResponse | Truncated | Outcome)
            assert not cut or outcome is not NEED_MORE
            partial = outcome.partial if isinstance(outcome, Truncated) else outcome
            if isinstance(partial, MongoRequest):
                assert (render_text(partial) or "").isprintable()


@given(st.sampled_from(CORPUS), st.data())
def test_real_messages_with_wrong_bytes_have_an_outcome(pair: Pair, data: st.DataObject) -> None:
    for whole, parse in ((pair.request, parse_request), (pair.response or b"", parse_response)):
        broken = bytearray(whole)
        for _ in range(3 if broken else 0):
            broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
        outcome = parse(bytes(broken), cut=True)
        assert isinstance(outcome, MongoRequest | MongoResponse | Truncated) or outcome is NOT_MINE
