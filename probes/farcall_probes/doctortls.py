"""What `farcall doctor` says of TLS: which libraries on this machine are read, which not and why, and what a hit costs.

It finds and probes them as the agent does, and takes the probes out again.
"""

import ctypes
import mmap
import os
import time
from collections.abc import Iterator
from pathlib import Path

from farcall_probes.bpfsys import BpfError
from farcall_probes.capture import TlsProbes
from farcall_probes.findings import Finding
from farcall_probes.libraries import Libraries
from farcall_probes.mappings import read_maps
from farcall_probes.tlspoints import Point

_KINDS = {"openssl": "OpenSSL and BoringSSL", "go": "Go's crypto/tls"}
# Part of a file's name → what it is; nobody reads these yet.
_UNREAD = {"libgnutls.so": "GnuTLS", "libssl3.so": "NSS", "libjvm.so": "Java's JSSE"}
_COST = "of these connections only the server name (SNI), times and bytes are seen"
_LOOK_S = 20.0  # at most, for all that runs
_CALLS = 2_000
_CODE = b"\x55\x5d\xc3"  # push %rbp; pop %rbp; ret


def check_tls(probes: TlsProbes | None) -> Iterator[Finding]:
    if probes is None:
        return
    try:
        probes.load()
        cost_ns = measure_hit_ns(probes)
    except (BpfError, OSError) as e:
        yield Finding(name="TLS", on=False, why=str(e), cost=_COST)
        return
    yield Finding(
        name="TLS probes",
        on=True,
        note=f"{cost_ns / 1000:.1f} µs a hit, two hits a request and side, up to five where the copy of the plaintext is not found",
    )
    libraries = Libraries(probes.attach)
    try:
        deadline = time.monotonic() + _LOOK_S
        while libraries.look() and time.monotonic() < deadline:
            pass
        yield from _describe(libraries)
    finally:
        libraries.close()
    yield from find_unread()


def _describe(libraries: Libraries) -> Iterator[Finding]:
    for kind, title in _KINDS.items():
        files = [x for x in libraries.list_libraries() if x.kind == kind]
        users = {u for x in files for u in x.users if isinstance(u, int)}
        dear = sum(x.is_dear for x in files)
        note = f"{len(files)} files, {len(users)} processes" if files else "nobody uses it now"
        if dear:
            note += (
                f"; {dear} files can only be probed at 11 µs a hit, and rest when that is too often"
            )
        yield Finding(name=f"TLS: {title}", on=True, note=note)
    for path, why in libraries.refused.items():
        yield Finding(name=f"TLS: {path}", on=False, why=why, cost=_COST)


def find_unread(proc: Path = Path("/proc")) -> Iterator[Finding]:
    """Libraries in use that farcall does not read."""
    users: dict[str, int] = {}
    for name in os.listdir(proc):
        if name.isdigit():
            paths = {os.path.basename(f.path) for f in read_maps(proc, int(name))}
            for part, title in _UNREAD.items():
                users[title] = users.get(title, 0) + any(part in p for p in paths)
    for title, count in users.items():
        if count:
            yield Finding(
                name=f"TLS: {title}",
                on=False,
                why=f"{count} processes have it loaded, and it is not read yet",
                cost=_COST,
            )


def measure_hit_ns(probes: TlsProbes) -> float:
    """What one hit on an instruction that the kernel emulates costs here, our program included."""
    file = os.memfd_create("farcall-hit")
    try:
        os.ftruncate(file, mmap.PAGESIZE)
        os.pwrite(file, _CODE, 0)
        libc = ctypes.CDLL(None)
        libc.mmap.restype = ctypes.c_void_p
        executable = mmap.PROT_READ | mmap.PROT_EXEC
        size = ctypes.c_size_t(mmap.PAGESIZE)
        address = libc.mmap(None, size, executable, mmap.MAP_PRIVATE, file, ctypes.c_long(0))
        if address in (None, ctypes.c_void_p(-1).value):
            raise OSError("no executable mapping of an own file is allowed here")
        call = ctypes.CFUNCTYPE(None)(address)
        bare = _time_calls(call)
        attached = probes.attach(file, [Point(program="uprobe__tls_write", offset=0)])
        try:
            probed = _time_calls(call)
        finally:
            attached.close()
            libc.munmap(ctypes.c_void_p(address), size)
        return max(0.0, probed - bare)
    finally:
        os.close(file)


def _time_calls(call: "ctypes._FuncPointer") -> float:
    best = float("inf")
    for _ in range(5):
        begin = time.perf_counter_ns()
        for _ in range(_CALLS):
            call()
        best = min(best, (time.perf_counter_ns() - begin) / _CALLS)
    return best
