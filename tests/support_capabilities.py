"""What an agent with some capabilities reads of two other processes: as a program that is run with just those, and its caller."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from farcall_operator.layout import PROBE_CAPABILITIES
from farcall_probes import doctor, procfs
from farcall_probes.identity import Identities, Seen
from farcall_probes.libraries import Attach, Libraries
from farcall_probes.opensockets import OpenSockets
from farcall_probes.probes import ProbesError, open_probes
from support_tlslib import find_own_libssl

EVERYTHING = frozenset(
    "tls,deleted tls,private tls,program file,environment,forks,old connections,cgroup".split(",")
)
SERVICE = "named-by-its-environment"
# Has a connection, the system's TLS library, one whose file is deleted, and one that is its user's alone.
_TARGET = """
import ctypes, socket, ssl, sys
listener = socket.create_server(("127.0.0.1", 0))
connection = socket.create_connection(listener.getsockname())
for path in sys.argv[1:]:
    ctypes.CDLL(path)
print("ready", flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What was read of the process of root, which has every capability, and of the one of another user."""

    refused: str  # why nothing can be traced, or nothing
    off: tuple[str, ...]  # hooks and proofs
    costs: dict[str, str]  # what the doctor says of each capability that is missing
    of_root: frozenset[str]
    of_other: frozenset[str]


@contextmanager
def _target(folder: Path, name: str, user: int) -> Iterator[int]:
    """A process' ID. Debian's interpreter, since it must be there for any user."""
    deleted, private = (folder / f"libssl-{name}-{kind}.so.3" for kind in ("deleted", "private"))
    for library in (deleted, private):
        library.write_bytes(Path(find_own_libssl().path).read_bytes())
        os.chown(library, user, user)
    deleted.chmod(0o755)
    private.chmod(0o700)
    with subprocess.Popen(
        [*_become(user), "/usr/bin/python3", "-c", _TARGET, str(deleted), str(private)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"OTEL_SERVICE_NAME": SERVICE},
        cwd="/",
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        deleted.unlink()
        yield process.pid
        process.communicate()


def _become(user: int) -> list[str]:
    """What begins a command to run it as another user than root."""
    return f"setpriv --reuid {user} --regid {user} --clear-groups --".split() if user else []


@contextmanager
def targets() -> Iterator[tuple[int, int]]:
    """Processes of root and of another user."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="farcall-capabilities-")))
        folder.chmod(0o755)
        of_root = stack.enter_context(_target(folder, "root", 0))
        of_other = stack.enter_context(_target(folder, "other", 65534))
        yield of_root, of_other


def see_without(missing: str | None, of_root: int, of_other: int) -> Sight:
    """As root with the agent's capabilities but `missing`."""
    kept = ",".join(f"+{c.lower()}" for c in PROBE_CAPABILITIES if c != missing)
    limit = ["setpriv", "--bounding-set", f"-all,{kept}", "--inh-caps", "-all"]
    done = subprocess.run(
        [*limit, sys.executable, __file__, str(of_root), str(of_other)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    return Sight(
        refused=told["refused"],
        off=tuple(told["off"]),
        costs=told["costs"],
        of_root=frozenset(told["of"][str(of_root)]),
        of_other=frozenset(told["of"][str(of_other)]),
    )


# ---- the program ------------------------------------------------------------------------------------------------------


def _main(tgids: list[int]) -> dict[str, object]:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    rows = doctor.check_capabilities(doctor.read_effective_capabilities(status))
    told: dict[str, object] = {
        "refused": "",
        "off": [],
        "costs": {f.name.removeprefix("capability/CAP_"): f.cost for f in rows if not f.on},
        "of": {tgid: [] for tgid in tgids},
    }
    try:
        capture = open_probes()
    except ProbesError as e:
        return {**told, "refused": str(e)}
    assert capture.tls is not None
    try:
        capture.tls.load()
        told["off"] = [c.name for c in capture.capabilities if not c.on]
        with TemporaryDirectory() as folder:
            told["of"] = {t: sorted(_look(Path(folder), t, capture.tls.attach)) for t in tgids}
    finally:
        capture.close()
    return told


def _look(folder: Path, tgid: int, attach: Attach) -> Iterator[str]:
    """What of EVERYTHING can be read of a process, by what the agent reads it with."""
    proc = (
        folder / f"proc{tgid}"
    )  # of this one process; the rest of the machine is none of the test's
    proc.mkdir()
    (proc / str(tgid)).symlink_to(f"/proc/{tgid}")
    (proc / "sys").symlink_to("/proc/sys")
    stat = procfs.read_stat(proc, tgid)
    assert stat is not None
    start_ns = stat.start_ticks * procfs.NS_PER_TICK
    seen = Seen(tgid, start_ns, stat.parent_tgid, 0, stat.comm.encode())
    if procfs.read_cgroup_lines(proc, tgid):
        yield "cgroup"
    if stat.exec_mark is not None:
        yield "forks"
    if procfs.read_executable(proc, tgid):
        yield "program file"
    if Identities(node="n", proc=proc).find(seen, now_ns=0).service == SERVICE:
        yield "environment"
    if any(OpenSockets(proc).find()):
        yield "old connections"
    libraries = Libraries(attach, proc=proc)
    try:
        while libraries.look():
            pass
        for library in libraries.list_libraries():
            name = library.path
            kinds = (name.endswith("(deleted)"), "deleted tls"), ("-private" in name, "private tls")
            yield next((kind for is_so, kind in kinds if is_so), "tls")
    finally:
        libraries.close()


if __name__ == "__main__":
    json.dump(_main([int(word) for word in sys.argv[1:]]), sys.stdout)
