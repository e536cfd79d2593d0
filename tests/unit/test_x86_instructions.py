"""Instructions begin where objdump says that they begin, on whole libraries; where a probe is cheap follows from them."""

import ctypes.util
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_probes import x86
from farcall_probes.mappings import parse_maps

pytestmark = pytest.mark.unit

_LINE = re.compile(r"^ *([0-9a-f]+):\t([0-9a-f ]+?) *(?:\t(.*))?$")


def mapped_library(name: str) -> Path:
    """A library of this process."""
    ctypes.CDLL(ctypes.util.find_library(name) or name)
    files = parse_maps(Path("/proc/self/maps").read_bytes())
    return next(Path(f.path) for f in files if f"lib{name}." in f.path)


def disassemble(path: Path) -> list[tuple[int, bytes, str]]:
    """(address, bytes, text) of each instruction of .text."""
    printed = subprocess.run(
        ["objdump", "-d", "-w", "--section=.text", str(path)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found = []
    for line in printed.splitlines():
        if match := _LINE.match(line):
            found.append((int(match[1], 16), bytes.fromhex(match[2]), match[3] or ""))
    return found


@pytest.mark.parametrize("name", ["ssl", "c"])  # libcrypto has tables in its code
def test_lengths_are_objdumps(name: str) -> None:
    lines = disassemble(mapped_library(name))
    code = b"".join(raw for _, raw, _ in lines)
    wrong, unknown, at = [], 0, 0
    for address, raw, text in lines:
        found = x86.decode_one(code[at : at + 16], 0)
        if found is None:
            unknown += "(bad)" not in text and "data16" not in text
        elif found.length != len(raw) and "fwait" not in text:
            wrong.append((hex(address), raw.hex(), text, found.length))
        at += len(raw)

    assert len(lines) > 20_000
    assert wrong == []
    assert unknown < len(lines) / 500  # privileged and rare ones, where the walk ends


@pytest.mark.parametrize("name", ["ssl", "c"])
def test_targets_of_calls_and_jumps_are_objdumps(name: str) -> None:
    seen = 0
    for address, raw, text in disassemble(mapped_library(name)):
        found = x86.decode_one(raw, 0)
        match = re.match(r"(?:bnd )?(call|jmp|j[a-z]+) +([0-9a-f]+)\b(?! *<.*>\*)", text)
        if found is None or match is None or found.target is None:
            continue
        seen += 1
        assert address + found.target == int(match[2], 16), text

    assert seen > 1_000


@given(st.binary(max_size=64))
def test_random_bytes_end_the_walk_and_nothing_else(code: bytes) -> None:
    at = 0
    for found in x86.decode(code):
        assert found.at == at and 1 <= found.length <= x86.MAX_INSTRUCTION
        at += found.length
    assert at <= len(code)


@pytest.mark.parametrize(
    ("code", "at_entry", "at_return"),
    [
        ("55 4889e5", 0, 0),  # push %rbp
        ("f30f1efa 4155", 4, 4),  # endbr64; push %r13
        ("4883ec18 31c0 85d2 782f", 8, None),  # sub $24,%rsp; xor; test; js
        ("4889f8 55", 3, 3),  # mov %rdi,%rax; push
        ("4889f7 55", None, None),  # mov %rsi,%rdi: the first argument is gone
        ("4889c4 55", None, None),  # mov %rax,%rsp
        ("488b5708 55", None, None),  # mov 8(%rdi),%rdx: the third argument is gone
        ("0f1f4000 c3", 0, 0),  # nopl
        ("c3", None, None),
        ("e900000000", 0, 0),  # jmp
        ("ff25 00000000", None, None),  # jmp *
        ("", None, None),
    ],
)
def test_the_cheap_point_is_the_first_emulated_one_with_arguments_intact(
    code: str, at_entry: int | None, at_return: int | None
) -> None:
    raw = bytes.fromhex(code)

    assert x86.find_cheap_point(raw, at_return=False) == at_entry
    assert x86.find_cheap_point(raw, at_return=True) == at_return


def test_an_invalid_opcode_ends_the_walk_at_once() -> None:
    assert list(x86.decode(b"\x06\x55")) == []  # 06 is invalid in 64-bit mode
