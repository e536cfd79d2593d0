"""A job that calls one bare address and ends: the first example of the FAQ. It never asks any DNS server.

A process of its own for each run, as a CronJob's pod would be: so it is always younger than the agent. Argument: URL.
"""

import sys

import requests

TIMEOUT_S = 5


def main(url: str) -> None:
    requests.get(url, timeout=TIMEOUT_S).raise_for_status()


if __name__ == "__main__":
    main(*sys.argv[1:])
