"""Asks a service for one item after the other, each under a path of its own. Arguments: base URL, seconds between calls."""

import sys

import requests

from farcall_demo.apps.pace import repeat

TIMEOUT_S = 5


def main(base_url: str, interval_s: str) -> None:
    repeat(float(interval_s), lambda number: call(f"{base_url}/{number}"))


def call(url: str) -> None:
    requests.get(url, timeout=TIMEOUT_S).raise_for_status()


if __name__ == "__main__":
    main(*sys.argv[1:])
