"""Both ends of one exchange have one key, and no two exchanges share it."""

import socket
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from farcall_probes.events import Flag
from farcall_probes.probes import KernelCapture
from support_probes import OK, Seen, Watch, connection, make_request, port_of, receive

pytestmark = pytest.mark.bpf

CONNECTIONS = 1_500
PORTS = 20
# Nobody else's: a port of 127.0.0.1 that is free now may be another process' when its turn comes again.
CLIENT = "127.71.3.9"


@pytest.fixture(autouse=True)
def alone(capture: KernelCapture) -> Iterator[None]:
    """Only this process is recorded: what others on the machine do must not fill the rings."""
    capture.enable(only_own=True)
    yield
    capture.enable()


def check_keys(client: list[Seen], server: list[Seen], total: int) -> None:
    assert [len(client), len(server)] == [total, total]
    assert all(s.flags & Flag.IDENTITY for s in client + server)
    assert max(Counter(s.key for s in client).values()) == 1
    by_key = {s.key: s for s in server}
    assert len(by_key) == total
    for seen in client:
        assert by_key[seen.key].path == seen.path


def reserve_ports() -> list[int]:
    reserved = [socket.create_server((CLIENT, 0)) for _ in range(PORTS)]
    ports = [int(s.getsockname()[1]) for s in reserved]
    for sock in reserved:
        sock.close()
    return ports


def test_keys_are_equal_and_unique_over_reused_ports(watch: Watch) -> None:
    """Connections that are reset free their port and their sock's memory at once."""
    at_once = b"\1\0\0\0\0\0\0\0"
    ports = reserve_ports()
    client_seen: list[Seen] = []
    server_seen: list[Seen] = []
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        port = listener.getsockname()[1]
        for i in range(CONNECTIONS):
            with socket.socket() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
                client.bind((CLIENT, ports[i % PORTS]))
                client.connect(("127.0.0.1", port))
                server, _ = listener.accept()
                with server:
                    for n in range(2):
                        request = make_request(f"/{i}/{n}")
                        client.sendall(request)
                        receive(server, len(request))
                        server.sendall(OK)
                        receive(client, len(OK))
                    client.close()
            if i % 500 == 499:
                c, s = watch.sides(port)
                client_seen, server_seen = c, s

    check_keys(client_seen, server_seen, 2 * CONNECTIONS)
    assert watch.count("large_lost") == 0


def test_keys_are_equal_on_busy_connections(watch: Watch) -> None:
    """Both ends in threads of their own, so that sights race with the kernel's own stores."""
    with connection() as first, connection() as second:
        pairs = [first, second]

        def serve(sock: socket.socket, request_bytes: int) -> None:
            for _ in range(1_000):
                receive(sock, request_bytes)
                sock.sendall(OK)

        threads = []
        for pair in pairs:
            request = make_request("/0000")
            thread = threading.Thread(target=serve, args=(pair.server, len(request)))
            thread.start()
            threads.append(thread)
        for i in range(1_000):
            for pair in pairs:
                pair.client.sendall(make_request(f"/{i:04}"))
            for pair in pairs:
                receive(pair.client, len(OK))
        for thread in threads:
            thread.join()
        ports = [port_of(pair) for pair in pairs]
        sides = [watch.sides(port) for port in ports]

    for client, server in sides:
        check_keys(client, server, 1_000)


def test_the_key_is_where_the_request_begins(watch: Watch) -> None:
    with connection() as pair:
        requests = [make_request(f"/{'x' * i}") for i in range(0, 50, 7)]
        for request in requests:
            pair.exchange(request, OK)
        client, server = watch.sides(port_of(pair))

    at = 0
    for seen, request in zip(client, requests, strict=True):
        assert (seen.key[2] - seen.key[0]) & 0xFFFFFFFF == at
        at += len(request)
    assert [s.key for s in client] == [s.key for s in server]


def test_the_last_request_before_a_close_has_its_key(watch: Watch) -> None:
    """The FIN is counted by the kernel as if it were a byte that was read."""
    with connection() as pair:
        request = make_request("/last")
        pair.client.sendall(request)
        pair.client.shutdown(socket.SHUT_WR)
        pair.server.recv(4096)
        pair.server.recv(4096)
        pair.server.sendall(OK)
        pair.server.shutdown(socket.SHUT_WR)
        receive(pair.client, len(OK))
        client, server = watch.sides(port_of(pair))

    check_keys(client, server, 1)
