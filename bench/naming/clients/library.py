"""A client as client.c that is a library's: kafka-python, pymongo, and gRPC's C core, which brings a resolver of its own (c-ares).

Steps: `kafka NAME PORT`, `mongodb NAME PORT`, `grpc NAME PORT METHOD`, `grpc-as AUTHORITY NAME PORT METHOD`, `sleep MS`,
and `run WORD…` for a program that makes calls of its own.
"""

import os
import subprocess
import sys
import time

os.environ["GRPC_DNS_RESOLVER"] = "ares"
os.environ["GRPC_VERBOSITY"] = "NONE"

import grpc
from kafka import KafkaAdminClient
from pymongo import MongoClient

WAIT_S = 15.0  # on a busy machine


def ask_kafka(name: str, port: str) -> None:
    admin = KafkaAdminClient(
        bootstrap_servers=f"{name}:{port}", request_timeout_ms=int(WAIT_S * 1_000)
    )
    admin.list_topics()
    admin.close()


def ask_mongodb(name: str, port: str) -> None:
    with MongoClient(name, int(port), serverSelectionTimeoutMS=int(WAIT_S * 1_000)) as client:
        client.admin.command("ping")


def ask_grpc(authority: str, name: str, port: str, method: str) -> None:
    options = [("grpc.default_authority", authority)] if authority else []
    with grpc.insecure_channel(f"{name}:{port}", options=options) as channel:
        channel.unary_unary(method)(b"0", timeout=WAIT_S)


def take_step(word: str, rest: list[str]) -> None:
    if word == "kafka":
        ask_kafka(*rest)
    elif word == "mongodb":
        ask_mongodb(*rest)
    elif word == "grpc":
        ask_grpc("", *rest)
    elif word == "grpc-as":
        ask_grpc(*rest)
    elif word == "sleep":
        time.sleep(int(rest[0]) / 1_000)
    elif word == "run":
        subprocess.run(rest, check=True, timeout=WAIT_S, capture_output=True)
    else:
        raise ValueError("no such step")


def main() -> None:
    for line in sys.stdin:
        said = "ok"
        for step in line.strip().split(";"):
            word, *rest = step.split()
            try:
                take_step(word, rest)
            except Exception as e:
                said = f"failed {type(e).__name__} {e}".replace("\n", " ")[:300]
                break
        print(said, flush=True)


if __name__ == "__main__":
    main()
