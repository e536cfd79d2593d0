"""`farcall doctor`: what can be seen on this machine, what not, why, what that costs and what mends it.

Every check stands alone: one that fails does not hide the next. Loads the programs as the agent does, proves them and
takes them out again; nothing is recorded. Exit code 0 when all that is essential is on.
"""

import argparse
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from farcall.commands import EXIT_FAULT, EXIT_OK
from farcall.terminal import Column, render_table
from farcall_probes import artefact, btf, probes, sites, tracefs
from farcall_probes.doctortls import check_tls
from farcall_probes.findings import Finding
from farcall_probes.maps import MapSizes, read_locked_bytes

# include/uapi/linux/capability.h
_CAPABILITIES = {
    "CAP_BPF": (39, True, "nothing can be loaded"),
    "CAP_PERFMON": (38, True, "nothing can be attached"),
    "CAP_SYS_PTRACE": (
        19,
        False,
        "of other processes no TLS is read, nor the program file, nor on older kernels the environment;"
        " outside containers forked workers, and connections older than the agent, find no names that were looked up before",
    ),
    "CAP_DAC_READ_SEARCH": (
        2,
        False,
        "of other users' processes the environment is not read, nor a TLS library that was deleted, replaced or is private;"
        " outside containers forked workers, and connections older than the agent, find no names that were looked up before",
    ),
    "CAP_CHECKPOINT_RESTORE": (
        40,
        False,
        "of a TLS library that was deleted or replaced while in use nothing is read",
    ),
}
_CAP_SYS_ADMIN = 21  # covers BPF and PERFMON on older kernels
_MAX_PROCESSES = 100_000


def _attempt(name: str, cost: str, look: Callable[[], str], cure: str = "") -> Finding:
    """An essential check that says a measure or raises one of this room's errors."""
    try:
        return Finding(name=name, on=True, essential=True, note=look())
    except (
        artefact.ArtefactError,
        btf.BtfError,
        sites.SiteError,
        tracefs.TracefsError,
        probes.ProbesError,
        OSError,
    ) as e:
        why = f"{e}; {cure}" if cure else str(e)
        return Finding(name=name, on=False, essential=True, why=why, cost=cost)


def read_effective_capabilities(status: str) -> int:
    """CapEff of /proc/PID/status."""
    match = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.M)
    return int(match[1], 16) if match else 0


def check_capabilities(effective: int) -> Iterator[Finding]:
    for name, (bit, essential, cost) in _CAPABILITIES.items():
        on = bool(effective >> bit & 1) or (essential and bool(effective >> _CAP_SYS_ADMIN & 1))
        why = "" if on else "this process does not have it; run: sudo farcall doctor"
        yield Finding(
            name=f"capability/{name}", on=on, essential=essential, why=why, cost="" if on else cost
        )


def _look_at_artefact() -> str:
    compiled = artefact.read_artefact()
    return f"{len(compiled.programs)} programs, {compiled.compiler}"


def _look_at_btf() -> str:
    return f"{len(sites.find_values(btf.read_vmlinux()))} offsets found"


def _look_at_tracefs() -> str:
    root = tracefs.ensure_tracefs()
    tracefs.check_syscall_layout(root)
    return str(root)


def check_ground() -> Iterator[Finding]:
    yield _attempt("artefact", "nothing can be loaded", _look_at_artefact)
    yield _attempt("kernel types (BTF)", "offsets are unknown, nothing can be loaded", _look_at_btf)
    yield _attempt("tracing file system", "nothing can be attached", _look_at_tracefs)


def check_programs() -> Iterator[Finding]:
    """Loads as the agent does. What fails as a whole is one row; else one row per hook and proof."""
    sizes = MapSizes()
    try:
        capture = probes.open_probes(sizes)
    except probes.ProbesError as e:
        yield Finding(
            name="kernel programs",
            on=False,
            essential=True,
            why=str(e),
            cost="nothing is seen on this machine",
        )
        return
    try:
        for capability in capture.capabilities:
            yield Finding(
                name=capability.name,
                on=capability.on,
                essential=capability.name.removeprefix("kernel/") in probes.ESSENTIAL,
                why=capability.why,
                cost=capability.cost,
            )
        memory = sum(read_locked_bytes(fd) for fd in capture.maps.list_fds().values())
        rings = sizes.ring_small + sizes.ring_large + sizes.ring_head + sizes.ring_dns
        yield Finding(
            name="maps and rings",
            on=True,
            note=f"{memory / 2**20:.0f} MiB of kernel memory, {rings / 2**20:.0f} MiB of it rings;"
            f" room for {sizes.connections:,} connections in use",
        )
        yield from check_tls(capture.tls)
    finally:
        capture.close()


def find_io_uring_users(proc: Path = Path("/proc")) -> tuple[list[str], int]:
    """Processes that hold an io_uring, and how many others could not be looked into."""
    users = []
    hidden = 0
    for directory in [p for p in proc.iterdir() if p.name.isdigit()][:_MAX_PROCESSES]:
        try:
            links = [os.readlink(fd) for fd in (directory / "fd").iterdir()]
            name = (directory / "comm").read_text(encoding="utf-8", errors="replace").strip()
        except PermissionError:
            hidden += 1
            continue
        except OSError:
            continue  # gone meanwhile
        if any("[io_uring]" in link for link in links):
            users.append(f"{name} ({directory.name})")
    return sorted(users), hidden


def check_blind_spots() -> Iterator[Finding]:
    users, hidden = find_io_uring_users()
    unknown = f"; {hidden} processes could not be looked into" if hidden else ""
    shown = ", ".join(users[:5]) + (" …" if len(users) > 5 else "")
    yield Finding(
        name="io_uring",
        on=not users,
        note="" if users else f"no process uses it now{unknown}",
        why=f"{len(users)} processes use it: {shown}{unknown}" if users else "",
        cost="what they send and receive through it is not seen" if users else "",
    )
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    yield Finding(
        name="cgroups",
        on=True,
        note="v2: containers by their v2 cgroup"
        if unified
        else "hybrid: containers by their memory cgroup where v2's is the root",
    )
    yield Finding(name="kprobes", on=True, note="not needed, not used")


def find_all() -> list[Finding]:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    findings = list(check_capabilities(read_effective_capabilities(status)))
    findings += check_ground()
    if all(f.on for f in findings if f.essential):
        findings += check_programs()
    else:
        findings.append(
            Finding(
                name="kernel programs",
                on=False,
                essential=True,
                why="not tried, because something above is missing",
                cost="nothing is seen on this machine",
            )
        )
    findings += check_blind_spots()
    return findings


def is_fit(findings: Sequence[Finding]) -> bool:
    return all(f.on for f in findings if f.essential)


def render_findings(findings: Sequence[Finding], width: int | None) -> str:
    """The table, then what is off in full sentences: causes do not fit a column."""
    columns = (Column(title="WHAT"), Column(title=""), Column(title="NOTE", flexible=True))
    rows = [
        (f.name, "on" if f.on else ("OFF" if f.essential else "off"), f.note or f.cost)
        for f in findings
    ]
    lines = list(render_table(columns, rows, width=width))
    for finding in (f for f in findings if not f.on):
        lines += ["", f"{finding.name}: {finding.why}", f"  Cost: {finding.cost}."]
    verdict = (
        "farcall can trace this machine." if is_fit(findings) else "farcall cannot trace here."
    )
    return "\n".join([*lines, "", f"kernel {platform.release()}: {verdict}", ""])


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="farcall doctor", description="what can be seen on this machine, what not, and why"
    )
    parser.add_argument("--json", action="store_true", help="machine-readable")
    arguments = parser.parse_args(argv)
    findings = find_all()
    if arguments.json:
        document = {
            "kernel": platform.release(),
            "fit": is_fit(findings),
            "findings": [asdict(f) for f in findings],
        }
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        sys.stdout.write(render_findings(findings, width))
    return EXIT_OK if is_fit(findings) else EXIT_FAULT
