"""Real servers of every shape under 50 clients at once: a question's cause is the request that it was asked for, or not said.

Wrong must be none, for all of them. Right has a floor where a thread serves one request at a time.
"""

import shutil
import socket
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from farcall_probes.events import PROTO_POSTGRES, PROTO_REDIS
from support_agent_live import target_redis
from support_databases import wait_until_it_listens
from support_ports import find_free_port
from support_postgres import running_postgres
from support_probes import CLIENT, SERVER, Seen, Watch, receive
from support_segments import REQUEST, list_segments, mongodb_request

pytestmark = pytest.mark.bpf

PROGRAM = Path(__file__).parent.parent / "support_cause_server.py"
CLIENTS, REQUESTS = 50, 23

NODE = """
const http = require('http'), net = require('net');
const [port, redis] = process.argv.slice(2).map(Number);
const ask = (link, key, done) => {
  link.once('data', done);
  link.write(`*2\\r\\n$3\\r\\nGET\\r\\n$${key.length}\\r\\n${key}\\r\\n`);
};
const background = net.connect(redis, '127.0.0.1');
const again = () => ask(background, 'background', () => setTimeout(again, 1));
again();
const free = [];
http.createServer((request, response) => {
  const link = free.pop() || net.connect(redis, '127.0.0.1');
  const key = request.url.slice(1);
  ask(link, key, () => setTimeout(() => ask(link, key, () => { free.push(link); response.end('hi'); }), Math.random() * 4));
}).listen(port, '127.0.0.1', 128);
"""

GO = """
package main

import ("fmt"; "net"; "net/http"; "os"; "time")

func ask(link net.Conn, key string) {
	fmt.Fprintf(link, "*2\\r\\n$3\\r\\nGET\\r\\n$%d\\r\\n%s\\r\\n", len(key), key)
	link.Read(make([]byte, 4096))
}

func dial() net.Conn {
	link, err := net.Dial("tcp", "127.0.0.1:"+os.Args[2])
	if err != nil { panic(err) }
	return link
}

func main() {
	links := make(chan net.Conn, 64)
	for range 64 { links <- dial() }
	go func() {
		link := dial()
		for { ask(link, "background"); time.Sleep(time.Millisecond) }
	}()
	http.ListenAndServe("127.0.0.1:"+os.Args[1], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		link := <-links
		ask(link, r.URL.Path[1:])
		time.Sleep(time.Millisecond)
		ask(link, r.URL.Path[1:])
		links <- link
		w.Write([]byte("hi"))
	}))
}
"""


@pytest.fixture(scope="module")
def postgres() -> Iterator[int]:
    with running_postgres() as running:
        yield running.port


@contextmanager
def serving(directory: Path, shape: str, port: int, redis: int, postgres: int) -> Iterator[None]:
    words = [str(port), str(redis)]
    if shape == "node":
        program = directory / "server.js"
        program.write_text(NODE)
        words = ["node", str(program), *words]
    elif shape == "go":
        (directory / "main.go").write_text(GO)
        built = directory / "server"
        subprocess.run(["go", "build", "-o", built, directory / "main.go"], check=True)
        words = [str(built), *words]
    else:
        words = [sys.executable, str(PROGRAM), shape, *words, str(postgres)]
    process = subprocess.Popen(words, start_new_session=True)
    try:
        wait_until_it_listens(port, process)
        yield
    finally:
        subprocess.run(["kill", "--", f"-{process.pid}"], check=True)
        process.wait(60)


def run_clients(watch: Watch, run: Callable[[int], None]) -> None:
    """CLIENTS at once, each with the first of its REQUESTS numbers. The rings are drained meanwhile."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        running = [pool.submit(run, n * REQUESTS) for n in range(CLIENTS)]
        while wait(running, timeout=0.02).not_done:
            watch.drain()
        for client in running:
            client.result()


def request_all(watch: Watch, port: int, *, keep_alive: bool) -> None:
    """CLIENTS at once, REQUESTS each: numbers from 0, each asked for once."""

    def run(first: int) -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            for number in range(first, first + REQUESTS):
                connection.request("GET", f"/{number}")
                assert connection.getresponse().read() == b"hi"
                if not keep_alive:
                    connection.close()
        finally:
            connection.close()

    run_clients(watch, run)


def ask_mongodb(watch: Watch, port: int, *, in_flight: int) -> None:
    """As request_all, each client with so many messages in flight."""

    def run(first: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            for begin in range(first, first + REQUESTS, in_flight):
                numbers = range(begin, min(begin + in_flight, first + REQUESTS))
                for number in numbers:
                    connection.sendall(make_question(number))
                receive(connection, 38 * len(numbers))

    run_clients(watch, run)


def make_question(number: int) -> bytes:
    """An OP_MSG with {"ask": "GET n;"}."""
    text = f"GET {number};\0".encode()
    element = b"\x02ask\0" + struct.pack("<i", len(text)) + text
    document = struct.pack("<i", len(element) + 5) + element + b"\0"
    return mongodb_request(number, b"\0" + document)


def messages_of(watch: Watch, port: int) -> dict[tuple[int, int], str]:
    """What each message asked for that was read at `port`."""
    return {
        (s.conn_id, s.seq): s.data.split(b"GET ")[1].split(b";")[0].decode()
        for s in list_segments(watch, port, role=SERVER)
        if s.kind == REQUEST and b"GET " in s.data
    }


def question_of(seen: Seen) -> str | None:
    """What was asked for, or None: it is no question of ours. Drivers also speak for themselves."""
    if seen.proto == PROTO_REDIS and b"\r\nGET\r\n" in seen.request:
        return seen.request.split(b"\r\n")[4].decode()
    if seen.proto == PROTO_POSTGRES and b"select '" in seen.request:
        return seen.request.split(b"'")[1].decode()
    return None


def requests_of(watch: Watch, port: int) -> dict[tuple[int, int], str]:
    return {
        (s.conn_id, s.seq): s.path[1:]
        for s in watch.exchanges(port, role=SERVER)
        if s.rport != port
    }


def judge(watch: Watch, requests: dict[tuple[int, int], str], backends: list[int]) -> Counter[str]:
    found: Counter[str] = Counter()
    missed = set()
    for seen in watch.exchanges(*backends, role=CLIENT):
        if (question := question_of(seen)) is None:
            continue
        cause = int(seen.record["cause_conn_id"]), int(seen.record["cause_seq"])
        if cause == (0, 0):
            found["background" if question == "background" else "unknown"] += 1
        elif cause not in requests:
            found["unseen"] += 1
            missed.add(cause)
        else:
            found["right" if requests[cause] == question else "wrong"] += 1
    found["missed requests"] = len(missed)
    return found


def check(watch: Watch, found: Counter[str], total: int, *, is_each_caused: bool) -> None:
    """Of `total` questions or more. The rings are the whole machine's: what there was no room for is not judged, and no more than
    that is missing, be it a question or the request that one names."""
    lost = watch.count_lost()
    assert found["wrong"] == 0, found
    assert found["missed requests"] <= lost, (found, lost)
    asked = found["right"] + found["unknown"] + found["unseen"]
    assert asked >= total - lost, (found, lost)
    if is_each_caused:
        assert found["right"] and not found["unknown"], found
        assert asked <= total, found


@pytest.mark.parametrize(
    "shape", ["threads", "pool", "prefork", "handover", "asyncio", "node", "go"]
)
def test_a_question_is_caused_by_the_request_that_it_is_for_or_by_none(
    watch: Watch, postgres: int, tmp_path: Path, shape: str
) -> None:
    assert shape not in ("node", "go") or shutil.which(shape), "run `make setup-test`"
    port = find_free_port()
    with (
        target_redis(tmp_path, "127.0.0.1") as redis,
        serving(tmp_path, shape, port, redis, postgres),
    ):
        request_all(watch, port, keep_alive=shape in ("threads", "asyncio", "node", "go"))
        found = judge(watch, requests_of(watch, port), [redis, postgres])

    is_serial = shape in ("threads", "pool", "prefork")
    total = CLIENTS * REQUESTS * (2 if is_serial else 1)
    check(watch, found, total, is_each_caused=is_serial)
    assert found["background"] > 0 or shape == "prefork"


@pytest.mark.parametrize("shape", ["mongodb-threads", "mongodb-handover"])
def test_a_question_is_caused_by_the_message_that_it_is_for_or_by_none(
    watch: Watch, postgres: int, tmp_path: Path, shape: str
) -> None:
    port = find_free_port()
    is_handed_on = shape == "mongodb-handover"
    with (
        target_redis(tmp_path, "127.0.0.1") as redis,
        serving(tmp_path, shape, port, redis, postgres),
    ):
        ask_mongodb(watch, port, in_flight=4 if is_handed_on else 1)
        found = judge(watch, messages_of(watch, port), [redis, postgres])

    check(watch, found, 2 * CLIENTS * REQUESTS, is_each_caused=not is_handed_on)
    assert found["right"] + found["unknown"] + found["unseen"] <= 2 * CLIENTS * REQUESTS
    assert found["background"] > 0
