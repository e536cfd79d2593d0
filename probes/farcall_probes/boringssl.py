"""BoringSSL that is linked into a stripped file, as into grpcio's extension: where it writes, and copies plaintext to its caller.

No symbol is left of it, but its errors say which source file they are of. A function that can fail takes the address of that
file's name for ERR_put_error's fourth argument, so all of ssl/ssl_lib.cc can be found; .eh_frame_hdr says where functions begin.
Among them

- SSL_write is the only one that calls a method with the caller's bytes and their number as its fourth and fifth argument
  (write_app_data, ssl/internal.h), and is probed where it begins;
- SSL_read is the only one that copies what a member says and then moves that member on:

      mov  D(%R),%rsi   ; pending_app_data
      call memcpy
      add  %N,D(%R)

  and is probed at the call. (SSL_peek copies too, and moves nothing on.) The SSL object is in a register that calls keep.

Both have to be found, and once; else the file is none that could be read. What is copied is held against the record that was read
from the socket, by its tag (bpf/tlscopies.h).
"""

from collections.abc import Iterator

import numpy as np

from farcall_probes import x86
from farcall_probes.elf import ElfFile, Section
from farcall_probes.tlspoints import Point

_SOURCE = b"ssl/ssl_lib.cc\0"
_MAX_TEXT, _MAX_DATA = 128 << 20, 64 << 20
_MAX_STARTS = 4 << 20  # half a million functions
_MAX_NAME = 256  # of a path before it
_CHUNK = 1 << 20
_OVERLAP = 8
_MAX_FUNCTIONS = 128  # 46 in 2025
_MAX_BODY = 1024  # 416 and 288 bytes; of longer ones none is looked at
_KEPT = frozenset((3, 5, 12, 13, 14, 15))  # rbx, rbp, r12 to r15
_RCX, _RSI, _RDI, _R8 = 1, 6, 7, 8
_LOAD, _STORE, _ADD_TO = 0x8B, 0x89, 0x01
_INDIRECT = 0xFF
_COMPARE = frozenset((0x38, 0x39, 0x3A, 0x3B, 0x84, 0x85))
# How the table of .eh_frame_hdr is encoded by every linker: 32 bits, from where it begins (LSB, 10.6.2).
_HEADER = b"\x01\x1b\x03\x3b"


def find_boring_points(elf: ElfFile) -> list[Point]:
    """Empty where there is none of it, or it was compiled to something else. Raises ElfError."""
    name = _find_name(elf)
    text = elf.find_section(".text")
    if name is None or text is None or text.size > _MAX_TEXT:
        return []
    writes: list[int] = []
    copies: list[tuple[int, int]] = []
    for address, size in _list_functions(elf, text, name):
        code = elf.read_code(address, size)
        body = list(x86.decode(code))
        if _is_write(body):
            writes.append(address)
        copies += [(address + at, register) for at, register in _find_copy(code, body)]
    if len(writes) != 1 or len(copies) != 1:
        return []
    cheap = x86.find_cheap_point(elf.read_code(writes[0], _MAX_BODY), at_return=False)
    if cheap is None:
        return []
    return [
        Point(program="uprobe__tls_write", offset=elf.to_offset(writes[0]) + cheap),
        Point(
            program="uprobe__boring_copy",
            offset=elf.to_offset(copies[0][0]),
            register=copies[0][1],
        ),
    ]


def _find_name(elf: ElfFile) -> int | None:
    """Where the path of the source file begins in memory."""
    data = elf.find_section(".rodata")
    if data is None or data.size > _MAX_DATA:
        return None
    tail = b""
    for at in range(0, data.size, _CHUNK):
        raw = tail + elf.read(data.offset + at, min(_CHUNK, data.size - at))
        end = raw.find(_SOURCE)
        if end >= 0:
            begin = raw.rfind(b"\0", 0, end) + 1
            return data.address + at - len(tail) + begin
        tail = raw[-_MAX_NAME:]
    return None


# ---- functions that use it --------------------------------------------------------------------------------------------


def _list_functions(elf: ElfFile, text: Section, name: int) -> Iterator[tuple[int, int]]:
    """(address, bytes to the next one's) of those that are short enough; none where there are too many."""
    header = elf.find_section(".eh_frame_hdr")
    if header is None:
        return
    starts = _read_starts(elf, header)
    places: set[int] = set()
    for users in _find_users(elf, text, name):
        at = np.searchsorted(starts, users - header.address, side="right") - 1
        places.update(np.unique(at).tolist())
        if len(places) > _MAX_FUNCTIONS:
            return
    for place in sorted(places):
        if 0 <= place < len(starts) - 1:
            size = int(starts[place + 1]) - int(starts[place])
            if 0 < size <= _MAX_BODY:
                yield header.address + int(starts[place]), size


def _read_starts(elf: ElfFile, header: Section) -> "np.ndarray":
    """Where functions begin, in ascending order, counted from the table."""
    if not 12 <= header.size <= _MAX_STARTS:
        return np.zeros(0, dtype="<i4")
    raw = elf.read(header.offset, header.size)
    count = int.from_bytes(raw[8:12], "little")
    if raw[:4] != _HEADER or 12 + 8 * count > len(raw):
        return np.zeros(0, dtype="<i4")
    return np.frombuffer(raw, dtype="<i4", count=2 * count, offset=12)[::2]


def _find_users(elf: ElfFile, text: Section, name: int) -> Iterator["np.ndarray"]:
    """Where `lea name(%rip),%rcx` stands, piece by piece."""
    for at in range(0, text.size, _CHUNK):
        raw = elf.read(text.offset + at, min(_CHUNK + _OVERLAP, text.size - at))
        code = np.frombuffer(raw, dtype=np.uint8)
        begins = (code[:-6] == 0x48) & (code[1:-5] == 0x8D) & (code[2:-4] == 0x0D)
        hits = np.flatnonzero(begins[:_CHUNK])
        distance = np.zeros(len(hits), dtype=np.int64)
        for n in range(4):
            distance |= code[hits + 3 + n].astype(np.int64) << 8 * n
        distance -= (distance >> 31) << 32
        places = hits + (text.address + at)
        yield places[places + 7 + distance == name]


# ---- which they are ---------------------------------------------------------------------------------------------------


def _is_write(body: list[x86.Instruction]) -> bool:
    """One call of a method, with a fourth and a fifth argument that are kept ones."""
    methods = [n for n, i in enumerate(body) if i.opcode == _INDIRECT and i.modrm >> 3 & 7 == 2]
    if len(methods) != 1:
        return False
    given = set()
    for instruction in reversed(body[: methods[0]]):
        if instruction.kind != x86.OTHER:
            break
        if instruction.opcode == _STORE and instruction.modrm >> 6 == 3 and instruction.rex & 8:
            source, to = _name_registers(instruction)
            if source in _KEPT:
                given.add(to)
    return {_RDI, _RCX, _R8} <= given


def _find_copy(code: bytes, body: list[x86.Instruction]) -> Iterator[tuple[int, int]]:
    """(where the call is, the register with the SSL object) in SSL_read."""
    holder = _find_holder(body)
    calls: list[x86.Instruction] = []
    loaded: int | None = None
    for instruction in body:
        member = _read_member(code, instruction)
        register, _ = _name_registers(instruction)
        if instruction.kind == x86.CALL:
            calls.append(instruction)
        elif instruction.opcode == _LOAD and register == _RSI and member is not None:
            loaded, calls = member, []
        elif instruction.opcode == _ADD_TO and member is not None and member == loaded:
            if len(calls) == 1 and calls[0].target is not None and holder is not None:
                yield calls[0].at, holder
            loaded = None
        elif not calls and _writes(instruction, _RSI):
            loaded = None


def _find_holder(body: list[x86.Instruction]) -> int | None:
    """The kept register that the first argument is put into before anything is called, and nothing else ever."""
    first = next((n for n, i in enumerate(body) if i.kind == x86.CALL), 0)
    for n, instruction in enumerate(body[:first]):
        source, to = _name_registers(instruction)
        if instruction.opcode == _STORE and instruction.modrm >> 6 == 3 and instruction.rex & 8:
            if source == _RDI and to in _KEPT:
                return None if any(_writes(i, to) for i in body[n + 1 :]) else to
    return None


def _writes(instruction: x86.Instruction, register: int) -> bool:
    """Whether it may. What pops has no ModRM: that is at a function's end."""
    if instruction.modrm < 0 or instruction.opcode in _COMPARE:
        return False
    reg, rm = _name_registers(instruction)
    reads_reg = instruction.opcode in (_STORE, _ADD_TO)
    return (reg == register and not reads_reg) or (rm == register and instruction.modrm >> 6 == 3)


def _name_registers(instruction: x86.Instruction) -> tuple[int, int]:
    """ModRM's `reg` and `rm`."""
    modrm, rex = instruction.modrm, instruction.rex
    return modrm >> 3 & 7 | (8 if rex & 4 else 0), modrm & 7 | (8 if rex & 1 else 0)


def _read_member(code: bytes, instruction: x86.Instruction) -> int | None:
    """Where a member lies that is an operand of 64 bits, without an index."""
    modrm = instruction.modrm
    if modrm < 0 or modrm >> 6 not in (1, 2) or modrm & 7 == 4 or not instruction.rex & 8:
        return None
    at = instruction.at + 3
    return int.from_bytes(code[at : at + (1 if modrm >> 6 == 1 else 4)], "little", signed=True)
