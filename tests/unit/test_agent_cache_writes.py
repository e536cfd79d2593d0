"""What goes to the DNS cache: answers at once, bindings of connections that lived for ten seconds, and for how long."""

from dataclasses import replace
from pathlib import Path

import pytest

from farcall.dnscache import Binding
from farcall_probes.capture import Records
from farcall_probes.events import FLAG_IDENTITY
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


def test_a_connection_under_another_number_keeps_its_name_and_is_not_written_again(
    room: Room,
) -> None:
    dns = [make_dns(a_answer("a.example", "203.0.113.10"))]
    room.take(make_drained(dns=dns, small=[make_redis(PING, ts_req_ns=11 * NS)]))
    assert len((room.tracer.take_cache_writes() or pytest.fail()).bindings) == 1
    room.tracer.evidence.expire(10**18, ttl_ns=1)  # the answer is gone; its name stays

    for number in (78, 79):
        again = make_redis(PING, conn_id=number, ts_req_ns=12 * NS)
        told = room.take(make_drained(small=[again]))
        assert told.keys() == {"connections", "exchanges"}
        for (row,) in told.values():
            assert (row["connection_id"], row["bound_name"]) == (number, "a.example")
    assert room.tracer.take_cache_writes() is None


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


LOCAL, PEER = "10.0.0.1:40000", "203.0.113.10:80"
IDENTITY = (1 << 32) | 7


def recalled(room: Room, **changes: object) -> Binding:
    """As an agent before this one wrote it, of the connection that records of these tests speak of."""
    room.take(make_drained(small=[older()]))
    [connection] = room.tracer.connections.values()
    binding = Binding(
        client_key=connection.identity.client_key,
        local=LOCAL,
        peer=PEER,
        name="a.example",
        answered_at=UNIX / NS - 300,
        tcp_identity=IDENTITY,
    )
    binding = replace(binding, **changes)  # type: ignore[arg-type]
    room.tracer.bindings.recall([binding])
    return binding


def older(at_ns: int = 3_000, **changes: object) -> Records:
    """Of a connection that was open before the agent."""
    changes = {"isn_client": 1, "isn_server": 7, "flags": FLAG_IDENTITY, **changes}
    return make_redis(PING, conn_open_ns=0, ts_req_ns=at_ns, ts_resp_ns=at_ns + 1, **changes)


def test_a_binding_that_was_read_back_is_held_for_a_cache_that_lost_its_memory(room: Room) -> None:
    binding = recalled(room)
    room.take(make_drained(small=[older(11 * NS)]))

    assert room.tracer.held_bindings() == [binding]
    assert room.tracer.take_cache_writes() is None  # Redis has it
    assert room.tracer.gauges()["bindings_recalled"] == 1


def test_a_new_connection_under_its_addresses_takes_its_place(room: Room) -> None:
    recalled(room)
    room.take(make_drained(small=[make_redis(PING, conn_id=78, conn_open_ns=4_000, rport=80)]))

    assert room.tracer.held_bindings() == []


def test_a_binding_that_was_read_back_goes_when_redis_gives_it_up(room: Room) -> None:
    recalled(room)
    room.tracer.expire((3_600 - 301) * NS)
    assert len(room.tracer.held_bindings()) == 1
    room.tracer.expire((3_600 - 299) * NS)
    assert room.tracer.held_bindings() == []


def test_a_held_binding_that_was_read_back_is_renewed_while_its_connection_is_used(
    tmp_path: Path,
) -> None:
    room = Room(tmp_path, spec={"dns": {"holdWhileConnected": True}})
    binding = recalled(room, answered_at=UNIX / NS - 9_999, held_at=UNIX / NS - 1_000)
    assert room.tracer.held_bindings() == [binding]
    renewed = []
    for at_s in (5, 10, 905, 910):
        room.take(make_drained(small=[older(at_s * NS)]))
        writes = room.tracer.take_cache_writes()
        renewed += [(at_s, b) for b in writes.bindings] if writes else []

    assert renewed == [
        (at_s, replace(binding, held_at=pytest.approx(UNIX / NS + at_s))) for at_s in (5, 910)
    ]
    assert room.tracer.held_bindings() == [renewed[-1][1]]
    room.tracer.expire((910 + 3_599) * NS)
    assert room.tracer.held_bindings()
    room.tracer.expire((910 + 3_601) * NS)
    assert room.tracer.held_bindings() == []


def test_a_binding_of_another_connection_under_the_same_addresses_is_not_renewed(
    tmp_path: Path,
) -> None:
    room = Room(tmp_path, spec={"dns": {"holdWhileConnected": True}})
    recalled(room, tcp_identity=IDENTITY + 1)
    room.take(make_drained(small=[older(5 * NS)]))

    assert room.tracer.take_cache_writes() is None
    assert room.tracer.held_bindings() == []


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
