"""Beginnings of compressed bytes: as much as there is, whatever they claim."""

import zlib

import lz4.block
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_probes.wire.inflating import inflate_lz4, inflate_snappy, inflate_zlib

pytestmark = pytest.mark.unit

PLAIN = st.lists(st.sampled_from([b"SELECT ", b"x", b"\0\0\0\0\0\0\0\0", b"orders"])).map(b"".join)
ALL = 1 << 20


@given(PLAIN, st.integers(0, 400))
def test_lz4_of_its_own_library_gives_what_was_packed_and_cut_a_beginning(
    plain: bytes, cut: int
) -> None:
    packed = lz4.block.compress(plain, store_size=False)
    assert inflate_lz4(packed, ALL) == plain
    assert plain.startswith(inflate_lz4(packed[:cut], ALL))
    assert inflate_lz4(packed, 7) == plain[:7]


def test_snappys_literals_and_copies_of_each_width_are_read() -> None:
    literal = b"\x0c" + b"abcd"  # (4 - 1) << 2
    near = bytes((1 | (8 - 4) << 2, 4))  # 8 bytes from 4 before, which repeats them
    far = bytes((2 | (4 - 1) << 2, 4, 0))
    farthest = bytes((3 | (4 - 1) << 2, 12, 0, 0, 0))
    long_literal = bytes((60 << 2, 99)) + b"z" * 100
    packed = b"\x88\x01" + literal + near + far + farthest + long_literal

    assert inflate_snappy(packed) == b"abcd" + b"abcdabcd" + b"abcd" + b"abcd" + b"z" * 100
    assert inflate_snappy(packed[:10]) == b"abcd" + b"abcdabcd"
    assert inflate_snappy(packed, 6) == b"abcdab"


def test_zlib_that_is_cut_gives_what_stands_before_the_cut() -> None:
    plain = bytes(range(256)) * 4
    packed = zlib.compress(plain)
    assert inflate_zlib(packed) == plain
    assert plain.startswith(inflate_zlib(packed[:-30])) and inflate_zlib(packed[:-30])
    assert inflate_zlib(packed, 5) == plain[:5]
    assert inflate_zlib(b"no zlib at all") == b""


def test_a_bomb_is_not_unpacked() -> None:
    assert len(inflate_zlib(zlib.compress(bytes(50_000_000)))) == 2048
    assert len(inflate_lz4(lz4.block.compress(bytes(50_000_000), store_size=False))) == 2048


@given(st.binary(max_size=200))
def test_any_bytes_give_no_more_than_the_limit(packed: bytes) -> None:
    for inflate in (inflate_lz4, inflate_snappy, inflate_zlib):
        assert len(inflate(packed, 100)) <= 100
