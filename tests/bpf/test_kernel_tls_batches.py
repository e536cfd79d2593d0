"""TLS libraries that only fill buffers: several writes that leave in one system call, and one that brings several records."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest

from farcall_probes.events import Flag
from farcall_probes.probes import KernelCapture
from support_probes import CLIENT, OK, SERVER, Watch, make_request
from support_segments import REQUEST, RESPONSE, Segment, list_segments, texts
from support_tlsbio import BioPair, bio_pair, talk_by_asyncio
from support_tlslib import check_both_ends, find_own_libssl, probed

pytestmark = pytest.mark.bpf

CONNECT = b'CONNECT {"verbose":false}\r\n'
HEAD, BODY = b"POST /up HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3000\r\n\r\n", b"x" * 3000
# How many attachments there are to the one file: both see each call.
attached = pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
# Whether the connection's plaintext was seen before.
known = pytest.mark.parametrize("known", [False, True], ids=["first", "later"])


@pytest.fixture(autouse=True)
def alone(capture: KernelCapture) -> Iterator[None]:
    """Only this process is recorded: what others on the machine do must not fill the rings."""
    capture.enable(only_own=True)
    yield
    capture.enable()


@pytest.fixture
def reading(capture: KernelCapture) -> Iterator[None]:
    with probed(capture, find_own_libssl().path):
        yield


@pytest.fixture
def pair(reading: None, certificate: tuple[Path, Path]) -> Iterator[BioPair]:
    with bio_pair(certificate) as pair:
        yield pair


@pytest.fixture
def older_pair(capture: KernelCapture, certificate: tuple[Path, Path]) -> Iterator[BioPair]:
    """Whose handshake was not seen."""
    with bio_pair(certificate) as pair, probed(capture, find_own_libssl().path):
        yield pair


def get_keys(number: int) -> list[bytes]:
    return [b"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" % (n, b"k" * n) for n in range(1, number + 1)]


def publish(subject: str, payload: bytes) -> bytes:
    return b"PUB %s %d\r\n%s\r\n" % (subject.encode(), len(payload), payload)


def deliver(subject: str, payload: bytes) -> bytes:
    return b"MSG %s 1 %d\r\n%s\r\n" % (subject.encode(), len(payload), payload)


def each(data: bytes, number: int) -> list[bytes]:
    """The same bytes, each time in memory of their own."""
    return [bytes(bytearray(data)) for _ in range(number)]


def exchange(pair: BioPair, request: bytes, response: bytes) -> None:
    assert pair.say(request) == [request]
    assert pair.hear(response) == [response]


def places(segments: list[Segment], kind: int) -> list[int]:
    return [s.request_seq for s in segments if s.kind == kind and s.length]


def see_messages(watch: Watch, port: int) -> list[tuple[list[bytes], list[bytes]]]:
    """(what the client said, what it heard) at each end; both have to place them alike."""
    sides = [list_segments(watch, port, role=role) for role in (CLIENT, SERVER)]
    for kind in (REQUEST, RESPONSE):
        assert places(sides[0], kind) == places(sides[1], kind)
    return [(texts(side, REQUEST), texts(side, RESPONSE)) for side in sides]


@known
@attached
def test_a_head_and_its_body_are_one_request(
    watch: Watch, capture: KernelCapture, pair: BioPair, known: bool, twice: bool
) -> None:
    requests = [HEAD + BODY]
    with probed(capture, find_own_libssl().path) if twice else nullcontext():
        if known:
            exchange(pair, make_request("/first"), OK)
            requests.insert(0, make_request("/first"))
        assert pair.say(HEAD, BODY) == [HEAD, BODY]
        assert pair.hear(OK) == [OK]

    check_both_ends(watch, pair.port, requests)
    assert watch.count("tls_unowned") == watch.count("tls_lost") == 0


@known
def test_a_pipeline_of_redis_is_one_exchange_of_one_size(
    watch: Watch, pair: BioPair, known: bool
) -> None:
    commands = get_keys(5)
    if known:
        exchange(pair, b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n")
    assert pair.say(*commands) == commands
    pair.hear(*each(b"$1\r\nx\r\n", 5))

    client, server = watch.sides(pair.port)
    for side in (client, server):
        assert len(side) == 1 + known
        assert side[-1].request_bytes == sum(map(len, commands))
        assert side[-1].request.startswith(commands[0])
    assert [s.key for s in client] == [s.key for s in server]
    assert watch.count("tls_unowned") == 0


def test_each_of_twenty_messages_is_one_at_both_ends(watch: Watch, pair: BioPair) -> None:
    said = [publish(f"a.{n}", b"y" * (n * 10)) for n in range(20)]
    heard = [deliver(f"b.{n}", b"z" * (n * 30)) for n in range(20)]
    exchange(pair, CONNECT + b"PING\r\n", b"PONG\r\n")
    for _ in range(3):
        assert pair.say(*said) == said
        assert pair.hear(*heard) == heard

    for side in see_messages(watch, pair.port):
        assert side == (said * 3, heard * 3)
    assert watch.count("tls_unowned") == watch.count("segment_resync_lost") == 0


def test_messages_of_a_connections_first_call_are_seen_as_far_as_there_is_room(
    watch: Watch, pair: BioPair
) -> None:
    said = [publish(f"a.{n}", b"y" * 20) for n in range(20)]
    assert pair.say(CONNECT, b"PING\r\n", *said) == [CONNECT, b"PING\r\n", *said]
    exchange(pair, publish("last", b""), b"PONG\r\n")

    for side in see_messages(watch, pair.port):
        assert side == ([*said, publish("last", b"")], [])


def test_what_the_program_gave_back_before_it_could_be_taken_is_counted(
    watch: Watch, older_pair: BioPair
) -> None:
    """Nothing behind it is placed otherwise than at the other end."""
    pair = older_pair
    exchange(pair, CONNECT + b"PING\r\n", b"PONG\r\n")
    said = [bytearray(publish(f"a.{n}", b"y" * 10)) for n in range(3)]
    wanted = [bytes(piece) for piece in said]
    for piece in said:
        pair.client.tls.write(piece)
        piece[:] = b"gone" * (len(piece) // 4) + b"!" * (len(piece) % 4)
    pair.server.take(pair.client.flush())
    for _ in range(2):
        exchange(pair, publish("next", b""), b"PONG\r\n")

    client, server = (list_segments(watch, pair.port, role=role) for role in (CLIENT, SERVER))
    assert texts(server, REQUEST) == [*wanted, publish("next", b""), publish("next", b"")]
    assert texts(client, REQUEST) == texts(server, REQUEST)[1:]
    assert places(client, REQUEST) == places(server, REQUEST)[1:]
    assert watch.count("tls_unowned") == 1


def test_calls_behind_a_lost_answer_are_paired_again_once_what_was_asked_beside_it_is_answered(
    watch: Watch, older_pair: BioPair
) -> None:
    pair = older_pair
    exchange(pair, make_request("/first"), OK)
    pair.say(make_request("/lost"))
    answer = bytearray(OK)
    pair.server.tls.write(answer)
    answer[:] = b"?" * len(answer)
    with ThreadPoolExecutor(
        1
    ) as other:  # the server's thread writes nothing before it has read this
        sent = other.submit(pair.client.send, make_request("/beside"))
        pair.server.take(sent.result())
    assert pair.hear(OK) == [OK, OK]
    for n in range(3):
        exchange(pair, make_request(f"/{n}"), OK)

    client, server = watch.sides(pair.port)
    assert [s.path for s in client] == ["/first", "/lost", "/0", "/1", "/2"]
    assert [s.path for s in server] == ["/first", "/0", "/1", "/2"]
    assert [s.key for s in client if s.path != "/lost"] == [s.key for s in server]
    assert watch.count("tls_unowned") == 1
    assert watch.count("overwritten") == 2


def test_lines_that_asyncio_sends_at_once_are_one_request(
    watch: Watch, reading: None, certificate: tuple[Path, Path]
) -> None:
    port = talk_by_asyncio([[HEAD, BODY]] * 5, certificate)

    check_both_ends(watch, port, [HEAD + BODY] * 5)
    assert watch.count("tls_unowned") == 0


def test_requests_in_one_call_are_counted_where_only_the_first_is_paired(
    watch: Watch, pair: BioPair
) -> None:
    exchange(pair, make_request("/first"), OK)
    requests = [make_request(f"/{n}") for n in range(3)]
    assert pair.say(*requests) == requests
    assert pair.hear(*each(OK, 3)) == [OK] * 3

    client, server = watch.sides(pair.port)
    for side in (client, server):
        assert [s.path for s in side] == ["/first", "/0"]
        assert all(s.flags & Flag.TLS for s in side)
    assert [s.key for s in client] == [s.key for s in server]
    assert watch.count("overwritten") == 4
