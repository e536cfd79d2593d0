"""What goes to the DNS cache: answers at once, bindings of connections that lived for ten seconds, and for how long."""

from pathlib import Path

import pytest

from support_agent import NS, a_answer, make_dns, make_drained, make_redis, packed
from support_agent_room import PING, UNIX, Room

pytestmark = pytest.mark.unit


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def test_answers_go_to_the_cache_and_only_trusted_resolvers_speak_for_all(room: Room) -> None:
    room.take(
        make_drained(
            dns=[
                make_dns(a_answer("a.example", "203.0.113.1")),
                make_dns(a_answer("b.example", "203.0.113.1"), raddr="192.0.2.66"),
            ]
        )
    )
    writes = room.tracer.take_cache_writes()
    assert writes is not None

    assert [(a.name, a.ip, a.trusted) for a in writes.answers] == [
        ("a.example", "203.0.113.1", True),
        ("b.example", "203.0.113.1", False),
    ]
    assert writes.answers[0].answered_at == pytest.approx(UNIX / NS, abs=0.001)
    assert room.tracer.take_cache_writes() is None
    assert {a.name for a in room.tracer.held_answers()} == {"a.example", "b.example"}


def test_a_resolver_on_loopback_is_the_nodes_own_in_the_nodes_own_namespace_alone(
    room: Room,
) -> None:
    room.tracer.configure(room.config, frozenset({packed("127.0.0.53")}))
    node = room.tracer.node_netns = 4_026_531
    room.take(
        make_drained(
            dns=[
                make_dns(a_answer(name, "203.0.113.1"), raddr="127.0.0.53", netns=netns)
                for name, netns in (("node.example", node), ("pod.example", node + 1))
            ]
        )
    )
    writes = room.tracer.take_cache_writes()
    assert writes is not None

    assert [(a.name, a.trusted) for a in writes.answers] == [
        ("node.example", True),
        ("pod.example", False),
    ]


def test_a_connection_that_lived_ten_seconds_gets_its_binding_once(room: Room) -> None:
    old = 11 * NS
    dns = [make_dns(a_answer("a.example", "203.0.113.10"))]
    room.take(make_drained(dns=dns, small=[make_redis(PING)]))
    assert (room.tracer.take_cache_writes() or pytest.fail()).bindings == []

    for seq in (1, 2):
        room.take(make_drained(small=[make_redis(PING, seq=seq, ts_req_ns=old + seq)]))
    writes = room.tracer.take_cache_writes()
    assert writes is not None
    (binding,) = writes.bindings
    assert (binding.name, binding.local, binding.peer) == (
        "a.example",
        "10.0.0.1:40000",
        "203.0.113.10:80",
    )
    assert binding.held_at is None


def test_a_connection_without_a_name_says_so_under_its_addresses(room: Room) -> None:
    room.take(make_drained(small=[make_redis(PING, ts_req_ns=11 * NS, ts_resp_ns=12 * NS)]))
    writes = room.tracer.take_cache_writes()
    assert writes is not None and [b.name for b in writes.bindings] == [""]


def test_a_held_connection_renews_its_binding(tmp_path: Path) -> None:
    room = Room(tmp_path, spec={"dns": {"holdWhileConnected": True}}, dns_ttl_override_s=20)
    dns = [make_dns(a_answer("a.example", "203.0.113.10"))]
    bindings = []
    for seq, at in enumerate((0, 11, 12, 30, 31)):
        record = make_redis(PING, seq=seq, ts_req_ns=2_000 + at * NS)
        room.take(make_drained(dns=dns if not seq else [], small=[record]))
        bindings += (
            (room.tracer.take_cache_writes() or pytest.fail()).bindings if at in (0, 11, 30) else []
        )

    assert [b.held_at for b in bindings] == [pytest.approx(UNIX / NS + at) for at in (11, 30)]
    assert [b.answered_at for b in bindings] == [pytest.approx(UNIX / NS)] * 2


def test_what_is_left_out_now_is_left_to_the_kernel_though_it_is_open(tmp_path: Path) -> None:
    room = Room(tmp_path)
    room.take(make_drained(small=[make_redis(PING, cgroup_id=7)]))
    off = room.config.capture.model_copy(update={"host_processes": False})
    config = room.config.model_copy(update={"capture": off})
    room.policy.configure(off)
    room.tracer.configure(config, frozenset())
    room.policy.refresh()
    assert 7 in room.applied[-1]

    room.policy.configure(room.config.capture)
    room.tracer.configure(room.config, frozenset())
    room.policy.refresh()
    rows = room.take(make_drained(small=[make_redis(PING, cgroup_id=7)]))
    assert 7 not in room.applied[-1]
    assert (
        len(rows["connections"]) == len(rows["exchanges"]) == 1
    )  # told again, in case it never was
