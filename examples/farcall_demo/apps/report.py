"""A job that calls one bare address: the first example of the FAQ. It never asks any DNS server.

A process of its own for each run, as a CronJob's pod would be: so it is always younger than the agent. Argument: URL.
"""

import sys
import time

import requests

TIMEOUT_S = 5
WRITING_S = 1.0  # what it does with the data; a process that ends at once is seen under its interpreter's name


def main(url: str) -> None:
    requests.get(url, timeout=TIMEOUT_S).raise_for_status()
    time.sleep(WRITING_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
