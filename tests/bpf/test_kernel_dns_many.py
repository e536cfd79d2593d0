"""Many DNS answers at once: they count as what they cost, so that a take of them comes before their ring is full."""

import socket
import struct

import pytest

from farcall_probes.agent import PORTION
from support_probes import Watch

pytestmark = pytest.mark.bpf

RESOLVER = ("127.53.71.23", 53)  # a loopback address that nobody else binds
ANSWERS = 50
NAME = b"\1a\4test\0\0\1\0\1"


def test_answers_that_wait_count_as_several_exchanges(watch: Watch) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as resolver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        resolver.bind(RESOLVER)
        client.connect(RESOLVER)
        resolver.connect(client.getsockname())
        for number in range(ANSWERS):
            client.send(struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + NAME)
            resolver.recv(512)
            resolver.send(struct.pack(">HHHHHH", number, 0x8180, 1, 0, 0, 0) + NAME)
            client.recv(4096)

    assert watch.capture.gather(PORTION) > 2 * ANSWERS
    assert len(watch.capture.drain().dns) >= ANSWERS
