"""For tests that look for TLS libraries: a /proc of the test's own, and a kernel side that attaches to nothing."""

import os
import ssl
from collections.abc import Sequence
from pathlib import Path

from farcall_probes.bpfsys import BpfError
from farcall_probes.mappings import parse_maps
from farcall_probes.tlspoints import Point


def find_libssl() -> Path:
    assert ssl.OPENSSL_VERSION
    return next(
        Path(f.path)
        for f in parse_maps(Path("/proc/self/maps").read_bytes())
        if "/libssl" in f.path
    )


class Proc:
    """A /proc with processes whose root is a directory of the test."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "proc"
        self.root = directory / "root"
        self.path.mkdir()
        self.root.mkdir()

    def start(self, tgid: int, *files: str, root: Path | None = None) -> None:
        process = self.path / str(tgid)
        process.mkdir(exist_ok=True)
        if not (process / "root").is_symlink():
            (process / "root").symlink_to(root or self.root)
        lines = []
        for number, name in enumerate(files):
            place = (root or self.root) / name
            inode = place.stat().st_ino if place.exists() else 4
            lines.append(f"{number + 1}000-{number + 1}fff r-xp 00000000 fe:00 {inode} /{name}\n")
        (process / "maps").write_text("".join(lines))

    def end(self, tgid: int) -> None:
        for path in (self.path / str(tgid)).iterdir():
            path.unlink()
        (self.path / str(tgid)).rmdir()

    def put(self, name: str, raw: bytes | None = None) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(find_libssl().read_bytes() if raw is None else raw)
        return path


class Kernel:
    """Attaches to nothing, and notes it."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.attached: list[int] = []
        self.open = 0
        self.fail = False

    def attach(self, file: int, points: Sequence[Point]) -> "Handle":
        if self.fail:
            raise BpfError("opening the uprobe", 1)
        self.attached.append(os.fstat(file).st_ino)
        self.open += 1
        return Handle(self)


class Handle:
    def __init__(self, kernel: Kernel) -> None:
        self._kernel, self._closed = kernel, False

    def close(self) -> None:
        self._kernel.open -= not self._closed
        self._closed = True
