"""Keeps one Redis connection open for its whole life, opened by name. Arguments: host, seconds between calls."""

import sys

import redis

from farcall_demo.apps.pace import repeat

TIMEOUT_S = 5


def main(host: str, interval_s: str) -> None:
    client = redis.Redis(
        host=host, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, max_connections=1
    )
    repeat(float(interval_s), lambda number: touch(client, number))


def touch(client: redis.Redis, number: int) -> None:
    client.hset("cart:42", "quantity", number)
    client.hgetall("cart:42")


if __name__ == "__main__":
    main(*sys.argv[1:])
