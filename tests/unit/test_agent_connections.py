"""The table of connections: who is found, who goes, and that nobody is taken for another meanwhile."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_probes import events
from farcall_probes.capture import Records
from farcall_probes.connections import Connection, Connections, Places, keys_of
from farcall_probes.evidence import Bound
from farcall_probes.identity import Identity

pytestmark = pytest.mark.unit

MOST = 8


def make_identity(tgid: int) -> Identity:
    return Identity(
        client_key=f"p:{tgid}",
        tgid=tgid,
        executable="a",
        service="a",
        container_id=None,
        pod_uid=None,
        pod=None,
        namespace=None,
        container=None,
        client_started_ns=0,
        known_cgroup=True,
    )


def make_bound(name: str) -> Bound:
    return Bound(name=name, answered_ns=1, rivals=())


def make_block(ids: list[int], **columns: int) -> Records:
    block = np.zeros(len(ids), dtype=events.SMALL)
    block["conn_id"] = block["lport"] = ids
    block["tgid"] = 7
    block["ts_req_ns"] = 100
    for name, value in columns.items():
        block[name] = value.to_bytes(16, "big") if name in ("laddr", "raddr") else value
    return block


def meet(connections: Connections, block: Records) -> Places:
    """As the tracer does it: each connection has a process and a name of its own."""
    keys = keys_of(block)
    places = connections.find(keys)
    missing = np.flatnonzero(places < 0)
    if len(missing):
        fresh, first, which = np.unique(keys[missing], return_index=True, return_inverse=True)
        rows = missing[first]
        opened, new = connections.add(fresh, block[rows])
        ids = connections.rows["conn_id"][new].tolist()
        owners = [connections.identities.number(make_identity(id_)) for id_ in ids]
        names = [connections.bounds.number(make_bound(f"{id_}.example")) for id_ in ids]
        described = [(*both, False, True) for both in zip(owners, names, strict=True)]
        connections.describe(new, described)
        places[missing] = opened[which]
    connections.note_use(block, places)
    return places


def read_ids(connections: Connections, places: Places) -> list[int]:
    """What each row says, in all of its parts alike."""
    ids: list[int] = connections.rows["conn_id"][places].tolist()
    identities = connections.rows["identity"][places].tolist()
    bounds = connections.rows["bound"][places].tolist()
    assert [connections.identities.values[i].tgid for i in identities] == ids
    names = [connections.bounds.values[b] for b in bounds]
    assert names == [make_bound(f"{id_}.example") for id_ in ids]
    return ids


BATCHES = st.lists(
    st.tuples(st.lists(st.integers(1, 40), min_size=1, max_size=MOST // 2), st.booleans()),
    max_size=30,
)


@given(BATCHES)
def test_a_place_is_its_connections_until_nobody_knows_it(
    batches: list[tuple[list[int], bool]],
) -> None:
    connections = Connections(max_generation=MOST)
    known: list[tuple[list[int], Places]] = []
    for ids, is_flush in batches:
        known.append((ids, meet(connections, make_block(ids))))
        for earlier, places in known:
            assert read_ids(connections, places) == earlier
        there = read_ids(connections, connections.places)
        assert len(set(there)) == len(there) <= 2 * MOST + len(set(ids))
        assert set(ids) <= set(there)
        if is_flush:
            known.clear()
            connections.settle()


@given(st.lists(st.integers(1, 40), max_size=60))
def test_what_was_used_within_a_generation_is_still_there(ids: list[int]) -> None:
    connections = Connections(max_generation=MOST)
    for at, id_ in enumerate(ids, 1):
        meet(connections, make_block([id_]))
        connections.settle()
        there = set(read_ids(connections, connections.places))
        latest: list[int] = []
        for used in reversed(ids[:at]):
            if used not in latest:
                latest.append(used)
        assert set(latest[:MOST]) <= there
        assert len(there) <= 2 * MOST


def test_as_many_as_there_is_room_for_stay_however_they_are_used() -> None:
    connections = Connections(max_generation=MOST)
    ids = list(range(1, 2 * MOST + 1))
    first = [int(meet(connections, make_block([id_]))[0]) for id_ in ids]
    for _ in range(3):
        assert [int(meet(connections, make_block([id_]))[0]) for id_ in ids] == first
        connections.settle()


def test_a_connection_under_another_number_keeps_what_is_known_of_it() -> None:
    connections = Connections(max_generation=MOST)
    ends = {"conn_open_ns": 5, "lport": 40_000, "rport": 80}
    (first,) = meet(connections, make_block([1], **ends))
    Connection(connections, first).written_ns = 300
    for number in range(2, 6 * MOST):
        connections.settle()
        (place,) = meet(connections, make_block([number], **ends))
        connection = Connection(connections, place)
        bound = connection.bound
        assert bound is not None and bound.name == "1.example" and connection.written_ns == 300
        assert connection.identity.tgid == 1 and connection.sight.conn_id == number
    assert len(connections) == 1


@pytest.mark.parametrize(
    "other",
    [
        *({name: 9} for name in ("conn_open_ns", "proc_start_ns", "netns", "lport", "rport")),
        {"tgid": 8},
        {"role": events.ROLE_SERVER},
        {"laddr": 3},
        {"raddr": 3},
    ],
    ids=lambda other: next(iter(other)),
)
def test_who_has_other_ends_is_another_connection(other: dict[str, int]) -> None:
    connections = Connections()
    ends = {"conn_open_ns": 5, "lport": 40_000, "rport": 80, "proc_start_ns": 3}
    meet(connections, make_block([1], **ends))
    meet(connections, make_block([2], **{**ends, **other}))
    assert len(connections) == 2 == len(connections.identities.values)


def test_of_two_older_than_the_agent_the_second_takes_over_whose_it_is_and_no_more() -> None:
    connections = Connections()
    ends = {"lport": 40_000, "rport": 80}
    known = {"flags": events.FLAG_IDENTITY, "isn_client": 1, "isn_server": 7}
    (first,) = meet(connections, make_block([1], **ends, **known))
    Connection(connections, first).written_ns = 300
    (second,) = meet(connections, make_block([2], **ends))

    connection = Connection(connections, second)
    assert len(connections) == 1 and connection.identity.tgid == 1
    assert connection.written_ns == 0 == connection.tcp_identity


def test_the_same_connection_is_another_of_another_process_and_at_the_other_end() -> None:
    connections = Connections()
    blocks = make_block([1]), make_block([1], tgid=8), make_block([1], role=events.ROLE_SERVER)
    first = [meet(connections, block)[0] for block in blocks]

    assert len(set(first)) == len(connections) == 3
    assert [meet(connections, block)[0] for block in blocks] == first


def test_the_newest_use_and_an_identity_once_known_stay() -> None:
    connections = Connections()
    known = make_block([1, 1], flags=events.FLAG_IDENTITY, isn_client=1, isn_server=7)
    known["ts_req_ns"] = [300, 200]
    meet(connections, known)
    meet(connections, make_block([1], ts_req_ns=250, isn_client=9))

    (connection,) = connections.values()
    assert connection.seen_ns == 300
    assert connection.tcp_identity == 1 << 32 | 7


def test_more_than_there_is_room_for_between_two_batches_is_remembered_all_the_same() -> None:
    connections = Connections(max_generation=MOST)
    known = []
    for begin in range(1, 10_001, 500):
        ids = list(range(begin, begin + 500))
        known.append((ids, meet(connections, make_block(ids))))

    for ids, places in known:
        assert read_ids(connections, places) == ids
    rows = len(connections.rows)
    connections.settle()
    for begin in range(20_001, 30_001, 500):
        meet(connections, make_block(list(range(begin, begin + 500))))
        connections.settle()
    assert len(connections.rows) == rows


def test_processes_and_names_that_no_connection_has_are_forgotten() -> None:
    connections = Connections(max_generation=MOST)
    for id_ in range(1, 5_001):
        places = meet(connections, make_block([id_]))
        assert read_ids(connections, places) == [id_]
        connections.settle()

    assert len(connections.identities.values) < 2_000
    assert len(connections.bounds.values) < 2_000


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(50, 60)), min_size=1, max_size=12))
def test_a_connection_was_seen_at_its_newest_request(used: list[tuple[int, int]]) -> None:
    connections = Connections(max_generation=MOST)
    meet(connections, make_block([1, 2, 3], ts_req_ns=55))
    block = make_block([id_ for id_, _ in used])
    block["ts_req_ns"] = [ts_ns for _, ts_ns in used]
    places = meet(connections, block)

    for place, id_ in zip(places.tolist(), block["conn_id"].tolist(), strict=True):
        newest = max(55, *(ts_ns for other, ts_ns in used if other == id_))
        assert Connection(connections, place).seen_ns == newest
