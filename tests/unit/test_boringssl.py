"""BoringSSL in a stripped file: its two places are found in its code, or nothing is."""

import os
import random
import subprocess
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


# As compilers make them: gcc 9 (Netty's) loads the member again, adds and stores it; clang (Envoy's) leaves by an error first, and
# 2022's SSL_write gave an int as its last argument (Conscrypt's).
COPIES = {
    "stored": """
  mov %rdi,%rbx; call inner; mov 0x30(%rbx),%rax; mov 0x80(%rax),%rsi; mov %r14,%rdi; call memcpy
  mov 0x30(%rbx),%rax; mov 0x80(%rax),%rsi; add %rcx,%rsi; mov %rsi,0x80(%rax); pop %rbx; ret""",
    "after an error": """
  cmpq $0,0x98(%rdi); je 1f; lea name(%rip),%rcx; call error; pop %rbx; ret
1: mov %rdi,%rbx; call inner; mov 0x30(%rbx),%rax; mov 0x80(%rax),%rsi; call memcpy
  mov 0x30(%rbx),%rax; add %r14,0x80(%rax); pop %rbx; ret""",
}
WRITES = {
    "new": "mov %r14,%rcx; mov %r12,%r8; mov %rbx,%rdi; call *0x48(%rax)",
    "old": "mov %rbx,%rdi; mov %r15,%rsi; mov %r12,%rdx; mov %r14d,%ecx; call *0x48(%rax)",
}


def build_library(directory: Path, copy: str, write: str, reset: str = "0xc4") -> bytes:
    """A file with what is looked for in two functions, and one that peeks; nothing of it ever runs."""
    functions = {
        "write": f"mov %rdi,%rbx; mov 0x30(%rdi),%rax; movl $0,{reset}(%rax); call inner; {write}; lea name(%rip),%rcx; ret",
        "read": f"push %rbx; {copy}; lea name(%rip),%rcx; call error; ret",
        "peek": "push %rbx; mov %rdi,%rbx; call inner; mov 0x80(%rax),%rsi; call memcpy; lea name(%rip),%rcx; call error; ret",
    }
    code = "".join(
        f"{label}: .cfi_startproc; {'push %rbp; ' if label == 'write' else ''}{body}; .cfi_endproc\n"
        for label, body in functions.items()
    )
    source, target = directory / "boring.s", directory / "boring.so"
    source.write_text(
        f""".text
inner: .cfi_startproc; ret; .cfi_endproc
error: .cfi_startproc; ret; .cfi_endproc
memcpy: .cfi_startproc; ret; .cfi_endproc
{code}
last: .cfi_startproc; ret; .cfi_endproc
.section .rodata
.byte 1,2,3
name: .asciz "src/ssl/ssl_lib.cc"
"""
    )
    subprocess.run(["gcc", "-shared", "-nostdlib", "-o", target, source], check=True)
    return target.read_bytes()


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("copy", COPIES)
def test_other_compilers_make_other_code_of_it(tmp_path: Path, copy: str, write: str) -> None:
    found = points_of(build_library(tmp_path, COPIES[copy], WRITES[write]))

    assert [p.program for p in found] == ["uprobe__tls_write", "uprobe__boring_copy"]
    assert (found[0].want_in, found[0].want, found[1].register) == (0x30, 0xC4, 3)


@pytest.mark.parametrize("broken", ["holder", "moved", "reset"])
def test_what_misses_a_part_is_nothing(tmp_path: Path, broken: str) -> None:
    copy = COPIES["stored"]
    if broken == "holder":
        copy = copy.replace("call inner", "call inner; mov %rax,%rbx")
    elif broken == "moved":
        copy = copy.replace("add %rcx,%rsi", "mov %rcx,%rsi")
    reset = "0x10" if broken == "reset" else "0xc4"  # no far member
    assert points_of(build_library(tmp_path, copy, WRITES["new"], reset)) == []


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
