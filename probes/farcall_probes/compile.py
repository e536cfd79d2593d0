"""Compiles the BPF programs once, with BCC, into bpf/artefact.json.

Run by Debian's interpreter, the only one that sees bcc: `cd probes && /usr/bin/python3 -m farcall_probes.compile [--check]`.
Needs no privilege and no kernel's headers: BCC is given a stub tree of our own text, and the programs declare no
maps to it. Nothing is loaded. What the loader has to fill in is found by building twice with different markers: exactly
the instructions that differ are sites, so a constant that looks like a marker can not be hit.
"""

import os
import struct
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from farcall_probes.artefact import (
    ARTEFACT_PATH,
    BPF_DIR,
    INSTRUCTION_BYTES,
    Artefact,
    ArtefactError,
    Program,
    Site,
    hash_sources,
    read_artefact,
    read_ids,
    render_artefact,
)

MARKERS = (  # (number, map): low 16 bits are the ID
    (0x5CA10000, 0xFA11CA1100000000),
    (0x3B720000, 0x6E25D35200000000),
)
ID_MASK = 0xFFFF

OP_ADD_IMMEDIATE = 0x07  # 64-bit dst += imm
OP_MOVE_IMMEDIATE = 0xB7  # 64-bit dst = imm
OP_LOAD_64 = 0x18  # lddw, two slots
OP_CALL = 0x85

# All that BCC asks of a kernel tree. Programs include <linux/types.h> only; the others are BCC's own wishes.
STUB_TREE = {
    "linux/kconfig.h": "#define CONFIG_BPF_SYSCALL 1\n",
    "linux/version.h": (
        "#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))\n"
        "#define LINUX_VERSION_CODE KERNEL_VERSION(6, 1, 0)\n"
    ),
    "linux/types.h": (
        "#ifndef FARCALL_TYPES_H\n#define FARCALL_TYPES_H\n"
        + "".join(
            f"typedef {kind} {prefix}{sign}{bits};\n"
            for prefix in ("", "__")
            for sign, bits, kind in (
                ("u", 8, "unsigned char"),
                ("u", 16, "unsigned short"),
                ("u", 32, "unsigned int"),
                ("u", 64, "unsigned long long"),
                ("s", 8, "signed char"),
                ("s", 16, "short"),
                ("s", 32, "int"),
                ("s", 64, "long long"),
            )
        )
        + "".join(
            f"typedef __u{bits} __{order}{bits};\n"
            for order in ("le", "be")
            for bits in (16, 32, 64)
        )
        + "typedef __u16 __sum16;\ntypedef __u32 __wsum;\n"
        "#define __aligned_u64 __u64 __attribute__((aligned(8)))\n"
        "typedef _Bool bool;\n#define true 1\n#define false 0\n"
        "typedef unsigned long size_t;\ntypedef long ssize_t;\ntypedef unsigned long uintptr_t;\n"
        "typedef int pid_t;\n#define NULL ((void *)0)\n"
        "#ifndef __always_inline\n#define __always_inline inline __attribute__((always_inline))\n#endif\n"
        "#endif\n"
    ),
    "linux/log2.h": "",
    "linux/bpf_common.h": "",
    "asm/page.h": "",
    "uapi/linux/bpf.h": "",
    "uapi/linux/if_packet.h": "",
}


class CompileError(Exception):
    """The programs do not compile, or hold something that the loader could not load. The message says what."""


def write_stub_tree(root: Path) -> None:
    for name, text in STUB_TREE.items():
        path = root / "include" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")


def build(number: int, map_: int) -> dict[str, bytes]:
    """Bytecode by program name, with these markers in it."""
    import bcc

    flags = [f"-I{BPF_DIR}", f"-DFC_MAGIC_NUMBER={number:#x}", f"-DFC_MAGIC_MAP={map_:#x}"]
    try:
        module: Any = bcc.BPF(src_file=str(BPF_DIR / "probes.c"), cflags=[*flags, "-Wall"])
    except Exception as e:
        raise CompileError("BCC could not compile bpf/probes.c; its messages are above") from e
    library = bcc.lib
    names = [
        library.bpf_function_name(module.module, i).decode()
        for i in range(library.bpf_num_functions(module.module))
    ]
    return {name: bytes(module.dump_func(name.encode())) for name in sorted(names)}


def _split(code: bytes) -> list[tuple[int, int, int, int]]:
    """(opcode, registers, offset, immediate) of each instruction."""
    return list(struct.iter_unpack("<BBhI", code))


def find_sites(
    name: str, first: bytes, second: bytes, names: dict[str, dict[int, str]]
) -> list[Site]:
    """The instructions that differ between two builds, each named. Raises CompileError for any that is no marker."""
    a, b = _split(first), _split(second)
    if len(a) != len(b):
        raise CompileError(f"{name}: two builds differ in length: a marker was folded")
    sites: list[Site] = []
    index = 0
    while index < len(a):
        opcode, registers = a[index][:2]
        wide = opcode == OP_LOAD_64
        differs = a[index : index + 1 + wide] != b[index : index + 1 + wide]
        if differs:
            sites.append(_name_site(name, index, a, b, names))
        elif wide and registers >> 4:
            raise CompileError(
                f"{name}: instruction {index} refers to a map or object of BCC's own"
            )
        if opcode == OP_CALL and registers >> 4:
            raise CompileError(f"{name}: instruction {index} calls a function that was not inlined")
        index += 1 + wide
    return sites


def _name_site(
    name: str,
    index: int,
    a: list[tuple[int, int, int, int]],
    b: list[tuple[int, int, int, int]],
    names: dict[str, dict[int, str]],
) -> Site:
    opcode, immediate = a[index][0], a[index][3]
    kind = {OP_ADD_IMMEDIATE: "OFF", OP_MOVE_IMMEDIATE: "NUM", OP_LOAD_64: "MAP"}.get(opcode)
    for build_, (number, map_) in zip((a, b), MARKERS, strict=True):
        value = build_[index][3]
        if kind == "MAP":
            value |= build_[index + 1][3] << 32
        if kind is None or value & ~ID_MASK != (map_ if kind == "MAP" else number):
            raise CompileError(
                f"{name}: instruction {index} ({opcode:#x}) differs and is no marker"
            )
    known = names[kind or ""].get(immediate & ID_MASK)
    if known is None:
        raise CompileError(f"{name}: instruction {index} has {kind} number {immediate & ID_MASK}")
    return Site(index, known)


def compile_all() -> Artefact:
    ids = read_ids()
    names: dict[str, dict[int, str]] = {"OFF": {}, "NUM": {}, "MAP": {}}
    for name, value in ids.items():
        names.setdefault(name.partition("_")[0], {})[value] = name
    try:
        import bcc
    except ImportError as e:
        raise CompileError(
            "bcc cannot be imported: install Debian's python3-bpfcc and use /usr/bin/python3"
        ) from e
    with tempfile.TemporaryDirectory(prefix="farcall-stub-") as root:
        write_stub_tree(Path(root))
        os.environ["BCC_KERNEL_SOURCE"] = root
        first, second = (build(*markers) for markers in MARKERS)
    if first.keys() != second.keys():
        raise CompileError("two builds hold different programs")
    programs = [
        Program(name, first[name], tuple(find_sites(name, first[name], second[name], names)))
        for name in first
    ]
    return Artefact(hash_sources(), f"bcc {bcc.__version__}", ids, tuple(programs))


def write_artefact(artefact: Artefact, path: Path = ARTEFACT_PATH) -> None:
    """In one step: make must never see half an artefact that is newer than its sources."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(render_artefact(artefact), encoding="ascii")
    temporary.replace(path)


def main(argv: Sequence[str]) -> int:
    if list(argv) not in ([], ["--check"]):
        sys.stderr.write("usage: python -m farcall_probes.compile [--check]\n")
        return 2
    try:
        artefact = read_artefact() if argv else compile_all()
    except (CompileError, ArtefactError) as e:
        sys.stderr.write(f"farcall compile: {e}\n")
        return 1
    if not argv:
        write_artefact(artefact)
    instructions = sum(len(p.code) for p in artefact.programs) // INSTRUCTION_BYTES
    sites = sum(len(p.sites) for p in artefact.programs)
    sys.stdout.write(
        f"{len(artefact.programs)} programs, {instructions} instructions, {sites} sites ({artefact.compiler})\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
