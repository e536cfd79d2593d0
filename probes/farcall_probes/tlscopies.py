"""Where OpenSSL copies plaintext to its caller: a uprobe there is hit once for each read that brings something.

At the functions that are called, a read costs two hits, one at its beginning and one at its return, and servers read once more
to learn that there is nothing: four instead of one. (docs/decisions/008-tls-at-the-copy.md has the numbers.)

In ssl3_read_bytes (ssl/record/rec_layer_s3.c, since OpenSSL 1.1.0) stands `memcpy(buf, &(rr->data[rr->off]), n)`, which makes

    mov  off(%R),%rsi  ; rr->off
    add  data(%R),%rsi ; rr->data
    call memcpy

with the record in a register that calls keep. Where the two members lie, and where in the SSL object the record does, depends on
the version: see _LAYOUTS. The function is in no table of symbols, but in the one of methods that TLS_method returns. Every call
of the same memcpy in it must look so, or copy to a member of the SSL object (a handshake message's beginning, which is kept
there), or nothing is found and the called functions are probed: some of the reads would be worse than none. What is wrong here
is found at each hit by bpf/tlscopies.h, which holds the registers against the record.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from farcall_probes import x86
from farcall_probes.elf import ElfError, ElfFile

_METHOD = "TLS_method"
_MAX_BODY = 8192  # of ssl3_read_bytes; 3,500 bytes in OpenSSL 3.0
_MAX_COPIES = 4  # compilers make copies of the loop: one that peeks, one that does not
_KEPT = frozenset((3, 5, 12, 13, 14, 15))  # rbx, rbp, r12 to r15
_RSI, _RDI, _R12 = 6, 7, 12
_LOAD, _STORE, _ADD, _ADDRESS = 0x8B, 0x89, 0x03, 0x8D
_LEAST_MEMBER, _MOST_MEMBER = 0x400, 0x1C00  # 0x12a8 in OpenSSL 3.0, 0xed0 in 4.0
_COMPARE = frozenset((0x38, 0x39, 0x3A, 0x3B, 0x84, 0x85))


@dataclass(frozen=True, slots=True)
class Copy:
    """A call of memcpy. `register` holds the record, as x86-64 numbers registers; `member` is where in the SSL object the first
    record lies; `is_new`: it is a TLS_RECORD, of OpenSSL 3.2 and newer."""

    address: int
    register: int
    member: int
    is_new: bool


@dataclass(frozen=True, slots=True)
class _Known:
    """Of the arguments of a copy, before an instruction."""

    loaded: tuple[int, int] | None = None  # rsi was loaded from (register, displacement)
    record: int | None = None  # rsi is off + data of the record that this register points at
    is_inside: bool = False  # rdi is the address of an object's member


_NOTHING = _Known()


def find_copies(elf: ElfFile) -> list[Copy]:
    """Empty where OpenSSL is another version, or was compiled to something else. Raises ElfError."""
    method = elf.find_symbols((_METHOD,)).get(_METHOD)
    if method is None:
        return []
    table = _find_table(elf.read_code(method.address, 16), method.address)
    if table is None:
        return []
    for layout in _LAYOUTS:
        if copies := _find_of_layout(elf, table, layout):
            return copies
    return []


def _find_of_layout(elf: ElfFile, table: int, layout: "_Layout") -> list[Copy]:
    try:
        address = elf.read_pointer(table + layout.read_bytes)
        code = elf.read_code(address, _MAX_BODY)
    except ElfError:
        return []
    body = _walk_function(code)
    member = layout.find_member(code, body)
    if member is None:
        return []
    return [
        Copy(address + at, register, member, layout.is_new)
        for at, register in _find_calls(code, body, layout.record)
    ]


def _find_table(code: bytes, address: int) -> int | None:
    """The address that a function returns which does nothing else."""
    at = 4 if code[:4] == x86.ENDBR64 else 0
    if code[at : at + 3] == b"\x48\x8d\x05" and code[at + 7 : at + 8] == b"\xc3":
        return address + at + 7 + int.from_bytes(code[at + 3 : at + 7], "little", signed=True)
    if code[at : at + 1] == b"\xb8" and code[at + 5 : at + 6] == b"\xc3":
        return int.from_bytes(code[at + 1 : at + 5], "little")
    return None


# ---- where the records lie --------------------------------------------------------------------------------------------


def _find_member(code: bytes, body: list[x86.Instruction]) -> int | None:
    """The nearest member beyond 1 KiB whose address is taken of the object that came as the first argument. (The other one that
    is, handshake_fragment, lies behind the records.)"""
    return min(_list_addresses(code, body), default=None)


def _find_behind_counts(code: bytes, body: list[x86.Instruction]) -> int | None:
    """Before the records lie their number and which of them is next: two words, of which the second is loaded and compared with
    the first at each read. (The object is in a copy of the register that it came in, in some compilers' code.)"""
    found: set[int] = set()
    loaded: dict[int, tuple[int, int]] = {}  # register → (register, displacement)
    for instruction in body:
        if instruction.kind == x86.CALL:
            loaded.clear()
        if instruction.kind != x86.OTHER:
            continue
        register, base = _name_registers(instruction)
        member = _read_member(code, instruction)
        if instruction.opcode in _COMPARE:
            if member is not None and loaded.get(register) == (base, member + 8):
                found.add(member + 16)
            continue
        loaded = {r: at for r, at in loaded.items() if not _touches(instruction, (r, at[0]))}
        if instruction.opcode == _LOAD and member is not None and register != base:
            loaded[register] = base, member
    return found.pop() if len(found) == 1 else None


def _list_addresses(code: bytes, body: list[x86.Instruction]) -> Iterator[int]:
    """Where far members lie of the object that came as the first argument, whose addresses are taken."""
    holder = None
    for instruction in body:
        register, base = _name_registers(instruction)
        if holder is None and instruction.opcode == _STORE and instruction.rex & 12 == 8:
            if instruction.modrm >> 6 == 3 and register == _RDI and base in _KEPT:
                holder = base
        elif holder is not None and instruction.opcode == _ADDRESS and base == holder:
            member = _read_member(code, instruction)
            if member is not None:
                yield member


def _name_registers(instruction: x86.Instruction) -> tuple[int, int]:
    """ModRM's `reg` and `rm`."""
    modrm, rex = instruction.modrm, instruction.rex
    return modrm >> 3 & 7 | (8 if rex & 4 else 0), modrm & 7 | (8 if rex & 1 else 0)


def _read_member(code: bytes, instruction: x86.Instruction) -> int | None:
    """Where a far member lies that is an operand of 64 bits, without an index."""
    modrm = instruction.modrm
    if modrm < 0 or modrm >> 6 != 2 or not instruction.rex & 8:
        return None
    _, base = _name_registers(instruction)
    if modrm & 7 == 4 and not (base == _R12 and code[instruction.at + 3] == 0x24):
        return None
    displacement = _read_displacement(code, instruction)
    return displacement if _LEAST_MEMBER < displacement < _MOST_MEMBER else None


def _read_displacement(code: bytes, instruction: x86.Instruction) -> int:
    """The 32 bits behind REX, opcode, ModRM and perhaps SIB."""
    at = instruction.at + (4 if instruction.modrm & 7 == 4 else 3)
    return int.from_bytes(code[at : at + 4], "little", signed=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """`read_bytes`: where in struct ssl_method_st ssl_read_bytes is (ssl/ssl_local.h); `record`: where off and data are in a record."""

    is_new: bool
    read_bytes: int
    record: frozenset[int]
    find_member: Callable[[bytes, list[x86.Instruction]], int | None]


_LAYOUTS = (
    # SSL3_RECORD (ssl/record/record.h), to OpenSSL 3.1
    _Layout(
        is_new=False, read_bytes=0x68, record=frozenset((0x18, 0x20)), find_member=_find_member
    ),
    # TLS_RECORD (the same file), since 3.2; the same in 4.0
    _Layout(
        is_new=True,
        read_bytes=0x80,
        record=frozenset((0x28, 0x10)),
        find_member=_find_behind_counts,
    ),
)


# ---- the calls --------------------------------------------------------------------------------------------------------


def _find_calls(
    code: bytes, body: list[x86.Instruction], of_record: frozenset[int]
) -> list[tuple[int, int]]:
    """(offset, register) of each copy, or none at all."""
    found: dict[int, int] = {}
    targets: dict[int, int | None] = {}
    for call, known in _list_calls(code, body, of_record):
        if known.record is not None:
            found[call.at] = known.record
        if known.record is not None or not known.is_inside:
            targets[call.at] = call.target
    copies = {targets[at] for at in found}
    if len(copies) != 1 or None in copies or len(found) > _MAX_COPIES:
        return []
    every = {at for at, target in targets.items() if target in copies}
    return sorted(found.items()) if every == found.keys() else []


def _list_calls(
    code: bytes, body: list[x86.Instruction], of_record: frozenset[int]
) -> Iterator[tuple[x86.Instruction, _Known]]:
    """Each call, and what is known before it. Where several ways meet, that is what all of them say; a way back says nothing."""
    jumps = [i for i in body if i.kind in (x86.JUMP, x86.BRANCH)]
    loops = {i.target for i in jumps if i.target is not None and i.target <= i.at}
    ways: dict[int, set[_Known]] = {}
    known = _NOTHING
    goes_on = False
    for instruction in body:
        meeting = ways.pop(instruction.at, set()) | ({known} if goes_on else set())
        known = meeting.pop() if len(meeting) == 1 and instruction.at not in loops else _NOTHING
        goes_on = instruction.kind not in (x86.JUMP, x86.RETURN)
        if instruction.kind == x86.CALL:
            yield instruction, known
        if instruction.kind in (x86.JUMP, x86.BRANCH):
            if instruction.target is not None:
                ways.setdefault(instruction.target, set()).add(known)
        elif instruction.kind == x86.OTHER:
            known = _follow(code, instruction, known, of_record)
        elif instruction.kind != x86.NOP:
            known = _NOTHING


def _follow(
    code: bytes, instruction: x86.Instruction, known: _Known, of_record: frozenset[int]
) -> _Known:
    """What is known behind an instruction that only computes."""
    if _is_address_of_member(code, instruction):
        known = replace(known, is_inside=True)
    elif _touches(instruction, (_RDI, _RDI)):
        known = replace(known, is_inside=False)
    source = _find_source(code, instruction)
    loaded = known.loaded
    if source is not None and instruction.opcode == _LOAD:
        return replace(known, loaded=source, record=None)
    if source is not None and loaded is not None:
        is_record = source[0] == loaded[0] and {source[1], loaded[1]} == of_record
        return replace(known, loaded=None, record=source[0] if is_record else None)
    if known.record is not None and _touches(instruction, (_RSI, known.record)):
        return replace(known, record=None)
    if loaded is not None and _touches(instruction, (_RSI, loaded[0])):
        return replace(known, loaded=None)
    return known


def _is_address_of_member(code: bytes, instruction: x86.Instruction) -> bool:
    """lea member(…),%rdi: of an object that is larger than what a caller gives."""
    modrm, rex = instruction.modrm, instruction.rex
    if instruction.opcode != _ADDRESS or rex & 12 != 8 or modrm >> 6 != 2 or modrm >> 3 & 7 != _RDI:
        return False
    return _LEAST_MEMBER < _read_displacement(code, instruction) < _MOST_MEMBER


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
