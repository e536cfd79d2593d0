"""Secrets come from files, whole or not at all, and no message ever holds one."""

from pathlib import Path

import pytest

from farcall.secretfiles import ALL, MIN_LENGTH, SecretError, is_same_secret, read_secret

pytestmark = pytest.mark.unit

GOOD = "Ab-_" * 8


def test_the_names_are_distinct_file_names() -> None:
    assert len(set(ALL)) == len(ALL)
    assert all(name == Path(name).name for name in ALL)


@pytest.mark.parametrize("raw", [GOOD, f"{GOOD}\n", f"  {GOOD}\r\n"])
def test_space_around_a_secret_is_no_part_of_it(tmp_path: Path, raw: str) -> None:
    (tmp_path / "api-token").write_text(raw)

    assert read_secret(tmp_path, "api-token") == read_secret(str(tmp_path), "api-token") == GOOD


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "fewer than"),
        (b"hunter2", "fewer than"),
        (b"hunter2" + b"a" * (MIN_LENGTH - 8), "fewer than"),
        (b"hunter2\nX-Evil: 1" + b"a" * MIN_LENGTH, "spaces or control characters"),
        (b"hunter2 " * 8, "spaces or control characters"),
        (b"hunter2\0" * 8, "spaces or control characters"),
        ("hünter2".encode() * 8, "something else than ASCII"),
    ],
)
def test_a_secret_that_cannot_be_used_is_refused_unseen(
    tmp_path: Path, raw: bytes, why: str
) -> None:
    (tmp_path / "api-token").write_bytes(raw)

    with pytest.raises(SecretError, match=why) as caught:
        read_secret(tmp_path, "api-token")
    assert str(tmp_path / "api-token") in str(caught.value)
    assert "unter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SecretError, match="api-token: cannot be read: No such file"):
        read_secret(tmp_path, "api-token")


@pytest.mark.parametrize("given", ["", "x", GOOD[:-1], GOOD + "a", "é" * 32, "\ud800" * 32])
def test_only_the_same_secret_is_the_same(given: str) -> None:
    assert is_same_secret(GOOD, GOOD)
    assert not is_same_secret(given, GOOD)
