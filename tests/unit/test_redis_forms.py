"""Redis commands of one form have one text, and nothing of one command's arguments gets into another's row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_probes import events
from farcall_probes.capture import Records
from farcall_probes.databases import DatabaseReader
from farcall_probes.rediscommands import MANY
from farcall_probes.wire import redis, redisforms
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
    if b"a\r\nb" not in data:  # where its own line ends are is not looked at
        assert find([data]) == ([-1], [])


NAMES = [
    b"GET",
    b"SET",
    b"get",
    b"GE",
    b"ZREVRANGEBYSCORE",
    b"ZREVRANGEBYSCORF",
    b"CLIENT",
    b"AUTH",
]
words = st.sampled_from([*NAMES, b"a\r\nb"]) | st.binary(max_size=20) | st.binary(min_size=98)
whole = st.lists(words, min_size=1, max_size=11).map(lambda some: write(*some))
digits = st.sampled_from([b"1", b"2", b"3", b"3", b"03", b"003", b"0:", b"0;", b"-", b"30"])
odd = st.tuples(digits, digits).map(lambda said: b"*%s\r\n$%s\r\nGET\r\n$3\r\nabc\r\n" % said)
cut = st.tuples(whole, st.integers(0, 60)).map(lambda one: one[0][: one[1]])
commands = whole | odd | cut | st.tuples(whole, st.binary(max_size=9)).map(b"".join)


def find(data: list[bytes]) -> tuple[list[int], list[redis.Form]]:
    """Each with what could go on behind it."""
    behind = b"\r\n$3\r\nabc\r\n$99\r\n"
    raw = np.frombuffer(b"".join(one + behind for one in data), np.uint8)
    begins = np.cumsum([0, *(len(one + behind) for one in data)], dtype=np.intp)[:-1]
    assert len(behind) >= redisforms.READ_BEYOND
    found, forms = redisforms.find_forms(raw, begins, begins + [len(one) for one in data])
    return found.tolist(), forms


@given(st.lists(commands, min_size=1, max_size=30))
def test_forms_that_are_found_side_by_side_are_those_of_each_alone(data: list[bytes]) -> None:
    found, forms = find(data)

    assert set(found) | {-1} == set(range(-1, len(forms)))
    assert len(set(forms)) == len(forms)
    for at, one in zip(found, data, strict=True):
        form, read = redis.find_form(one), redis.parse_commands(one)
        if at >= 0:
            name, parts = forms[at]
            is_name = isinstance(redis.parse_commands(write(name)), redis.RedisCommand)
            if form is None and is_name:  # of line ends within words none is told
                assert isinstance(read, redis.RedisCommand)
                said = read.name, read.arguments, read.commands
                assert said == (name.decode().upper(), parts // 2 - 2, 1)
            else:
                assert form in (None, forms[at])
        elif form is not None and form[1] <= 20 and 0 < len(form[0]) <= 16:  # another's slot
            assert find([one]) == ([0], [form])


@pytest.mark.parametrize(
    ("said", "length"),
    [(b"03", 3), (b":", 10), (b"0:", 10), (b"1:", 20), (b"010", 10), (b"10:", 110), (b"0;0", 110)],
)
def test_a_length_that_is_written_otherwise_is_of_no_form(said: bytes, length: int) -> None:
    assert find([b"*2\r\n$3\r\nGET\r\n$%s\r\n%s\r\n" % (said, b"a" * length)]) == ([-1], [])


def test_forms_differ_in_each_letter_of_a_name_and_in_the_count_of_words() -> None:
    names = [
        b"GET",
        b"get",
        b"GETX",
        b"EVALSHA_",
        b"ZREVRANGEBYSCORE",
        b"ZREVRANGEBYSCORF",
        b"A" * 16,
    ]
    data = [write(name, *[b"a"] * more) for name in names for more in (0, 1, 8)]
    found, forms = find(data)

    assert found == list(range(len(data)))
    assert forms == [redis.find_form(one) for one in data]


@given(st.lists(commands, min_size=1, max_size=20), st.booleans())
def test_many_records_at_once_say_what_few_do(some: list[bytes], masking: bool) -> None:
    quick, plain = DatabaseReader(masking=masking), DatabaseReader(masking=masking)
    few = make_drained(small=[make_redis(data, seq=at) for at, data in enumerate(some)]).small
    rounds = MANY // len(some) + 1
    many = np.tile(few, rounds)
    for _ in range(2):  # forms are known then
        expected = list_columns(plain, few)
        found = [
            (at + number * len(some), *said) for number in range(rounds) for at, *said in expected
        ]
        assert list_columns(quick, many) == found
    assert quick.dropped["redis"] == rounds * plain.dropped["redis"]


def list_columns(reader: DatabaseReader, block: Records) -> list[tuple[object, ...]]:
    read = reader.read(events.PROTO_REDIS, block)
    texts = read.operation, read.target, read.error, read.batch_size
    return list(zip(read.rows.tolist(), read.flags.tolist(), *texts, strict=True))
