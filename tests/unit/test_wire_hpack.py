"""HPACK against another implementation's encoder: all blocks, some blocks, cut blocks, and any bytes at all."""

from collections.abc import Sequence

import numpy as np
import pytest
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from farcall_probes.windows import read_items
from farcall_probes.wire import hpack, hpackfields, huffman, traceparents
from farcall_probes.wire.hpack import Decoder
from farcall_probes.wire.hpackfields import UNKNOWN, Fields
from farcall_probes.wire.hpackparts import READ_BEYOND
from farcall_probes.wire.outcomes import NOT_MINE, Outcome, Truncated
from farcall_probes.wire.tracecontext import parse_traceparent
from support_hpack import list_ids

pytestmark = pytest.mark.unit

Headers = Sequence[tuple[str, str]]
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PLACES = {
    ":method": hpackfields.METHOD,
    ":path": hpackfields.PATH,
    ":authority": hpackfields.AUTHORITY,
    "host": hpackfields.HOST,
    ":status": hpackfields.STATUS,
    "content-type": hpackfields.CONTENT_TYPE,
    "user-agent": hpackfields.USER_AGENT,
    "grpc-status": hpackfields.GRPC_STATUS,
    "grpc-message": hpackfields.GRPC_MESSAGE,
}


def grpc_request(number: int = 0) -> Headers:
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/shop.Cart/AddItem"),
        (":authority", "cart.example.com:50051"),
        ("content-type", "application/grpc"),
        ("user-agent", "grpc-go/1.60.1"),
        ("te", "trailers"),
        ("grpc-timeout", f"{900_000 + number}u"),
        ("traceparent", TRACE),
    ]


def read(decoder: Decoder, block: bytes) -> Fields:
    fields = decoder.decode(block)
    assert isinstance(fields, list)
    return fields


def expect(headers: Headers) -> Fields:
    fields: Fields = [None] * hpackfields.FIELDS
    for name, value in headers:
        if name in PLACES:
            fields[PLACES[name]] = value
    return fields


names = st.sampled_from([*PLACES, "cookie", "authorization", "x-a", "x-long-name-of-somebody"])
# The wanted ones are cut at their limits and escaped, which is wire/outcomes.py's: here they are short and print.
values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
statuses = st.integers(100, 999).map(str)


@st.composite
def blocks_of_headers(draw: st.DrawFn) -> list[tuple[Headers, bool, int | None]]:
    """(headers, Huffman or not, a new table size or none) of some blocks."""
    made = []
    for _ in range(draw(st.integers(1, 12))):
        headers = {}
        for name in draw(st.lists(names, max_size=8)):
            value = draw(statuses if name == ":status" else values)
            headers[name] = value[:10] if name == "grpc-status" else value[:32]
        made.append(
            (
                list(headers.items()),
                draw(st.booleans()),
                draw(st.none() | st.sampled_from([0, 64, 200, 4096, 65_536, 200_000])),
            )
        )
    return made


def encode_all(blocks: list[tuple[Headers, bool, int | None]]) -> list[bytes]:
    encoder = Encoder()
    encoded = []
    for headers, is_coded, size in blocks:
        if size is not None:
            encoder.header_table_size = size
        encoded.append(encoder.encode(headers, huffman=is_coded))
    return encoded


@given(blocks_of_headers())
def test_what_another_implementation_encodes_is_read(
    blocks: list[tuple[Headers, bool, int | None]],
) -> None:
    decoder = Decoder(complete=True)
    for (headers, _, _), block in zip(blocks, encode_all(blocks), strict=True):
        found = read(decoder, block)
        assert found[: hpackfields.UNWANTED] == expect(headers)[: hpackfields.UNWANTED]
        assert found[UNKNOWN] is None


@given(blocks_of_headers(), st.data())
def test_who_joins_late_or_loses_blocks_knows_less_and_nothing_wrong(
    blocks: list[tuple[Headers, bool, int | None]], data: st.DataObject
) -> None:
    decoder = Decoder(complete=False)
    for (headers, _, _), block in zip(blocks, encode_all(blocks), strict=True):
        if data.draw(st.booleans(), "lost"):
            decoder.reset()
            continue
        found = read(decoder, block)
        expected = expect(headers)
        for place in range(hpackfields.UNWANTED):
            assert found[place] == expected[place] or (found[place] is None and found[UNKNOWN])


@given(blocks_of_headers(), st.data())
def test_a_cut_block_gives_what_was_there_and_shifts_nothing(
    blocks: list[tuple[Headers, bool, int | None]], data: st.DataObject
) -> None:
    decoder = Decoder(complete=True)
    for (headers, _, _), block in zip(blocks, encode_all(blocks), strict=True):
        cut_at = data.draw(st.integers(0, len(block)), "cut at")
        if cut_at == len(block):
            found = read(decoder, block)
        else:
            outcome = decoder.decode(block[:cut_at], cut=True)
            assert isinstance(outcome, Truncated)
            found = outcome.partial
            assert found[UNKNOWN]
        expected = expect(headers)
        for place in range(hpackfields.UNWANTED):
            assert found[place] == expected[place] or (found[place] is None and found[UNKNOWN])


class ForgetfulDecoder(Decoder):
    """One that remembers no run: what the other one finds, found again each time."""

    __slots__ = ()

    def _read_run(self, run: bytes) -> Fields:
        fields: Fields = [None] * hpackfields.FIELDS
        self._read(run, fields, 0)
        return fields


# Indices of either table, most of them near the newest entry, some beyond all entries.
indexed = st.integers(0x81, 0xFF).map(lambda byte: bytes((byte,)))
runs = st.lists(st.sampled_from(b"\x82\x83\x86\xbe\xbf\xc0\xc1\xc2").map(lambda b: bytes((b,))) | indexed, max_size=6).map(b"".join)  # fmt: skip
literals = st.builds(
    lambda start, value: bytes((start, len(value))) + value,
    st.sampled_from([0x41, 0x44, 0x54, 0x7E, 0x04, 0x0F]) | st.integers(0x41, 0x7E),
    st.binary(max_size=30),
)
sizes = st.sampled_from([b"\x20", b"\x3f\x61", b"\x3f\xe1\x1f"])  # 0, 128, 4096


@given(
    st.lists(st.tuples(st.just(b"") | sizes, runs, st.lists(literals, max_size=4)), max_size=20),
    st.booleans(),
    st.data(),
)
def test_remembered_runs_say_what_reading_them_says(
    made: list[tuple[bytes, bytes, list[bytes]]], complete: bool, data: st.DataObject
) -> None:
    quick, plain = Decoder(complete=complete), ForgetfulDecoder(complete=complete)
    blocks = [size + run + b"".join(more) for size, run, more in made]
    for number in data.draw(st.lists(st.integers(0, max(0, len(blocks) - 1)), max_size=120)):
        block = blocks[number] if blocks else b""
        assert quick.decode(block) == plain.decode(block)
        assert (quick.complete, quick._entries) == (plain.complete, plain._entries)


def test_a_run_is_read_once_while_its_entries_last() -> None:
    encoder, reads = Encoder(), 0

    class CountingDecoder(Decoder):
        __slots__ = ()

        def _read(self, block: bytes, fields: Fields, at: int) -> bool:
            nonlocal reads
            reads += at == 0
            return Decoder._read(self, block, fields, at)

    decoder = CountingDecoder(complete=True)
    for number in range(300):
        found = read(decoder, encoder.encode(grpc_request(number)))
        assert found[: hpackfields.TRACEPARENT] == expect(grpc_request())[: hpackfields.TRACEPARENT]

    assert reads < 100  # of the constant headers; the others stand behind them
    assert len(decoder._runs) <= hpack.RUN_ENTRIES


def test_late_joiners_know_a_path_again_once_the_table_has_turned_over() -> None:
    encoder = Encoder()
    blocks = [encoder.encode(grpc_request(number)) for number in range(600)]
    decoder = Decoder(complete=False)
    paths = [read(decoder, block)[hpackfields.PATH] for block in blocks[100:]]

    assert set(paths) == {None, "/shop.Cart/AddItem"}
    assert paths.count("/shop.Cart/AddItem") > 300


def test_constant_headers_stay_unknown_and_are_said_to_be() -> None:
    encoder = Encoder()
    encoder.encode(grpc_request())
    found = read(Decoder(complete=False), encoder.encode(grpc_request()))

    assert found[hpackfields.METHOD] == "POST"  # of the static table
    assert found[hpackfields.PATH] is None and found[UNKNOWN]


def test_a_block_of_a_connection_seen_whole_has_no_unknown_index() -> None:
    assert Decoder(complete=True).decode(b"\xbe") is NOT_MINE


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # index 0
        b"\xff\xff\xff\xff\xff\xff\x7f",  # an index beyond all sense
        b"\x44",  # a name without its value
        b"\x44\x85abc",  # a value that ends early
        b"\x44\x81\x00",  # wrong padding
        b"\x44\x84\xff\xff\xff\xff",  # the end-of-string symbol
    ],
)
def test_what_no_encoder_makes_is_refused_and_forgets_the_table(block: bytes) -> None:
    decoder = Decoder(complete=True)
    read(decoder, Encoder().encode([("x-a", "b")]))

    assert decoder.decode(block) is NOT_MINE
    assert not decoder.complete and read(decoder, b"\xbe")[UNKNOWN]


@given(st.lists(st.binary(max_size=200), max_size=5), st.booleans(), st.booleans())
def test_any_bytes_have_an_outcome(blocks: list[bytes], cut: bool, complete: bool) -> None:
    decoder = Decoder(complete=complete)
    for block in blocks:
        assert isinstance(decoder.decode(block, cut=cut), list | Truncated | Outcome)


def test_secrets_are_in_no_table() -> None:
    decoder = Decoder(complete=True)
    secret = "Bearer t0ps3cret"
    block = Encoder().encode([("authorization", secret), ("cookie", secret), (":path", "/a")])
    read(decoder, block)

    assert secret not in repr([getattr(decoder, name) for name in Decoder.__slots__])


def test_a_table_is_bounded_however_long_its_entries() -> None:
    encoder = Encoder()
    decoder = Decoder(complete=True)
    for number in range(5_000):
        read(decoder, encoder.encode([(":path", f"/{number}" + "x" * 500), ("x-a", str(number))]))

    assert sum(len(str(entry)) for entry in decoder._entries) < 20_000


def test_one_traceparent_counts_and_of_two_none() -> None:
    decoder = Decoder(complete=True)
    expected = parse_traceparent(TRACE.encode())

    found = read(decoder, Encoder().encode([("traceparent", TRACE)]))
    assert list_ids(traceparents.read_all([found[hpackfields.TRACEPARENT]])) == [expected]
    twice = Encoder().encode([("traceparent", TRACE), ("traceparent", TRACE.replace("0af", "1af"))])
    assert read(Decoder(complete=True), twice)[hpackfields.TRACEPARENT] == (None, None)


@given(
    st.one_of(
        st.binary(max_size=60),
        st.from_regex(rb"\A0[0-9a-f]-[0-9a-fA-F]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-x)?\Z"),
        st.sampled_from([b"00-" + b"0" * 32 + b"-" + b"1" * 16 + b"-01"]),
    )
)
def test_the_quick_way_to_read_a_traceparent_finds_what_the_pattern_finds(raw: bytes) -> None:
    assert traceparents.read_traceparent(raw) == parse_traceparent(raw)


HEX = "0123456789abcdef"
ordinary = st.builds(
    lambda trace, span, flags: f"00-{trace}-{span}-{flags}",
    st.text(HEX, min_size=32, max_size=32) | st.just("0" * 32),
    st.text(HEX, min_size=16, max_size=16) | st.just("0" * 16),
    st.text(HEX, min_size=2, max_size=2),
)
# As ordinary, with a character or a bit that is not.
spoilt = st.builds(
    lambda value, at, other: value[: at % 55] + other + value[at % 55 + len(other) :],
    ordinary,
    st.integers(0, 54),
    st.sampled_from(["A", "-", "g", "0", "x", "--", "\0", "\xff"]),
)
coded = (ordinary | spoilt | st.text(HEX + "-", min_size=50, max_size=60)).map(
    lambda value: huffman.encode(value.encode("latin-1"))
)
bent = st.builds(
    lambda raw, at, bit: bytes(b ^ (bit if n == at % len(raw) else 0) for n, b in enumerate(raw)),
    coded,
    st.integers(0, 60),
    st.sampled_from([1, 2, 4, 0x80, 0xFF]),
)
lengthened = coded.map(lambda raw: raw + b"\xff")


@given(st.lists(coded | bent | lengthened | st.binary(min_size=35, max_size=42), max_size=100))
def test_coded_traceparents_are_read_together_as_each_alone(raws: list[bytes]) -> None:
    raws = [r for r in raws if traceparents.MIN_CODED <= len(r) <= traceparents.MAX_CODED]
    expected = []
    for raw in raws:
        plain = huffman.decode(raw)
        expected.append(parse_traceparent(plain) if plain is not None else (None, None))

    assert list_ids(traceparents.read_all(raws)) == expected
    ends = np.cumsum([len(raw) for raw in raws], dtype=np.intp)
    begins = ends - np.array([len(raw) for raw in raws], dtype=np.intp)
    data = np.frombuffer(b"".join(raws) + bytes(READ_BEYOND), np.uint8)
    assert list_ids(traceparents.read_places(data, begins, ends)) == expected
    assert read_items(data, begins, ends - begins) == raws
    # Those that are of the ordinary shape are found without the plain decoder, and nothing else is.
    for ids, is_read, alone in zip(*traceparents.read_coded(raws), expected, strict=True):
        assert not is_read or (bytes(ids[:16]), bytes(ids[16:])) == alone


def test_what_is_cut_out_keeps_its_last_bytes() -> None:
    values = [b"a\0\0", b"\0", b"b", b"\0c"]
    data = np.frombuffer(b"".join(values) + bytes(READ_BEYOND), np.uint8)
    sizes = np.array([len(value) for value in values], dtype=np.intp)
    assert read_items(data, np.cumsum(sizes) - sizes, sizes) == values


def test_traces_of_all_kinds_stand_each_in_its_row() -> None:
    known = parse_traceparent(TRACE.encode())
    coded = huffman.encode(TRACE.encode())
    values = [known, None, coded, (None, None), coded[:-1], coded] * 20

    expected = [known, None, known, (None, None), (None, None), known] * 20
    assert list_ids(traceparents.read_all(values)) == expected
    assert list_ids(traceparents.read_all(values[:6])) == expected[:6]


def test_ordinary_traceparents_are_all_read_together() -> None:
    values = [f"00-{n:032x}-{n * 7919 % 2**64:016x}-0{n % 2}" for n in range(1, 1_200)]
    ids, is_read = traceparents.read_coded([huffman.encode(value.encode()) for value in values])

    assert is_read.all()
    expected = [parse_traceparent(value.encode()) for value in values]
    assert [(bytes(one[:16]), bytes(one[16:])) for one in ids] == expected


@given(st.binary(max_size=60))
def test_huffman_strings_come_back_whole(raw: bytes) -> None:
    coded = huffman.encode(raw)

    assert huffman.decode(coded) == raw
    assert huffman.decode(coded + b"\xff") is None  # eight bits of padding
