"""Artefact, sites and patching: what does not belong together is refused before the kernel sees it."""

import json
import platform
import struct
from pathlib import Path

import pytest

from farcall_probes import compile as compiler
from farcall_probes import sites
from farcall_probes.artefact import (
    Artefact,
    ArtefactError,
    Program,
    Site,
    hash_sources,
    list_sources,
    parse_artefact,
    read_artefact,
    read_ids,
    render_artefact,
)
from farcall_probes.btf import BtfError, Member, read_vmlinux
from farcall_probes.loader import (
    LOAD_VALUES,
    RUN_VALUES,
    LoadError,
    patch_program,
    read_from_kernel,
)

pytestmark = pytest.mark.unit


def instruction(opcode: int, registers: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    return struct.pack("<BBhI", opcode, registers, offset, immediate & 0xFFFFFFFF)


ADD, MOVE, LOAD, CALL, EXIT = 0x07, 0xB7, 0x18, 0x85, 0x95
NAMES = {"OFF": {3: "OFF_A"}, "NUM": {4: "NUM_B"}, "MAP": {5: "MAP_C"}}


def build(number: int, map_: int, *extra: bytes) -> bytes:
    return b"".join(
        [
            instruction(ADD, 1, 0, number | 3),
            instruction(MOVE, 2, 0, number | 4),
            instruction(LOAD, 1, 0, map_ & 0xFFFFFFFF | 5) + instruction(0, 0, 0, map_ >> 32),
            *extra,
            instruction(EXIT),
        ]
    )


def build_both(*extra: bytes) -> tuple[bytes, bytes]:
    first, second = (build(number, map_, *extra) for number, map_ in compiler.MARKERS)
    return first, second


def test_sites_are_what_differs_between_two_builds() -> None:
    looks_like_one = instruction(MOVE, 3, 0, compiler.MARKERS[0][0] | 4)

    found = compiler.find_sites("p", *build_both(looks_like_one), NAMES)

    assert found == [Site(0, "OFF_A"), Site(1, "NUM_B"), Site(2, "MAP_C")]


def test_an_unknown_number_is_refused() -> None:
    with pytest.raises(compiler.CompileError, match="OFF number 3"):
        compiler.find_sites("p", *build_both(), {**NAMES, "OFF": {}})


@pytest.mark.parametrize(
    ("extra", "why"),
    [
        (instruction(LOAD, 0x11) + instruction(0), "map or object"),
        (instruction(CALL, 0x10, 0, 7), "not inlined"),
    ],
)
def test_what_the_loader_could_not_load_is_refused(extra: bytes, why: str) -> None:
    with pytest.raises(compiler.CompileError, match=why):
        compiler.find_sites("p", *build_both(extra), NAMES)


def test_a_difference_that_is_no_marker_is_refused() -> None:
    first, second = build_both()

    with pytest.raises(compiler.CompileError, match="no marker"):
        compiler.find_sites(
            "p", first + instruction(ADD, 1, 0, 1), second + instruction(ADD, 1, 0, 2), NAMES
        )
    with pytest.raises(compiler.CompileError, match="length"):
        compiler.find_sites("p", first, second + instruction(EXIT), NAMES)


def make_program() -> Program:
    first, second = build_both()
    return Program("tp__a__b", first, tuple(compiler.find_sites("p", first, second, NAMES)))


def test_patching_fills_in_every_site() -> None:
    code = patch_program(make_program(), {"OFF_A": 100, "NUM_B": 7}, {"MAP_C": 9})

    assert code == b"".join(
        [
            instruction(ADD, 1, 0, 100),
            instruction(MOVE, 2, 0, 7),
            instruction(LOAD, 0x11, 0, 9) + instruction(0),
            instruction(EXIT),
        ]
    )


@pytest.mark.parametrize(
    "values", [{"OFF_A": 1}, {"OFF_A": 1, "NUM_B": -1}, {"OFF_A": 1 << 31, "NUM_B": 1}]
)
def test_a_site_without_a_usable_value_is_refused(values: dict[str, int]) -> None:
    with pytest.raises(LoadError, match="no usable value"):
        patch_program(make_program(), values, {"MAP_C": 9})


@pytest.mark.parametrize("function", [0, 77])
def test_a_function_of_the_kernel_is_called_where_there_is_one(function: int) -> None:
    """An immediate that reads as a call of it, in the second half of a wide load, is left alone."""
    marker = instruction(CALL, 0, 0, 0xFC01)
    program = Program("step__a", instruction(LOAD, 1, 0, 1) + marker + marker, ())

    code = patch_program(program, {"NUM_CAST": function}, {})

    called = instruction(CALL, 0x20, 0, function) if function else marker
    assert code == instruction(LOAD, 1, 0, 1) + marker + called


def make_artefact() -> Artefact:
    return Artefact(hash_sources(), "bcc 0", {"SIZE_CONN": 8}, (make_program(),))


def test_an_artefact_survives_writing_and_reading() -> None:
    assert parse_artefact(render_artefact(make_artefact())) == make_artefact()


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d.pop("programs"),
        lambda d: d.update(format=99),
        lambda d: d["programs"][0].update(code="@@"),
        lambda d: d["programs"][0].update(code="eJwDAAAAAAE="),  # no bytes
        lambda d: d["programs"][0].update(sites=[[10_000, "OFF_A"]]),
        lambda d: d["programs"][0].update(sites=7),
        lambda d: d.update(programs=None),
        lambda d: d.update(constants=[]),
    ],
)
def test_a_damaged_artefact_says_what_mends_it(damage: object) -> None:
    document = json.loads(render_artefact(make_artefact()))
    damage(document)  # type: ignore[operator]

    with pytest.raises(ArtefactError, match="make setup"):
        parse_artefact(json.dumps(document))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"'])
def test_what_is_no_artefact_says_what_mends_it(text: str) -> None:
    with pytest.raises(ArtefactError, match="make setup"):
        parse_artefact(text)


def copy_sources(to: Path) -> None:
    for source in list_sources():
        (to / source.name).write_bytes(source.read_bytes())


def test_an_artefact_of_other_sources_is_refused(tmp_path: Path) -> None:
    copy_sources(tmp_path)
    path = tmp_path / "artefact.json"
    path.write_text(render_artefact(make_artefact()))
    assert read_artefact(path).source_hash == hash_sources()

    (tmp_path / "fc.h").write_text((tmp_path / "fc.h").read_text() + "\n")
    with pytest.raises(ArtefactError, match="not made from the sources"):
        read_artefact(path)


def test_every_name_of_the_programs_has_a_meaning_and_a_map() -> None:
    """A new OFF_ or NUM_ in ids.h without an entry in sites.py would refuse to load on every machine."""
    values = sites.find_values(read_vmlinux())
    wanted = {name for name in read_ids() if name.startswith(("OFF_", "NUM_"))}

    assert values.keys() | set(RUN_VALUES) | LOAD_VALUES == wanted


def test_numbers_of_one_kind_are_used_once() -> None:
    ids = read_ids()
    for kind in ("MAP_", "OFF_", "NUM_", "STEP_"):
        numbers = [value for name, value in ids.items() if name.startswith(kind)]
        assert len(numbers) == len(set(numbers)) > 0


class OtherKernel:
    """A kernel whose members have other sizes, or none."""

    def __init__(self, size: int | None) -> None:
        self.size = size

    def find_member(self, path: str) -> Member:
        if self.size is None:
            raise BtfError(path)
        return Member(0, self.size, False)

    def find_enumerator(self, enum: str, name: str) -> int | None:
        return None

    def find_size(self, name: str) -> int:
        return 16

    def find_function(self, name: str) -> int | None:
        return None


@pytest.mark.parametrize(
    ("size", "why"), [(None, "has no task_struct.files"), (4, "4 bytes on this kernel")]
)
def test_a_member_that_is_missing_or_has_another_size_is_named(size: int | None, why: str) -> None:
    with pytest.raises(sites.SiteError, match=why):
        sites.find_values(OtherKernel(size))  # type: ignore[arg-type]


def test_a_machine_with_other_registers_is_refused_by_name() -> None:
    assert platform.machine() == "x86_64"
    with pytest.raises(sites.SiteError, match="riscv64"):
        sites.find_values(read_vmlinux(), "riscv64")


def test_reads_of_user_memory_alone_become_reads_of_the_kernels() -> None:
    read_user, other = instruction(CALL, 0, 0, 112), instruction(CALL, 0, 0, 130)
    # A number whose upper half looks like that call.
    number = instruction(LOAD, 0, 0, 7) + read_user

    changed = read_from_kernel(read_user + other + number + instruction(EXIT))

    read_kernel = instruction(CALL, 0, 0, 113)
    assert changed == read_kernel + other + number + instruction(EXIT)
