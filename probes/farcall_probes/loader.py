"""Artefact + this kernel's values → programs in the kernel, attached.

Patches each site with its value, loads over bpf(2), attaches to tracepoints. A program that cannot be loaded or attached
is one capability less, not a crash; whether what is left is enough is decided by probes.py.
"""

import errno
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from farcall_probes import bpfsys, tracefs
from farcall_probes.artefact import INSTRUCTION_BYTES, Artefact, Program
from farcall_probes.bpfsys import BpfError
from farcall_probes.maps import KEPT_STEPS, UPROBE_STEPS, Maps
from farcall_probes.workers import Result, Workers

_UPROBES = ("uprobe__", "uretprobe__")
# Half of all that the kernel verifies: loops over messages. Others take as long as they are long.
_DEAREST = ("step__pass", "step__message", "step__http2")
# Programs that the kernel verifies side by side: three of them are most of all its work.
_VERIFIERS = 3
# The steps that plaintext goes through: loaded once more for bytes that lie in the kernel's memory (bpf/tls.h).
_PLAINTEXT_STEPS = frozenset(
    "plaintext turned begin continue head commands answer reply recognise frames message pass http2 rest tell".split()
)
_OP_LOAD_64 = 0x18  # lddw, two slots
_CALL = 0x85  # BPF_JMP | BPF_CALL
_READ_USER, _READ_KERNEL = 112, 113  # helpers, enum bpf_func_id
_CAST_ADDRESS = 0xFC01  # fc.h's name for a function of the kernel
_PSEUDO_KFUNC_CALL = 2  # src_reg of a call whose immediate is a function's BTF type
_PSEUDO_MAP_FD = 1  # src_reg of a lddw whose immediate is a map's descriptor


# Numbers that only the kernel can tell of this process: name → the run__ program that does.
RUN_VALUES = {"NUM_PIDNS_LEVEL": "own_level"}
# Numbers that say how a program is loaded, not on what.
LOAD_VALUES = frozenset(
    "NUM_IN_UPROBE NUM_DEAR NUM_RECORD NUM_RECORD_AT NUM_RECORD_IS_NEW".split()
    + "NUM_IN_INIT NUM_WANT NUM_WANT_IN NUM_OWNER".split()
)
_NO_VALUES: Mapping[str, int] = {}


class LoadError(Exception):
    """A site without a value, or an offset that no instruction can hold: artefact and loader do not belong together."""


def short_name(program: str) -> str:
    return program.rpartition("__")[2]


def _rank(program: Program) -> tuple[bool, int]:
    return program.name not in _DEAREST, -len(program.code)


@dataclass(frozen=True, slots=True)
class Attached:
    """The program of one hook, in the kernel or not (`why`)."""

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
    if values.get("NUM_CAST"):
        call_function(code, _CAST_ADDRESS, values["NUM_CAST"])
    return bytes(code)


def list_calls(code: bytes | bytearray, helper: int) -> Iterator[int]:
    """Where in the code this helper is called."""
    at = 0
    while at < len(code):
        opcode, _, _, immediate = struct.unpack_from("<BBhI", code, at)
        if opcode == _CALL and immediate == helper:
            yield at
        at += INSTRUCTION_BYTES * (2 if opcode == _OP_LOAD_64 else 1)


def call_function(code: bytearray, helper: int, function: int) -> None:
    """Calls of this helper become calls of a kernel's function. Where there is none they stay: no such program ever comes to
    them, and the verifier drops them unread."""
    for at in list_calls(code, helper):
        code[at + 1] = _PSEUDO_KFUNC_CALL << 4
        struct.pack_into("<I", code, at + 4, function)


def read_from_kernel(code: bytes) -> bytes:
    """The same program, whose reads of user memory are reads of the kernel's. Only for programs whose calls' bytes were copied
    there by a program of ours: no pointer that a process gave may reach them."""
    changed = bytearray(code)
    for at in list_calls(code, _READ_USER):
        struct.pack_into("<I", changed, at + 4, _READ_KERNEL)
    return bytes(changed)


class Loaded:
    """Programs in the kernel; closing their descriptors detaches and frees them."""

    def __init__(self, artefact: Artefact, values: Mapping[str, int], maps: Maps) -> None:
        self.attached: list[Attached] = []
        self._fds: list[int] = []
        self._run_fds: dict[str, int] = {}
        self._hooked: list[int] = []
        self._artefact, self._values, self._maps = artefact, dict(values), maps
        fds = maps.list_fds()
        self._map_fds_of = {
            bpfsys.PROG_TRACEPOINT: fds,
            bpfsys.PROG_RAW_TRACEPOINT: fds,
            # The second is never used there, but must be of the programs' own kind.
            bpfsys.PROG_KPROBE: fds
            | {"MAP_STEPS": fds[UPROBE_STEPS], KEPT_STEPS: fds[UPROBE_STEPS]},
        }
        self._kept_fds = fds | {"MAP_STEPS": fds[KEPT_STEPS]}
        self._uprobes: dict[tuple[str, tuple[tuple[str, int], ...]], int] = {}
        try:
            for name, program in RUN_VALUES.items():
                self._values[name] = self._run(program)
            self.own_tgid = self._run("own_tgid")  # outside of any namespace of its own
            with Workers(_VERIFIERS) as workers:
                loading = self._load_side_by_side(workers)
                self._set_steps(loading)
                self._attach_all(loading)
            self._keep("step__", "run__", *_UPROBES)
        except BaseException:
            self.close()
            raise

    def _keep(self, *kinds: str) -> None:
        """Forgets all programs but these: what is in the kernel is not loaded again, and its code is half a megabyte."""
        kept = tuple(p for p in self._artefact.programs if p.name.startswith(kinds))
        self._artefact = replace(self._artefact, programs=kept)

    def _load(
        self, program: Program, kind: int, load_values: Mapping[str, int] = _NO_VALUES
    ) -> int:
        values = {**self._values, **load_values} | {
            "NUM_IN_UPROBE": int(kind == bpfsys.PROG_KPROBE)
        }
        code = patch_program(program, values, self._map_fds_of[kind])
        fd = bpfsys.load_program(short_name(program.name), kind, code)
        self._fds.append(fd)
        return fd

    def _load_side_by_side(self, workers: Workers) -> dict[str, Result[int]]:
        """Steps and hooks by their names, the dearest first. Verifying them is nearly all of a start's time, and the kernel does
        it for several callers at once."""
        loading = {}
        for program in sorted(self._artefact.programs, key=_rank):
            if not program.name.startswith(("run__", *_UPROBES)):
                is_raw = program.name.startswith("raw__")
                kind = bpfsys.PROG_RAW_TRACEPOINT if is_raw else bpfsys.PROG_TRACEPOINT
                loading[program.name] = workers.submit(partial(self._load, program, kind))
        return loading

    def _set_steps(self, loading: Mapping[str, Result[int]]) -> None:
        """What other programs call; without any of them too little would be seen, so a failure is the whole load's."""
        for name in loading:
            if name.startswith("step__"):
                index = self._artefact.constants[f"STEP_{short_name(name).upper()}"]
                self._maps.set_step(index, loading[name].wait())

    def load_uprobes(self) -> None:
        """The programs that TLS libraries get, and the steps that those call. Raises BpfError."""
        for program in self._artefact.programs:
            if program.name.startswith("step__"):
                index = self._artefact.constants[f"STEP_{short_name(program.name).upper()}"]
                self._maps.set_uprobe_step(index, self._load(program, bpfsys.PROG_KPROBE))

            if short_name(program.name) in _PLAINTEXT_STEPS:
                self._maps.set_kept_step(index, self._load_kept(program))
        self._keep("run__", *_UPROBES)

    def _load_kept(self, program: Program) -> int:
        values = self._values | {"NUM_IN_UPROBE": 0}
        code = read_from_kernel(patch_program(program, values, self._kept_fds))
        fd = bpfsys.load_program(short_name(program.name), bpfsys.PROG_TRACEPOINT, code)
        self._fds.append(fd)
        return fd

    def find_uprobe(self, name: str, values: Mapping[str, int]) -> int:
        """Descriptor of the program `uprobe__…` or `uretprobe__…` with these of the LOAD_VALUES, loaded at its first use. Values that
        its code does not hold make no other program of it."""
        (program,) = (p for p in self._artefact.programs if p.name == name)
        held = {site.name for site in program.sites}
        key = name, tuple(sorted((n, v) for n, v in values.items() if n in held))
        known = self._uprobes.get(key)
        if known is None:
            known = self._uprobes[key] = self._load(program, bpfsys.PROG_KPROBE, values)
        return known

    def _run(self, name: str) -> int:
        return bpfsys.run_raw_tracepoint(name, self._load_run(name))

    def _load_run(self, name: str) -> int:
        if name not in self._run_fds:
            (program,) = (p for p in self._artefact.programs if p.name == f"run__{name}")
            self._run_fds[name] = self._load(program, bpfsys.PROG_RAW_TRACEPOINT)
        return self._run_fds[name]

    def run(self, name: str, *arguments: int) -> int:
        """What the program run__`name` returns. Raises BpfError."""
        return bpfsys.run_raw_tracepoint(name, self._load_run(name), arguments)

    def _attach_all(self, loading: Mapping[str, Result[int]]) -> None:
        root = tracefs.ensure_tracefs()
        tracefs.check_syscall_layout(root)
        for program in self._artefact.programs:
            if program.name.startswith(("step__", "run__", *_UPROBES)):
                continue
            try:
                self._attach(root, program.name, loading[program.name])
            except (BpfError, tracefs.TracefsError) as e:
                if isinstance(e, BpfError) and e.errno == errno.EPERM:
                    raise  # none of the others will fare better
                self.attached.append(Attached(short_name(program.name), str(e)))
            else:
                self.attached.append(Attached(short_name(program.name)))

    def _attach(self, root: Path, name: str, loading: Result[int]) -> None:
        kind, _, rest = name.partition("__")
        program = loading.wait()
        self._hooked.append(program)
        if kind == "raw":
            self._fds.append(bpfsys.attach_raw_tracepoint(rest, program))
            return
        category, _, event = rest.partition("__")
        event_id = tracefs.read_event_id(root, category, event)
        self._fds.append(bpfsys.attach_tracepoint(event, program, event_id))

    def count_misses(self) -> int:
        """Times that a hook came by and its program did not run."""
        return sum(bpfsys.read_misses(program) for program in self._hooked)

    def close(self) -> None:
        while self._fds:
            os.close(self._fds.pop())
