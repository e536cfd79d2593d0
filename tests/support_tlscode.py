"""For tests of what is found in the code of TLS libraries: files that packages bring, and what objdump says of a place."""

import importlib.util
import os
import subprocess
from pathlib import Path

from farcall_probes.elf import ElfFile


def find_in_package(name: str, pattern: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.submodule_search_locations
    (found,) = Path(spec.submodule_search_locations[0]).parent.glob(pattern)
    return found


def disassemble_before(path: Path, offset: int) -> list[str]:
    """The instructions up to the one at a file offset, that one included; those of another branch may stand between."""
    fd = os.open(path, os.O_RDONLY)
    (segment,) = (s for s in ElfFile(fd).segments if s.offset <= offset < s.offset + s.size)
    os.close(fd)
    address = offset - segment.offset + segment.address
    command = ["objdump", "-d", "--no-show-raw-insn", f"--stop-address={address + 5}"]
    printed = subprocess.run(
        [*command, f"--start-address={address - 64}", str(path)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [" ".join(x.split("\t")[1].split()) for x in printed.splitlines() if "\t" in x]
