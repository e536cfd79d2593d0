"""The files that a process runs code of, from /proc/PID/maps; and opening one of them as exactly that file.

A container's paths and files are hostile: a path may be swapped for a device or a pipe between being read and being opened, so
nothing but a regular file with the mapping's inode number is ever opened.
"""

import ctypes
import itertools
import os
import re
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from farcall_probes.procfs import read_bounded

MAX_MAPS = 8 * 1024 * 1024  # 80,000 mappings; the kernel's usual limit is 65,530
_LINE = re.compile(
    rb"([0-9a-f]+-[0-9a-f]+) r-xp [0-9a-f]+ ([0-9a-f]+:[0-9a-f]+) ([1-9][0-9]*) +(/.*)"
)
_DELETED = " (deleted)"


Key = tuple[str, int, str]

# Where distributions keep libssl: programs that live for a moment are over before their mappings are read.
_STANDING = (
    "usr/lib/x86_64-linux-gnu",
    "lib/x86_64-linux-gnu",
    "usr/lib64",
    "lib64",
    "usr/lib",
    "lib",
    "usr/local/lib",
    "usr/local/lib64",
)
_SSL_OBJECT = re.compile(r"^lib(boring)?ssl[-.].*so\.[0-9]")
_MAX_ENTRIES = 20_000  # of one directory
_MAX_STANDING = 16  # of one root

_LIBC = ctypes.CDLL(None, use_errno=True)
_SYS_OPENAT2 = 437  # the same on every machine
_RESOLVE_NO_MAGICLINKS, _RESOLVE_IN_ROOT = 0x02, 0x10  # openat2(2)


class MappingError(Exception):
    """The file behind a mapping cannot be opened. The message says why."""


@dataclass(frozen=True, slots=True)
class MappedFile:
    """`device` and `inode` as the kernel prints them: of the file system that the process sees."""

    device: str
    inode: int
    path: str  # in the process' root
    addresses: str  # of one mapping, as the name of its link in map_files

    @property
    def key(self) -> "Key":
        return self.device, self.inode, self.path


def parse_maps(raw: bytes) -> list[MappedFile]:
    """Files with executable mappings, each once, in the order of their addresses."""
    found: dict[Key, MappedFile] = {}
    for line in raw.split(b"\n"):
        # A search of the pattern over all lines would try it at each byte: ten times the cost.
        match = _LINE.fullmatch(line) if b" r-xp " in line else None
        if match is None:
            continue
        addresses, device, inode, path = match.groups()
        file = MappedFile(
            device.decode(), int(inode), path.decode("utf-8", "surrogateescape"), addresses.decode()
        )
        found.setdefault(file.key, file)
    return list(found.values())


def read_maps(proc: Path, tgid: int) -> list[MappedFile]:
    """Empty for a process that is gone, for a kernel thread, and where it may not be read."""
    raw = read_bounded(f"{proc}/{tgid}/maps", MAX_MAPS)
    return parse_maps(raw) if raw else []


def open_mapped(proc: Path, tgid: int, file: MappedFile) -> int:
    """A descriptor for reading. By the mapping itself where that is allowed, which finds deleted files too, else by the path
    in the process' root. Raises MappingError."""
    directory = proc / str(tgid)
    try:
        link = directory / "map_files" / file.addresses
        return _open_regular(os.open(link, os.O_PATH | os.O_CLOEXEC), file.inode)
    except (OSError, MappingError):
        pass  # not allowed, or unmapped since
    try:
        place = open_in_root(directory / "root", file.path.removesuffix(_DELETED), os.O_PATH)
        return _open_regular(place, file.inode)
    except OSError as e:
        raise MappingError(e.strerror or str(e)) from e


def open_in_root(root: Path, path: str, flags: int) -> int:
    """As the process would open it: links lead no further than its own root. Raises OSError."""
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        how = struct.pack(
            "<QQQ", flags | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS
        )
        name = os.fsencode(path)
        fd = int(_LIBC.syscall(_SYS_OPENAT2, directory, name, how, len(how)))
        if fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return fd
    finally:
        os.close(directory)


def _open_regular(place: int, inode: int | None) -> int:
    """From a descriptor of O_PATH, which it closes, to one for reading: what is no regular file has not noticed anything."""
    try:
        status = os.fstat(place)
        if not stat.S_ISREG(status.st_mode):
            raise MappingError("not a regular file")
        if inode is not None and status.st_ino != inode:
            raise MappingError("another file is there by now")
        return os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    finally:
        os.close(place)


def find_standing(proc: Path, tgid: int) -> Iterator[tuple[str, int]]:
    """(path, descriptor for reading) of the libssl files in the usual places of a process' root. The caller closes."""
    root = proc / str(tgid) / "root"
    found = 0
    for directory in _STANDING:
        try:
            listing = open_in_root(root, directory, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            with os.scandir(listing) as entries:
                some = itertools.islice(entries, _MAX_ENTRIES)
                names = sorted(e.name for e in some if _SSL_OBJECT.match(e.name))
        except OSError:
            continue
        finally:
            os.close(listing)
        for name in names:
            if found >= _MAX_STANDING:
                return
            try:
                path = f"{directory}/{name}"
                fd = _open_regular(open_in_root(root, path, os.O_PATH), None)
            except (OSError, MappingError):
                continue
            found += 1
            yield f"/{path}", fd


def identify_root(proc: Path, tgid: int) -> tuple[int, int] | None:
    """Of the directory that the process takes for /. None for a process that is gone, or where it may not be asked."""
    try:
        status = os.stat(f"{proc}/{tgid}/root")
    except OSError:
        return None
    return status.st_dev, status.st_ino
