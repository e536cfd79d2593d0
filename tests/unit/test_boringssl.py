"""BoringSSL in a stripped file: its two places are found in its code, or nothing is."""

import os
import random
from pathlib import Path

import pytest

from farcall_probes.boringssl import find_boring_points
from farcall_probes.elf import ElfError, ElfFile
from farcall_probes.libraries import find_points
from farcall_probes.tlspoints import Point
from support_tlscode import disassemble_before, find_in_package
from support_tlsproc import find_libssl

pytestmark = pytest.mark.unit


def find_extension() -> Path:
    return find_in_package("grpc", "grpc/_cython/cygrpc*.so")


def points_of(raw: bytes) -> list[Point]:
    fd = os.memfd_create("library")
    try:
        os.pwrite(fd, raw, 0)
        return find_boring_points(ElfFile(fd))
    finally:
        os.close(fd)


def test_the_copy_in_ssl_read_and_the_beginning_of_ssl_write_are_found_in_grpcios_extension() -> (
    None
):
    path = find_extension()
    fd = os.open(path, os.O_RDONLY)
    try:
        found = find_points(ElfFile(fd))
    finally:
        os.close(fd)
    assert found is not None
    kind, (write, copy) = found

    assert kind == "openssl"
    assert (write.program, copy.program) == ("uprobe__tls_write", "uprobe__boring_copy")
    assert not write.dear
    before = disassemble_before(path, copy.offset)
    assert before[-1].startswith("call") and "memcpy" in before[-1]
    assert any(line.endswith(",%rsi") and line.startswith("mov 0x") for line in before)
    assert any(line.startswith("push") for line in disassemble_before(path, write.offset)[-3:])


def test_what_is_none_of_it_has_no_points() -> None:
    assert points_of(find_libssl().read_bytes()) == []
    assert points_of(Path("/bin/true").read_bytes()) == []


@pytest.mark.parametrize("what", ["no name", "no copy", "no write", "no functions"])
def test_half_of_it_is_nothing(what: str) -> None:
    raw = bytearray(find_extension().read_bytes())
    write, copy = points_of(bytes(raw))
    if what == "no name":
        at = raw.find(b"ssl/ssl_lib.cc\0")
        raw[at : at + 3] = b"xxx"
    elif what == "no copy":
        raw[copy.offset] = 0xE9  # a jump
    elif what == "no write":
        raw[write.offset : write.offset + 2] = b"\x06\x06"  # no instruction in 64-bit mode
    else:
        raw = bytearray(bytes(raw).replace(b".eh_frame_hdr\0", b".eh_frame_xxx\0"))
    assert points_of(bytes(raw)) == []


def test_damaged_files_have_the_points_of_whole_ones_or_none() -> None:
    raw = find_extension().read_bytes()
    whole = points_of(raw)
    chance = random.Random(5)
    for _ in range(12):
        cut = raw[: chance.randrange(len(raw))]
        damaged = bytearray(raw)
        for _ in range(2_000):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        for hostile in (cut, bytes(damaged)):
            try:
                assert points_of(hostile) in ([], whole)
            except ElfError:
                pass
