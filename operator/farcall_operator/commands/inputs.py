"""TracingConfigs as they are given to a command: files, folders, standard input, several documents in each.

Documents of other kinds are left out, as a folder of manifests holds more than ours. Nothing here asks a cluster.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from farcall.tracingconfig import (
    API_VERSION,
    GROUP,
    KIND,
    MAX_FILE_BYTES,
    InvalidConfigError,
    TracingConfig,
    check_tracingconfig,
)
from farcall.yamltext import YamlTextError, parse_yaml

STDIN = "-"
SUFFIXES = (".yaml", ".yml", ".json")  # what `kubectl apply -f FOLDER` reads, too
# A stream may hold several resources. PyYAML reads about 150 kB a second: more than this is no configuration.
MAX_STREAM_BYTES = 4 * MAX_FILE_BYTES


class Given(NamedTuple):
    """One TracingConfig, and where it was found."""

    source: str
    config: TracingConfig


@dataclass(slots=True, kw_only=True)
class Inputs:
    """What was found in all that was given, in order; `faults` in the order they were met. `others`: left out."""

    configs: list[Given] = field(default_factory=list)
    faults: list[InvalidConfigError] = field(default_factory=list)
    others: int = 0


def read_inputs(paths: Sequence[str]) -> Inputs:
    inputs = Inputs()
    for path in paths:
        with _noting(inputs):
            for file in list_files(path):
                with _noting(inputs):
                    _take_stream(inputs, _name_source(file), read_stream(file))
    return inputs


@contextmanager
def _noting(inputs: Inputs) -> Iterator[None]:
    try:
        yield
    except InvalidConfigError as e:
        inputs.faults.append(e)


def read_one(path: str) -> TracingConfig:
    """The only TracingConfig of a file or of standard input. Raises InvalidConfigError."""
    inputs = read_inputs([path])
    if inputs.faults:
        raise inputs.faults[0]
    if len(inputs.configs) != 1:
        found = ", ".join(given.config.metadata.name for given in inputs.configs)
        raise InvalidConfigError(
            _name_source(path),
            [f"holds {len(inputs.configs)} TracingConfigs ({found}); exactly one is expected"],
        )
    return inputs.configs[0].config


def list_files(path: str) -> list[str]:
    """`path` itself, or each manifest in that folder. Raises InvalidConfigError."""
    folder = Path(path)
    if path == STDIN or not folder.is_dir():
        return [path]
    files = sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES and file.is_file())
    if not files:
        raise InvalidConfigError(path, [f"holds no file that ends with {' or '.join(SUFFIXES)}"])
    return [str(file) for file in files]


def read_stream(path: str) -> bytes:
    """All bytes of a file or of standard input, if they are not too many. Raises InvalidConfigError."""
    most = MAX_STREAM_BYTES + 1  # no more is read: it may be a device
    try:
        if path == STDIN:
            raw = sys.stdin.buffer.read(most)
        else:
            with Path(path).open("rb") as file:
                raw = file.read(most)
    except OSError as e:
        raise InvalidConfigError(_name_source(path), [f"cannot be read: {e.strerror or e}"]) from e
    if len(raw) == most:
        raise InvalidConfigError(_name_source(path), [f"is larger than {MAX_STREAM_BYTES} bytes"])
    return raw


def _name_source(path: str) -> str:
    return "standard input" if path == STDIN else path


def _take_stream(inputs: Inputs, source: str, raw: bytes) -> None:
    try:
        documents = parse_yaml(raw)
    except YamlTextError as e:
        raise InvalidConfigError(source, [str(e)]) from e
    before = len(inputs.configs) + len(inputs.faults) + inputs.others
    for number, document in enumerate(documents, start=1):
        name = source if len(documents) == 1 else f"{source} (document {number})"
        for item in _unpack(document):
            _take_document(inputs, name, item)
    if len(inputs.configs) + len(inputs.faults) + inputs.others == before:
        raise InvalidConfigError(source, ["holds no document"])


def _unpack(document: object) -> list[object]:
    """What `kubectl get -o yaml` prints of several is a List."""
    if isinstance(document, dict) and document.get("kind") in ("List", f"{KIND}List"):
        items = document.get("items")
        return items if isinstance(items, list) else []
    return [document]


def _take_document(inputs: Inputs, source: str, document: object) -> None:
    if _is_other_kind(document):
        inputs.others += 1
        return
    try:
        inputs.configs.append(Given(source, check_tracingconfig(document, source=source)))
    except InvalidConfigError as e:
        inputs.faults.append(e)


def _is_other_kind(document: object) -> bool:
    """Of another API group. One of ours with a mistyped kind or version is a fault, not another kind."""
    if not isinstance(document, dict):
        return False
    api_version, kind = document.get("apiVersion"), document.get("kind")
    if not isinstance(api_version, str) or not isinstance(kind, str):
        return False
    return api_version != API_VERSION and api_version.partition("/")[0] != GROUP and kind != KIND
