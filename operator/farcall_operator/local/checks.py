"""What must be there before anything is started. Each check is a sentence: what is missing, and the command that mends it.

The rooms' files are found without importing the rooms: the operator does not know their code.
"""

import importlib.util
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# /usr/sbin is not on every user's PATH, and Debian keeps dnsmasq and ip there.
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
KERNEL_TYPES = Path("/sys/kernel/btf/vmlinux")
SETUP = "make setup"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomFile:
    """Something that `make setup` builds into a room."""

    package: str
    relative: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a check may look at; tests give one of their own."""

    is_root: bool
    find_program: Callable[[str], str | None]
    find_room: Callable[[str], Path | None]  # the directory of a package
    kernel_types: Path
    room_files: tuple[RoomFile, ...]


ROOM_FILES = (
    RoomFile(
        package="farcall_probes",
        relative="bpf/artefact.json",
        what="the compiled BPF programs",
    ),
    RoomFile(
        package="farcall_console",
        relative="static/build/manifest.json",
        what="the pages' scripts and styles",
    ),
)


def this_machine() -> Machine:
    return Machine(
        is_root=os.geteuid() == 0,
        find_program=find_program,
        find_room=find_room,
        kernel_types=KERNEL_TYPES,
        room_files=ROOM_FILES,
    )


def find_program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")


def find_room(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    locations = list(spec.submodule_search_locations or []) if spec else []
    return Path(locations[0]) if locations else None


def list_missing(machine: Machine, *, demo: bool) -> list[str]:
    """One sentence per fault, empty when farcall can be started."""
    found = [
        _check_root(machine),
        _check_program(machine, "redis-server", "redis-server", "the DNS cache"),
        _check_kernel(machine),
        *(_check_file(machine, file) for file in machine.room_files),
    ]
    if demo:
        found += [
            _check_program(machine, "dnsmasq", "dnsmasq-base", "the demo's DNS server"),
            _check_program(machine, "ip", "iproute2", "the demo's network namespaces"),
        ]
    return [sentence for sentence in found if sentence]


def _check_root(machine: Machine) -> str | None:
    if machine.is_root:
        return None
    return "not root: BPF programs and cgroups need it; run it with sudo, for example: sudo .venv/bin/farcall up"


def _check_program(machine: Machine, program: str, package: str, purpose: str) -> str | None:
    if machine.find_program(program):
        return None
    return (
        f"{program} is not installed ({purpose}); install it with: "
        f"apt-get install --no-install-recommends {package}"
    )


def _check_kernel(machine: Machine) -> str | None:
    if machine.kernel_types.exists():
        return None
    return (
        f"this kernel does not describe its types ({machine.kernel_types} is missing), so no BPF program can be "
        "fitted to it; boot a kernel built with CONFIG_DEBUG_INFO_BTF, as Debian's are: "
        "apt-get install linux-image-amd64"
    )


def _check_file(machine: Machine, file: RoomFile) -> str | None:
    room = machine.find_room(file.package)
    if room is None:
        return f"the package {file.package} is not installed; install farcall anew with: {SETUP}"
    path = room / file.relative
    return None if path.is_file() else f"{file.what} are missing ({path}); build them with: {SETUP}"
