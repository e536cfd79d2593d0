"""The few things that are read of an ELF file: segments, sections, single symbols. Containers' files are hostile input.

Everything is read with pread(2) in bounded pieces: a mapped file that is cut while it is read would kill the process, and a
symbol table of 30 MB must not pass through memory whole. Why not pyelftools: it makes an object per symbol, 100,000 of them
for Node.js or a Go program (seconds, measured); here a table is a numpy view. Format: System V ABI, chapter 4 and 5.
"""

import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from farcall_probes.arraysets import is_among
from farcall_probes.giveway import give_way

EM_X86_64 = 62
SHT_SYMTAB, SHT_RELA, SHT_DYNSYM = 2, 4, 11
SHT_NOBITS = 8
_PT_LOAD = 1
_PF_X = 1
_STT_FUNC = 2
MAX_SECTIONS = 4096
MAX_SEGMENTS = 256
MAX_TABLE = 256 * 1024 * 1024  # bytes of a symbol or string table; beyond it the file is refused
_CHUNK = 1 << 20
_SYMBOL = np.dtype(
    [
        ("name", "<u4"),
        ("info", "u1"),
        ("other", "u1"),
        ("section", "<u2"),
        ("value", "<u8"),
        ("size", "<u8"),
    ]
)

_RELOCATION = np.dtype([("place", "<u8"), ("kind", "<u4"), ("symbol", "<u4"), ("value", "<u8")])
_RELATIVE = 8  # R_X86_64_RELATIVE


class ElfError(Exception):
    """The file is no ELF file that could be probed. The message says why."""


@dataclass(frozen=True, slots=True)
class Segment:
    offset: int
    address: int
    size: int  # in the file
    executable: bool


@dataclass(frozen=True, slots=True)
class Section:
    name: str
    kind: int
    address: int
    offset: int
    size: int
    link: int


@dataclass(frozen=True, slots=True)
class Symbol:
    """A function: its virtual address and size in bytes (0 when the file does not say)."""

    address: int
    size: int


class ElfFile:
    """An open x86-64 ELF file. Does not own the descriptor. Raises ElfError for everything that does not fit together."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        header = self.read(0, 64)
        if header[:6] != b"\x7fELF\x02\x01":
            raise ElfError("not a 64-bit little-endian ELF file")
        kind, machine = struct.unpack_from("<HH", header, 16)
        if machine != EM_X86_64:
            raise ElfError(f"machine {machine}, not x86-64")
        if kind not in (2, 3):
            raise ElfError("neither a program nor a shared object")
        (self._segments_at, self._sections_at) = struct.unpack_from("<QQ", header, 32)
        self._counts = struct.unpack_from("<HHHHH", header, 54)
        self.segments = tuple(self._read_segments())
        self._sections: tuple[Section, ...] | None = None

    def read(self, offset: int, size: int) -> bytes:
        """Exactly `size` bytes."""
        give_way()
        if size < 0 or offset < 0 or offset > 1 << 62:
            raise ElfError("a table lies outside of the file")
        try:
            raw = os.pread(self._fd, size, offset)
        except (OSError, OverflowError, MemoryError) as e:
            raise ElfError(f"cannot be read: {e}") from e
        if len(raw) != size:
            raise ElfError("the file is shorter than it says")
        return raw

    def _read_segments(self) -> Iterator[Segment]:
        entry, count = self._counts[0], self._counts[1]
        if entry != 56 or count > MAX_SEGMENTS:
            raise ElfError("a segment table of another kind")
        raw = self.read(self._segments_at, entry * count)
        for kind, flags, offset, address, _, size, _, _ in struct.iter_unpack("<IIQQQQQQ", raw):
            if kind == _PT_LOAD:
                yield Segment(offset, address, size, bool(flags & _PF_X))

    @property
    def sections(self) -> tuple[Section, ...]:
        """Empty for a file without a section table."""
        if self._sections is None:
            self._sections = tuple(self._read_sections())
        return self._sections

    def _read_sections(self) -> Iterator[Section]:
        entry, count, names_index = self._counts[2:]
        if not self._sections_at or not count:
            return
        if entry != 64 or count > MAX_SECTIONS or names_index >= count:
            raise ElfError("a section table of another kind")
        raw = self.read(self._sections_at, entry * count)
        rows = list(struct.iter_unpack("<IIQQQQIIQQ", raw))
        names = self.read(rows[names_index][4], min(rows[names_index][5], _CHUNK))
        for name, kind, _, address, offset, size, link, *_ in rows:
            end = names.find(b"\0", name) if name < len(names) else -1
            text = names[name:end].decode("ascii", "replace") if end >= 0 else ""
            yield Section(text, kind, address, offset, size, link)

    def find_section(self, name: str) -> Section | None:
        return next((s for s in self.sections if s.name == name), None)

    def to_offset(self, address: int) -> int:
        """File offset of an address in an executable segment."""
        for s in self.segments:
            if s.executable and s.address <= address < s.address + s.size:
                return s.offset + address - s.address
        raise ElfError("a function lies outside of the executable segments")

    def read_code(self, address: int, size: int) -> bytes:
        """At most `size` bytes of code from `address` on, not past its segment."""
        offset = self.to_offset(address)
        for s in self.segments:
            if s.executable and s.offset <= offset < s.offset + s.size:
                return self.read(offset, min(size, s.offset + s.size - offset))
        raise ElfError("a function lies outside of the executable segments")

    def read_address(self, address: int, size: int) -> bytes:
        """Exactly `size` bytes at an address of any segment."""
        for s in self.segments:
            if s.address <= address and address + size <= s.address + s.size:
                return self.read(s.offset + address - s.address, size)
        raise ElfError("an address lies outside of the file")

    def read_pointer(self, address: int) -> int:
        """What a pointer at `address` holds in a process, counted from where the file begins there: what the file says, or what the
        dynamic linker puts there."""
        step = _CHUNK // _RELOCATION.itemsize * _RELOCATION.itemsize
        for section in (s for s in self.sections if s.kind == SHT_RELA):
            if section.size > MAX_TABLE:
                raise ElfError("a table of relocations that is too long")
            for at in range(0, section.size, step):
                size = min(step, section.size - at) // _RELOCATION.itemsize * _RELOCATION.itemsize
                table = np.frombuffer(self.read(section.offset + at, size), dtype=_RELOCATION)
                hits = table[(table["place"] == address) & (table["kind"] == _RELATIVE)]
                if len(hits):
                    return int(hits["value"][0])
        return int.from_bytes(self.read_address(address, 8), "little")

    def find_symbols(self, wanted: Iterable[str]) -> dict[str, Symbol]:
        """Functions by name: exported ones first, then those of the full table, where there is one."""
        missing = {name.encode() for name in wanted}
        found: dict[str, Symbol] = {}
        for kind in (SHT_DYNSYM, SHT_SYMTAB):
            for section in (s for s in self.sections if s.kind == kind):
                if not missing:
                    break
                for name, symbol in self._search_table(section, missing):
                    found.setdefault(name.decode(), symbol)
                missing -= {name.encode() for name in found}
        return found

    def _search_table(self, section: Section, wanted: set[bytes]) -> Iterator[tuple[bytes, Symbol]]:
        if section.link >= len(self.sections):
            raise ElfError("a symbol table without names")
        names = self.sections[section.link]
        if max(section.size, names.size) > MAX_TABLE:
            raise ElfError("a symbol table that is too long")
        places = self._search_names(names, wanted)
        if not places:
            return
        keys = np.fromiter(places, dtype=np.uint32)
        step = _CHUNK // _SYMBOL.itemsize * _SYMBOL.itemsize
        for at in range(0, section.size, step):
            size = min(step, section.size - at) // _SYMBOL.itemsize * _SYMBOL.itemsize
            table = np.frombuffer(self.read(section.offset + at, size), dtype=_SYMBOL)
            hits = is_among(table["name"], keys) & (table["info"] & 15 == _STT_FUNC)
            for row in table[hits & (table["section"] != 0)].tolist():
                yield places[row[0]], Symbol(row[4], row[5])

    def _search_names(self, section: Section, wanted: set[bytes]) -> dict[int, bytes]:
        """Offset → name. A name may be the end of a longer one, so every place counts, and symbols say which is meant."""
        longest = max((len(n) for n in wanted), default=0) + 1
        places: dict[int, bytes] = {}
        tail = b""
        for at in range(0, section.size, _CHUNK):
            raw = tail + self.read(section.offset + at, min(_CHUNK, section.size - at))
            base = at - len(tail)
            for name in wanted:
                place = raw.find(name + b"\0")
                while place >= 0:
                    places[base + place] = name
                    place = raw.find(name + b"\0", place + 1)
                if len(places) > 4096:
                    raise ElfError("a name stands in the table thousands of times")
            tail = raw[-longest:]
        return places
