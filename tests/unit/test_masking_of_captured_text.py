"""Masking: the shape stays, the content goes; credentials go even when it is off."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_probes.masking import CommandText, mask_query
from farcall_probes.wire.redis import RedisCommand

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("query", "masked"),
    [
        ("page=1&q=shoes", "page=?&q=?"),
        ("a=b=c", "a=?"),
        ("token", "?"),
        ("a=&b", "a=?&?"),
        ("dG9rZW4tbm9ib2R5LW1heS1zZWU=&dG9rZW4==", "?&?"),  # in base64, as the whole query
        ("", ""),
        ("&&", "&&"),
    ],
)
def test_query_values_are_masked(query: str, masked: str) -> None:
    assert mask_query(query) == masked


def test_a_query_of_very_many_parts_is_cut() -> None:
    masked = mask_query("&".join(f"k{n}=v" for n in range(500)))
    assert masked.endswith("&…") and masked.count("&") == 64


@given(st.text(alphabet="abc=&", max_size=50))
def test_no_value_survives(names: str) -> None:
    assert "SECRET" not in mask_query(names + "=SECRET&SECRET&x=1&y=SECRET")


def command(name: str, *arguments: bytes) -> RedisCommand:
    return RedisCommand(name, len(arguments), arguments[:16], 1)


def test_arguments_are_masked() -> None:
    text = CommandText(masking=True)
    assert text.render(command("SET", b"k", b"secret")) == "SET ? ?"
    assert text.render(command("PING")) == "PING"
    assert text.render(command("CONFIG", b"get", b"maxmemory")) == "CONFIG GET ?"
    assert text.render(command("CLIENT", b"\xff\x00")) == "CLIENT ?"
    assert text.render(command("MGET", *[b"k"] * 40)) == "MGET" + " ?" * 16 + " …"


def test_arguments_are_shown_when_masking_is_off_but_never_credentials() -> None:
    text = CommandText(masking=False)
    assert text.render(command("SET", b"k", b"a b")) == "SET k a b"
    assert text.render(command("SET", b"k", b"\x1b[2J")) == "SET k \\x1b[2J"
    for words in (
        ("AUTH", b"hunter2"),
        ("HELLO", b"3", b"AUTH", b"me", b"hunter2"),
        ("ACL", b"SETUSER", b"me", b">hunter2"),
        ("CONFIG", b"SET", b"requirepass", b"hunter2"),
        ("MIGRATE", b"h", b"6379", b"k", b"0", b"1", b"AUTH", b"hunter2"),
    ):
        name, *arguments = words
        assert "hunter2" not in text.render(command(str(name), *map(bytes, arguments)))  # type: ignore[arg-type]
