"""What a process gives back of its memory, looked at from inside; each in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from farcall.footprint import _list_constant

pytestmark = pytest.mark.unit

RELEASE = """
import hashlib, pathlib, ssl
from farcall.footprint import keep_memory_small, release_code, trim_memory

def held():
    name, held = "", 0
    for line in pathlib.Path("/proc/self/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0]:
            name = words[-1] if words[1] == "r-xp" else ""
        elif words[0] == "Rss:" and "libcrypto" in name:
            held += int(words[1])
    return held

digest = hashlib.sha256(b"a").digest()
before = held()
keep_memory_small()
trim_memory()
release_code()
after = held()
ssl.create_default_context()
assert hashlib.sha256(b"a").digest() == digest
print(before, after)
"""
DRAINS = """
import resource
from farcall.footprint import keep_memory_small

def drain():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [b"x" * 100_000 for _ in range(105)]
    del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_memory_small()
print(drain(), max(drain() for _ in range(5)))
"""
SMAPS = b"""\
00400000-00401000 r--p 00000000 08:01 11 /bin/a
Rss:                   4 kB
Anonymous:             0 kB
VmFlags: rd mr mw me
00401000-00403000 r-xp 00001000 08:01 11 /bin/a
Anonymous:             0 kB
00403000-00404000 r--p 00003000 08:01 11 /bin/a
Anonymous:             4 kB
00404000-00405000 rw-p 00004000 08:01 11 /bin/a
Anonymous:             0 kB
00405000-00406000 r--p 00000000 00:00 0
Anonymous:             0 kB
7f0000000000-7f0000001000 r--s 00000000 00:0f 12 anon_inode:bpf-map
Anonymous:             0 kB
7f0000001000-7f0000003000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
7f0000004000-7f0000005000 r-xp 00000000 08:01 13 /lib/b c.so (deleted)
Anonymous:             0 kB
"""


def test_what_a_drain_needs_above_what_stays_free_is_all_that_is_faulted_in_anew() -> None:
    """The C library's own rule gives back all of it then."""
    words = [sys.executable, "-c", DRAINS]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    needed, anew = map(int, done.stdout.split())
    kept = 8 * 256  # pages
    assert needed > kept
    assert anew < needed - kept + 256


def test_code_that_was_given_back_is_there_again_when_it_runs() -> None:
    words = [sys.executable, "-c", RELEASE]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    before, after = map(int, done.stdout.split())

    assert after < before


def test_only_what_is_still_as_its_file_holds_it_is_given_back(tmp_path: Path) -> None:
    smaps = tmp_path / "smaps"
    smaps.write_bytes(SMAPS)

    assert list(_list_constant(smaps)) == [
        (0x400000, 0x401000),
        (0x401000, 0x403000),
        (0x7F0000004000, 0x7F0000005000),
    ]


def test_without_proc_nothing_is_given_back(tmp_path: Path) -> None:
    assert list(_list_constant(tmp_path / "smaps")) == []


CYCLES = """
import gc, weakref
from farcall.footprint import collect_seldom

class Ring:
    def __init__(self):
        self.me = self

collect_seldom()
alive, most = weakref.WeakSet(), 0
for _ in range(40_000):
    alive.add(Ring())
    most = max(most, len(alive))
print(most, gc.get_freeze_count() > 0)
"""


def test_cycles_are_collected_seldom_and_still_are() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CYCLES], check=True, stdout=subprocess.PIPE, text=True
    )
    most, is_frozen = done.stdout.split()

    assert 5_000 < int(most) < 20_000 and is_frozen == "True"
