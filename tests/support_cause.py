"""For tests of causes: a thread of the test serves one connection and asks over another, and what the records say of it."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from farcall_probes.selftest import Pair
from support_probes import CLIENT, OK, SERVER, Seen, Watch, connection, make_request, port_of

ANSWERS = {b"*": b"+PONG\r\n", b"Q": b"C\0\0\0\x0dSELECT 1\0"}


@dataclass(frozen=True, slots=True)
class Ends:
    """`outer` is served by the test; `inner` is where it asks for more, and a thread of its own answers there."""

    outer: Pair
    inner: Pair

    def ask(self, request: bytes = make_request("/inner")) -> None:
        self.inner.client.sendall(request)
        self.inner.client.recv(4096)

    def answer_inner(self) -> None:
        while request := self.inner.server.recv(4096):
            self.inner.server.sendall(ANSWERS.get(request[:1], OK))


@contextmanager
def blocking() -> Iterator[Pair]:
    """A connection whose descriptors make their readers wait, as most servers with threads have them."""
    with connection() as pair:
        pair.client.setblocking(True)
        pair.server.setblocking(True)
        yield pair


@contextmanager
def open_ends() -> Iterator[Ends]:
    with blocking() as outer, connection() as inner:
        made = Ends(outer, inner)
        answering = threading.Thread(target=made.answer_inner)
        answering.start()
        yield made
        inner.client.shutdown(socket.SHUT_WR)
        answering.join()


def in_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def cause_of(seen: Seen) -> tuple[int, int]:
    return int(seen.record["cause_conn_id"]), int(seen.record["cause_seq"])


def causes(watch: Watch, pair: Pair) -> list[tuple[int, int]]:
    return [cause_of(s) for s in watch.exchanges(port_of(pair), role=CLIENT)]


def served(watch: Watch, pair: Pair) -> list[tuple[int, int]]:
    return [(s.conn_id, s.seq) for s in watch.exchanges(port_of(pair), role=SERVER)]


UNKNOWN = (0, 0)
