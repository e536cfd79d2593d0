"""What makes names right: an answer is never drained after an exchange that it was read before."""

import socket
import threading
from collections.abc import Callable

import pytest

from farcall_probes.events import Flag
from farcall_probes.probes import KernelCapture
from support_probes import OK, Watch, connection, make_request, port_of, receive

pytestmark = pytest.mark.bpf

ROUNDS = 1_500
RESOLVER = "127.53.71.21"


def run_beside(work: Callable[[], None], meanwhile: Callable[[], None]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        meanwhile()
    thread.join()
    meanwhile()


def make_answer(number: int) -> bytes:
    return number.to_bytes(2, "big") + b"\x81\x80" + bytes(20)


@pytest.mark.parametrize("gathers", [0, 3])
def test_answers_come_no_later_than_the_exchanges_that_follow_them(
    capture: KernelCapture, watch: Watch, gathers: int
) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as resolver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        connection() as pair,
    ):
        resolver.bind((RESOLVER, 53))
        client.connect((RESOLVER, 53))
        port, local = port_of(pair), client.getsockname()[1]

        def work() -> None:
            for number in range(ROUNDS):
                client.send(bytes(20))
                _, address = resolver.recvfrom(512)
                resolver.sendto(make_answer(number), address)
                client.recv(512)
                pair.exchange(make_request(f"/{number}"), OK)

        answered, early, exchanges = -1, [], 0

        def drain() -> None:
            nonlocal answered, exchanges
            for _ in range(gathers):
                capture.gather(None)
            drained = capture.drain()
            own = drained.dns[drained.dns["lport"] == local]
            for data in own["data"].tolist():
                answered = max(answered, int.from_bytes(data[:2], "big"))
            for record in drained.large[drained.large["lport"] == port]:
                number = int(bytes(record["req"]).split(b" ")[1][1:])
                exchanges += 1
                if number > answered:
                    early.append(number)

        run_beside(work, drain)

    assert exchanges == ROUNDS
    assert early == []


def test_long_heads_come_no_later_than_their_exchange(capture: KernelCapture, watch: Watch) -> None:
    request = make_request("/long", "A: " + "a" * 900 + "\r\n")
    turn = threading.Event()
    with connection() as pair:
        port = port_of(pair)

        def work() -> None:
            for number in range(400):
                if number % 20 == 0:  # leaves the reader its turn: the ring holds 256 heads
                    turn.clear()
                    assert turn.wait(60)
                pair.client.sendall(request)
                receive(pair.server, len(request))
                pair.server.sendall(OK)
                receive(pair.client, len(OK))

        known: set[tuple[int, int]] = set()
        missing, exchanges = [], 0

        def drain() -> None:
            nonlocal exchanges
            drained = capture.drain()
            known.update(
                zip(drained.heads["conn_id"].tolist(), drained.heads["seq"].tolist(), strict=True)
            )
            for record in drained.large[drained.large["lport"] == port]:
                exchanges += 1
                assert int(record["flags"]) & Flag.HEAD
                key = (int(record["conn_id"]), int(record["seq"]))
                if key not in known:
                    missing.append(key)
            turn.set()

        run_beside(work, drain)

    assert exchanges == 400
    assert missing == []
