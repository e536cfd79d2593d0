"""bpf(2) and perf_event_open(2) by their numbers: maps, programs, attachment. No library, no policy.

Each call either returns or raises BpfError, which says what was tried and what mends it.
"""

import ctypes
import errno
import fcntl
import os
import platform
import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum
from pathlib import Path

_SYSCALLS = {"x86_64": (321, 298), "aarch64": (280, 241)}  # bpf, perf_event_open

_LIBC = ctypes.CDLL(None, use_errno=True)

# enum bpf_cmd
_MAP_CREATE, _MAP_LOOKUP, _MAP_UPDATE, _MAP_DELETE, _MAP_NEXT_KEY = 0, 1, 2, 3, 4
_PROG_LOAD, _PROG_TEST_RUN, _RAW_TRACEPOINT_OPEN = 5, 10, 17
_MAP_LOOKUP_BATCH = 24
_LINK_CREATE = 28
# enum bpf_attach_type, since Linux 6.6; a kernel before that does not look at it for this kind of program.
_UPROBE_MULTI = 48
_MULTI_AT_RETURN = 1
_ATTRIBUTE_BYTES = 120  # zeros behind what a command reads are allowed by every kernel

PROG_KPROBE = 2  # uprobes too
PROG_TRACEPOINT = 5
PROG_RAW_TRACEPOINT = 17
_LICENCE = (
    b"Dual BSD/GPL\0"  # the helpers want a GPL-compatible word; this is one that the kernel knows
)
_LOG_BYTES = 64 * 1024
_LOG_LEVEL = 1
_LOAD_AGAIN = 5  # times; libbpf's number

_PERF_TYPE_TRACEPOINT = 2
UPROBE_TYPE = Path("/sys/bus/event_source/devices/uprobe/type")
_PERF_FLAG_CLOEXEC = 8
_PERF_ATTRIBUTE_BYTES = 112
_IOC_SET_BPF = 0x40042408
_IOC_ENABLE = 0x2400


class MapType(IntEnum):
    HASH = 1
    ARRAY = 2
    PROG_ARRAY = 3
    PERCPU_ARRAY = 6
    LRU_HASH = 9
    RINGBUF = 27


class BpfError(Exception):
    """A system call was refused. `errno` is its number; the message says what was tried and what mends it."""

    def __init__(self, doing: str, number: int, detail: str = "") -> None:
        self.errno = number
        cure = _CURES.get(number, "")
        parts = [f"{doing}: {os.strerror(number)}", cure, detail]
        super().__init__("; ".join(part for part in parts if part))


_CURES = {
    errno.EPERM: "run as root, or with the capabilities BPF and PERFMON",
    errno.EACCES: "the kernel's verifier or a security module refused it",
    errno.ENOMEM: "raise the memory limit of the process",
    errno.ENOSYS: "this kernel has no bpf(2)",
}


def _numbers() -> tuple[int, int]:
    try:
        return _SYSCALLS[platform.machine()]
    except KeyError:
        raise BpfError(f"bpf(2) on {platform.machine()}", errno.ENOSYS) from None


def _bpf(command: int, attribute: bytes, doing: str) -> int:
    buffer = ctypes.create_string_buffer(attribute, _ATTRIBUTE_BYTES)
    result = _LIBC.syscall(_numbers()[0], command, buffer, _ATTRIBUTE_BYTES)
    if result < 0:
        raise BpfError(doing, ctypes.get_errno())
    return int(result)


def create_map(name: str, kind: MapType, key_bytes: int, value_bytes: int, entries: int) -> int:
    attribute = struct.pack(
        "<IIIIIII16s", kind, key_bytes, value_bytes, entries, 0, 0, 0, name.encode()[:15]
    )
    return _bpf(_MAP_CREATE, attribute, f"creating the BPF map {name}")


class Map:
    """Keys and values as bytes. Owns its descriptor."""

    def __init__(
        self, name: str, kind: MapType, key_bytes: int, value_bytes: int, entries: int
    ) -> None:
        self.name = name
        self.kind = kind
        self.entries = entries
        self.fd = create_map(name, kind, key_bytes, value_bytes, entries)
        self._key = ctypes.create_string_buffer(max(key_bytes, 1))
        self._value_bytes = value_bytes
        self._key_bytes = key_bytes

    def _call(
        self, command: int, key: bytes | None, value: ctypes.Array[ctypes.c_char] | None, doing: str
    ) -> None:
        if key is not None:
            self._key.raw = key
        attribute = struct.pack(
            "<IIQQQ",
            self.fd,
            0,
            ctypes.addressof(self._key) if key is not None else 0,
            ctypes.addressof(value) if value is not None else 0,
            0,
        )
        _bpf(command, attribute, f"{doing} the BPF map {self.name}")

    def lookup(self, key: bytes, copies: int = 1) -> bytes | None:
        """The value; `copies` CPUs' values side by side for a per-CPU map."""
        value = ctypes.create_string_buffer(self._value_bytes * copies)
        try:
            self._call(_MAP_LOOKUP, key, value, "reading")
        except BpfError as e:
            if e.errno == errno.ENOENT:
                return None
            raise
        return value.raw

    def update(self, key: bytes, value: bytes) -> None:
        self._call(_MAP_UPDATE, key, ctypes.create_string_buffer(value, len(value)), "writing")

    def delete(self, key: bytes) -> None:
        try:
            self._call(_MAP_DELETE, key, None, "deleting from")
        except BpfError as e:
            if e.errno != errno.ENOENT:
                raise

    def read_blocks(self, entries: int) -> Iterator[tuple[memoryview, memoryview, int]]:
        """(keys, values, how many) of the whole table, `entries` at a time; views that the next step writes over. What
        comes and goes meanwhile may be left out or come twice. A hash table of any kind only."""
        keys = ctypes.create_string_buffer(self._key_bytes * entries)
        values = ctypes.create_string_buffer(self._value_bytes * entries)
        place = ctypes.create_string_buffer(4)
        began = False
        while True:
            attribute = ctypes.create_string_buffer(
                struct.pack(
                    "<QQQQIIQQ",
                    ctypes.addressof(place) if began else 0,
                    ctypes.addressof(place),
                    ctypes.addressof(keys),
                    ctypes.addressof(values),
                    entries,
                    self.fd,
                    0,
                    0,
                ),
                _ATTRIBUTE_BYTES,
            )
            done = _LIBC.syscall(_numbers()[0], _MAP_LOOKUP_BATCH, attribute, _ATTRIBUTE_BYTES)
            number = ctypes.get_errno() if done < 0 else 0
            if number not in (0, errno.ENOENT):
                raise BpfError(f"reading the BPF map {self.name}", number)
            count = struct.unpack_from("<I", attribute, 32)[0]
            if count:
                yield memoryview(keys), memoryview(values), count
            if number == errno.ENOENT:
                return
            began = True

    def list_keys(self) -> list[bytes]:
        keys: list[bytes] = []
        following = ctypes.create_string_buffer(self._key_bytes)
        key: bytes | None = None
        while len(keys) < self.entries:
            try:
                self._call(_MAP_NEXT_KEY, key, following, "walking")
            except BpfError as e:
                if e.errno == errno.ENOENT:
                    break
                raise
            key = following.raw
            keys.append(key)
        return keys

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def load_program(name: str, kind: int, code: bytes) -> int:
    """Descriptor of the loaded program. The verifier's last lines are in the error when it refuses."""
    instructions = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(_LICENCE)

    def attribute(level: int, log: int) -> bytes:
        return struct.pack(
            "<IIQQIIQII16sII",
            kind,
            len(code) // 8,
            ctypes.addressof(instructions),
            ctypes.addressof(licence),
            level,
            _LOG_BYTES if level else 0,
            log,
            0,
            0,
            name.encode()[:15],
            0,
            _UPROBE_MULTI if kind == PROG_KPROBE else 0,  # either way of attaching takes it
        )

    try:
        return _load_again(attribute(0, 0), f"loading {name}")
    except BpfError as e:
        if e.errno not in (errno.EACCES, errno.EINVAL, errno.E2BIG, errno.EFAULT):
            raise
        number = e.errno
    log = ctypes.create_string_buffer(_LOG_BYTES)
    try:  # a second time, for the verifier's words: the log costs too much to be asked for at once
        return _load_again(attribute(_LOG_LEVEL, ctypes.addressof(log)), f"loading {name}")
    except BpfError as e:
        words = log.value.decode(errors="replace").strip().splitlines()[-4:]
        raise BpfError(f"loading {name}", number or e.errno, " | ".join(words)[-600:]) from e


def _load_again(attribute: bytes, doing: str) -> int:
    """A signal, a debugger or a container that is paused stops the verifier: EAGAIN, and nothing is wrong with the program."""
    for _ in range(_LOAD_AGAIN):
        try:
            return _bpf(_PROG_LOAD, attribute, doing)
        except BpfError as e:
            if e.errno != errno.EAGAIN:
                raise
    return _bpf(_PROG_LOAD, attribute, doing)


def read_misses(program: int) -> int:
    """How often the kernel left the program out because it ran one on that CPU, or changed some BPF table there. 0 where it does not
    say, before Linux 6.7 (of raw tracepoints, 5.12)."""
    text = Path(f"/proc/self/fdinfo/{program}").read_text(encoding="ascii")
    return int((text.partition("recursion_misses:")[2].split() or ["0"])[0])


def run_raw_tracepoint(name: str, program: int, arguments: Sequence[int] = ()) -> int:
    """Runs the program once, in this thread's context; what it returned, 32 bits."""
    context = ctypes.create_string_buffer(struct.pack(f"<{len(arguments)}Q", *arguments))
    # bpf(2), test: prog_fd, retval, data_size_in and _out, data_in and _out, repeat, duration, ctx_size_in and _out, ctx_in
    where = ctypes.addressof(context) if arguments else 0
    packed = struct.pack("<IIIIQQIIIIQ", program, 0, 0, 0, 0, 0, 0, 0, 8 * len(arguments), 0, where)
    buffer = ctypes.create_string_buffer(packed, _ATTRIBUTE_BYTES)
    if _LIBC.syscall(_numbers()[0], _PROG_TEST_RUN, buffer, _ATTRIBUTE_BYTES) < 0:
        raise BpfError(f"running {name}", ctypes.get_errno())
    return int(struct.unpack_from("<I", buffer, 4)[0])


def attach_tracepoint(name: str, program: int, event: int) -> int:
    """Descriptor that keeps `program` attached to the tracepoint with this id, on all CPUs."""
    attribute = ctypes.create_string_buffer(
        struct.pack("<IIQQQQ", _PERF_TYPE_TRACEPOINT, _PERF_ATTRIBUTE_BYTES, event, 1, 0, 0),
        _PERF_ATTRIBUTE_BYTES,
    )
    return _attach_event(f"the tracepoint {name}", attribute, program)


def read_uprobe_type(path: Path = UPROBE_TYPE) -> int:
    """The number of the kernel's uprobe event source. Raises BpfError where it has none."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError) as e:
        raise BpfError("this kernel has no uprobes for perf_event_open(2)", errno.ENOSYS) from e


def attach_uprobe(name: str, program: int, file: int, offset: int, *, at_return: bool) -> int:
    """Descriptor that keeps `program` attached to the instruction at `offset` of the open file `file`, in every process.

    The kernel holds the inode from here on: the path through /proc leads to exactly the file that was looked at.
    A perf event wants CAP_SYS_ADMIN, which an agent in a pod has not; a link of Linux 6.6 and newer wants no more than loading
    the program did. Raises BpfError.
    """
    path = ctypes.create_string_buffer(f"/proc/self/fd/{file}".encode())
    try:
        return _attach_uprobe_event(name, program, path, offset, at_return=at_return)
    except BpfError as e:
        if e.errno not in (errno.EACCES, errno.EPERM):
            raise
        try:
            return _link_uprobe(name, program, path, offset, at_return=at_return)
        except BpfError:
            raise BpfError(f"opening the uprobe {name}", e.errno, _NEEDS_ADMIN) from e


_NEEDS_ADMIN = "without CAP_SYS_ADMIN it takes Linux 6.6"


def _link_uprobe(
    name: str, program: int, path: ctypes.Array[ctypes.c_char], offset: int, *, at_return: bool
) -> int:
    offsets = ctypes.create_string_buffer(struct.pack("<Q", offset), 8)
    # prog_fd, target_fd, attach_type, flags; path, offsets, ref_ctr_offsets, cookies, cnt, flags, pid (0: every process)
    attribute = struct.pack(
        "<IIIIQQQQIII", program, 0, _UPROBE_MULTI, 0, ctypes.addressof(path), ctypes.addressof(offsets),
        0, 0, 1, _MULTI_AT_RETURN if at_return else 0, 0,
    )  # fmt: skip
    return _bpf(_LINK_CREATE, attribute, f"linking the uprobe {name}")


def _attach_uprobe_event(
    name: str, program: int, path: ctypes.Array[ctypes.c_char], offset: int, *, at_return: bool
) -> int:
    attribute = ctypes.create_string_buffer(
        struct.pack(
            "<IIQ32xQQQ",
            read_uprobe_type(),
            _PERF_ATTRIBUTE_BYTES,
            int(at_return),  # config; the bit that format/retprobe names
            0,  # wakeup_events, bp_type
            ctypes.addressof(path),
            offset,
        ),
        _PERF_ATTRIBUTE_BYTES,
    )
    return _attach_event(f"the uprobe {name}", attribute, program)


def _attach_event(what: str, attribute: ctypes.Array[ctypes.c_char], program: int) -> int:
    """perf_event_open(2) on all processes, the program set and enabled; nothing stays open when that fails."""
    fd = int(_LIBC.syscall(_numbers()[1], attribute, -1, 0, -1, _PERF_FLAG_CLOEXEC))
    if fd < 0:
        raise BpfError(f"opening {what}", ctypes.get_errno())
    try:
        fcntl.ioctl(fd, _IOC_SET_BPF, program)
        fcntl.ioctl(fd, _IOC_ENABLE, 0)
    except OSError as e:
        os.close(fd)
        raise BpfError(f"attaching to {what}", e.errno or errno.EINVAL) from e
    return fd


def attach_raw_tracepoint(name: str, program: int) -> int:
    """Descriptor that keeps `program` attached to the raw tracepoint."""
    text = ctypes.create_string_buffer(name.encode())
    attribute = struct.pack("<QI", ctypes.addressof(text), program)
    return _bpf(_RAW_TRACEPOINT_OPEN, attribute, f"attaching to the raw tracepoint {name}")
