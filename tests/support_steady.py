"""A steady load of HTTP/1 calls on loopback that knows of each call when it was made: for what happens to an agent meanwhile.

A process of its own with a server in it. One call is held: its answer comes only when the load ends.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_CODE = """
import json, socket, sys, threading, time
ANSWER = b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok"
ended = threading.Event()
taken, made = {}, []
def serve(link):
    while head := link.recv(4096):
        path = head.split(b" ")[1].decode()
        taken[path] = time.time_ns()
        if path.endswith("/held"):
            ended.wait()
        elif path.endswith("0"):
            time.sleep(0.1)
        link.sendall(ANSWER)
def accept(listener):
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
def call(link, path):
    begin = time.time_ns()
    link.sendall(b"GET %s HTTP/1.1\\r\\nHost: steady.test\\r\\n\\r\\n" % path.encode())
    assert link.recv(4096) == ANSWER
    made.append((path, begin, taken[path], time.time_ns()))
def run(thread, last):
    link = socket.create_connection(listener.getsockname())
    for number in range(last):
        if ended.is_set(): break
        call(link, f"/{thread}/{number}")
        time.sleep(0.002)
def hold():
    call(socket.create_connection(listener.getsockname()), "/x/held")
listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=accept, args=(listener,), daemon=True).start()
threads = [threading.Thread(target=run, args=(n, 10**9)) for n in range(6)]
threads.append(threading.Thread(target=hold))
for thread in threads: thread.start()
print(listener.getsockname()[1], flush=True)
sys.stdin.readline()
ended.set()
for thread in threads: thread.join()
print(json.dumps(made))
"""


@dataclass(frozen=True, slots=True)
class Call:
    """Unix nanoseconds, by the load's own clock."""

    path: str
    begin_ns: int  # before it was sent
    taken_ns: int  # after the server had read it
    end_ns: int  # after its answer was read


class Load:
    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        assert process.stdout is not None
        self.port = int(process.stdout.readline())

    def finish(self) -> list[Call]:
        """All calls that were made."""
        out, _ = self._process.communicate("\n", timeout=60)
        return [Call(*each) for each in json.loads(out)]


@contextmanager
def running_load() -> Iterator[Load]:
    with subprocess.Popen(
        [sys.executable, "-c", _CODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Load(process)
        finally:
            process.kill()
