"""What the agent renders is what the exporter takes: both sides of the contract, without a network between them."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farcall.exchange import BatchHeader
from farcall_exporter.decode import decode_batch
from farcall_probes.batches import render_batch
from support_agent import a_answer, dns_message, make_dns, make_drained, make_http, make_redis
from support_agent_room import GET, PING, Room

pytestmark = pytest.mark.unit


def render_all(room: Room) -> list[bytes]:
    return [
        render_batch(
            batch,
            BatchHeader(kind=kind, node="n1", boot_id="0" * 32, number=1, dns_watched_since_ns=1),
        )
        for kind, batch in room.tracer.take_batches()
    ]


def test_every_kind_of_batch_is_taken(tmp_path: Path) -> None:
    room = Room(tmp_path)
    dns = [make_dns(a_answer("a.example", "203.0.113.10")), make_dns(dns_message("b.example"))]
    room.tracer.take(
        make_drained(dns=dns, small=[make_redis(PING)], large=[make_http(GET)]), now_ns=0
    )
    kinds = [decode_batch(body).header.kind for body in render_all(room)]
    assert kinds == ["dns", "connections", "exchanges"]


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=40))
def test_whatever_comes_off_the_wire(
    tmp_path_factory: pytest.TempPathFactory, target: bytes, value: bytes, command: bytes
) -> None:
    room = Room(tmp_path_factory.mktemp("room"))
    request = b"GET /" + target + b" HTTP/1.1\r\nHost:" + value + b"\r\nUser-Agent:" + value
    drained = make_drained(
        dns=[make_dns(dns_message("a.example") + value), make_dns(target)],
        small=[make_redis(b"*2\r\n$3\r\nGET\r\n" + command), make_redis(command, command)],
        large=[make_http(request + b"\r\n\r\n", value, comm=command[:16]), make_http(value)],
    )
    room.tracer.take(drained, now_ns=0)
    for body in render_all(room):
        decode_batch(body)
