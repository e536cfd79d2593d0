"""The Dockerfile, read: each image holds its rooms, what they import, and nothing of the others.

No image is built here. A directory with the image's rooms and its locked packages, and an interpreter that sees
nothing else, stand in for it.
"""

import importlib.metadata
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from farcall.commands import COMMANDS
from support_ground import ROOT

pytestmark = pytest.mark.unit

LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PICK: Callable[[str, set[str]], str] = runpy.run_path(str(ROOT / "deploy/pick_requirements.py"))[
    "pick_requirements"
]
# image → (its rooms beside core, its extras)
IMAGES = {
    "probes": ({"farcall_probes"}, ("probes",)),
    "exporter": ({"farcall_exporter", "farcall_store"}, ("exporter", "store")),
    "console": ({"farcall_console", "farcall_store", "farcall_templates"}, ("console",)),
    "operator": ({"farcall_operator", "farcall_templates"}, ("operator",)),
}
IMPORT_ALL = """
import importlib.metadata, pkgutil, sys
rooms, packages, *names = sys.argv[1:]
sys.path += [rooms, packages]
for name in names:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, f"{name}."):
        if module.name not in ("farcall_probes.compile",) and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
print(importlib.metadata.version("farcall"))
print(*sorted({name.partition(".")[0] for name in sys.modules if name.startswith("farcall")}))
"""


def read_stages() -> dict[str, str]:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    parts = re.split(r"^FROM .* AS (\w+)$", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def list_rooms(stage: str) -> set[str]:
    return set(re.findall(r"^COPY --from=wheel /rooms/(farcall_\w+) ", stage, flags=re.MULTILINE))


def list_wanted(extras: tuple[str, ...]) -> set[str]:
    requirements = [*PROJECT["dependencies"]]
    for extra in extras:
        requirements += PROJECT["optional-dependencies"][extra]
    return {re.split(r"[<>=\[;~! ]", text)[0] for text in requirements}


def list_locked(extras: tuple[str, ...]) -> set[str]:
    return set(re.findall(r"^([\w.-]+)==", PICK(LOCK, list_wanted(extras)), flags=re.MULTILINE))


@pytest.mark.parametrize("image", IMAGES)
def test_each_image_copies_its_rooms_and_no_other(image: str) -> None:
    assert list_rooms(read_stages()[image]) == IMAGES[image][0]


def test_every_image_but_the_probes_runs_as_a_numbered_user() -> None:
    stages = read_stages()
    users = {
        image: re.findall(r"^USER (.*)$", stages[image], flags=re.MULTILINE) for image in IMAGES
    }

    assert users.pop("probes") == []
    assert all(user == ["10001:10001"] for user in users.values())


@pytest.mark.parametrize("image", IMAGES)
def test_the_rooms_of_an_image_find_all_they_import(image: str, tmp_path: Path) -> None:
    rooms, extras = IMAGES[image]
    link_rooms(tmp_path / "rooms", rooms)
    link_packages(tmp_path / "packages", list_locked(extras))
    done = subprocess.run(
        [
            *(sys.executable, "-I", "-S", "-W", "ignore", "-c", IMPORT_ALL),
            *(str(tmp_path / "rooms"), str(tmp_path / "packages"), *sorted(rooms)),
        ],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    version, found = done.stdout.splitlines()
    assert version == importlib.metadata.version("farcall")
    assert set(found.split()) == {"farcall", *rooms}


def link_rooms(folder: Path, rooms: set[str]) -> None:
    folder.mkdir()
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for path in pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        package = ROOT / path
        if package.name in {"farcall", *rooms}:
            (folder / package.name).symlink_to(package)
    metadata = importlib.metadata.distribution("farcall").locate_file("")
    (info,) = Path(str(metadata)).glob("farcall-*.dist-info")
    (folder / "farcall.dist-info").symlink_to(info)


def link_packages(folder: Path, names: set[str]) -> None:
    """The installed files of those distributions alone. A shared folder (a namespace) comes whole."""
    folder.mkdir()
    for name in names:
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # for another Python version or platform
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            source = Path(str(distribution.locate_file(top)))
            if not os.path.lexists(folder / top):
                (folder / top).symlink_to(source)


def test_a_heavy_package_is_only_in_the_images_that_use_it() -> None:
    images_of: dict[str, set[str]] = {
        "kopf": set(),
        "kubernetes": set(),
        "chdb-core-lite": set(),
        "pyarrow": set(),
        "litestar": set(),
    }
    for image, (_, extras) in IMAGES.items():
        locked = list_locked(extras)
        for package in images_of:
            if package in locked:
                images_of[package].add(image)

    assert images_of == {
        "kopf": {"operator"},
        "kubernetes": {"exporter"},
        "chdb-core-lite": {"exporter"},
        "pyarrow": {"probes", "exporter", "console"},
        "litestar": {"console"},
    }


def test_picked_requirements_keep_their_hashes_and_all_they_need() -> None:
    text = PICK(LOCK, {"uvicorn"})

    assert set(re.findall(r"^([\w.-]+)==", text, flags=re.MULTILINE)) >= {"uvicorn", "click", "h11"}
    for block in re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in block
    with pytest.raises(KeyError, match="not in the lock"):
        PICK(LOCK, {"no-such-package"})


def test_the_images_can_be_asked_for_every_component() -> None:
    """What the manifests start is a command whose room is in the image that they start it in."""
    rooms = {c.name: c.target.partition(".")[0] for c in COMMANDS if c.group == "components"}
    started: dict[str, Any] = {
        "agent": "probes",
        "exporter": "exporter",
        "store": "exporter",
        "console": "console",
    }
    for component, image in started.items():
        assert rooms[component] in IMAGES[image][0]


def test_packages_that_are_installed_again_have_the_same_bytes(tmp_path: Path) -> None:
    """Their times the Dockerfile sets."""

    def install() -> dict[str, bytes]:
        folder = tmp_path / "packages"
        shutil.copytree(ROOT / "core/farcall", folder, copy_function=shutil.copyfile)
        command = [sys.executable, ROOT / "deploy/trim_packages.py", folder]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "random"})
        found = {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        shutil.rmtree(folder)
        return found

    first, second = install(), install()

    assert first == second
    assert any(name.endswith(".pyc") for name in first)
