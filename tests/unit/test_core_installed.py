"""The version is what installers say it is."""

from importlib.metadata import version
from pathlib import Path

import pytest

from farcall import installed

pytestmark = pytest.mark.unit


def test_it_is_the_one_that_python_reads() -> None:
    assert installed.read_version() == version("farcall")


@pytest.mark.parametrize("folder", ["farcall.dist-info", "farcall-1.2.3.dist-info"])
def test_it_is_found_as_images_and_installers_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "METADATA").write_text("Name: farcall\nVersion: 1.2.3\n\nVersion: 4\n")
    monkeypatch.setattr("sys.path", [str(tmp_path / "gone"), str(tmp_path)])
    assert installed.read_version.__wrapped__() == "1.2.3"


def test_without_metadata_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])
    with pytest.raises(installed.NotInstalledError):
        installed.read_version.__wrapped__()
