"""The artefact does not depend on who compiles it, or on the machine."""

import subprocess
from pathlib import Path

import pytest

from farcall_probes import artefact

pytestmark = pytest.mark.bpf

_COMPILE = (
    "import sys\n"
    "from farcall_probes import compile\n"
    "sys.stdout.write(compile.render_artefact(compile.compile_all()))\n"
)


def test_compiling_as_nobody_gives_the_same_bytes() -> None:
    """No privilege, no kernel headers: as in an image's build."""
    nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups --bounding-set=-all"
    bare = "env -i PYTHONDONTWRITEBYTECODE=1 HOME=/nonexistent /usr/bin/python3 -c"
    done = subprocess.run(
        [*nobody.split(), *bare.split(), _COMPILE],
        cwd=Path(artefact.__file__).parent.parent,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout == artefact.ARTEFACT_PATH.read_text()


def test_the_programs_are_kept_small_enough_to_load_quickly() -> None:
    """Every hook of a system call has the whole common path in it: what is rare belongs in a step, which is there once."""
    for program in artefact.read_artefact().programs:
        bound = 2_200 if program.name.startswith("tp__syscalls__") else 3_000
        assert len(program.code) // artefact.INSTRUCTION_BYTES < bound, program.name
