"""The tracing file system: where it is, mounting it when it is not there, ids and formats of tracepoints.

Only read, apart from the mount, which needs root and is left in place: other tools expect it there too.
"""

import ctypes
import os
import re
from dataclasses import dataclass
from pathlib import Path

PLACES = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
_LIBC = ctypes.CDLL(None, use_errno=True)


class TracefsError(Exception):
    """The tracing file system is not there, or a tracepoint is not in it. The message says what mends it."""


@dataclass(frozen=True, slots=True)
class Field:
    offset: int
    size: int


def find_tracefs(places: tuple[Path, ...] = PLACES) -> Path | None:
    """Raises TracefsError where it is and may not be looked into."""
    for place in places:
        try:
            if (place / "events").is_dir():
                return place
        except OSError as e:
            raise TracefsError(f"{place} may not be read ({e.strerror or e}): run as root") from e
    return None


def ensure_tracefs() -> Path:
    """Where it is mounted; mounts it when it is nowhere. Raises TracefsError."""
    found = find_tracefs()
    if found is not None:
        return found
    place = PLACES[0]
    cure = f"mount it: mount -t tracefs tracefs {place}"
    if not place.is_dir():
        raise TracefsError(f"{place} does not exist: the kernel has no tracing file system")
    if os.geteuid() != 0:
        raise TracefsError(f"no tracing file system at {place}, and only root can {cure}")
    if _LIBC.mount(b"tracefs", os.fsencode(place), b"tracefs", 0, None) != 0:
        why = os.strerror(ctypes.get_errno())
        raise TracefsError(
            f"the tracing file system cannot be mounted ({why}); on the host, {cure}"
        )
    if not (place / "events").is_dir():
        raise TracefsError(f"{place} holds no events: the kernel was built without tracepoints")
    return place


def read_event_id(root: Path, category: str, event: str) -> int:
    path = root / "events" / category / event / "id"
    try:
        return int(path.read_text(encoding="ascii"))
    except FileNotFoundError as e:
        raise TracefsError(f"this kernel has no tracepoint {category}:{event}") from e
    except (OSError, ValueError) as e:
        raise TracefsError(f"{path} cannot be read: {e}") from e


def parse_format(text: str) -> dict[str, Field]:
    """Fields of a tracepoint by name, as its `format` file declares them."""
    return {
        m[1]: Field(int(m[2]), int(m[3]))
        for m in re.finditer(r"field:[^;]*?(\w+)(?:\[\d*\])?;\s*offset:(\d+);\s*size:(\d+);", text)
    }


def read_format(root: Path, category: str, event: str) -> dict[str, Field]:
    path = root / "events" / category / event / "format"
    try:
        return parse_format(path.read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise TracefsError(f"this kernel has no tracepoint {category}:{event}") from e
    except OSError as e:
        raise TracefsError(f"{path} cannot be read: {e}") from e


def check_syscall_layout(root: Path) -> None:
    """System call tracepoints hold the number at 8 and the first argument (or the result) at 16, 8 bytes each; the
    programs read them there. Raises TracefsError."""
    write = read_format(root, "syscalls", "sys_enter_write")
    read = read_format(root, "syscalls", "sys_exit_read")
    wanted = {"fd": Field(16, 8), "buf": Field(24, 8), "count": Field(32, 8)}
    if any(write.get(name) != field for name, field in wanted.items()) or read.get("ret") != Field(
        16, 8
    ):
        raise TracefsError(
            "system call tracepoints are laid out in another way than the programs read them"
        )
