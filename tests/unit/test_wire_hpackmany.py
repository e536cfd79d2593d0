"""Header blocks that are read side by side say what reading each of them says, and leave the same tables."""

import numpy as np
import pytest
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from farcall_probes.wire import hpackfields
from farcall_probes.wire.hpack import Decoder
from farcall_probes.wire.hpackfields import Fields, Texts
from farcall_probes.wire.hpackmany import read_many
from farcall_probes.wire.hpackparts import READ_BEYOND
from farcall_probes.wire.traceparents import read_all
from support_hpack import CONSTANT, clients

pytestmark = pytest.mark.unit


def read_alone(decoder: Decoder, block: bytes) -> Fields:
    """Its trace as what it names, not as it came."""
    decoded = decoder.decode(block)
    fields = decoded.copy() if isinstance(decoded, list) else hpackfields.make_unknown()
    fields[hpackfields.TRACEPARENT] = read_all([fields[hpackfields.TRACEPARENT]]).tell(0)
    return fields


def read_side_by_side(
    decoders: list[Decoder], blocks: list[list[bytes]]
) -> tuple[list[list[Fields]], int]:
    """Those that are left to their decoder are read by it, and counted."""
    flat = [block for some in blocks for block in some]
    lanes = np.repeat(np.arange(len(blocks)), [len(some) for some in blocks])
    ends = np.cumsum([1 + len(block) for block in flat], dtype=np.intp)
    data = b"".join(b"\x82" + block for block in flat) + b"\xbe" * READ_BEYOND
    begins = ends - np.array([len(block) for block in flat], dtype=np.intp)
    many = read_many(decoders, data, lanes, begins, ends, decoders[0].texts)
    found: list[list[Fields]] = [[] for _ in blocks]
    left = 0
    for at, (lane, block) in enumerate(zip(lanes.tolist(), flat, strict=True)):
        if many is None or many.which[at] < 0:
            left += 1
            found[lane].append(read_alone(decoders[lane], block))
            continue
        fields = many.said[many.which[at]].copy()
        assert fields[hpackfields.TRACEPARENT] is None
        if many.trace_at[at] >= 0:
            fields[hpackfields.TRACEPARENT] = many.traces.tell(many.trace_at[at])
        found[lane].append(fields)
    return found, left


@given(st.lists(clients(), min_size=1, max_size=4), st.booleans(), st.integers(1, 30))
def test_blocks_side_by_side_say_what_each_alone_says(
    talks: list[list[tuple[bytes, bool]]], complete: bool, at_once: int
) -> None:
    texts = Texts()
    quick = [Decoder(complete=complete, texts=texts) for _ in talks]
    plain = [Decoder(complete=complete) for _ in talks]
    for begin in range(0, max(map(len, talks)), at_once):
        blocks = []
        for at, talk in enumerate(talks):
            some = talk[begin : begin + at_once]
            if any(is_lost for _, is_lost in some):
                quick[at].reset()
                plain[at].reset()
                some = []
            blocks.append([block for block, _ in some])
        if any(blocks):
            found, _ = read_side_by_side(quick, blocks)
            assert found == [
                [read_alone(decoder, block) for block in some]
                for decoder, some in zip(plain, blocks, strict=True)
            ]


@given(
    st.lists(
        st.lists(
            st.sampled_from(
                [
                    b"\xbe\x7e\x01a",
                    b"\x82\x04\x01a",
                    b"\xff\x00\x7f\x00\x00",
                    b"\x40\x02te\x01a\xbe\xbe",
                ]
            )
            | st.binary(max_size=12),
            max_size=8,
        ),
        min_size=1,
        max_size=3,
    ),
    st.booleans(),
)
def test_any_bytes_side_by_side_say_what_each_alone_says(
    blocks: list[list[bytes]], complete: bool
) -> None:
    quick = [Decoder(complete=complete) for _ in blocks]
    plain = [Decoder(complete=complete) for _ in blocks]
    for _ in range(2):
        if any(blocks):
            found, _ = read_side_by_side(quick, blocks)
            assert found == [
                [read_alone(decoder, block) for block in some]
                for decoder, some in zip(plain, blocks, strict=True)
            ]


def test_calls_of_many_clients_are_read_side_by_side() -> None:
    encoders = [Encoder() for _ in range(3)]
    quick = [Decoder(complete=True) for _ in encoders]
    plain = [Decoder(complete=True) for _ in encoders]
    for drain in range(20):
        blocks: list[list[bytes]] = [[] for _ in encoders]
        for number in range(30 * drain, 30 * drain + 30):
            for encoder, some in zip(encoders, blocks, strict=True):
                trace = f"00-{number + 1:032x}-{number + 1:016x}-01"
                more = [("grpc-timeout", f"{900_000 + number}u"), ("traceparent", trace)]
                some.append(encoder.encode([*CONSTANT[0], ("user-agent", "grpc-go/1.76.0"), *more]))
        found, left = read_side_by_side(quick, blocks)
        assert not left
        assert found == [
            [read_alone(decoder, block) for block in some]
            for decoder, some in zip(plain, blocks, strict=True)
        ]
    assert [d._entries[-100:] for d in quick] == [d._entries[-100:] for d in plain]


@pytest.mark.parametrize(
    "block",
    [
        b"\x3f\xe1\x1f\x82",  # a size update
        b"\x83\x83",  # a header twice
        b"\xff\x80\x01",  # a far index
        b"\x40\x7f\x00" + b"a" * 127 + b"\x01a",  # a long name
        b"\x82" + b"\x40\x02te\x01a" * 33,  # more fields than are followed
    ],
)
def test_what_is_seldom_is_left_to_its_decoder_and_to_no_other(block: bytes) -> None:
    quick = [Decoder(complete=False) for _ in range(2)]
    plain = [Decoder(complete=False) for _ in range(2)]
    blocks = [[b"\x82\x44\x02/a", block, b"\xbe"], [b"\x83\x44\x02/b", b"\xbe"]]
    found, left = read_side_by_side(quick, blocks)

    assert left == 3
    assert found == [
        [read_alone(decoder, one) for one in some]
        for decoder, some in zip(plain, blocks, strict=True)
    ]


def test_long_values_are_counted_in_the_table() -> None:
    encoder, decoder = Encoder(), Decoder(complete=True)
    for number in range(500):
        headers = [(":path", f"/{number}" + "x" * 100), ("x-a", str(number))]
        _, left = read_side_by_side([decoder], [[encoder.encode(headers, huffman=False)]])
        assert not left

    assert sum(len(str(entry)) for entry in decoder._entries) < 20_000
