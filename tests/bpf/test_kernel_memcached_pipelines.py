"""Pipelines of memcached that are longer than a record: how many commands they have is counted in the kernel."""

import random
import socket
import struct

import pytest

from support_databases import running_memcached
from support_probes import CLIENT, SERVER, Watch, connection, count_ends, port_of, receive

pytestmark = pytest.mark.bpf

DECOY = b"\r\nget a\r\nset b 0 0 3\r\nxyz\r\n"  # a value may hold what looks like commands
GETKQ, NOOP, SET = 0x0D, 0x0A, 0x01


def make_text(shape: random.Random, number: int, value: bytes) -> bytes:
    """One command, of those that clients use."""
    key, size = b"key%d" % number, len(value)
    return shape.choice(
        (
            b"get %s\r\n" % key,
            b"gets %s %s\r\n" % (key, b" ".join([key] * 20)),
            b"set %s 0 0 %d\r\n%s\r\n" % (key, size, value),
            b"append %s 0 0 %d noreply\r\n%s\r\n" % (key, size, value),
            b"cas %s 12345 3600 %d 99\r\n%s\r\n" % (key, size, value),
            b"ms %s %d T0 F1\r\n%s\r\n" % (key, size, value),
            b"mg %s t f v\r\n" % key,
            b"mn\r\n",
            b"incr %s 1\r\n" % key,
        )
    )


def make_binary(opcode: int, key: bytes = b"", extras: bytes = b"", value: bytes = b"") -> bytes:
    body = extras + key + value
    head = struct.pack(">BBHBBHIIQ", 0x80, opcode, len(key), len(extras), 0, 0, len(body), 0, 0)
    return head + body


def make_pipeline(shape: random.Random, commands: int, longest: int) -> bytes:
    values = [DECOY + shape.randbytes(shape.choice((0, 1, 9, longest))) for _ in range(commands)]
    return b"".join(make_text(shape, number, value) for number, value in enumerate(values))


def make_binaries(shape: random.Random, commands: int, longest: int) -> bytes:
    """As a multi-get, with some stores between."""
    made = [
        make_binary(GETKQ, b"key%d" % number)
        if number % 4
        else make_binary(SET, b"key%d" % number, bytes(8), shape.randbytes(longest))
        for number in range(commands - 1)
    ]
    return b"".join([*made, make_binary(NOOP)])


@pytest.mark.parametrize("make", [make_pipeline, make_binaries])
@pytest.mark.parametrize("longest", [1, 300, 5000])
def test_commands_are_counted_over_whole_writes_and_the_seams_of_portions(
    watch: Watch, make: object, longest: int
) -> None:
    """memcached reads 16 kB at a time, and answers what is whole of it."""
    assert callable(make)
    shape = random.Random(longest)
    sent = [40, 100, 17]
    with connection() as pair:
        for portion, commands in zip((1 << 20, 16_384, 997), sent, strict=True):
            request = make(shape, commands, longest) + b""
            pair.client.sendall(request)
            left = len(request)
            while left:
                receive(pair.server, min(portion, left))
                left -= min(portion, left)
                pair.server.sendall(
                    b"STORED\r\n" if make is make_pipeline else b"\x81\x0a" + bytes(22)
                )
            pair.client.recv(65_536)
        port = port_of(pair)
    assert count_ends(watch, port) == {CLIENT: sent, SERVER: sent}


@pytest.mark.parametrize("garbage", [b"*1\r\n", b"set k 0 0 x\r\n", b"set k 0 0 999999999\r\n"])
def test_what_is_no_command_ends_the_count(watch: Watch, garbage: bytes) -> None:
    some = b"get first\r\n" + make_pipeline(random.Random(1), 19, 9)
    with connection() as pair:
        pair.client.sendall(some + garbage + some)
        receive(pair.server, 2 * len(some) + len(garbage))
        pair.exchange(b"get next\r\n", b"END\r\n")
        client, server = watch.sides(port_of(pair))
    expected = 20 + garbage.startswith(b"set")
    assert {int(s.record["commands"]) for s in (client[0], server[0])} == {expected}


def test_memcached_and_its_client_count_the_same(watch: Watch) -> None:
    with running_memcached() as port:
        watch.restart()
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.settimeout(20)
            for commands in (16, 100, 200):
                client.sendall(b"set key 0 0 100\r\n%s\r\n" % (b"v" * 100) * commands)
                receive(client, len(b"STORED\r\n") * commands)
    counted = count_ends(watch, port)
    assert {role: sum(side) for role, side in counted.items()} == {CLIENT: 316, SERVER: 316}


def test_a_multi_get_of_the_binary_protocol_counts_the_same_at_both_ends(watch: Watch) -> None:
    with running_memcached() as port:
        watch.restart()
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.settimeout(20)
            for _ in range(3):
                gets = [make_binary(GETKQ, b"some:longer:key:%04d" % n) for n in range(199)]
                client.sendall(b"".join(gets) + make_binary(NOOP))
                assert receive(client, 24)[1] == NOOP
    assert count_ends(watch, port) == {CLIENT: [200] * 3, SERVER: [200] * 3}
