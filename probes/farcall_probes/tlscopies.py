"""Where OpenSSL copies plaintext to its caller: a uprobe there is hit once for each read that brings something.

At the functions that are called, a read costs two hits, one at its beginning and one at its return, and servers read once more
to learn that there is nothing: four instead of one. (docs/decisions/008-tls-at-the-copy.md has the numbers.)

In ssl3_read_bytes (ssl/record/rec_layer_s3.c, OpenSSL 1.1.0 to 3.1) stands `memcpy(buf, &(rr->data[rr->off]), n)`, which makes

    mov  0x18(%R),%rsi ; rr->off
    add  0x20(%R),%rsi ; rr->data
    call memcpy

with the record in a register that calls keep; further up its address was made, `lea member(%S),%R` with the SSL object in %S. The
function is in no table of symbols, but in the one of methods that TLS_method
returns. Every call of the same memcpy in it must look so, or nothing is found and the called functions are probed: some of
the reads would be worse than none. What is wrong here is found at each hit by bpf/uprobes.h, which holds the registers
against the record.
"""

from dataclasses import dataclass

from farcall_probes import x86
from farcall_probes.elf import ElfError, ElfFile

_METHOD = "TLS_method"
_READ_BYTES = 0x68  # ssl_read_bytes in struct ssl_method_st (ssl/ssl_local.h)
_MAX_BODY = 8192  # of ssl3_read_bytes; 3,500 bytes in OpenSSL 3.0
_MAX_COPIES = 4  # compilers make copies of the loop: one that peeks, one that does not
_RECORD = frozenset((0x18, 0x20))  # off and data in SSL3_RECORD
_KEPT = frozenset((3, 5, 12, 13, 14, 15))  # rbx, rbp, r12 to r15
_RSI, _RDI, _R12 = 6, 7, 12
_LOAD, _STORE, _ADD, _ADDRESS = 0x8B, 0x89, 0x03, 0x8D
_LEAST_MEMBER, _MOST_MEMBER = 0x400, 0x1C00  # rlayer.rrec; 0x12a8 in OpenSSL 3.0
_COMPARE = frozenset((0x38, 0x39, 0x3A, 0x3B, 0x84, 0x85))


@dataclass(frozen=True, slots=True)
class Copy:
    """A call of memcpy. `register` holds the record, as x86-64 numbers registers; `member` is where in the SSL object that lies."""

    address: int
    register: int
    member: int


def find_copies(elf: ElfFile) -> list[Copy]:
    """Empty where OpenSSL is another version, or was compiled to something else. Raises ElfError."""
    method = elf.find_symbols((_METHOD,)).get(_METHOD)
    if method is None:
        return []
    table = _find_table(elf.read_code(method.address, 16), method.address)
    if table is None:
        return []
    try:
        address = elf.read_pointer(table + _READ_BYTES)
        code = elf.read_code(address, _MAX_BODY)
    except ElfError:
        return []
    body = _walk_function(code)
    member = _find_member(code, body)
    if member is None:
        return []
    return [Copy(address + at, register, member) for at, register in _find_calls(code, body)]


def _find_table(code: bytes, address: int) -> int | None:
    """The address that a function returns which does nothing else."""
    at = 4 if code[:4] == x86.ENDBR64 else 0
    if code[at : at + 3] == b"\x48\x8d\x05" and code[at + 7 : at + 8] == b"\xc3":
        return address + at + 7 + int.from_bytes(code[at + 3 : at + 7], "little", signed=True)
    if code[at : at + 1] == b"\xb8" and code[at + 5 : at + 6] == b"\xc3":
        return int.from_bytes(code[at + 1 : at + 5], "little")
    return None


def _find_member(code: bytes, body: list[x86.Instruction]) -> int | None:
    """The nearest member beyond 1 KiB whose address is taken of the object that came as the first argument. (The other one that
    is, handshake_fragment, lies behind the records.)"""
    holder = None
    members = set()
    for instruction in body:
        modrm, rex = instruction.modrm, instruction.rex
        base = modrm & 7 | (8 if rex & 1 else 0)
        if holder is None and instruction.opcode == _STORE and rex & 12 == 8:
            if modrm >> 6 == 3 and modrm >> 3 & 7 == _RDI and base in _KEPT:
                holder = base
        elif holder is not None and instruction.opcode == _ADDRESS and rex & 8:
            if modrm >> 6 == 2 and base == holder and modrm & 7 != 4:
                at = instruction.at + 3
                members.add(int.from_bytes(code[at : at + 4], "little", signed=True))
            elif modrm >> 6 == 2 and base == holder == _R12 and code[instruction.at + 3] == 0x24:
                at = instruction.at + 4
                members.add(int.from_bytes(code[at : at + 4], "little", signed=True))
    return min((m for m in members if _LEAST_MEMBER < m < _MOST_MEMBER), default=None)


def _find_calls(code: bytes, body: list[x86.Instruction]) -> list[tuple[int, int]]:
    """(offset, register) of each copy, or none at all."""
    found: dict[int, int] = {}
    targets: dict[int, int | None] = {}
    loaded: tuple[int, int] | None = None  # (register, displacement) that rsi was loaded from
    record: int | None = None  # the register from which rsi was made
    for instruction in body:
        if instruction.kind == x86.CALL:
            targets[instruction.at] = instruction.target
            if record is not None:
                found[instruction.at] = record
        if instruction.kind != x86.OTHER:
            loaded = record = None
            continue
        source = _find_source(code, instruction)
        if source is not None and instruction.opcode == _LOAD:
            loaded, record = source, None
        elif source is not None and loaded is not None:
            is_record = source[0] == loaded[0] and {source[1], loaded[1]} == _RECORD
            loaded, record = None, source[0] if is_record else None
        elif record is not None and _touches(instruction, (_RSI, record)):
            record = None
        elif loaded is not None and _touches(instruction, (_RSI, loaded[0])):
            loaded = None
    copies = {targets[at] for at in found}
    if len(copies) != 1 or len(found) > _MAX_COPIES:
        return []
    every = {at for at, target in targets.items() if target in copies}
    return sorted(found.items()) if every == found.keys() else []


def _walk_function(code: bytes) -> list[x86.Instruction]:
    """Up to a return or a jump behind which no earlier jump leads; none when that is not found."""
    body = []
    furthest = 0
    for instruction in x86.decode(code):
        body.append(instruction)
        end = instruction.at + instruction.length
        if instruction.kind in (x86.JUMP, x86.BRANCH) and instruction.target is not None:
            if instruction.target < len(code):
                furthest = max(furthest, instruction.target)
        if instruction.kind in (x86.RETURN, x86.JUMP) and end > furthest:
            return body
    return []


def _find_source(code: bytes, instruction: x86.Instruction) -> tuple[int, int] | None:
    """(register, displacement) of `mov` or `add` of a member of what a kept register points at, to rsi."""
    rex, modrm = instruction.rex, instruction.modrm
    if instruction.opcode not in (_LOAD, _ADD) or not rex & 8 or rex & 4:
        return None
    if modrm >> 6 != 1 or modrm >> 3 & 7 != _RSI:
        return None
    raw = code[instruction.at : instruction.at + instruction.length]
    base = modrm & 7 | (8 if rex & 1 else 0)
    if modrm & 7 == 4 and (base != _R12 or raw[-2] != 0x24):
        return None
    return (base, raw[-1]) if base in _KEPT else None


def _touches(instruction: x86.Instruction, registers: tuple[int, int]) -> bool:
    """Whether it may write one of them. (What pops or exchanges has no ModRM, and is none of what stands before a call.)"""
    if instruction.opcode in _COMPARE:
        return False
    if instruction.modrm < 0:
        return True
    reg = instruction.modrm >> 3 & 7 | (8 if instruction.rex & 4 else 0)
    rm = instruction.modrm & 7 | (8 if instruction.rex & 1 else 0)
    return reg in registers or (instruction.modrm >> 6 == 3 and rm in registers)
