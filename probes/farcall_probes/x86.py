"""Where x86-64 instructions begin, and which of them a uprobe is cheap on. Bytes in, instructions out; no I/O.

A breakpoint in the middle of an instruction breaks the program that runs it, so an instruction that is not in these tables
ends the walk: nothing is ever guessed. Tables: Intel SDM, volume 2, appendix A; a test holds them against objdump on whole
libraries. Why not a disassembler's library: this one table of lengths is all that is needed, and a library in C would read
hostile code in the process that holds BPF rights, and take 15 MB there (measured with Capstone).

The kernel emulates push, nop, call, jmp and jcc (arch/x86/kernel/uprobes.c), which costs 0.5 µs; everything else is
single-stepped, which costs 11 µs.
"""

from collections.abc import Iterator
from dataclasses import dataclass

MAX_INSTRUCTION = 15  # bytes, SDM 2.3.11

_PREFIXES = frozenset(b"\x26\x2e\x36\x3e\x64\x65\x66\xf0\xf2\xf3")
_OPERAND_SIZE = 0x66


def _span(*pairs: tuple[int, int]) -> frozenset[int]:
    return frozenset(n for first, last in pairs for n in range(first, last + 1))


# One-byte opcodes. What is in no table is invalid in 64-bit mode, or nothing that compilers emit.
_ARITHMETIC = frozenset(base + n for base in range(0, 0x40, 8) for n in range(4))
_MODRM = (
    _ARITHMETIC
    | _span((0x84, 0x8E), (0xD0, 0xD3), (0xD8, 0xDF), (0xFE, 0xFF))
    | {0x63, 0x69, 0x6B, 0x80, 0x81, 0x83, 0xC0, 0xC1, 0xC6, 0xC7, 0xF6, 0xF7}
)
_PLAIN = _span((0x50, 0x5F), (0x90, 0x99), (0x9B, 0x9F), (0xA4, 0xA7), (0xAA, 0xAF)) | {
    *(0xC3, 0xC9, 0xCC, 0xF4, 0xF5, 0xF8, 0xF9, 0xFA, 0xFB, 0xFC, 0xFD),
}
_IMM8 = (
    frozenset(base + 4 for base in range(0, 0x40, 8))
    | _span((0x70, 0x7F), (0xB0, 0xB7))
    | {
        *(0x6A, 0x6B, 0x80, 0x83, 0xA8, 0xC0, 0xC1, 0xC6, 0xCD, 0xE3, 0xEB),
    }
)
_IMM_BY_SIZE = frozenset(base + 5 for base in range(0, 0x40, 8)) | {0x68, 0x69, 0x81, 0xA9, 0xC7}
_IMM32 = frozenset(
    (0xE8, 0xE9)
)  # relative; an operand-size prefix does not change it in 64-bit mode
_KNOWN = _MODRM | _PLAIN | _IMM8 | _IMM_BY_SIZE | _IMM32 | _span((0xB8, 0xBF)) | {0xC2}

# Two-byte opcodes, 0F xx; the same table serves VEX and EVEX map 1.
_PLAIN_0F = _span((0xC8, 0xCF), (0x30, 0x33)) | {0x05, 0x0B, 0x31, 0x77, 0xA2}
_IMM8_0F = frozenset((0x70, 0x71, 0x72, 0x73, 0xA4, 0xAC, 0xBA, 0xC2, 0xC4, 0xC5, 0xC6))
_UNKNOWN_0F = _span((0x02, 0x04), (0x06, 0x0A), (0x24, 0x27), (0x34, 0x37), (0x3B, 0x3F)) | {
    *(0x00, 0x01, 0x0C, 0x0E, 0x0F, 0x39, 0x78, 0x79, 0x7A, 0x7B, 0xA0, 0xA1, 0xA6, 0xA7, 0xA8),
    *(0xA9, 0xAA, 0xB8, 0xFF),
}

PUSH, POP, CALL, JUMP, BRANCH, RETURN, NOP, OTHER = (
    "push",
    "pop",
    "call",
    "jump",
    "branch",
    "return",
    "nop",
    "other",
)
EMULATED = frozenset((PUSH, CALL, JUMP, BRANCH, NOP))


@dataclass(frozen=True, slots=True)
class Instruction:
    """`at` and `target` count from the first byte of what was decoded; `target` of direct calls and jumps."""

    at: int
    length: int
    kind: str
    opcode: int  # 0x0Fxx for two bytes
    modrm: int = -1  # -1: has none
    rex: int = 0
    target: int | None = None

    @property
    def is_emulated(self) -> bool:
        return self.kind in EMULATED


def decode(code: bytes, limit: int | None = None) -> Iterator[Instruction]:
    """Instruction by instruction from the first byte, until one is not known or does not end within `code`."""
    at = 0
    end = len(code) if limit is None else min(limit, len(code))
    while at < end:
        instruction = decode_one(code, at)
        if instruction is None:
            return
        yield instruction
        at += instruction.length


def decode_one(code: bytes, at: int) -> Instruction | None:
    """None for what is unknown or cut."""
    try:
        found = _decode(code, at)
    except IndexError:
        return None
    fits = found is not None and found.at + found.length <= len(code)
    return found if found is not None and fits and found.length <= MAX_INSTRUCTION else None


def _decode(code: bytes, start: int) -> Instruction | None:
    at = start
    while code[at] in _PREFIXES:
        at += 1
        if at - start >= MAX_INSTRUCTION:
            return None
    prefixes = code[start:at]
    rex = 0
    if code[at] & 0xF0 == 0x40:
        rex = code[at]
        at += 1
    opcode = code[at]
    if opcode in (0xC4, 0xC5, 0x62):
        return None if rex else _decode_vector(code, start, at)
    if opcode == 0x0F:
        return _decode_two(code, start, at + 1, rex, prefixes)
    at += 1
    if opcode not in _KNOWN:
        return None
    modrm = -1
    if opcode in _MODRM:
        modrm = code[at]
        at += _operand_bytes(code, at)
    size = 2 if _OPERAND_SIZE in prefixes and not rex & 8 else 4
    if 0xB8 <= opcode <= 0xBF:
        at += 8 if rex & 8 else size
    elif (
        opcode in (0xF6, 0xF7) and modrm >> 3 & 7 < 2
    ):  # test has an immediate, not and neg have none
        at += 1 if opcode == 0xF6 else size
    else:
        at += (opcode in _IMM8) + size * (opcode in _IMM_BY_SIZE) + 4 * (opcode in _IMM32)
        at += 2 * (opcode == 0xC2)
    kind = _kind_of(opcode, modrm, bool(prefixes))
    return Instruction(
        start, at - start, kind, opcode, modrm, rex, _target(code, at, opcode in _IMM32, kind)
    )


def _decode_two(code: bytes, start: int, at: int, rex: int, prefixes: bytes) -> Instruction | None:
    opcode = code[at]
    at += 1
    if opcode in (0x38, 0x3A):
        wide = opcode == 0x3A
        at += 1
        modrm = code[at]
        at += _operand_bytes(code, at) + wide
        return Instruction(start, at - start, OTHER, 0x0F00 | opcode, modrm, rex)
    if 0x80 <= opcode <= 0x8F:
        at += 4
        return Instruction(
            start, at - start, BRANCH, 0x0F00 | opcode, -1, rex, _target(code, at, True, BRANCH)
        )
    if opcode == 0xB8 and 0xF3 not in prefixes:  # popcnt, or nothing
        return None
    if opcode in _UNKNOWN_0F and opcode != 0xB8:
        if opcode == 0x01 and code[at] in (0xD0, 0xF9):  # xgetbv, rdtscp
            return Instruction(start, at + 1 - start, OTHER, 0x0F01, code[at], rex)
        return None
    if opcode in _PLAIN_0F:
        return Instruction(start, at - start, OTHER, 0x0F00 | opcode, -1, rex)
    modrm = code[at]
    at += _operand_bytes(code, at) + (opcode in _IMM8_0F)
    # A nop with prefixes other than 66 is endbr64 or a hint, which the kernel does not emulate.
    plain = not set(prefixes) - {_OPERAND_SIZE}
    kind = NOP if opcode == 0x1F and modrm >> 3 & 7 == 0 and plain else OTHER
    return Instruction(start, at - start, kind, 0x0F00 | opcode, modrm, rex)


def _decode_vector(code: bytes, start: int, at: int) -> Instruction | None:
    """VEX and EVEX: a longer prefix with the opcode's map in it."""
    first = code[at]
    if first == 0xC5:
        table, at = 1, at + 2
    elif first == 0xC4:
        table, at = code[at + 1] & 0x1F, at + 3
    else:
        table, at = code[at + 1] & 7, at + 4
    opcode = code[at]
    at += 1
    if table not in (1, 2, 3):
        return None
    if table == 1 and opcode == 0x77:  # vzeroupper
        return Instruction(start, at - start, OTHER, 0x0F77)
    modrm = code[at]
    at += _operand_bytes(code, at)
    at += table == 3 or (table == 1 and opcode in _IMM8_0F)
    return Instruction(start, at - start, OTHER, 0x0F00 | opcode, modrm)


def _operand_bytes(code: bytes, at: int) -> int:
    """ModRM, SIB and displacement."""
    modrm = code[at]
    mod, rm = modrm >> 6, modrm & 7
    if mod == 3:
        return 1
    displacement = (0, 1, 4)[mod]
    if rm == 4:
        base = code[at + 1] & 7
        return 2 + (4 if mod == 0 and base == 5 else displacement)
    return 1 + (4 if mod == 0 and rm == 5 else displacement)


def _kind_of(opcode: int, modrm: int, has_prefix: bool) -> str:
    if 0x50 <= opcode <= 0x57 and not has_prefix:
        return PUSH
    if 0x58 <= opcode <= 0x5F:
        return POP
    if opcode == 0x90 and not has_prefix:
        return NOP
    if 0x70 <= opcode <= 0x7F:
        return BRANCH
    if opcode == 0xFF and modrm >> 3 & 7 in (4, 5):
        return RETURN  # an indirect jump: nothing is known of what follows it
    return {0xE8: CALL, 0xE9: JUMP, 0xEB: JUMP, 0xC3: RETURN, 0xC2: RETURN}.get(opcode, OTHER)


def _target(code: bytes, end: int, is_long: bool, kind: str) -> int | None:
    if kind not in (CALL, JUMP, BRANCH):
        return None
    size = 4 if is_long else 1
    if end > len(code):
        raise IndexError
    return end + int.from_bytes(code[end - size : end], "little", signed=True)


ENDBR64 = b"\xf3\x0f\x1e\xfa"
_RSP = 4
_ARGUMENTS = frozenset((7, 6, 2, 1))  # rdi, rsi, rdx, rcx
# Instructions that only compare, and those that write one register or memory: opcode → whether ModRM's `reg` is written.
_COMPARE = frozenset((0x38, 0x39, 0x3A, 0x3B, 0x84, 0x85))
_WRITES = {0x8B: True, 0x8D: True, 0x89: False, 0x31: False, 0x33: True, 0x63: True}


def keeps_arguments(instruction: Instruction) -> bool:
    """Whether this instruction leaves the stack pointer and the first four arguments as they are. False when in doubt."""
    if instruction.opcode in _COMPARE or instruction.opcode == 0x0F1E:
        return True
    writes_reg = _WRITES.get(instruction.opcode)
    if writes_reg is None:
        return False
    if not writes_reg and instruction.modrm >> 6 != 3:
        return True  # memory
    shift, bit = (3, 4) if writes_reg else (0, 1)
    register = instruction.modrm >> shift & 7 | (8 if instruction.rex & bit else 0)
    return register != _RSP and register not in _ARGUMENTS


def moves_stack(instruction: Instruction, code: bytes) -> bool:
    """sub $n,%rsp: a function's frame is made."""
    raw = code[instruction.at : instruction.at + 3]
    return raw in (b"\x48\x83\xec", b"\x48\x81\xec")


MAX_PROLOGUE = 64


def find_cheap_point(code: bytes, *, at_return: bool) -> int | None:
    """Offset of the first emulated instruction that a function beginning at `code` runs on every call with its arguments
    intact; None when there is none. `at_return`: with the stack pointer as at entry too, where a return probe finds the
    return address."""
    for instruction in decode(code, MAX_PROLOGUE):
        if instruction.is_emulated:
            return instruction.at
        if keeps_arguments(instruction):
            continue
        if not at_return and moves_stack(instruction, code):
            continue
        return None
    return None


def find_calls(code: bytes, limit: int) -> list[Instruction]:
    """Direct calls, and jumps out of the first `limit` bytes, in the order of the code. The walk is linear: compilers place
    no data between instructions of a function on x86-64."""
    found = []
    for instruction in decode(code, limit):
        target = instruction.target
        leaves = target is not None and not 0 <= target < limit
        if instruction.kind == CALL or (instruction.kind == JUMP and leaves):
            found.append(instruction)
    return found
