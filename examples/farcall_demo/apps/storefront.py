"""Asks an external HTTP API by its name: the second example of the FAQ. Arguments: URL, seconds between calls."""

import sys

import requests

from farcall_demo.apps.pace import repeat

TIMEOUT_S = 5


def main(url: str, interval_s: str) -> None:
    repeat(float(interval_s), lambda _number: call(url))


def call(url: str) -> None:
    requests.get(url, timeout=TIMEOUT_S).raise_for_status()


if __name__ == "__main__":
    main(*sys.argv[1:])
