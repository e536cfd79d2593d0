"""Artefact + this kernel's values → programs in the kernel, attached.

Patches each site with its value, loads over bpf(2), attaches to tracepoints. A program that cannot be loaded or attached
is one capability less, not a crash; whether what is left is enough is decided by probes.py.
"""

import errno
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from farcall_probes import bpfsys, tracefs
from farcall_probes.artefact import INSTRUCTION_BYTES, Artefact, Program
from farcall_probes.bpfsys import BpfError

_PSEUDO_MAP_FD = 1  # src_reg of a lddw whose immediate is a map's descriptor


class LoadError(Exception):
    """A site without a value, or an offset that no instruction can hold: artefact and loader do not belong together."""


@dataclass(frozen=True, slots=True)
class Attached:
    """One program, in the kernel or not (`why`)."""

    name: str
    why: str = ""


def patch_program(program: Program, values: Mapping[str, int], map_fds: Mapping[str, int]) -> bytes:
    """The program's code with every site filled in. Raises LoadError for a name without a value."""
    code = bytearray(program.code)
    for site in program.sites:
        at = site.index * INSTRUCTION_BYTES
        table = map_fds if site.name.startswith("MAP_") else values
        value = table.get(site.name)
        if value is None or not 0 <= value < 1 << 31:
            raise LoadError(f"{program.name}: no usable value for {site.name} ({value})")
        if table is map_fds:
            code[at + 1] = code[at + 1] & 0x0F | _PSEUDO_MAP_FD << 4
            struct.pack_into("<I", code, at + INSTRUCTION_BYTES + 4, 0)
        struct.pack_into("<I", code, at + 4, value)
    return bytes(code)


class Loaded:
    """Programs in the kernel; closing their descriptors detaches and frees them."""

    def __init__(
        self, artefact: Artefact, values: Mapping[str, int], map_fds: Mapping[str, int]
    ) -> None:
        self.attached: list[Attached] = []
        self._fds: list[int] = []
        try:
            self._attach_all(artefact, values, map_fds)
        except BaseException:
            self.close()
            raise

    def _attach_all(
        self, artefact: Artefact, values: Mapping[str, int], map_fds: Mapping[str, int]
    ) -> None:
        root = tracefs.ensure_tracefs()
        tracefs.check_syscall_layout(root)
        for program in artefact.programs:
            code = patch_program(program, values, map_fds)
            try:
                self._attach(root, program.name, code)
            except (BpfError, tracefs.TracefsError) as e:
                if isinstance(e, BpfError) and e.errno == errno.EPERM:
                    raise  # none of the others will fare better
                self.attached.append(Attached(program.name, str(e)))
            else:
                self.attached.append(Attached(program.name))

    def _attach(self, root: Path, name: str, code: bytes) -> None:
        kind, _, rest = name.partition("__")
        if kind == "raw":
            program = bpfsys.load_program(rest, bpfsys.PROG_RAW_TRACEPOINT, code)
            self._fds.append(program)
            self._fds.append(bpfsys.attach_raw_tracepoint(rest, program))
            return
        category, _, event = rest.partition("__")
        event_id = tracefs.read_event_id(root, category, event)
        program = bpfsys.load_program(event, bpfsys.PROG_TRACEPOINT, code)
        self._fds.append(program)
        self._fds.append(bpfsys.attach_tracepoint(event, program, event_id))

    def close(self) -> None:
        while self._fds:
            os.close(self._fds.pop())
