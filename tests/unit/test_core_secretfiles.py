"""Secrets come from files, whole or not at all, and no message ever holds one."""

from pathlib import Path

import pytest

from farcall.secretfiles import (
    ALL,
    CLICKHOUSE_PASSWORD,
    CLICKHOUSE_USERNAME,
    MIN_LENGTH,
    STORE_WRITER_PASSWORD,
    SecretError,
    is_same_secret,
    read_secret,
    read_store_login,
)

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


def test_the_store_is_asked_as_the_users_where_the_user_runs_it(tmp_path: Path) -> None:
    (tmp_path / STORE_WRITER_PASSWORD).write_text(GOOD)
    assert read_store_login(tmp_path, "writer", STORE_WRITER_PASSWORD) == ("writer", GOOD)

    (tmp_path / CLICKHOUSE_USERNAME).write_text("farcall\n")
    with pytest.raises(SecretError, match="clickhouse-password: cannot be read"):
        read_store_login(tmp_path, "writer", STORE_WRITER_PASSWORD)
    (tmp_path / CLICKHOUSE_PASSWORD).write_text(" shört pass ")
    login = read_store_login(tmp_path, "writer", STORE_WRITER_PASSWORD)
    assert login == ("farcall", " shört pass ")


@pytest.mark.parametrize("raw", [b"", b"\n", b"hunter2\nX-Evil: 1", b"hunter2\xff"])
def test_a_given_password_that_cannot_be_used_is_refused_unseen(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / CLICKHOUSE_USERNAME).write_text("farcall")
    (tmp_path / CLICKHOUSE_PASSWORD).write_bytes(raw)

    with pytest.raises(SecretError, match="clickhouse-password") as caught:
        read_store_login(tmp_path, "reader", STORE_WRITER_PASSWORD)
    assert "hunter2" not in str(caught.value)
