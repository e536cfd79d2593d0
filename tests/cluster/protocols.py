"""What calls servers of many protocols in the cluster tests: `protocols.py COUNT NAME=PROTOCOL://HOST:PORT…`.

Each has a thread with one client. It calls with the word `early` every two seconds until /tmp/go/NAME is there, then COUNT
times with the word `counted`, one call after the other, and keeps its connection. The word stands where a span shows it:
in a statement, a path, a topic, a collection; as another command where nothing of the caller's is shown.
"""

import http.client
import json
import logging
import socket
import ssl
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import kafka
import psycopg
import pymongo
from cassandra.cluster import Cluster

GO = Path("/tmp/go")
EVERY_S = 2.0
TIMEOUT_S = 60  # of a server on two busy cores
Call = Callable[[str, int], None]  # word, how often


def postgresql(host: str, port: int) -> Call:
    options = {"sslmode": "disable", "gssencmode": "disable", "connect_timeout": TIMEOUT_S}
    link = psycopg.connect(host=host, port=port, user="postgres", autocommit=True, **options)
    link.prepare_threshold = None  # else the fifth time it asks for the statement to be kept

    def call(word: str, count: int) -> None:
        for _ in range(count):
            link.execute(f"SELECT 7 AS {word}".encode())

    return call


def mysql(host: str, port: int) -> Call:
    options = ["--no-defaults", "--skip-ssl", "--batch", "--skip-column-names", "--unbuffered"]
    client = open_lines("mariadb", *options, f"--host={host}", f"--port={port}", "--user=root")

    def call(word: str, count: int) -> None:
        for _ in range(count):
            client(f"SELECT 7 AS {word};")

    return call


def memcached(host: str, port: int) -> Call:
    link = socket.create_connection((host, port), TIMEOUT_S)
    commands = {"early": b"set cart 0 0 1\r\nx\r\n", "counted": b"get cart\r\n"}
    ends = {"early": b"STORED\r\n", "counted": b"END\r\n"}

    def call(word: str, count: int) -> None:
        for _ in range(count):
            link.sendall(commands[word])
            answer = b""
            while not answer.endswith(ends[word]):
                more = link.recv(4096)
                if not more:
                    raise ConnectionError("memcached has closed")
                answer += more

    return call


def mongodb(host: str, port: int) -> Call:
    client: pymongo.MongoClient[dict[str, int]] = pymongo.MongoClient(host, port)

    def call(word: str, count: int) -> None:
        for number in range(count):
            client.shop[word].insert_one({"number": number})

    return call


class SentAgain(logging.Handler):
    """Counts the requests of the counted calls that Kafka's client sent again: it says so in its log alone."""

    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        print(f"kafka: {text}", flush=True)
        self.count += "retrying" in text and "counted" in text


def kafka_(host: str, port: int) -> Call:
    producer = kafka.KafkaProducer(bootstrap_servers=f"{host}:{port}", acks="all")

    def call(word: str, count: int) -> None:
        producer.partitions_for(word)  # once it returns, the topic is there and has a leader
        for _ in range(count):
            producer.send(word, b"x").get(TIMEOUT_S)

    return call


def cassandra(host: str, port: int) -> Call:
    patience = {"connect_timeout": TIMEOUT_S, "control_connection_timeout": TIMEOUT_S}
    session = Cluster([host], port=port, protocol_version=4, **patience).connect()
    session.default_timeout = TIMEOUT_S

    def call(word: str, count: int) -> None:
        for _ in range(count):
            session.execute(f"SELECT key AS {word} FROM system.local")

    return call


def https(host: str, port: int) -> Call:
    context = ssl.create_default_context(cafile="/app/ca.crt")

    def call(word: str, count: int) -> None:
        for _ in range(count):
            connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
            connection.request("GET", f"/{word}")
            connection.getresponse().read()
            connection.close()

    return call


def http2(host: str, port: int, scheme: str = "http") -> Call:
    """All at once, on a connection of their own."""
    client = open_lines("http2peer", "ask")

    def call(word: str, count: int) -> None:
        for line in client(f"{scheme}://{host}:{port}/{word}?ms=0 {count}", count):
            check_call(line)

    return call


def https2(host: str, port: int) -> Call:
    return http2(host, port, "https")


def grpc(host: str, port: int) -> Call:
    """All at once, on a connection of their own, by a process of their own."""
    methods = {"early": "Stream", "counted": "Unary"}

    def call(word: str, count: int) -> None:
        command = ["http2peer", "call", f"{host}:{port}", methods[word], str(count)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        for line in done.stdout.splitlines():
            check_call(line)

    return call


def check_call(line: str) -> None:
    if error := json.loads(line)["error"]:
        raise ConnectionError(error)


def open_lines(*command: str) -> Callable[..., list[str]]:
    """A client that answers each line with as many as are waited for."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None and stdout is not None

    def ask(line: str, answers: int = 1) -> list[str]:
        stdin.write(f"{line}\n")
        stdin.flush()
        said = [stdout.readline() for _ in range(answers)]
        if "" in said:
            raise ConnectionError(f"{command[0]} has ended")
        return said

    return ask


PROTOCOLS: dict[str, Callable[[str, int], Call]] = {
    "postgresql": postgresql,
    "mysql": mysql,
    "memcached": memcached,
    "mongodb": mongodb,
    "kafka": kafka_,
    "cassandra": cassandra,
    "https": https,
    "http2": http2,
    "https2": https2,
    "grpc": grpc,
}


SENT_AGAIN = SentAgain(logging.WARNING)


def run(name: str, url: str, count: int) -> None:
    parts = urlsplit(url)
    call: Call | None = None
    while not (GO / name).exists():
        try:
            call = call or PROTOCOLS[parts.scheme](parts.hostname or "", parts.port or 0)
            call("early", 1)
        except Exception:  # whatever a driver says of a server that is not there yet
            call = None
            print(f"{name}: {traceback.format_exc()}", flush=True)
        time.sleep(EVERY_S)
    call = call or PROTOCOLS[parts.scheme](parts.hostname or "", parts.port or 0)
    call("counted", count)
    again = SENT_AGAIN.count if name == "kafka" else 0
    print(f"{name}: done, {again} sent again", flush=True)


if __name__ == "__main__":
    GO.mkdir(exist_ok=True)
    logging.getLogger("kafka").addHandler(SENT_AGAIN)
    for word in sys.argv[2:]:
        name, _, url = word.partition("=")
        threading.Thread(target=run, args=(name, url, int(sys.argv[1])), daemon=True).start()
    while True:
        time.sleep(3600)
