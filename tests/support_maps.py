"""What a process holds in BPF maps, looked at from outside: how many entries, and how much of the kernel's memory."""

import ctypes
import os
import struct
from dataclasses import dataclass
from pathlib import Path

_BPF, _PIDFD_GETFD = {"x86_64": (321, 438), "aarch64": (280, 438)}[os.uname().machine]
_NEXT_KEY, _INFO_BY_FD = 4, 15  # enum bpf_cmd
_TABLES = (1, 9)  # HASH, LRU_HASH: what has entries that come and go
_INFO = struct.Struct("<IIIIII16s")  # the beginning of struct bpf_map_info
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldMap:
    entries: int  # of tables; 0 of what is none
    most: int
    memory: int  # bytes, as the kernel counts them


def read_maps(pid: int) -> dict[str, HeldMap]:
    """By name. Needs root."""
    found: dict[str, HeldMap] = {}
    pidfd = os.pidfd_open(pid)
    try:
        for info in Path(f"/proc/{pid}/fdinfo").iterdir():
            try:
                text = info.read_text()
            except OSError:
                continue  # closed meanwhile
            if "map_type:" not in text:
                continue
            fd = _LIBC.syscall(_PIDFD_GETFD, pidfd, int(info.name), 0)
            assert fd >= 0, os.strerror(ctypes.get_errno())
            try:
                name, held = _read(fd, int(text.partition("memlock:")[2].split()[0]))
            finally:
                os.close(fd)
            found[name] = held
    finally:
        os.close(pidfd)
    return found


def _call(command: int, attribute: bytes) -> bool:
    buffer = ctypes.create_string_buffer(attribute, 120)
    return bool(_LIBC.syscall(_BPF, command, buffer, 120) == 0)


def _read(fd: int, memory: int) -> tuple[str, HeldMap]:
    info = ctypes.create_string_buffer(_INFO.size)
    assert _call(_INFO_BY_FD, struct.pack("<IIQ", fd, _INFO.size, ctypes.addressof(info)))
    kind, _, key_bytes, _, most, _, name = _INFO.unpack(info.raw)
    entries = _count(fd, key_bytes, most) if kind in _TABLES else 0
    return name.rstrip(b"\0").decode(), HeldMap(entries=entries, most=most, memory=memory)


def _count(fd: int, key_bytes: int, most: int) -> int:
    """Tables change while they are walked, and a walk may begin anew: never more than there is room for."""
    key = ctypes.create_string_buffer(key_bytes)
    known = 0
    where = ctypes.addressof(key)
    while known < most and _call(
        _NEXT_KEY, struct.pack("<IIQQ", fd, 0, where if known else 0, where)
    ):
        known += 1
    return known
