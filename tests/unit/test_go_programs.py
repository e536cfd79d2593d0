"""Go programs: the same places with symbols and without; what is cut, damaged or no Go program is refused."""

import os
import random

import pytest

from farcall_probes.elf import ElfError, ElfFile
from farcall_probes.golang import find_go_points, is_go
from farcall_probes.libraries import find_points
from farcall_probes.tlspoints import Point
from support_gotls import build_go

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """(with symbols, stripped)"""
    directory = tmp_path_factory.mktemp("go")
    return build_go(directory).read_bytes(), build_go(directory, stripped=True).read_bytes()


def points_of(raw: bytes) -> list[Point]:
    fd = os.memfd_create("program")
    try:
        os.pwrite(fd, raw, 0)
        return find_go_points(ElfFile(fd))
    finally:
        os.close(fd)


def test_stripped_or_not_the_places_are_the_same_instructions(
    programs: tuple[bytes, bytes],
) -> None:
    found = [{p.program: raw[p.offset : p.offset + 1] for p in points_of(raw)} for raw in programs]

    # push %rbp, and a call with a 32-bit distance
    assert found == [{"uprobe__go_write": b"\x55", "uprobe__go_read": b"\xe8"}] * 2


def test_a_go_program_is_told_from_others() -> None:
    with open("/proc/self/exe", "rb") as file:
        assert not is_go(ElfFile(file.fileno()))
        kind = find_points(ElfFile(file.fileno()))
        assert kind is None or kind[0] != "go"


def test_a_stripped_program_that_is_cut_or_damaged_is_refused(
    programs: tuple[bytes, bytes],
) -> None:
    raw = programs[1]
    table = raw.find(b"\xf1\xff\xff\xff\x00\x00\x01\x08")
    assert table > 0
    with pytest.raises(ElfError):
        points_of(raw[: table + 1000])
    chance = random.Random(11)
    refused = 0
    for _ in range(60):
        damaged = bytearray(raw)
        for _ in range(chance.randrange(1, 6)):
            damaged[table + 8 + chance.randrange(64)] = chance.choice(
                [0, 0xFF, chance.randrange(256)]
            )
        try:
            points_of(bytes(damaged))
        except ElfError:
            refused += 1
    assert refused > 10


def test_code_of_another_kind_is_refused_with_its_cause(programs: tuple[bytes, bytes]) -> None:
    places = {p.program: p.offset for p in points_of(programs[0])}
    for program, why in (
        ("uprobe__go_write", "begins in another way"),
        ("uprobe__go_read", "0 places"),
    ):
        damaged = bytearray(programs[0])
        damaged[places[program]] = 0xC3  # ret
        with pytest.raises(ElfError, match=why):
            points_of(bytes(damaged))
