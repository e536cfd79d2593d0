"""Programs that read and write for several TLS connections before they turn to the next thing to do, as event loops do."""

import asyncio
import ctypes
import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import uvloop

from farcall_probes.events import PROTO_HTTP1, Flag
from farcall_probes.probes import KernelCapture
from support_probes import OK, Watch, make_request
from support_tlsbio import BioPair, End, bio_pair, open_pair, shake_hands
from support_tlslib import find_own_libssl, probed, receive

pytestmark = pytest.mark.bpf


@pytest.fixture(autouse=True)
def alone(capture: KernelCapture) -> Iterator[None]:
    """Only this process is recorded: what others on the machine do must not fill the rings."""
    capture.enable(only_own=True)
    yield
    capture.enable()


@pytest.fixture(params=[False, True], ids=["new", "older"])
def older(request: pytest.FixtureRequest) -> bool:
    """Whether the connections' handshakes were not seen."""
    return bool(request.param)


@pytest.fixture
def pairs(
    capture: KernelCapture, certificate: tuple[Path, Path], older: bool
) -> Iterator[list[BioPair]]:
    """Two connections."""
    with ExitStack() as stack:
        if not older:
            stack.enter_context(probed(capture, find_own_libssl().path))
        pairs = [stack.enter_context(bio_pair(certificate)) for _ in range(2)]
        if older:
            stack.enter_context(probed(capture, find_own_libssl().path))
        yield pairs


def exchange(pair: BioPair, request: bytes, response: bytes) -> None:
    assert pair.say(request) == [request]
    assert pair.hear(response) == [response]


def check_same(watch: Watch, pair: BioPair) -> tuple[list[str], list[str]]:
    """The paths that were asked for, at the client's end and at the server's."""
    client, server = watch.sides(pair.port)
    by_path = {s.path: s for s in client}
    for seen in server:
        assert seen.path not in by_path or seen.key == by_path[seen.path].key
    assert {s.response for s in client + server} == {OK}
    assert all(s.flags & Flag.TLS for s in client + server)
    return [s.path for s in client], [s.path for s in server]


def test_requests_that_leave_in_turn_are_their_own(
    watch: Watch, pairs: list[BioPair], older: bool
) -> None:
    """As of a loop that sends at its turn's end. Of connections whose handshake was not seen that shows at the second write of the
    first turn: what waited is lost, and counted."""
    for pair in pairs:
        exchange(pair, make_request("/first"), OK)
    for turn in range(5):
        for pair in pairs:
            pair.client.tls.write(make_request(f"/turn/{pair.port}/{turn}"))
        for pair in pairs:
            pair.server.take(pair.client.flush())
        for pair in pairs:
            pair.server.tls.write(OK)
        for pair in pairs:
            pair.client.take(pair.server.flush())

    for number, pair in enumerate(pairs):
        lost = 1 if older and number == 0 else 0
        turns = ["/first", *(f"/turn/{pair.port}/{n}" for n in range(lost, 5))]
        assert check_same(watch, pair) == (turns, turns)
    assert watch.count("tls_unowned") == (2 if older else 0)  # a request, and its answer


def test_first_requests_that_leave_in_turn_are_their_own(
    watch: Watch, pairs: list[BioPair], older: bool
) -> None:
    """Where the handshake was not seen they are lost, and counted. Better than another's: records are of one length."""
    pairs[0].client.tls.write(make_request("/one"))
    pairs[1].client.tls.write(make_request("/two"))
    for pair in pairs:
        pair.server.take(pair.client.flush())
        pair.hear(OK)
    for pair in pairs:
        exchange(pair, make_request("/next"), OK)

    for pair, name in zip(pairs, ("/one", "/two"), strict=True):
        asked = ["/next"] if older else [name, "/next"]
        assert check_same(watch, pair) == (asked, [name, "/next"])
    assert watch.count("tls_unowned") == (2 if older else 0)


def forge_session(watch: Watch, end: End, sk: int) -> None:
    """As a freed object left it, which had that address: of a connection that is closed, whose sock's memory another has."""
    ssl_address = ctypes.c_uint64.from_address(id(end.tls._sslobj) + 24).value
    key = struct.pack("<QQ", ssl_address, os.getpid())
    ports = 1 << 16 | 1
    watch.capture.maps["MAP_TLS_SESSIONS"].update(key, struct.pack("<QIIQ", sk, 0, 0, ports))


def test_what_is_remembered_of_a_freed_object_makes_nothing_another_connections(
    watch: Watch, pairs: list[BioPair], older: bool
) -> None:
    known, new = pairs
    exchange(known, make_request("/first"), OK)
    (first,), _ = watch.sides(known.port)
    forge_session(watch, new.client, int(first.record["sk"]))
    known.client.tls.write(make_request("/one"))
    new.client.tls.write(make_request("/two"))
    for pair in pairs:
        pair.server.take(pair.client.flush())
        pair.hear(OK)

    for pair, paths in ((known, ["/first", "/one"]), (new, ["/two"])):
        asked, served = check_same(watch, pair)
        assert served == paths
        assert set(asked) <= set(paths)  # one may be lost, as above


def take_in_turn(pairs: list[BioPair], requests: list[bytes]) -> None:
    """Each server's socket is read before any server's TLS is."""
    for pair, request in zip(pairs, requests, strict=True):
        sealed = pair.client.send(request)
        pair.server.coming.write(receive(pair.server.sock, sealed))
    for pair, request in zip(pairs, requests, strict=True):
        assert pair.server.tls.read(65_536) == request


def test_first_requests_that_are_read_behind_another_connections_are_their_own(
    watch: Watch, pairs: list[BioPair], older: bool
) -> None:
    """As uvloop reads what came with the end of a handshake. Where that was not seen they are lost, and counted, but for the one
    that was read last."""
    take_in_turn(pairs, [make_request("/one"), make_request("/two")])
    for pair in pairs:
        pair.hear(OK)
    for pair in pairs:
        exchange(pair, make_request("/next"), OK)

    for pair, name in zip(pairs, ("/one", "/two"), strict=True):
        lost = older and name == "/one"
        asked = [name, "/next"]
        assert check_same(watch, pair) == (asked, asked[1:] if lost else asked)
    assert watch.count("tls_unowned") == older


@pytest.mark.parametrize(
    ("cipher", "lost"),
    [
        ("ECDHE-RSA-AES128-GCM-SHA256", 0),
        ("ECDHE-RSA-CHACHA20-POLY1305", 0),
        ("ECDHE-RSA-AES128-SHA256", 1),
    ],
)
def test_a_read_of_an_older_connection_is_known_by_its_tag(
    watch: Watch, capture: KernelCapture, certificate: tuple[Path, Path], cipher: str, lost: int
) -> None:
    """Which CBC has not: there the first answer tells."""
    with bio_pair(certificate, cipher) as pair, probed(capture, find_own_libssl().path):
        paths = [f"/{n}" for n in range(3)]
        for path in paths:
            exchange(pair, make_request(path), OK)
        assert pair.client.tls.cipher()[0] == cipher

        assert check_same(watch, pair) == (paths, paths[lost:])
    assert watch.count("tls_unowned") == lost


def test_a_hello_that_another_connection_repeats_says_nothing(
    watch: Watch, capture: KernelCapture, certificate: tuple[Path, Path]
) -> None:
    """Who sees a hello pass can send it, too. What was read on another connection is not taken for the one's."""
    with ExitStack() as stack:
        stack.enter_context(probed(capture, find_own_libssl().path))
        one, copy = (stack.enter_context(open_pair(certificate)) for _ in range(2))
        other = stack.enter_context(bio_pair(certificate))
        one.client.begin()
        hello = one.client.going.read()
        for pair in (one, copy):
            pair.client.sock.sendall(hello)
            pair.server.coming.write(receive(pair.server.sock, len(hello)))
        copy.server.begin()
        shake_hands(one.server, one.client)
        take_in_turn([one, other], [make_request("/one"), make_request("/two")])
        for pair in (one, other):
            pair.hear(OK)
        for pair in (one, other):
            exchange(pair, make_request("/next"), OK)

        assert [s.path for s in watch.sides(one.port)[1]] == ["/next"]
        assert [s.path for s in watch.sides(other.port)[1]] == ["/two", "/next"]
        assert watch.sides(copy.port) == ([], [])
    assert watch.count("tls_unowned") == 1


# ---- real loops: connections that open at once, each with two requests -------------------------------------------------

COUNT = 50
New = Callable[[], asyncio.AbstractEventLoop]


async def answer(scope: Any, _receive: Any, send: Any) -> None:
    path = scope["path"].encode()
    length = [(b"content-length", b"%d" % len(path))]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": path})


@contextmanager
def serving(new: New, certificate: tuple[Path, Path]) -> Iterator[int]:
    """The port of a uvicorn in a thread of its own."""
    server = uvicorn.Server(
        uvicorn.Config(
            answer,
            ssl_certfile=certificate[0],
            ssl_keyfile=certificate[1],
            lifespan="off",
            log_level="error",
        )
    )

    def serve() -> None:
        with asyncio.Runner(loop_factory=new) as runner:
            runner.run(server.serve(sockets=[listener]))

    with socket.create_server(("127.0.0.1", 0), backlog=COUNT) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join()


async def ask_all(port: int, context: ssl.SSLContext) -> dict[int, int]:
    """Each connection's port, by its number."""
    ports = {}

    async def ask(number: int) -> None:
        reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
        ports[number] = int(writer.get_extra_info("sockname")[1])
        for turn in (1, 2):
            path = f"/{number:02}/{turn}"
            writer.write(make_request(path))
            assert (await reader.readuntil(path.encode())).startswith(b"HTTP/1.1 200")
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(ask(number) for number in range(COUNT)))
    return ports


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("new", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_fifty_connections_that_open_at_once_are_read_at_both_ends(
    capture: KernelCapture,
    watch: Watch,
    certificate: tuple[Path, Path],
    new: New,
    version: ssl.TLSVersion,
) -> None:
    context = ssl.create_default_context(cafile=str(certificate[0]))
    context.maximum_version = version
    with probed(capture, find_own_libssl().path), serving(new, certificate) as port:
        with asyncio.Runner(loop_factory=new) as runner:
            ports = runner.run(ask_all(port, context))
    wanted = sorted((f"/{n:02}/{turn}", ports[n]) for n in range(COUNT) for turn in (1, 2))
    sides = watch.sides(port)
    clients, servers = ([s for s in side if s.proto == PROTO_HTTP1] for side in sides)

    assert sorted((s.path, s.lport) for s in clients) == wanted
    assert sorted((s.path, s.rport) for s in servers) == wanted
    assert {s.path: s.key for s in clients} == {s.path: s.key for s in servers}
    assert {s.status for s in clients + servers} == {200}
    assert watch.count("tls_unowned") == 0
