"""Where a Go program's crypto/tls is probed. Go has a calling convention and a stack of its own, and no return probes: a
goroutine's stack moves, and the return address that the kernel would put there is gone.

Write: at the `push %rbp` behind the check of the stack, where (connection, buffer, length) are still in rax, rbx, rcx. Read: at
its one `call runtime.memmove`, which copies plaintext to the caller: from rbx, rcx bytes; the connection is where the function
saved its first argument, rbp + 16. Both are instructions that the kernel emulates. Checked here: that the code is as said;
checked at each hit by bpf/uprobes.h: that the connection leads to a TCP socket. Go 1.17 (register arguments) and newer.

Addresses come from the symbol table, or in stripped files from pclntab, which the runtime itself needs
(src/internal/abi/symtab.go, src/runtime/symtab.go of Go).
"""

import struct
from collections.abc import Iterator

import numpy as np

from farcall_probes import x86
from farcall_probes.arraysets import is_among
from farcall_probes.elf import ElfError, ElfFile, Section
from farcall_probes.tlspoints import Point

READ, WRITE, MEMMOVE = "crypto/tls.(*Conn).Read", "crypto/tls.(*Conn).Write", "runtime.memmove"
NAMES = (READ, WRITE, MEMMOVE)

_MAGICS = (0xFFFFFFF0, 0xFFFFFFF1)  # go1.18, go1.20
_HEADER = struct.Struct("<IHBBQQQQQQQQ")
_MODULE_TEXT = (
    22 * 8
)  # runtime.moduledata: text, behind pcHeader, six slices, findfunctab, minpc and maxpc
_CHUNK = 1 << 20
_MAX_FUNCTIONS = 2_000_000
_MAX_BODY = 8192  # of Read; 900 bytes in Go 1.26
_MAX_PROLOGUE = 40
_PUSH_RBP = 0x55


def is_go(elf: ElfFile) -> bool:
    return (
        elf.find_section(".go.buildinfo") is not None or elf.find_section(".gopclntab") is not None
    )


def find_go_points(elf: ElfFile) -> list[Point]:
    """None for a program that does not speak TLS. Raises ElfError where its code is none that can be probed."""
    symbols = {name: s.address for name, s in elf.find_symbols(NAMES).items()}
    if len(symbols) < len(NAMES):
        symbols = _find_in_pclntab(elf)
    if READ not in symbols or WRITE not in symbols or MEMMOVE not in symbols:
        return []
    return [
        Point(program="uprobe__go_write", offset=_find_write(elf, symbols[WRITE])),
        Point(program="uprobe__go_read", offset=_find_read(elf, symbols[READ], symbols[MEMMOVE])),
    ]


def _find_entry(code: bytes) -> int | None:
    """Offset of `push %rbp`, behind nothing but the check of the stack."""
    for instruction in x86.decode(code, _MAX_PROLOGUE):
        if instruction.opcode == _PUSH_RBP and instruction.length == 1:
            return instruction.at
        if instruction.kind not in (x86.OTHER, x86.BRANCH):
            return None
    return None


def _find_write(elf: ElfFile, address: int) -> int:
    entry = _find_entry(elf.read_code(address, 64))
    if entry is None:
        raise ElfError("crypto/tls.(*Conn).Write begins in another way than Go's compiler makes it")
    return elf.to_offset(address) + entry


def _find_read(elf: ElfFile, address: int, memmove: int) -> int:
    code = elf.read_code(address, _MAX_BODY)
    entry = _find_entry(code)
    if entry is None or not _saves_receiver(code, entry):
        raise ElfError(
            "crypto/tls.(*Conn).Read keeps its connection elsewhere than Go's compiler does"
        )
    calls = [
        i for i in _walk_function(code) if i.kind == x86.CALL and i.target == memmove - address
    ]
    if len(calls) != 1:
        raise ElfError(
            f"crypto/tls.(*Conn).Read copies plaintext in {len(calls)} places, not in one"
        )
    return elf.to_offset(address) + calls[0].at


def _walk_function(code: bytes) -> Iterator[x86.Instruction]:
    """To the function's end: Go's is a jump back to its beginning, behind the call for more stack."""
    for instruction in x86.decode(code):
        yield instruction
        if instruction.kind == x86.JUMP and instruction.target == 0:
            return


def _saves_receiver(code: bytes, entry: int) -> bool:
    """mov %rax, frame + 16(%rsp), which is 16(%rbp): the caller's place for the first argument."""
    frame = None
    for instruction in x86.decode(code[:160]):
        raw = code[instruction.at : instruction.at + instruction.length]
        if raw[:3] == b"\x48\x83\xec" and instruction.at > entry:
            frame = raw[3]
        elif raw[:3] == b"\x48\x81\xec" and instruction.at > entry:
            frame = int.from_bytes(raw[3:7], "little")
        elif frame is not None and raw[:4] == b"\x48\x89\x44\x24" and raw[4] == frame + 16:
            return True
        elif frame is not None and raw[:4] == b"\x48\x89\x84\x24":
            if int.from_bytes(raw[4:8], "little") == frame + 16:
                return True
    return False


# ---- pclntab --------------------------------------------------------------------------------------------------------


def _find_in_pclntab(elf: ElfFile) -> dict[str, int]:
    section = elf.find_section(".gopclntab")
    if section is None or section.size < _HEADER.size:
        return {}
    header = _HEADER.unpack(elf.read(section.offset, _HEADER.size))
    magic, _, _, pointer, functions, _, text, names_at, cu_at, _, _, table_at = header
    if magic not in _MAGICS or pointer != 8:
        raise ElfError("a table of functions of another Go version")
    if (
        functions > _MAX_FUNCTIONS
        or not names_at <= cu_at <= section.size
        or table_at > section.size
    ):
        raise ElfError("a table of functions that does not fit its section")
    names = _find_names(elf, section, names_at, cu_at)
    if len(names) < len(NAMES):
        return {}
    entries = _find_entries(elf, section, table_at, functions, names)
    for base in _list_bases(elf, text):
        found = {name: base + offset for name, offset in entries.items()}
        if len(found) == len(NAMES) and _is_code(elf, found):
            return found
    raise ElfError("the beginning of Go's code was not found")


def _find_names(elf: ElfFile, section: Section, begin: int, end: int) -> dict[int, str]:
    """Offset in the table of names → name. Each stands there once, between two zeros."""
    found: dict[int, str] = {}
    wanted = {name: b"\0" + name.encode() + b"\0" for name in NAMES}
    tail = b""
    for at in range(begin, end, _CHUNK):
        raw = tail + elf.read(section.offset + at, min(_CHUNK, end - at))
        for name, text in wanted.items():
            place = raw.find(text)
            if place >= 0:
                found[at - len(tail) - begin + place + 1] = name
        tail = raw[-64:]
    return found


def _find_entries(
    elf: ElfFile, section: Section, table_at: int, functions: int, names: dict[int, str]
) -> dict[str, int]:
    """Name → offset of its code. A function's record begins with that offset and the one of its name."""
    table_end = section.offset + section.size
    raw = elf.read(section.offset + table_at, functions * 8)
    records = np.sort(np.frombuffer(raw, dtype="<u4")[1::2].astype(np.int64))
    keys = np.fromiter(names, dtype=np.uint32)
    found: dict[str, int] = {}
    at = 0
    while at < len(records):
        begin = int(records[at])
        until = int(np.searchsorted(records, begin + _CHUNK))
        here = section.offset + table_at + begin
        piece = elf.read(here, max(0, min(_CHUNK + 8, table_end - here)))
        places = records[at:until] - begin
        places = places[places + 8 <= len(piece)]
        words = np.frombuffer(piece, dtype=np.uint8)
        rows = words[places[:, None] + np.arange(8)].copy().view("<u4")
        for offset, name in rows[is_among(rows[:, 1], keys)].tolist():
            found[names[name]] = offset
        at = until
    return found


def _list_bases(elf: ElfFile, text: int) -> Iterator[int]:
    """Where offsets of code may count from: the header says it before Go 1.26, runtime.moduledata always."""
    module = elf.find_section(".go.module")
    if module is not None and module.size >= _MODULE_TEXT + 8:
        yield int.from_bytes(elf.read(module.offset + _MODULE_TEXT, 8), "little")
    yield text
    section = elf.find_section(".text")
    if section is not None:
        yield section.address


def _is_code(elf: ElfFile, addresses: dict[str, int]) -> bool:
    try:
        return all(
            _find_entry(elf.read_code(addresses[name], 64)) is not None for name in (READ, WRITE)
        )
    except ElfError:
        return False
