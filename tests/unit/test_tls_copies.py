"""Where OpenSSL copies plaintext to its caller is found in its code, or nothing is."""

import os
import random
from pathlib import Path

import pytest

from farcall_probes.elf import ElfError, ElfFile
from farcall_probes.tlspoints import Point, find_ssl_points
from support_tlscode import disassemble_before, find_in_package
from support_tlsproc import find_libssl

pytestmark = pytest.mark.unit


def find_library(version: str) -> Path:
    """OpenSSL of the system, and those that come with Python packages."""
    if version == "3.5":
        return find_in_package("psycopg_binary", "psycopg_binary.libs/libssl-*")
    if version == "4.0":
        return find_in_package("cryptography", "cryptography/hazmat/bindings/_rust.abi3.so")
    return find_libssl()


def points_of(raw: bytes, *, at_copies: bool = True) -> list[Point]:
    fd = os.memfd_create("library")
    try:
        os.pwrite(fd, raw, 0)
        return find_ssl_points(ElfFile(fd), at_copies=at_copies)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("version", "off", "data"),
    [("3.0", "0x18", "0x20"), ("3.5", "0x28", "0x10"), ("4.0", "0x28", "0x10")],
)
def test_copies_are_calls_of_memcpy_with_the_record_in_a_register(
    version: str, off: str, data: str
) -> None:
    path = find_library(version)
    copies = [p for p in points_of(path.read_bytes()) if p.program == "uprobe__tls_copy"]
    names = {3: "rbx", 5: "rbp", 12: "r12", 13: "r13", 14: "r14", 15: "r15"}
    seen = 0

    assert copies
    for point in copies:
        lines = disassemble_before(path, point.offset)
        assert lines[-1].startswith("call") and "<memcpy" in lines[-1]
        assert point.is_new == (version != "3.0")
        register = names[point.register]
        seen += f"mov {off}(%{register}),%rsi" in lines and f"add {data}(%{register}),%rsi" in lines
    # One call may stand where a branch leads to, far behind what it takes.
    assert seen >= len(copies) - (version == "4.0")


@pytest.mark.parametrize(("version", "at"), [("3.0", 0x64), ("3.5", 0xB4), ("4.0", None)])
def test_where_an_object_says_that_its_handshake_goes_on_is_known(
    version: str, at: int | None
) -> None:
    writes = [
        p for p in points_of(find_library(version).read_bytes()) if p.program == "uprobe__tls_write"
    ]
    assert writes
    assert all(p.in_init == at if at else 0 < p.in_init < 0x200 for p in writes)


@pytest.mark.parametrize(
    ("version", "at", "data"), [("3.0", 0, 0x20), ("3.0", 1, 0x20), ("3.5", 0, 0x10)]
)
def test_when_one_of_the_copies_looks_otherwise_the_called_functions_are_probed(
    version: str, at: int, data: int
) -> None:
    raw = find_library(version).read_bytes()
    point = [p for p in points_of(raw) if p.program == "uprobe__tls_copy"][at]
    member = raw.rindex(data, 0, point.offset)  # of add data(…),%rsi

    damaged = bytearray(raw)
    damaged[member] = 0x38

    assert points_of(bytes(damaged)) == points_of(raw, at_copies=False)
    assert {p.program for p in points_of(raw, at_copies=False)} >= {
        "uprobe__tls_read",
        "uprobe__tls_write",
    }


def test_damaged_code_and_relocations_end_in_other_points_or_the_declared_error() -> None:
    raw = find_libssl().read_bytes()
    near = next(p.offset for p in points_of(raw) if p.program == "uprobe__tls_copy")
    chance = random.Random(11)
    for _ in range(200):
        damaged = bytearray(raw)
        begin = chance.choice([near - 2048, near - 256, near, 0xCEE0, len(raw) // 5])
        for _ in range(chance.randrange(1, 30)):
            damaged[begin + chance.randrange(2048)] = chance.randrange(256)
        try:
            found = points_of(bytes(damaged))
        except ElfError:
            continue
        assert all(0 < p.offset < len(raw) for p in found)
