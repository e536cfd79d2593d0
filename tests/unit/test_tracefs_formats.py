"""Tracepoint formats as the kernel prints them, and what is said when they are not there."""

from pathlib import Path

import pytest

from farcall_probes.tracefs import (
    Field,
    TracefsError,
    check_syscall_layout,
    find_tracefs,
    parse_format,
    read_event_id,
    read_format,
)

pytestmark = pytest.mark.unit

COMMON = (
    "\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n"
    "\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n"
)
WRITE = (
    "name: sys_enter_write\nID: 7\nformat:\n"
    + COMMON
    + "\tfield:int __syscall_nr;\toffset:8;\tsize:4;\tsigned:1;\n"
    "\tfield:unsigned int fd;\toffset:16;\tsize:8;\tsigned:0;\n"
    "\tfield:const char * buf;\toffset:24;\tsize:8;\tsigned:0;\n"
    '\tfield:size_t count;\toffset:32;\tsize:8;\tsigned:0;\n\nprint fmt: "x"\n'
)
READ = "format:\n" + COMMON + "\tfield:long ret;\toffset:16;\tsize:8;\tsigned:1;\n"


def make_root(root: Path, write: str = WRITE, read: str = READ) -> Path:
    for event, text in (("sys_enter_write", write), ("sys_exit_read", read)):
        directory = root / "events" / "syscalls" / event
        directory.mkdir(parents=True)
        (directory / "format").write_text(text)
        (directory / "id").write_text("7\n")
    return root


def test_fields_have_offset_and_size() -> None:
    fields = parse_format(WRITE)

    assert fields["buf"] == Field(24, 8)
    assert fields["common_type"] == Field(0, 2)


def test_arrays_are_fields_too() -> None:
    text = "field:__u8 saddr_v6[16];\toffset:40;\tsize:16;\tsigned:0;\n"
    assert parse_format(text) == {"saddr_v6": Field(40, 16)}


def test_the_layout_that_the_programs_read_is_accepted(tmp_path: Path) -> None:
    check_syscall_layout(make_root(tmp_path))


@pytest.mark.parametrize(
    ("write", "read"),
    [
        (WRITE.replace("offset:16", "offset:12"), READ),
        (WRITE, READ.replace("size:8", "size:4")),
        ("", READ),
    ],
)
def test_another_layout_is_refused(tmp_path: Path, write: str, read: str) -> None:
    with pytest.raises(TracefsError, match="laid out"):
        check_syscall_layout(make_root(tmp_path, write, read))


def test_a_missing_tracepoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(TracefsError, match="sock:gone"):
        read_event_id(tmp_path, "sock", "gone")
    with pytest.raises(TracefsError, match="sock:gone"):
        read_format(tmp_path, "sock", "gone")


def test_an_empty_mount_point_is_not_taken_for_the_file_system(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    full = make_root(tmp_path / "full")

    assert find_tracefs((tmp_path / "empty", full)) == full
    assert find_tracefs((tmp_path / "empty", tmp_path / "none")) is None


def test_event_ids_are_numbers(tmp_path: Path) -> None:
    assert read_event_id(make_root(tmp_path), "syscalls", "sys_enter_write") == 7
    (tmp_path / "events/syscalls/sys_enter_write/id").write_text("x")
    with pytest.raises(TracefsError, match="cannot be read"):
        read_event_id(tmp_path, "syscalls", "sys_enter_write")
