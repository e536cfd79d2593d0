"""The run directory is private, and the commands find the one instance that runs or say what to do."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from farcall.rundir import COMPONENTS, RunDir, RunDirError, find_rundir

pytestmark = pytest.mark.unit


def start(root: Path, instance: str) -> RunDir:
    rundir = RunDir(root / instance)
    rundir.make()
    rundir.effective.write_text("{}")
    return rundir


def test_the_directory_and_its_parts_are_private(tmp_path: Path) -> None:
    old_umask = os.umask(0)
    try:
        rundir = RunDir(tmp_path / "run" / "main")
        rundir.make()
        rundir.make()  # again: harmless
    finally:
        os.umask(old_umask)

    for path in (rundir.path, *rundir.path.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700, path


def test_each_component_has_files_of_its_own(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path / "main")
    files = [
        f(c) for c in COMPONENTS for f in (rundir.pid_file, rundir.ready_file, rundir.log_file)
    ]

    assert len(set(files)) == 3 * len(COMPONENTS)
    assert rundir.instance == "main"


def test_the_only_instance_is_found_without_its_name(tmp_path: Path) -> None:
    start(tmp_path, "main")
    RunDir(tmp_path / "stopped").make()
    (tmp_path / "a-file").touch()

    assert find_rundir(root=tmp_path).instance == "main"
    assert find_rundir("main", root=tmp_path).instance == "main"


def test_two_instances_need_a_name(tmp_path: Path) -> None:
    start(tmp_path, "b")
    start(tmp_path, "a")

    with pytest.raises(RunDirError, match=r"--instance \(a, b\)"):
        find_rundir(root=tmp_path)
    assert find_rundir("b", root=tmp_path).instance == "b"


@pytest.mark.parametrize("root", ["", "none"])
def test_no_instance_says_how_to_start_one(tmp_path: Path, root: str) -> None:
    with pytest.raises(RunDirError, match="farcall up -f FILE"):
        find_rundir(root=tmp_path / root)


@pytest.mark.parametrize("name", ["", ".", "..", "../main", "a/../main", "/etc", "main\0", "other"])
def test_a_name_never_leads_out_of_the_root(tmp_path: Path, name: str) -> None:
    start(tmp_path, "main")

    with pytest.raises(RunDirError, match="no farcall instance"):
        find_rundir(name, root=tmp_path)


def test_somebody_who_may_not_look_is_told_to_be_root(tmp_path: Path) -> None:
    """Root may look everywhere, so another user asks in a process of its own."""
    start(tmp_path / "run", "main")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == "root" and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    code = (
        "import os, sys, pathlib\n"
        "from farcall.rundir import RunDirError, find_rundir\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "try: find_rundir(root=pathlib.Path(sys.argv[1]))\n"
        "except RunDirError as e: print(e)\n"
    )
    (tmp_path / "run" / "main").chmod(0o700 if os.geteuid() == 0 else 0)
    (tmp_path / "run").chmod(0o755)

    said = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True, text=True
    )

    assert "Permission denied; run this as root" in said.stdout, said.stderr
