"""Blocks that are read as repeating the last one say what reading each of them says."""

from itertools import accumulate

import pytest
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from farcall_probes.wire import hpackfields
from farcall_probes.wire.hpack import MAX_VAIN, Decoder
from farcall_probes.wire.hpackfields import Fields, Value
from support_hpack import CONSTANT, clients

pytestmark = pytest.mark.unit


def read(decoder: Decoder, blocks: list[bytes]) -> list[Fields]:
    """One after the other, with what repeats read at once."""
    data = b"?" + b"".join(blocks) + b"\x82"
    ends = [1 + end for end in accumulate(map(len, blocks))]
    begins = [1, *ends][: len(ends)]
    found: list[Fields] = []
    traces: list[Value] = []
    at = 0
    while at < len(blocks):
        at = decoder.repeat(data, begins, ends, at, found, traces)
        assert len(found) == len(traces) == at
        if at < len(blocks):
            found.append(decode(decoder, blocks[at]).copy())
            traces.append(found[at][hpackfields.TRACEPARENT])
            found[at][hpackfields.TRACEPARENT] = None
            at += 1
    said = [fields.copy() for fields in found]
    for fields, trace in zip(said, traces, strict=True):
        assert fields[hpackfields.TRACEPARENT] is None
        fields[hpackfields.TRACEPARENT] = trace
    return said


def decode(decoder: Decoder, block: bytes) -> Fields:
    fields = decoder.decode(block)
    assert isinstance(fields, list)
    return fields


def repeat(decoder: Decoder, block: bytes) -> bool:
    return decoder.repeat(block, [0], [len(block)], 0, [], []) == 1


@given(clients(), st.booleans(), st.integers(1, 30))
def test_what_repeats_says_what_reading_it_says(
    blocks: list[tuple[bytes, bool]], complete: bool, at_once: int
) -> None:
    quick, plain = Decoder(complete=complete), Decoder(complete=complete)
    run: list[bytes] = []
    for block, is_lost in [*blocks, (b"", True)]:
        if is_lost or len(run) == at_once:
            assert read(quick, run) == [decode(plain, one) for one in run]
            run = []
        if is_lost:
            quick.reset()
            plain.reset()
        else:
            run.append(block)


@given(
    st.lists(
        st.sampled_from([b"\xbe\x7e\x01a", b"\x82\x04\x01a", b"\xff\x00\x7f\x00\x00"])
        | st.binary(max_size=12),
        max_size=20,
    )
)
def test_any_bytes_repeat_or_do_not(blocks: list[bytes]) -> None:
    decoder = Decoder(complete=False)
    for block in blocks:
        if not repeat(decoder, block):
            decoder.decode(block)


def test_calls_of_one_client_repeat_but_where_its_table_turns_over() -> None:
    encoder, decoder, repeated = Encoder(), Decoder(complete=True), 0
    for number in range(1000):
        more = [("grpc-timeout", f"{900_000 + number}u"), ("traceparent", f"00-{number:0>55}")]
        block = encoder.encode([*CONSTANT[0], ("user-agent", "grpc-go/1.76.0"), *more])
        if repeat(decoder, block):
            repeated += 1
        else:
            decoder.decode(block)

    assert repeated > 800


def test_a_client_that_never_repeats_is_not_compared_for_ever() -> None:
    encoder, decoder, learned = Encoder(), Decoder(complete=True), 0
    for number in range(1000):
        block = encoder.encode([(":path", "/"), (f"x-{number}", "1")])
        assert not repeat(decoder, block)
        learned += decoder._shape is not None
        decoder.decode(block)

    assert learned < 200 and decoder._vain >= MAX_VAIN
