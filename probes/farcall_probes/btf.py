"""Kernel BTF → offsets and sizes of struct members, values of enumerators.

Pure: bytes in, numbers out; the caller reads /sys/kernel/btf/vmlinux. Only structs that are asked for are looked into:
the file holds over a hundred thousand types, and a walk over their headers is all that start-up can afford (60 ms).
"""

import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

VMLINUX = Path("/sys/kernel/btf/vmlinux")
MAGIC = 0xEB9F

# include/uapi/linux/btf.h: kinds
_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM = 1, 2, 3, 4, 5, 6
_TYPEDEF, _VOLATILE, _CONST, _RESTRICT = 8, 9, 10, 11
_FUNC, _FUNC_PROTO, _VAR, _DATASEC, _DECL_TAG, _TYPE_TAG, _ENUM64 = 12, 13, 14, 15, 17, 18, 19
_ALIASES = frozenset((_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG))
# Bytes behind the 12-byte header: (fixed, per entry of vlen).
_TAIL = {
    _INT: (4, 0),
    _ARRAY: (12, 0),
    _STRUCT: (0, 12),
    _UNION: (0, 12),
    _ENUM: (0, 8),
    _FUNC_PROTO: (0, 8),
    _VAR: (4, 0),
    _DATASEC: (0, 12),
    _DECL_TAG: (4, 0),
    _ENUM64: (0, 12),
}
_LAST_KIND = 19
_POINTER_BYTES = 8
# Chains that are longer are loops in a damaged file: typedefs of typedefs, anonymous structs in anonymous structs.
_MAX_ALIASES = 32
_MAX_DEPTH = 8


class BtfError(Exception):
    """The kernel's type information cannot be read, or lacks what is asked for."""


@dataclass(frozen=True, slots=True)
class Member:
    offset: int  # bytes
    size: int  # bytes; of a bit-field the bytes of its type
    is_bitfield: bool


class Btf:
    """One BTF blob. Raises BtfError, never anything else, whatever the bytes are."""

    def __init__(self, blob: bytes) -> None:
        try:
            magic, _, _, header, type_at, type_bytes, text_at, text_bytes = struct.unpack_from(
                "<HBBIIIII", blob
            )
        except struct.error as e:
            raise BtfError("the kernel's BTF is shorter than its header") from e
        if magic != MAGIC:
            raise BtfError("the kernel's BTF has another byte order or is no BTF")
        # Views and one array, no copies and no list of a hundred thousand numbers: the agent keeps its peak for life.
        self._blob = blob
        self._types_at = header + type_at
        self._types = memoryview(blob)[self._types_at : self._types_at + type_bytes]
        self._text_at = min(header + text_at, len(blob))
        self._text_end = min(self._text_at + text_bytes, len(blob))
        self._places = self._index()
        self._found: dict[str, int] = {}  # structs, by their names

    def _index(self) -> "array[int]":
        """Where each type begins; type 0 is void."""
        places = array("L", [0])
        at, end, types = 0, len(self._types), self._types
        unpack = struct.Struct("<II").unpack_from
        tail = [_TAIL.get(kind, (0, 0)) for kind in range(32)]
        try:
            while at < end:
                places.append(at)
                info = unpack(types, at)[1]
                kind = info >> 24 & 31
                if not 0 < kind <= _LAST_KIND:
                    raise BtfError(
                        f"the kernel's BTF holds a type of kind {kind}, which is unknown"
                    )
                fixed, each = tail[kind]
                at += 12 + fixed + each * (info & 0xFFFF)
        except struct.error as e:
            raise BtfError("the kernel's BTF ends within a type") from e
        return places

    @cached_property
    def _structs(self) -> dict[int, int]:
        """Type number of each named struct, by its name's place in the strings."""
        words = np.frombuffer(self._types[: len(self._types) // 4 * 4], "<u4")
        at = np.asarray(self._places)[1:] // 4  # all parts of a type are multiples of a word
        names, infos = words[at], words[at + 1]
        rows = np.flatnonzero((infos >> 24 & 31 == _STRUCT) & (names != 0))
        rows = rows[::-1]  # of two the first stays
        return dict(zip(names[rows].tolist(), (rows + 1).tolist(), strict=True))

    def _is_named(self, at: int, name: bytes) -> bool:
        begin = self._text_at + at
        return self._blob[begin : begin + len(name) + 1] == name + b"\0"

    def _header(self, number: int) -> tuple[int, int, int, int, int]:
        """kind, vlen, kind_flag, size or type, place of what follows"""
        if not 0 < number < len(self._places):
            raise BtfError(f"the kernel's BTF refers to type {number}, which it does not hold")
        at = self._places[number]
        try:
            _, info, size = struct.unpack_from("<III", self._types, at)
        except struct.error as e:
            raise BtfError("the kernel's BTF ends within a type") from e
        return info >> 24 & 31, info & 0xFFFF, info >> 31, size, at + 12

    def _skip_aliases(self, number: int) -> int:
        for _ in range(_MAX_ALIASES):
            kind, _, _, target, _ = self._header(number)
            if kind not in _ALIASES:
                return number
            number = target
        raise BtfError("the kernel's BTF holds a loop of typedefs")

    def _entries(self, layout: str, at: int, n: int) -> Iterator[tuple[int, ...]]:
        """`n` entries behind a type's header."""
        end = at + n * struct.calcsize(layout)
        if end > len(self._types):
            raise BtfError("the kernel's BTF ends within a type")
        return struct.iter_unpack(layout, self._types[at:end])

    def _size(self, number: int, depth: int = 0) -> int:
        number = self._skip_aliases(number)
        kind, _, _, size, at = self._header(number)
        if kind == _PTR:
            return _POINTER_BYTES
        if kind != _ARRAY:
            return size
        if depth > _MAX_DEPTH:
            raise BtfError("the kernel's BTF holds an array of itself")
        element, _, n = next(self._entries("<III", at, 1))
        return n * self._size(element, depth + 1)

    def find_struct(self, name: str) -> int:
        """Type number of `struct name`."""
        number = self._found.get(name)
        if number is None:
            places = self._text_places(name.encode())
            number = next((self._structs[p] for p in places if p in self._structs), None)
            if number is None:
                raise BtfError(f"this kernel's BTF holds no struct {name}")
            self._found[name] = number
        return number

    def _text_places(self, name: bytes) -> Iterator[int]:
        needle, at = b"\0" + name + b"\0", self._text_at
        while (at := self._blob.find(needle, at, self._text_end)) >= 0:
            at += 1
            yield at - self._text_at

    def find_function(self, name: str) -> int | None:
        """Type number of the kernel's function `name`, None when there is none. Its header is looked for as bytes: a walk over all
        types would be a tenth of what a start takes."""
        for place in self._text_places(name.encode()):
            for linkage in range(3):  # enum btf_func_linkage
                needle, at = struct.pack("<II", place, _FUNC << 24 | linkage), 0
                while (at := self._types_find(needle, at)) >= 0:
                    number = bisect_left(self._places, at, lo=1)
                    if number < len(self._places) and self._places[number] == at:
                        return number
                    at += 1
        return None

    def _types_find(self, needle: bytes, at: int) -> int:
        found = self._blob.find(needle, self._types_at + at, self._types_at + len(self._types))
        return found - self._types_at if found >= 0 else found

    def find_size(self, name: str) -> int:
        """Bytes of `struct name`."""
        return self._size(self.find_struct(name))

    def find_member(self, path: str) -> Member:
        """`task_struct.files`, `sock.__sk_common.skc_dport`. Anonymous structs and unions are looked through."""
        name, *members = path.split(".")
        number, offset = self.find_struct(name), 0
        found: Member | None = None
        for member in members:
            hit = self._member(self._skip_aliases(number), member.encode(), 0)
            if hit is None:
                raise BtfError(f"this kernel's BTF has no {path} (no member {member})")
            at, number, is_bitfield = hit
            offset += at
            found = Member(offset, self._size(number), is_bitfield)
        if found is None:
            raise BtfError(f"{path!r} names no member")
        return found

    def _member(self, number: int, name: bytes, depth: int) -> tuple[int, int, bool] | None:
        kind, vlen, kind_flag, _, at = self._header(number)
        if kind not in (_STRUCT, _UNION) or depth > _MAX_DEPTH:
            return None
        for name_at, type_, bits in self._entries("<III", at, vlen):
            # With kind_flag the upper byte of the offset is a bit-field's width.
            width, place = (bits >> 24, bits & 0xFFFFFF) if kind_flag else (0, bits)
            if name_at and self._is_named(name_at, name):
                return place // 8, type_, width != 0 or place % 8 != 0
            if not name_at:
                inner = self._member(self._skip_aliases(type_), name, depth + 1)
                if inner is not None:
                    return place // 8 + inner[0], inner[1], inner[2]
        return None

    def find_enumerator(self, enum: str, name: str) -> int | None:
        """Value of `name` in `enum`, None when the kernel was built without it."""
        enums, names = (set(self._text_places(text.encode())) for text in (enum, name))
        for number in range(1, len(self._places)):
            kind, vlen, _, _, at = self._header(number)
            if kind != _ENUM or struct.unpack_from("<I", self._types, at - 12)[0] not in enums:
                continue
            for name_at, value in self._entries("<Ii", at, vlen):
                if name_at in names:
                    return value
        return None


def read_vmlinux(path: Path = VMLINUX) -> Btf:
    """The running kernel's types. Raises BtfError."""
    try:
        return Btf(path.read_bytes())
    except OSError as e:
        raise BtfError(
            f"{path} cannot be read ({e.strerror or e}): the kernel needs CONFIG_DEBUG_INFO_BTF"
        ) from e
