"""Request heads that do not end within the record arrive whole in records of their own, or are flagged as cut."""

import os

import numpy as np
import pytest

from farcall_probes.events import HEAD_DATA, LARGE_REQ, Flag
from farcall_probes.selftest import Pair
from support_probes import OK, Seen, Watch, connection, make_request, port_of, receive

pytestmark = pytest.mark.bpf

TRACEPARENT = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"


def make_long_head(token_bytes: int, body: bytes = b"") -> bytes:
    """A token before `traceparent`, and Host as the last header."""
    return (
        f"POST /long HTTP/1.1\r\nAuthorization: Bearer {'t' * token_bytes}\r\n{TRACEPARENT}"
        f"Content-Length: {len(body)}\r\nHost: last.test\r\n\r\n"
    ).encode() + body


def answer(pair: Pair, request: bytes) -> None:
    receive(pair.server, len(request))
    pair.server.sendall(OK)
    receive(pair.client, len(OK))


def assemble(watch: Watch, seen: Seen) -> bytes:
    """The head as user space puts it together."""
    heads = [h for h in watch.heads(seen.conn_id) if int(h["seq"]) == seen.seq]
    assert [int(h["part"]) for h in heads] == list(range(len(heads)))
    assert all(int(h["role"]) == seen.role for h in heads)
    whole = bytearray()
    for head in heads:
        at, data = int(head["offset"]), bytes(head["data"])[: int(head["cap"])]
        whole[at : at + len(data)] = data
    return bytes(whole)


@pytest.mark.parametrize("token_bytes", [700, 2_048, 6_000])
def test_a_long_head_arrives_whole_at_both_ends(watch: Watch, token_bytes: int) -> None:
    request = make_long_head(token_bytes)
    with connection() as pair:
        for _ in range(3):
            pair.client.sendall(request)
            answer(pair, request)
        client, server = watch.sides(port_of(pair))

    assert [len(client), len(server)] == [3, 3]
    for seen in client + server:
        assert seen.flags & Flag.HEAD and not seen.flags & Flag.CUT
        assert seen.request == request[:LARGE_REQ]
        assert seen.status == 200
    for seen in client:
        assert assemble(watch, seen) == request
    for seen in server:  # reads in whatever portions came
        assert assemble(watch, seen)[: len(request)] == request


def test_a_long_head_in_several_writes_arrives_in_parts(watch: Watch) -> None:
    request = make_long_head(2_048)
    pieces = [request[:300], request[300:600], request[600:1_500], request[1_500:]]
    with connection() as pair:
        for piece in pieces:
            pair.client.sendall(piece)
            receive(pair.server, len(piece))
        pair.server.sendall(OK)
        receive(pair.client, len(OK))
        client, server = watch.sides(port_of(pair))

    for seen in (client[0], server[0]):
        assert seen.flags & Flag.HEAD
        assert assemble(watch, seen) == request
    assert (
        len(watch.heads(client[0].conn_id)) == 3
    )  # what came before the third, the third, the fourth


def test_a_long_head_written_as_a_vector_arrives_whole(watch: Watch) -> None:
    request = make_long_head(2_048)
    with connection() as pair:
        os.writev(pair.client.fileno(), [request[:40], request[40:1_000], request[1_000:]])
        answer(pair, request)
        client, _ = watch.sides(port_of(pair))

    assert assemble(watch, client[0]) == request


def test_a_head_larger_than_its_record_keeps_what_fits(watch: Watch) -> None:
    request = make_long_head(9_000)
    with connection() as pair:
        pair.client.sendall(request)
        answer(pair, request)
        client, _ = watch.sides(port_of(pair))
        heads = watch.heads(client[0].conn_id)

    assert int(heads[0]["len"]) == len(request)
    assert int(heads[0]["cap"]) == HEAD_DATA
    assert bytes(heads[0]["data"]) == request[:HEAD_DATA]


def test_a_short_head_with_a_large_body_needs_no_head_record(watch: Watch) -> None:
    request = make_request("/body", body=b"\r\n" * 4_000)
    with connection() as pair:
        for pieces in ([request], [request[:100], request[100:]], [request[:690], request[690:]]):
            for piece in pieces:
                pair.client.sendall(piece)
            answer(pair, request)
        client, server = watch.sides(port_of(pair))

    assert [len(client), len(server)] == [3, 3]
    for seen in client + server:
        assert not seen.flags & (Flag.HEAD | Flag.CUT)
        assert seen.request == request[:LARGE_REQ]
        assert seen.request_bytes == len(request)
    assert watch.heads(*(s.conn_id for s in client + server)) == []


@pytest.mark.parametrize("excess", range(-4, 5))
@pytest.mark.parametrize("body", [b"", b"b" * 500])
def test_the_end_of_a_head_is_found_at_every_place_around_the_records_end(
    watch: Watch, excess: int, body: bytes
) -> None:
    fixed = len(make_long_head(0, body)) - len(body)
    request = make_long_head(LARGE_REQ + excess - fixed, body)
    assert len(request) - len(body) == LARGE_REQ + excess
    with connection() as pair:
        pair.client.sendall(request)
        answer(pair, request)
        client, _ = watch.sides(port_of(pair))

    assert bool(client[0].flags & Flag.HEAD) == (excess > 0)
    assert not client[0].flags & Flag.CUT


def test_a_long_head_read_in_tiny_portions_is_cut_and_counted(watch: Watch) -> None:
    request = make_long_head(1_200)
    with connection() as pair:
        pair.client.sendall(request)
        for at in range(0, len(request), 16):
            receive(pair.server, min(16, len(request) - at))
        pair.server.sendall(OK)
        receive(pair.client, len(OK))
        client, server = watch.sides(port_of(pair))

    assert not client[0].flags & Flag.CUT
    assert server[0].flags & Flag.CUT and server[0].flags & Flag.HEAD
    assert watch.count("head_cut") >= 1


def test_the_bytes_behind_a_cap_are_not_another_connections(watch: Watch) -> None:
    with connection() as pair:
        pair.exchange(make_request("/secret", "X-Secret: " + "s" * 400 + "\r\n"), OK)
    with connection() as pair:
        pair.exchange(make_request("/"), OK)
        client, server = watch.sides(port_of(pair))

    for seen in client + server:
        whole = np.asarray(seen.record["req"]).tobytes() + np.asarray(seen.record["resp"]).tobytes()
        assert b"ssss" not in whole
