"""BoringSSL that is linked into a stripped file, as into grpcio's extension: where it writes, and copies plaintext to its caller.

No symbol is left of it, but its errors say which source file they are of. A function that can fail takes the address of that
file's name for ERR_put_error's fourth argument, so all of ssl/ssl_lib.cc can be found; .eh_frame_hdr says where functions begin.
Among them

- SSL_write is the only one that calls a method with the caller's bytes and their number as its fourth and fifth argument
  (write_app_data, ssl/internal.h), and is probed where it begins;
- SSL_read is the only one that copies what a member says and then moves that member on:

      mov  D(%R),%rsi   ; pending_app_data
      call memcpy
      add  %N,D(%R)     ; or it is loaded again, added to and stored

  and is probed at the call. (SSL_peek copies too, and moves nothing on.) The SSL object is in a register that calls keep.

So it is with what gcc and clang make of it: grpcio's, Netty's and Envoy's.

Both have to be found, and once; else the file is none that could be read. What is copied is held against the record that was read
from the socket, by its tag (bpf/tlscopies.h).
"""

from collections.abc import Iterator
from itertools import pairwise

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
_MAX_USERS = 4096  # 150
_MAX_BODY = 1024  # 416 and 288 bytes; of longer ones none is looked at
_KEPT = frozenset((3, 5, 12, 13, 14, 15))  # rbx, rbp, r12 to r15
_RCX, _RDX, _RSI, _RDI, _R8 = 1, 2, 6, 7, 8
_LOAD, _STORE, _ADD_TO, _SET = 0x8B, 0x89, 0x01, 0xC7
_INDIRECT = 0xFF
_COMPARE = frozenset((0x38, 0x39, 0x3A, 0x3B, 0x84, 0x85))
# Those whose ModRM names a second operand that is only read, or none: the rest of the opcode is there.
_NO_REGISTER = frozenset(
    (_STORE, _ADD_TO, *(0x80, 0x81, 0x83, 0xC0, 0xC1, 0xC6, 0xC7, 0xD1, 0xD3, 0xF6, 0xF7, 0xFF))
)
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
    want = 0, 0
    for address, size in _list_functions(elf, text, name):
        code = elf.read_code(address, size)
        body = list(x86.decode(code))
        if _is_write(body):
            writes.append(address)
            want = _find_want(code, body)
        copies += [(address + at, register) for at, register in _find_copy(code, body)]
    if len(writes) != 1 or len(copies) != 1 or not want[1]:
        return []
    cheap = x86.find_cheap_point(elf.read_code(writes[0], _MAX_BODY), at_return=False)
    if cheap is None:
        return []
    return [
        Point(
            program="uprobe__tls_write",
            offset=elf.to_offset(writes[0]) + cheap,
            want_in=want[0],
            want=want[1],
        ),
        Point(
            program="uprobe__boring_copy",
            offset=elf.to_offset(copies[0][0]),
            register=copies[0][1],
        ),
    ]


def _find_name(elf: ElfFile) -> range | None:
    """Where in memory the path of the source file begins: what lies before it may look like a part of it."""
    data = elf.find_section(".rodata")
    if data is None or data.size > _MAX_DATA:
        return None
    tail = b""
    for at in range(0, data.size, _CHUNK):
        raw = tail + elf.read(data.offset + at, min(_CHUNK, data.size - at))
        end = raw.find(_SOURCE)
        if end >= 0:
            begin = max(raw.rfind(b"\0", 0, end) + 1, end - _MAX_NAME)
            first = data.address + at - len(tail)
            return range(first + begin, first + end + 1)
        tail = raw[-_MAX_NAME:]
    return None


# ---- functions that use it --------------------------------------------------------------------------------------------


def _list_functions(elf: ElfFile, text: Section, name: range) -> Iterator[tuple[int, int]]:
    """(address, bytes to the next one's) of those that are short enough; none where there are too many."""
    header = elf.find_section(".eh_frame_hdr")
    if header is None:
        return
    starts = _read_starts(elf, header)
    users, names = _find_users(elf, text, name)
    if not len(users):
        return
    each, counts = np.unique(names, return_counts=True)
    users = users[names == each[counts.argmax()]]
    places = np.unique(np.searchsorted(starts, users - header.address, side="right") - 1)
    if len(places) > _MAX_FUNCTIONS:
        return
    for place in places.tolist():
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


def _find_users(elf: ElfFile, text: Section, name: range) -> tuple["np.ndarray", "np.ndarray"]:
    """Where `lea name(%rip),%rcx` stands, and whose address that is."""
    found, names = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
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
        targets = places + 7 + distance
        is_name = (targets >= name.start) & (targets < name.stop)
        found.append(places[is_name])
        names.append(targets[is_name])
        if sum(map(len, found)) > _MAX_USERS:
            return found[0], names[0]
    return np.concatenate(found), np.concatenate(names)


# ---- which they are ---------------------------------------------------------------------------------------------------


def _is_write(body: list[x86.Instruction]) -> bool:
    """One call of a method, with the caller's bytes and their number as its last arguments, which are kept ones."""
    methods = [n for n, i in enumerate(body) if i.opcode == _INDIRECT and i.modrm >> 3 & 7 == 2]
    if len(methods) != 1:
        return False
    given: dict[int, bool] = {}  # arguments → whether all of a register
    for instruction in reversed(body[: methods[0]]):
        if instruction.kind != x86.OTHER:
            break
        if instruction.opcode == _STORE and instruction.modrm >> 6 == 3:
            source, to = _name_registers(instruction)
            if source in _KEPT:
                given.setdefault(to, bool(instruction.rex & 8))
    whole = {to for to, is_whole in given.items() if is_whole}
    # To 2022 the number was an int, and behind the bytes came nothing.
    return {_RDI, _RCX, _R8} <= whole or ({_RDI, _RSI, _RDX} <= whole and given.get(_RCX) is False)


def _find_want(code: bytes, body: list[x86.Instruction]) -> tuple[int, int]:
    """(where in the SSL object the pointer to its state is, where `rwstate` in that), which SSL_write resets at first; or zeros.

    mov  s3(%rdi),%R
    movl $0,rwstate(%R)
    """
    objects = _RDI, _find_holder(body)
    for before, instruction in pairwise(body):
        if instruction.kind == x86.CALL:
            break
        pointer, (held, argument) = _read_member(code, before), _name_registers(before)
        modrm = instruction.modrm
        if before.opcode != _LOAD or argument not in objects or pointer is None:
            continue
        if instruction.opcode != _SET or modrm >> 6 != 2 or modrm & 7 == 4 or instruction.rex & 8:
            continue
        end = instruction.at + instruction.length
        if _name_registers(instruction)[1] == held and code[end - 4 : end] == bytes(4):
            return pointer, int.from_bytes(code[end - 8 : end - 4], "little")
    return 0, 0


def _find_copy(code: bytes, body: list[x86.Instruction]) -> Iterator[tuple[int, int]]:
    """(where the call is, the register with the SSL object) in SSL_read."""
    holder = _find_holder(body)
    loaded: int | None = None  # the member that rsi was loaded from
    copied: tuple[int, int] | None = None  # a call since, and that member
    ahead: dict[int, bool] = {}  # registers with that member since → whether something was added
    for instruction in body:
        member = _read_member(code, instruction)
        register, base = _name_registers(instruction)
        if instruction.kind == x86.CALL:
            is_copy = loaded is not None and instruction.target is not None
            copied = (instruction.at, loaded or 0) if is_copy else None
            loaded, ahead = None, {}
            continue
        if copied is not None and member == copied[1]:
            if instruction.opcode == _ADD_TO or (
                instruction.opcode == _STORE and ahead.get(register)
            ):
                if holder is not None:
                    yield copied[0], holder
                copied = None
        if instruction.opcode == _ADD_TO and instruction.modrm >> 6 == 3 and base in ahead:
            ahead[base] = True
        elif instruction.opcode == _LOAD and member is not None:
            ahead.pop(register, None)
            if copied is not None and member == copied[1]:
                ahead[register] = False
        else:
            ahead = {r: added for r, added in ahead.items() if not _writes(instruction, r)}
        if instruction.opcode == _LOAD and register == _RSI and member is not None:
            loaded = member
        elif _writes(instruction, _RSI):
            loaded = None


def _find_holder(body: list[x86.Instruction]) -> int | None:
    """The kept register that the first argument is put into while it is there still, and nothing else ever."""
    is_there = goes_on = True
    ways: dict[int, bool] = {}  # where jumps lead → whether it was there at all of them
    for n, instruction in enumerate(body):
        if instruction.at in ways:
            is_there = ways[instruction.at] and (is_there or not goes_on)
        source, to = _name_registers(instruction)
        if is_there and instruction.opcode == _STORE and instruction.modrm >> 6 == 3:
            if instruction.rex & 8 and source == _RDI and to in _KEPT:
                return None if any(_writes(i, to) for i in body[n + 1 :]) else to
        if instruction.kind == x86.CALL or _writes(instruction, _RDI):
            is_there = False
        if instruction.kind in (x86.JUMP, x86.BRANCH) and instruction.target is not None:
            ways[instruction.target] = ways.get(instruction.target, True) and is_there
        goes_on = instruction.kind not in (x86.JUMP, x86.RETURN)
        is_there = is_there and goes_on
    return None


def _writes(instruction: x86.Instruction, register: int) -> bool:
    """Whether it may. What pops has no ModRM: that is at a function's end."""
    if instruction.modrm < 0 or instruction.opcode in _COMPARE:
        return False
    reg, rm = _name_registers(instruction)
    reads_reg = instruction.opcode in _NO_REGISTER
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
