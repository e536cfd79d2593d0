"""The artefact: bytecode of the BPF programs and the places in it that a loader has to fill in.

Written by compile.py at build time, read by the loader at start. Standard library only: Debian's interpreter, which has
bcc and nothing of ours, imports this too. Nothing here knows what an offset means; see sites.py.
"""

import base64
import hashlib
import json
import re
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

FORMAT = 1
INSTRUCTION_BYTES = 8
BPF_DIR = Path(__file__).parent / "bpf"
ARTEFACT_PATH = BPF_DIR / "artefact.json"
# A hundred times what the programs take; a damaged file must not make the loader allocate without bound.
_MAX_BYTECODE = 8 * 1024 * 1024


class ArtefactError(Exception):
    """The artefact is missing, damaged, or not made from these sources. The message says what mends it."""


@dataclass(frozen=True, slots=True)
class Site:
    """Instruction `index` of a program holds the value of `name` (`MAP_*`, `OFF_*` or `NUM_*` of ids.h)."""

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class Program:
    """`name` says where it attaches: tp__CATEGORY__EVENT, raw__EVENT, step__NAME, which other programs
    call, or run__NAME, which is run once by the loader."""

    name: str
    code: bytes
    sites: tuple[Site, ...]


@dataclass(frozen=True, slots=True)
class Artefact:
    """`constants` are the numbers of ids.h (SIZE_* among them)."""

    source_hash: str
    compiler: str
    constants: dict[str, int]
    programs: tuple[Program, ...]


def list_sources(directory: Path = BPF_DIR) -> list[Path]:
    return sorted([*directory.glob("*.c"), *directory.glob("*.h")])


def hash_sources(directory: Path = BPF_DIR) -> str:
    """SHA-256 over names and contents: an artefact belongs to exactly these sources."""
    digest = hashlib.sha256()
    for path in list_sources(directory):
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def read_ids(directory: Path = BPF_DIR) -> dict[str, int]:
    """Names and numbers of ids.h."""
    text = (directory / "ids.h").read_text(encoding="utf-8")
    return {
        m[1]: int(m[2])
        for m in re.finditer(r"^#define ((?:MAP|OFF|NUM|SIZE|STEP)_\w+) (\d+)\b", text, re.M)
    }


def render_artefact(artefact: Artefact) -> str:
    programs = [
        {
            "name": p.name,
            "code": base64.b64encode(zlib.compress(p.code, 9)).decode(),
            "sites": [[s.index, s.name] for s in p.sites],
        }
        for p in artefact.programs
    ]
    document = {
        "format": FORMAT,
        "source_hash": artefact.source_hash,
        "compiler": artefact.compiler,
        "constants": artefact.constants,
        "programs": programs,
    }
    return json.dumps(document, sort_keys=True) + "\n"


def parse_artefact(text: str) -> Artefact:
    """Raises ArtefactError for anything that compile.py would not have written."""
    try:
        document = json.loads(text)
        if document["format"] != FORMAT:
            raise ArtefactError(
                f"the artefact has format {document['format']}, this loader reads {FORMAT}: run `make setup`"
            )
        return Artefact(
            source_hash=str(document["source_hash"]),
            compiler=str(document["compiler"]),
            constants={str(k): int(v) for k, v in document["constants"].items()},
            programs=tuple(_parse_program(p) for p in document["programs"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, zlib.error) as e:
        raise ArtefactError(
            f"the artefact is damaged ({type(e).__name__}): run `make setup`"
        ) from e


def _parse_program(document: dict[str, object]) -> Program:
    inflater = zlib.decompressobj()
    code = inflater.decompress(base64.b64decode(str(document["code"])), _MAX_BYTECODE)
    sites = document["sites"]
    if not code or len(code) % INSTRUCTION_BYTES or not isinstance(sites, list):
        raise ValueError("program")
    # Each of the few hundred names stands there once, however many sites it has.
    parsed = tuple(Site(int(index), sys.intern(str(name))) for index, name in sites)
    if any(not 0 <= s.index < len(code) // INSTRUCTION_BYTES for s in parsed):
        raise ValueError("site")
    return Program(str(document["name"]), code, parsed)


def read_artefact(path: Path = ARTEFACT_PATH, sources: Path | None = None) -> Artefact:
    """The artefact, held against the packaged sources. Raises ArtefactError."""
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError as e:
        raise ArtefactError(f"{path} is missing: run `make setup`, which compiles it") from e
    except (OSError, UnicodeDecodeError) as e:
        raise ArtefactError(f"{path} cannot be read: {e}") from e
    artefact = parse_artefact(text)
    if artefact.source_hash != hash_sources(sources or path.parent):
        raise ArtefactError(f"{path} was not made from the sources beside it: run `make setup`")
    return artefact
