"""Ports for servers that a test starts: below the kernel's ephemeral range, so that no outgoing connection takes one
between the choice and the listening, nor while a killed server is away."""

import random
import socket

FIRST, LAST = 20_000, 32_767  # ephemeral ports begin at 32,768 unless set otherwise
_CHOICE = random.SystemRandom()  # tiers side by side have the same process IDs


def find_free_port() -> int:
    for _ in range(1_000):
        port = _CHOICE.randint(FIRST, LAST)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no port from {FIRST} to {LAST} is free")
