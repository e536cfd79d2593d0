"""TLS libraries are found in processes, probed once per file and let go; hostile files and paths cost nothing but a refusal."""

import os
import random
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_probes import libraries, mappings
from farcall_probes.doctortls import find_unread
from farcall_probes.elf import ElfError, ElfFile
from farcall_probes.libraries import Libraries
from farcall_probes.mappings import MappingError, open_mapped, parse_maps
from farcall_probes.tlspoints import Point, find_ssl_points
from support_tlsproc import Kernel, Proc, find_libssl

pytestmark = pytest.mark.unit


def points_of(raw: bytes) -> list[Point]:
    fd = os.memfd_create("library")
    try:
        os.pwrite(fd, raw, 0)
        return find_ssl_points(ElfFile(fd))
    finally:
        os.close(fd)


# ---- files ----------------------------------------------------------------------------------------------------------


def test_the_real_libssl_has_cheap_points_for_reads_and_writes() -> None:
    points = points_of(find_libssl().read_bytes())

    assert {p.program for p in points} >= {"uprobe__tls_write", "uprobe__tls_copy"}
    assert not any(p.dear for p in points)


def build_dear_library(directory: Path) -> bytes:
    """Functions that lose their first argument with their first instruction."""
    source, target = directory / "dear.s", directory / "dear.so"
    source.write_text(
        "".join(
            f".globl {name}\n.type {name},@function\n{name}: mov %rsi,%rdi\nret\n.size {name},.-{name}\n"
            for name in ("SSL_read", "SSL_write")
        )
    )
    subprocess.run(["gcc", "-shared", "-nostdlib", "-o", str(target), str(source)], check=True)
    return target.read_bytes()


def test_functions_that_begin_dearly_are_probed_at_their_first_byte(tmp_path: Path) -> None:
    points = points_of(build_dear_library(tmp_path))

    assert {(p.program, p.at_return) for p in points} == {
        ("uprobe__tls_write", False),
        ("uprobe__tls_read", False),
        ("uretprobe__tls_read", True),
    }
    assert all(p.dear for p in points)


def test_a_file_without_the_library_has_no_points() -> None:
    libc = next(
        f.path for f in parse_maps(Path("/proc/self/maps").read_bytes()) if "/libc." in f.path
    )

    assert points_of(Path(libc).read_bytes()) == []


@pytest.mark.parametrize("size", [0, 1, 5, 63, 64, 100, 4096, 100_000, 300_000])
def test_a_file_that_is_cut_is_refused_or_has_nothing(size: int) -> None:
    try:
        assert points_of(find_libssl().read_bytes()[:size]) == []
    except ElfError:
        pass


def test_damaged_headers_and_tables_raise_nothing_but_the_declared_error() -> None:
    """Each damage at a place that is read: the header, the section table, symbol and string tables."""
    raw = find_libssl().read_bytes()
    (sections_at,) = struct.unpack_from("<Q", raw, 40)
    chance = random.Random(7)
    refused = 0
    for _ in range(300):
        damaged = bytearray(raw)
        begin = chance.choice([0, 16, 32, 40, 54, sections_at, sections_at + 64 * 3])
        for _ in range(chance.randrange(1, 12)):
            at = min(begin + chance.randrange(256), len(raw) - 1)
            damaged[at] = chance.choice([0, 1, 0x7F, 0xFF, chance.randrange(256)])
        try:
            points_of(bytes(damaged))
        except ElfError:
            refused += 1
    assert refused > 20


@given(st.binary(max_size=512))
def test_random_bytes_behind_a_good_beginning_are_refused(tail: bytes) -> None:
    with pytest.raises(ElfError):
        points_of(b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 3, 62) + tail)


@pytest.mark.parametrize(
    ("at", "value", "why"),
    [
        (0, b"\x7fELG", "not a 64-bit"),
        (4, b"\x01", "not a 64-bit"),
        (18, b"\xb7\x00", "machine 183"),
        (16, b"\x01\x00", "neither a program"),
        (60, b"\xff\xff", "section table"),
        (56, b"\xff\xff", "segment table"),
    ],
)
def test_a_refusal_says_why(at: int, value: bytes, why: str) -> None:
    raw = bytearray(find_libssl().read_bytes())
    raw[at : at + len(value)] = value

    with pytest.raises(ElfError, match=why):
        points_of(bytes(raw))


# ---- mappings -------------------------------------------------------------------------------------------------------

MAPS = b"""\
55f1c7c00000-55f1c7c01000 r--p 00000000 fe:00 326786                     /usr/bin/app
55f1c7c01000-55f1c7c02000 r-xp 00001000 fe:00 326786                     /usr/bin/app
7fb657aa0000-7fb657afd000 r-xp 0001f000 00:2f 9                          /usr/lib/lib ssl.so.3 (deleted)
7fb657b00000-7fb657b01000 r-xp 00000000 00:00 0                          [vdso]
7fb657b10000-7fb657b11000 rwxp 00000000 fe:00 11                         /tmp/writable
7fb657b20000-7fb657b21000 r-xp 00000000 fe:00 326786                     /usr/bin/app
not a line
"""


def test_files_with_code_are_listed_once() -> None:
    assert [(f.device, f.inode, f.path) for f in parse_maps(MAPS)] == [
        ("fe:00", 326786, "/usr/bin/app"),
        ("00:2f", 9, "/usr/lib/lib ssl.so.3 (deleted)"),
    ]


@given(st.binary(max_size=400))
def test_any_bytes_are_mappings_or_none(raw: bytes) -> None:
    for file in parse_maps(raw):
        assert file.inode > 0


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


def test_a_pipe_in_the_librarys_place_is_not_opened(proc: Proc) -> None:
    os.mkfifo(proc.root / "libssl.so.3")  # opening it would wait for a writer
    proc.start(7, "libssl.so.3")
    (file,) = parse_maps((proc.path / "7/maps").read_bytes())

    with pytest.raises(MappingError, match="not a regular file"):
        open_mapped(proc.path, 7, file)


def test_another_file_in_the_librarys_place_is_refused(proc: Proc) -> None:
    proc.put("libssl.so.3")
    proc.start(7, "libssl.so.3")
    (file,) = parse_maps((proc.path / "7/maps").read_bytes())
    proc.put("other", b"x").replace(proc.root / "libssl.so.3")

    with pytest.raises(MappingError, match="another file"):
        open_mapped(proc.path, 7, file)


def test_a_link_leads_no_further_than_the_containers_root(proc: Proc) -> None:
    outside = proc.root.parent / "secret"
    outside.write_bytes(b"host")
    (proc.root / "libssl.so.3").symlink_to(outside)
    (proc.root / "up").symlink_to("../secret")

    for name in ("libssl.so.3", "up"):
        with pytest.raises(OSError, match="No such file"):
            mappings.open_in_root(proc.root, name, os.O_PATH)


# ---- the looks ------------------------------------------------------------------------------------------------------


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


def make(proc: Proc, kernel: Kernel) -> Libraries:
    return Libraries(kernel.attach, proc=proc.path, clock=lambda: kernel.now, own_tgid=1)


def settle(found: Libraries, kernel: Kernel, seconds: float = 0.5) -> None:
    kernel.now += seconds
    while found.look():
        kernel.now += 0.05


def test_one_file_is_probed_once_for_all_its_processes(proc: Proc, kernel: Kernel) -> None:
    path = proc.put("opt/libssl.so.3")
    for tgid in (10, 11, 12):
        proc.start(tgid, "opt/libssl.so.3")
    found = make(proc, kernel)
    settle(found, kernel)

    assert kernel.attached == [path.stat().st_ino]
    assert found.gauges()["tls_processes"] == 3


def test_a_library_in_its_usual_place_is_probed_before_anybody_maps_it(
    proc: Proc, kernel: Kernel
) -> None:
    path = proc.put("usr/lib/x86_64-linux-gnu/libssl.so.3")
    proc.start(10)
    found = make(proc, kernel)
    settle(found, kernel)

    assert kernel.attached == [path.stat().st_ino]


def test_the_last_user_takes_the_probes_along(proc: Proc, kernel: Kernel) -> None:
    proc.put("opt/libssl.so.3")
    proc.start(10, "opt/libssl.so.3")
    proc.start(11, "opt/libssl.so.3")
    found = make(proc, kernel)
    settle(found, kernel)
    proc.end(10)
    settle(found, kernel, 100)
    settle(found, kernel, 100)
    kept = kernel.open
    proc.end(11)
    settle(found, kernel)
    at_once = kernel.open
    settle(found, kernel, libraries.UNUSED_S)

    assert (kept, at_once, kernel.open) == (1, 1, 0)
    assert found.describe() == ()


def test_mappings_are_read_again_when_a_process_has_grown_or_the_kernel_side_says_so(
    proc: Proc, kernel: Kernel
) -> None:
    proc.put("opt/libssl.so.3")
    proc.start(10)
    statm = proc.path / "10" / "statm"
    statm.write_text("100 50 20 7 0 30 0\n")
    found = make(proc, kernel)
    settle(found, kernel)
    looks = found.counters["tls_looks"]
    statm.write_text("100 60 20 7 0 40 0\n")
    settle(found, kernel)
    assert found.counters["tls_looks"] == looks

    proc.start(10, "opt/libssl.so.3")
    statm.write_text("130 60 20 7 0 40 0\n")
    settle(found, kernel)
    assert found.gauges()["tls_processes"] == 1
    proc.start(10)
    found.look([10])
    assert found.gauges()["tls_processes"] == 0


def test_a_library_that_comes_later_is_found_when_the_kernel_side_says_so(
    proc: Proc, kernel: Kernel
) -> None:
    proc.put("opt/libssl.so.3")
    proc.start(10)
    found = make(proc, kernel)
    for _ in range(20):
        settle(found, kernel)
    proc.start(10, "opt/libssl.so.3")
    kernel.now += 0.01
    found.look()
    before = kernel.open
    found.look([10])

    assert (before, kernel.open) == (0, 1)


def test_what_cannot_be_probed_is_said_with_its_cause(proc: Proc, kernel: Kernel) -> None:
    proc.put("opt/libssl.so.1", b"no library at all" * 10)
    proc.put("opt/libssl.so.2")
    proc.start(10, "opt/libssl.so.1", "opt/libssl.so.2", "opt/libssl.so.gone")
    kernel.fail = True
    found = make(proc, kernel)
    settle(found, kernel)
    said = {c.name: c.why for c in found.describe()}

    assert "not a 64-bit" in said["tls//opt/libssl.so.1"]
    assert "opening the uprobe" in said["tls//opt/libssl.so.2"]
    assert "No such file" in said["tls//opt/libssl.so.gone"]


def test_a_name_that_is_hostile_is_shown_without_harm(proc: Proc, kernel: Kernel) -> None:
    name = "opt/libssl.so.\x1b[31m\udcff"
    proc.put(name, b"x" * 100)
    process = proc.path / "10"
    proc.start(10)
    inode = (proc.root / name).stat().st_ino
    raw = os.fsencode(f"1000-1fff r-xp 00000000 fe:00 {inode} /{name}\n")
    (process / "maps").write_bytes(raw)
    found = make(proc, kernel)
    settle(found, kernel)

    (row,) = found.describe()
    assert row.name == "tls//opt/libssl.so.\ufffd[31m\ufffd"
    assert row.name.isprintable()


def test_a_thousand_new_files_are_spread_over_looks(proc: Proc, kernel: Kernel) -> None:
    names = [f"opt/ssl{i}.so" for i in range(300)]
    for name in names:
        proc.put(name, b"x")
    proc.start(10, *names)
    found = make(proc, kernel)
    kernel.now += 1

    assert found.look()
    assert found.counters["tls_files_read"] <= libraries.FILES_PER_LOOK + 1
    settle(found, kernel)
    assert found.counters["tls_files_read"] == 300


def test_dear_probes_that_are_hit_too_often_rest_for_a_minute(
    proc: Proc, kernel: Kernel, tmp_path: Path
) -> None:
    proc.put("opt/libssl.so.3", build_dear_library(tmp_path))
    proc.start(10, "opt/libssl.so.3")
    found = make(proc, kernel)
    settle(found, kernel)
    found.guard_rate(0)
    kernel.now += 1
    found.guard_rate(libraries.DEAR_HITS_PER_S)
    calm = kernel.open
    kernel.now += 1
    found.guard_rate(4 * libraries.DEAR_HITS_PER_S)
    resting = kernel.open
    (row,) = found.describe()
    kernel.now += libraries.DEAR_REST_S
    found.guard_rate(4 * libraries.DEAR_HITS_PER_S)
    settle(found, kernel)

    assert (calm, resting, kernel.open) == (1, 0, 1)
    assert not row.on and "2,000 times a second" in row.why


def test_the_doctor_counts_the_processes_of_libraries_that_are_not_read(proc: Proc) -> None:
    proc.put("opt/libgnutls.so.30", b"x")
    proc.put("opt/libssl.so.3")
    proc.start(10, "opt/libgnutls.so.30")
    proc.start(11, "opt/libgnutls.so.30", "opt/libssl.so.3")
    (row,) = find_unread(proc.path)

    assert (row.name, row.on) == ("TLS: GnuTLS", False)
    assert row.why.startswith("2 processes") and row.cost
