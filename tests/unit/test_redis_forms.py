"""Redis commands of one form have one text, and nothing of one command's arguments gets into another's row."""

import pytest

from farcall_probes import events
from farcall_probes.databases import DatabaseReader
from farcall_probes.wire import redis
from support_agent import make_drained, make_redis

pytestmark = pytest.mark.unit


def read(reader: DatabaseReader, *commands: bytes) -> list[tuple[str | None, str | None]]:
    records = [make_redis(data, seq=at) for at, data in enumerate(commands)]
    columns = reader.read(events.PROTO_REDIS, make_drained(small=records).small)
    return list(zip(columns.operation, columns.target, strict=True))


def write(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


def test_commands_of_a_form_that_was_seen_are_read_as_the_first_one() -> None:
    reader = DatabaseReader(masking=True)
    commands = write(b"GET", b"a"), write(b"GET", b"bb"), write(b"get", b"c"), write(b"GET")
    expected = [("GET", "GET ?")] * 3 + [("GET", "GET")]

    assert read(reader, *commands) == expected
    assert read(reader, *commands) == expected


def test_a_subcommand_is_shown_for_each_command_itself() -> None:
    reader = DatabaseReader(masking=True)
    commands = write(b"CLIENT", b"LIST"), write(b"CLIENT", b"INFO")

    assert [text for _, text in read(reader, *commands)] == ["CLIENT LIST", "CLIENT INFO"]


def test_arguments_that_are_not_masked_are_each_commands_own() -> None:
    reader = DatabaseReader(masking=False)
    commands = write(b"GET", b"a"), write(b"GET", b"b"), write(b"AUTH", b"x"), write(b"AUTH", b"y")

    assert [t for _, t in read(reader, *commands)] == ["GET a", "GET b", "AUTH ?", "AUTH ?"]


@pytest.mark.parametrize(
    "data",
    [
        b"*2\r\n$3\r\nGET\r\n$9\r\nab\r\n",
        b"*3\r\n$3\r\nGET\r\n$1\r\na\r\n",
        write(b"GET", b"a") + write(b"GET", b"b"),
        write(b"GET", b"a\r\nb"),
        b"*1\r\n$3\r\nGE",
        b"GET a\r\n",
        b"",
    ],
)
def test_what_is_not_one_whole_command_of_plain_arguments_has_no_form(data: bytes) -> None:
    assert redis.find_form(data) is None
