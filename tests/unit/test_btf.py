"""BTF: members through typedefs and anonymous parts, and nothing but BtfError for damaged bytes."""

import random
import struct
from pathlib import Path

import pytest

from farcall_probes.btf import Btf, BtfError, Member, read_vmlinux

pytestmark = pytest.mark.unit

INT, PTR, ARRAY, STRUCT, UNION, ENUM, TYPEDEF, CONST = 1, 2, 3, 4, 5, 6, 8, 10
FUNC, FUNC_PROTO = 12, 13


class Builder:
    """Types in the order they are added, numbered from 1."""

    def __init__(self) -> None:
        self.text = b"\0"
        self.types = b""
        self.number = 0

    def name(self, name: str) -> int:
        if not name:
            return 0
        at = len(self.text)
        self.text += name.encode() + b"\0"
        return at

    def add(
        self, name: str, kind: int, size: int, tail: bytes = b"", vlen: int = 0, flag: int = 0
    ) -> int:
        info = flag << 31 | kind << 24 | vlen
        self.types += struct.pack("<III", self.name(name), info, size) + tail
        self.number += 1
        return self.number

    def record(
        self,
        name: str,
        size: int,
        members: list[tuple[str, int, int]],
        kind: int = STRUCT,
        flag: int = 0,
    ) -> int:
        tail = b"".join(struct.pack("<III", self.name(n), t, bits) for n, t, bits in members)
        return self.add(name, kind, size, tail, len(members), flag)

    def build(self) -> bytes:
        header = struct.pack(
            "<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(self.types), len(self.types), len(self.text)
        )
        return header + self.types + self.text


def build_sample() -> bytes:
    b = Builder()
    u32 = b.add("unsigned int", INT, 4, struct.pack("<I", 32))
    u16 = b.add("unsigned short", INT, 2, struct.pack("<I", 16))
    alias = b.add("port_t", TYPEDEF, u16)
    constant = b.add("", CONST, alias)
    pointer = b.add("", PTR, u32)
    array = b.add("", ARRAY, 0, struct.pack("<III", u16, u32, 5))
    inner = b.record("", 4, [("low", constant, 0), ("high", u16, 16)])
    union = b.record("", 4, [("", inner, 0), ("whole", u32, 0)], kind=UNION)
    common = b.record("common", 16, [("family", u16, 0), ("", union, 32), ("list", array, 48)])
    b.record("outer", 40, [("head", pointer, 0), ("base", common, 64), ("last", u16, 256)])
    b.record("packed", 4, [("plain", u16, 0), ("bit", u32, 1 << 24 | 17)], flag=1)
    b.add("kinds", ENUM, 4, struct.pack("<IiIi", b.name("first"), 3, b.name("second"), 4), vlen=2)
    return b.build()


@pytest.mark.parametrize(
    ("path", "member"),
    [
        ("outer.head", Member(0, 8, False)),
        ("outer.base", Member(8, 16, False)),
        ("outer.base.family", Member(8, 2, False)),
        ("outer.base.low", Member(12, 2, False)),
        ("outer.base.high", Member(14, 2, False)),
        ("outer.base.whole", Member(12, 4, False)),
        ("outer.base.list", Member(14, 10, False)),
        ("outer.last", Member(32, 2, False)),
        ("packed.plain", Member(0, 2, False)),
        ("packed.bit", Member(2, 4, True)),
    ],
)
def test_members_are_found_with_offset_and_size(path: str, member: Member) -> None:
    assert Btf(build_sample()).find_member(path) == member


@pytest.mark.parametrize(
    "path", ["nothing.at", "outer.nothing", "outer.head.deeper", "outer", "kinds.first"]
)
def test_what_is_not_there_is_named(path: str) -> None:
    with pytest.raises(BtfError, match=path.split(".")[0]):
        Btf(build_sample()).find_member(path)


def test_enumerators_are_found_or_absent() -> None:
    btf = Btf(build_sample())

    assert btf.find_enumerator("kinds", "second") == 4
    assert btf.find_enumerator("kinds", "third") is None
    assert btf.find_enumerator("others", "first") is None


def ask_everything(blob: bytes) -> None:
    btf = Btf(blob)
    btf.find_member("outer.base.high")
    btf.find_enumerator("kinds", "second")


def test_a_blob_cut_anywhere_raises_btf_error_or_answers() -> None:
    blob = build_sample()
    for n in range(len(blob)):
        try:
            ask_everything(blob[:n])
        except BtfError:
            pass


def test_random_damage_raises_btf_error_or_answers() -> None:
    blob = build_sample()
    dice = random.Random(11)
    for _ in range(3_000):
        damaged = bytearray(blob)
        for _ in range(dice.randint(1, 6)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        try:
            ask_everything(bytes(damaged))
        except BtfError:
            pass


def test_a_loop_of_typedefs_ends() -> None:
    b = Builder()
    b.add("a", TYPEDEF, 2)
    b.add("b", TYPEDEF, 1)
    b.record("s", 8, [("m", 1, 0)])

    with pytest.raises(BtfError, match="loop"):
        Btf(b.build()).find_member("s.m")


def test_an_array_of_itself_ends() -> None:
    b = Builder()
    b.add("", ARRAY, 0, struct.pack("<III", 1, 1, 5))
    b.record("s", 8, [("m", 1, 0)])

    with pytest.raises(BtfError):
        Btf(b.build()).find_member("s.m")


def test_a_kernel_without_the_file_is_told_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(BtfError, match="CONFIG_DEBUG_INFO_BTF"):
        read_vmlinux(tmp_path / "none")


def test_the_running_kernels_own_types_are_read() -> None:
    btf = read_vmlinux()

    assert btf.find_member("sock.__sk_common.skc_family").size == 2
    assert btf.find_member("task_struct.start_boottime").size == 8


def test_a_function_is_found_by_its_name_and_nothing_else_is_taken_for_one() -> None:
    b = Builder()
    number = b.add("unsigned int", INT, 4, struct.pack("<I", 32))
    proto = b.add("", FUNC_PROTO, number)
    b.record("cast", 4, [("cast", number, 0)])
    # Of an array's size, whose bytes read as the header of the function that is looked for.
    b.add("", ARRAY, 0, struct.pack("<III", number, len(b.text), FUNC << 24 | 1))
    cast = b.add("cast_function", FUNC, proto, vlen=1)
    btf = Btf(b.build())

    assert btf.find_function("cast_function") == cast
    assert btf.find_function("cast") is None
    assert btf.find_function("other") is None


def test_the_kernel_has_the_function_that_lets_programs_load_by_themselves() -> None:
    assert read_vmlinux().find_function("bpf_rdonly_cast")
