"""TLS libraries in use on this machine: found in the processes that run them, probed once per file, let go with their last user.

A look every half second: new processes at once, young ones often, old ones seldom, and those of which the kernel side says
that they began to speak TLS. Everything about a file is decided once; nothing of a container can make this room do more than a
bounded piece of work per look, or fail. What was refused is kept with its cause.
"""

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from farcall.envelope import Capability
from farcall_probes.boringssl import find_boring_points
from farcall_probes.bpfsys import BpfError
from farcall_probes.capture import Attached
from farcall_probes.elf import ElfError, ElfFile
from farcall_probes.giveway import give_way
from farcall_probes.golang import find_go_points, is_go
from farcall_probes.mappings import (
    Key,
    MappedFile,
    MappingError,
    find_standing,
    identify_root,
    open_mapped,
    read_maps,
)
from farcall_probes.processes import Processes
from farcall_probes.procfs import Extent, read_age_s, read_extent
from farcall_probes.tlspoints import Point, find_ssl_points

MAX_LIBRARIES = 256  # files probed at once, six descriptors each
MAX_VERDICTS = 65_536  # files decided about
FILES_PER_LOOK = 64  # opened and read; the rest waits for the next look
SECONDS_PER_LOOK = 0.2
YOUNG_S = 3.0  # looked at each time: a container's first process becomes another program by execve
FIRST_WAIT_S, LAST_WAIT_S = 2.0, 300.0
UNUSED_S = 60.0  # without a user before it is let go
DEAR_HITS_PER_S = 2_000  # 11 µs each: 2 % of a core
DEAR_REST_S = 60.0

# Shared objects that may hold a TLS library of their own: linked into an extension or a language's runtime. Of all
# others only the name tells. (`_rust.abi3.so` is the Python package cryptography's, which pyOpenSSL speaks through; tcnative
# is Netty's.)
_LIKELY = re.compile(
    r"ssl|tls|crypto|quic|node|python|ruby|php|grpc|envoy|tcnative|conscrypt|_rust\.abi3", re.I
)
_SSL_NAME = re.compile(r"^lib(boring)?ssl[-.]")


Attach = Callable[[int, Sequence[Point]], Attached]
File = tuple[int, ...]  # identity on disk
Root = tuple[int, int]
User = int | Root  # a process, or a root whose processes may come to use it


@dataclass(slots=True)
class Library:
    """One probed file."""

    path: str
    kind: str  # openssl, or what finds it
    points: tuple[Point, ...]
    attached: Attached | None
    users: set[User] = field(default_factory=set)
    unused_since: float | None = None

    @property
    def is_dear(self) -> bool:
        return any(p.dear for p in self.points)


@dataclass(slots=True)
class _Process:
    seen: float
    due: float
    wait_s: float
    keys: frozenset[Key] = frozenset()
    extent: Extent | None = None  # as of the look that found these keys; None: look whatever it is
    root: Root | None = None


class Libraries:
    """`attach` gives a file its probes and raises BpfError. Not shared between threads, but for the lists of `describe`."""

    def __init__(
        self,
        attach: Attach,
        *,
        proc: Path = Path("/proc"),
        clock: Callable[[], float] = time.monotonic,
        own_tgid: int | None = None,
    ) -> None:
        self._attach = attach
        self._proc = proc
        self._clock = clock
        own_tgid = os.getpid() if own_tgid is None else own_tgid
        self._alive = Processes(proc, own_tgid=own_tgid, clock=clock)
        self._processes: dict[int, _Process] = {}
        # a file as a process sees it → the library in it, or None
        self._verdicts: dict[Key, Library | None] = {}
        self._roots: dict[Root, set[int]] = {}
        self._files: dict[File, Library] = {}
        self.refused: dict[str, str] = {}  # path → why, the newest
        self._dear_hits, self._dear_at, self._dear_until = 0, 0.0, 0.0
        self.counters: Counter[str] = Counter()

    # ---- one look ---------------------------------------------------------------------------------------------

    def look(self, hints: Iterable[int] = ()) -> bool:
        """Whether something waits for the next look already. `hints`: processes to look into now."""
        now = self._clock()
        budget = _Budget(now + SECONDS_PER_LOOK, self._clock)
        is_first = not self._processes
        began, ended = self._alive.look()
        for tgid in ended:
            self._forget_process(tgid)
        for tgid in began:
            # What is older than this agent is looked at once, and seldom then: it will hardly become another program.
            age_s = read_age_s(self._proc, tgid) if is_first else 0.0
            wait_s = min(max(age_s, FIRST_WAIT_S), LAST_WAIT_S)
            self._processes[tgid] = _Process(seen=now - age_s, due=now, wait_s=wait_s)
            self._enter_root(tgid)
        for tgid in hints:
            if tgid in self._processes:
                self._processes[tgid].due, self._processes[tgid].extent = now, None
        due = sorted((p.due, tgid) for tgid, p in self._processes.items() if p.due <= now)
        for _, tgid in due:
            if budget.is_spent() or not self._look_into(tgid, now, budget):
                return True
        self._drop_unused(now)
        return False

    def _look_into(self, tgid: int, now: float, budget: "_Budget") -> bool:
        """False when the budget did not suffice; the process is due still, then."""
        give_way()
        process = self._processes[tgid]
        # Before its files: what it maps meanwhile changes it.
        extent = read_extent(self._proc, tgid)
        if extent is None or extent != process.extent:
            if not self._look_at_files(tgid, process, budget):
                return False
            process.extent = extent
        if now - process.seen < YOUNG_S:
            process.due = now
        else:
            process.due, process.wait_s = now + process.wait_s, min(process.wait_s * 2, LAST_WAIT_S)
        return True

    def _look_at_files(self, tgid: int, process: _Process, budget: "_Budget") -> bool:
        files = read_maps(self._proc, tgid)
        give_way()
        keys = frozenset(f.key for f in files)
        self.counters["tls_looks"] += 1
        if keys != process.keys:
            for file in files:
                if file.key not in self._verdicts and budget.is_spent():
                    return False
                self._use(tgid, file, is_program=file is files[0], budget=budget)
            for key in process.keys - keys:
                self._leave(tgid, key, keys)
            process.keys = keys
        return True

    def _use(self, tgid: int, file: MappedFile, *, is_program: bool, budget: "_Budget") -> None:
        if file.key not in self._verdicts:
            if len(self._verdicts) >= MAX_VERDICTS:
                self._verdicts = {k: v for k, v in self._verdicts.items() if v is not None}
            likely = is_program or _LIKELY.search(os.path.basename(file.path))
            self._verdicts[file.key] = self._decide(tgid, file, budget) if likely else None
        library = self._verdicts[file.key]
        if library is not None:
            library.users.add(tgid)
            library.unused_since = None

    def _leave(self, tgid: int, key: Key, left: frozenset[Key]) -> None:
        library = self._verdicts.get(key)
        if library is not None and all(self._verdicts.get(k) is not library for k in left):
            library.users.discard(tgid)

    def _forget_process(self, tgid: int) -> None:
        process = self._processes.pop(tgid)
        for key in process.keys:
            self._leave(tgid, key, frozenset())
        root = process.root
        if root is not None:
            members = self._roots[root]
            members.discard(tgid)
            if not members:
                del self._roots[root]
                for library in self._files.values():
                    library.users.discard(root)

    def _enter_root(self, tgid: int) -> None:
        """The first process of a container brings the libraries that stand in its usual places."""
        root = self._processes[tgid].root = identify_root(self._proc, tgid)
        if root is None:
            return
        if root in self._roots:
            self._roots[root].add(tgid)
            return
        self._roots[root] = {tgid}
        for path, fd in find_standing(self._proc, tgid):
            library = self._try_to_probe(fd, path)
            if library is not None:
                library.users.add(root)

    # ---- one file ---------------------------------------------------------------------------------------------

    def _decide(self, tgid: int, file: MappedFile, budget: "_Budget") -> Library | None:
        budget.files += 1
        self.counters["tls_files_read"] += 1
        try:
            fd = open_mapped(self._proc, tgid, file)
        except MappingError as e:
            if _SSL_NAME.match(os.path.basename(file.path)):
                self._refuse(file.path, str(e))
            return None
        return self._try_to_probe(fd, file.path)

    def _try_to_probe(self, fd: int, path: str) -> Library | None:
        """Closes the descriptor."""
        try:
            return self._probe(fd, path)
        except (ElfError, BpfError, OSError) as e:
            self._refuse(path, str(e))
        except Exception as e:  # a file of somebody else's must not end the probing of all others
            self._refuse(path, f"a fault of farcall: {type(e).__name__}")
        finally:
            os.close(fd)
        return None

    def _probe(self, fd: int, path: str) -> Library | None:
        identity = identify_file(fd)
        known = self._files.get(identity)
        if known is not None:
            return known
        try:
            found = find_points(ElfFile(fd))
        except ElfError:
            if _SSL_NAME.match(os.path.basename(path)):
                raise
            return None  # a script's interpreter of another machine, a data file
        if found is None:
            if _SSL_NAME.match(os.path.basename(path)):
                raise ElfError("no SSL_read and SSL_write in it")
            return None
        if len(self._files) >= MAX_LIBRARIES:
            raise ElfError(f"{MAX_LIBRARIES} files are probed already")
        kind, points = found
        library = Library(render_path(path), kind, tuple(points), None)
        library.attached = self._attach(fd, points)
        self._files[identity] = library
        self.counters["tls_attached"] += 1
        self.refused.pop(library.path, None)
        return library

    def _refuse(self, path: str, why: str) -> None:
        if len(self.refused) >= MAX_LIBRARIES:
            self.refused.pop(next(iter(self.refused)))
        self.refused[render_path(path)] = why[:256]
        self.counters["tls_refused"] += 1

    def _drop_unused(self, now: float) -> None:
        for identity, library in list(self._files.items()):
            if library.users:
                continue
            if library.unused_since is None:
                library.unused_since = now
            elif now - library.unused_since >= UNUSED_S:
                self._drop(identity, library)

    def _drop(self, identity: File, library: Library) -> None:
        del self._files[identity]
        if library.attached is not None:
            library.attached.close()
        self._verdicts = {k: v for k, v in self._verdicts.items() if v is not library}
        self.counters["tls_detached"] += 1

    # ---- the dear ones ----------------------------------------------------------------------------------------

    def guard_rate(self, hits: int) -> None:
        """`hits` of dear probes so far. Past the rate all files that have such probes are let alone for a while."""
        now = self._clock()
        span_s, grown = now - self._dear_at, hits - self._dear_hits
        self._dear_at, self._dear_hits = now, hits
        if self._dear_until and now >= self._dear_until:
            self._dear_until = 0.0
            self._forget_dear()
        elif span_s > 0 and grown / span_s > DEAR_HITS_PER_S and not self._dear_until:
            self._dear_until = now + DEAR_REST_S
            self.counters["tls_dear_rests"] += 1
            for library in self._files.values():
                if library.is_dear and library.attached is not None:
                    library.attached.close()
                    library.attached = None

    def _forget_dear(self) -> None:
        """They are found, and probed, again."""
        for identity, library in list(self._files.items()):
            if library.attached is None:
                del self._files[identity]
                self._verdicts = {k: v for k, v in self._verdicts.items() if v is not library}
        for process in self._processes.values():
            process.due, process.keys, process.extent = 0.0, frozenset(), None

    # ---- what is said of it -----------------------------------------------------------------------------------

    def gauges(self) -> dict[str, float]:
        return {
            "tls_libraries": len(self._files),
            "tls_libraries_resting": sum(x.attached is None for x in self._files.values()),
            "tls_processes": len(
                {u for x in self._files.values() for u in x.users if isinstance(u, int)}
            ),
        }

    def list_libraries(self) -> list[Library]:
        return list(self._files.values())

    def describe(self) -> tuple[Capability, ...]:
        """One row per probed or refused file."""
        rows = [describe_library(library) for library in self._files.values()]
        rows += [
            Capability(
                name=f"tls/{path}"[:256],
                on=False,
                why=why,
                cost="TLS of the processes that run it is not read",
            )
            for path, why in self.refused.items()
        ]
        return tuple(rows)

    def close(self) -> None:
        for library in self._files.values():
            if library.attached is not None:
                library.attached.close()
                library.attached = None
        self._files.clear()
        self._verdicts.clear()
        self._processes.clear()
        self._roots.clear()


class _Budget:
    """Of one look."""

    def __init__(self, until: float, clock: Callable[[], float]) -> None:
        self._until = until
        self._clock = clock
        self.files = 0

    def is_spent(self) -> bool:
        return self.files >= FILES_PER_LOOK or self._clock() >= self._until


def identify_file(fd: int) -> File:
    """Equal for what is one inode for the kernel. A container's overlay shows each file under a device of its own, with the
    inode number of the layer below: there size and time of the change stand in for the device. (Two probes on one inode
    would be paid twice; the kernel side does not count twice.)"""
    status = os.fstat(fd)
    if os.major(status.st_dev) == 0:  # an overlay, or another file system without a device
        return (0, status.st_ino, status.st_size, status.st_mtime_ns)
    return (status.st_dev, status.st_ino)


def find_points(elf: ElfFile) -> tuple[str, list[Point]] | None:
    """(kind, points), or None for a file that holds no TLS library. Raises ElfError."""
    points = find_ssl_points(elf)
    if points:
        is_called = any(p.program == "uprobe__tls_read" for p in points)
        return "openssl", (is_called and find_boring_points(elf)) or points
    if is_go(elf) and (points := find_go_points(elf)):
        return "go", points
    if points := find_boring_points(elf):
        return "openssl", points
    return None


def render_path(path: str) -> str:
    """For people and for JSON: a container may call a file anything."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "\ufffd" for c in text)[:200]


def describe_library(library: Library) -> Capability:
    name = f"tls/{library.path}"[:256]
    if library.attached is None:
        return Capability(
            name=name,
            on=False,
            why=f"its probes cost 11 µs a hit and were hit more than {DEAR_HITS_PER_S:,} times a second",
            cost=f"its TLS is not read for {DEAR_REST_S:.0f} s",
        )
    return Capability(name=name, on=True)
