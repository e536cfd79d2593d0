"""From records to the rows that leave the node: schema, join key, flags, long heads, masking, policy, and what is counted."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from farcall import exchange
from farcall.arrowschemas import SCHEMAS, read_header
from farcall.exchange import BatchHeader, ExchangeFlag
from farcall_probes import events
from farcall_probes.batches import render_batch
from farcall_probes.capture import Drained
from farcall_probes.wire.outcomes import MAX_TEXT
from support_agent import (
    NS,
    a_answer,
    dns_message,
    make_config,
    make_dns,
    make_drained,
    make_head,
    make_http,
    make_redis,
    packed,
    read_batch,
)
from support_agent_room import GET, PING, RESOLVER, UNIX, Room

pytestmark = pytest.mark.unit


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def test_batches_have_the_schema_of_the_contract(room: Room) -> None:
    room.tracer.take(
        make_drained(
            dns=[make_dns(a_answer("a.example", "203.0.113.10"))],
            small=[make_redis(PING)],
            large=[make_http(GET)],
        ),
        now_ns=0,
    )
    batches = room.tracer.take_batches()

    assert [kind for kind, _ in batches] == ["dns", "connections", "exchanges"]
    for kind, batch in batches:
        assert read_batch(batch).schema == SCHEMAS[kind]
        header = BatchHeader(
            kind=kind, node="n1", boot_id="0" * 32, number=1, dns_watched_since_ns=5
        )
        with pa.ipc.open_stream(render_batch(batch, header)) as reader:
            assert read_header(reader.schema) == header
            assert reader.read_all().num_rows == batch.rows


def test_every_number_of_a_record_arrives(room: Room) -> None:
    record = make_http(
        GET,
        b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
        conn_id=2**63 + 5,
        seq=9,
        netns=4026531840,
        isn_client=2**32 - 1,
        isn_server=7,
        request_seq=8,
        req_bytes=2**40,
        resp_bytes=41,
        asked_us=3,
        ts_req_ns=5_000,
        ts_resp_ns=9_000,
        conn_open_ns=4_000,
        role=events.ROLE_SERVER,
        laddr="2001:db8::1",
        flags=events.FLAG_IDENTITY | events.FLAG_TLS,
        cause_conn_id=2**63 + 1,
        cause_seq=2**32 - 1,
    )
    (row,) = room.take(make_drained(large=[record]))["exchanges"]

    assert row["start"].value == UNIX + 5_000 and row["duration_ns"] == 4_000
    assert row["request_duration_ns"] == 3_000 and row["first_byte_ns"] is None
    assert row["connection_opened"].value == UNIX + 4_000
    assert (row["connection_id"], row["sequence"], row["netns"]) == (2**63 + 5, 9, 4026531840)
    assert (row["isn_client"], row["isn_server"], row["request_seq"]) == (2**32 - 1, 7, 8)
    assert (row["request_bytes"], row["response_bytes"]) == (2**40, 41)
    assert (row["role"], row["protocol"], row["status"]) == (1, "http", 503)
    assert (row["local_address"], row["peer_address"]) == (
        packed("2001:db8::1"),
        packed("203.0.113.10"),
    )
    assert (row["local_port"], row["peer_port"]) == (40_000, 80)
    assert row["flags"] == ExchangeFlag.IDENTITY | ExchangeFlag.TLS | ExchangeFlag.WATCHED
    assert row["executable"] == "client" and row["client_key"] == "p:n1:4000000:0"
    assert (row["cause_connection_id"], row["cause_sequence"]) == (2**63 + 1, 2**32 - 1)


def test_a_request_whose_cause_is_not_known_has_none(room: Room) -> None:
    (row,) = room.take(make_drained(large=[make_http(GET)]))["exchanges"]

    assert row["cause_connection_id"] is None and row["cause_sequence"] is None


def test_a_connection_older_than_the_agent_has_no_opening_and_no_name(room: Room) -> None:
    rows = room.take(
        make_drained(
            dns=[make_dns(a_answer("a.example", "203.0.113.10"), proc_start_ns=50)],
            small=[make_redis(PING, conn_open_ns=0, flags=events.FLAG_LATE, proc_start_ns=50)],
        )
    )
    (row,) = rows["exchanges"]

    assert row["connection_opened"] is None and row["bound_name"] is None
    assert row["flags"] == ExchangeFlag.LATE  # and its process is older than the watch


def test_a_server_is_not_named_by_what_it_looked_up(room: Room) -> None:
    rows = room.take(
        make_drained(
            dns=[make_dns(a_answer("a.example", "203.0.113.10"))],
            small=[make_redis(PING, role=events.ROLE_SERVER)],
        )
    )
    assert rows["exchanges"][0]["bound_name"] is None


def test_a_name_is_bound_once_and_rivals_are_told(room: Room) -> None:
    answers = [
        make_dns(a_answer("old.example", "203.0.113.10"), ts_ns=700),
        make_dns(a_answer("new.example", "203.0.113.10"), ts_ns=800),
    ]
    (connection,) = room.take(make_drained(dns=answers, small=[make_redis(PING)]))["connections"]
    assert connection["bound_name"] == "new.example"
    assert connection["bound_answered"].value == UNIX + 800
    assert connection["rivals"] == ["old.example"]

    later = make_dns(a_answer("later.example", "203.0.113.10"), ts_ns=5_000)
    rows = room.take(make_drained(dns=[later], small=[make_redis(PING, seq=1, ts_req_ns=6_000)]))
    assert rows["exchanges"][0]["bound_name"] == "new.example"
    assert "connections" not in rows


def test_a_long_head_is_joined_to_its_exchange(room: Room) -> None:
    token = b"Authorization: Bearer " + b"x" * 2_000 + b"\r\n"
    trace = b"traceparent: 00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01\r\n"
    head = b"GET /long HTTP/1.1\r\n" + token + trace + b"Host: late.example.com\r\n\r\n"
    parts = [
        make_head(head[1_500:], part=1, seq=3),
        make_head(head[:1_500], part=0, seq=3),
        make_head(b"GET /other HTTP/1.1\r\nHost: no\r\n\r\n", seq=3, role=1),
    ]
    record = make_http(head, seq=3, flags=events.FLAG_HEAD | events.FLAG_CUT)
    room.take(make_drained(heads=parts))  # at request time, drains before the response
    (row,) = room.take(make_drained(large=[record]))["exchanges"]

    assert row["host"] == "late.example.com"
    assert row["trace_id"] == bytes.fromhex("a" * 32)
    assert row["flags"] == ExchangeFlag.HEAD | ExchangeFlag.WATCHED
    assert b"xxxx" not in str(row).encode()


def test_a_long_head_that_was_lost_is_cut_and_counted(room: Room) -> None:
    head = b"GET /long HTTP/1.1\r\nX: " + b"x" * 2_000 + b"\r\nHost: a\r\n\r\n"
    (row,) = room.take(make_drained(large=[make_http(head, flags=events.FLAG_HEAD)]))["exchanges"]

    assert (row["target"], row["host"]) == ("/long", None)
    assert row["flags"] & ExchangeFlag.CUT
    assert room.tracer.counters()["heads_missing_lost"] == 1


def test_no_answer_is_an_error_of_its_own(room: Room) -> None:
    records = [
        make_http(GET, b"", flags=events.FLAG_NO_RESPONSE, end=events.END_SERVER_CLOSED),
        make_http(GET, b"HTTP/1.1 2", conn_id=78),
    ]
    one, two = room.take(make_drained(large=records))["exchanges"]
    assert (one["status"], one["error"]) == (None, "no_response")
    assert (two["status"], two["error"]) == (None, None)


def test_redis_errors_and_pipelines(room: Room) -> None:
    records = [
        make_redis(PING * 3, b"+PONG\r\n"),
        make_redis(PING, b"-NOAUTH Authentication required.\r\n", seq=1),
        make_redis(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$900\r\n" + b"v" * 900, seq=2),
        make_redis(PING * 40, b"+PONG\r\n", seq=3, commands=40),
    ]
    piped, failed, cut, long = room.take(make_drained(small=records))["exchanges"]

    assert (piped["batch_size"], piped["target"]) == (3, "PING")
    assert piped["flags"] & ExchangeFlag.PIPELINED
    assert (failed["error"], failed["batch_size"]) == ("NOAUTH", None)
    assert cut["target"] == "SET ? ?" and cut["flags"] & ExchangeFlag.CUT
    assert not cut["flags"] & ExchangeFlag.PIPELINED and cut["batch_size"] is None
    assert long["batch_size"] == 40 and long["flags"] & ExchangeFlag.PIPELINED


def test_statements_of_a_database_with_their_errors(room: Room) -> None:
    trip = b"P\0\0\0\x16s1\0SELECT $1, 'x'\0\0\0B\0\0\0\x0d\0s1\0\0\0\0\0\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\4"
    error = b"1\0\0\0\4E\0\0\0\x18SERROR\0C22P02\0Mno\0\0"
    query = b"Q\0\0\0\x28SELECT * FROM item WHERE id = 4711;\0"
    whole = {"proto": events.PROTO_POSTGRES, "ended": events.ENDED_ANSWER}
    records = [
        make_http(query, b"T\0\0\0\4", **whole),
        make_http(trip, error, seq=1, **whole),
        make_http(b"rubbish", b"", seq=2, **whole),
        make_http(trip, b"1\0\0\0\4", seq=3, commands=100, **whole),
    ]
    plain, failed, batch = room.take(make_drained(large=records))["exchanges"]

    assert (plain["protocol"], plain["operation"]) == ("postgresql", "SELECT")
    assert (plain["target"], plain["error"]) == ("SELECT * FROM item WHERE id = ?;", None)
    assert (failed["target"], failed["error"]) == ("SELECT $1, ?", "22P02")
    assert (failed["batch_size"], batch["batch_size"]) == (None, 100)
    assert room.tracer.counters()["postgresql_unread_dropped"] == 1


def test_what_is_no_message_is_dropped_and_counted(room: Room) -> None:
    rows = room.take(
        make_drained(
            dns=[make_dns(b"\x00" * 40), make_dns(dns_message("a.example", kind=16))],
            small=[make_redis(b"\x00\x01\x02\x03"), make_redis(PING, conn_id=78)],
            large=[make_http(b"\x16\x03\x01")],
        )
    )
    counters = room.tracer.counters()

    assert len(rows["exchanges"]) == 1 and "dns" not in rows
    assert counters["redis_unread_dropped"] == counters["http_unread_dropped"] == 1
    assert counters["dns_unread_dropped"] == counters["dns_other_type"] == 1


def test_dns_rows_say_what_was_asked_and_answered(room: Room) -> None:
    answers = [
        make_dns(a_answer("A.Example", "203.0.113.1", "203.0.113.2")),
        make_dns(dns_message("no.example", flags=0x8183)),
    ]
    first, second, none = room.take(make_drained(dns=answers))["dns"]

    assert [first["address"], second["address"]] == [packed("203.0.113.1"), packed("203.0.113.2")]
    assert (first["question"], first["question_type"], first["ttl_s"]) == ("a.example", "A", 60)
    assert first["resolver"] == RESOLVER and first["time"].value == UNIX + 900
    assert (none["rcode"], none["address"]) == (3, None)


def test_an_answer_that_nobody_asked_for_names_nothing_and_is_counted(room: Room) -> None:
    answer = a_answer("bank.example", "203.0.113.10")
    records = [
        make_dns(answer, asked_cap=0),
        make_dns(answer, asked=a_answer("shop.example", "203.0.113.10")[12:]),
    ]
    rows = room.take(make_drained(dns=records, small=[make_redis(PING)]))

    assert "dns" not in rows and room.tracer.take_cache_writes() is None
    assert rows["exchanges"][0]["bound_name"] is None
    assert room.tracer.counters()["dns_unasked_dropped"] == 2


def test_over_tcp_nobody_but_the_resolver_can_answer(room: Room) -> None:
    record = make_dns(a_answer("a.example", "203.0.113.10"), tcp=1, asked_cap=0)

    assert len(room.take(make_drained(dns=[record]))["dns"]) == 1


def test_a_client_that_reads_its_answer_byte_by_byte_is_not_called_silent(room: Room) -> None:
    """The kernel tells eight portions: too few for its question."""
    answer = a_answer("a.example", "203.0.113.10")
    portions = [
        make_dns(answer[n : n + 1], tcp=1, offset=n, more=n < 7, len=len(answer)) for n in range(8)
    ]
    rows = room.take(make_drained(dns=portions, small=[make_redis(PING)]))

    assert rows["exchanges"][0]["flags"] & ExchangeFlag.DNS_LOST
    assert room.tracer.counters()["dns_unread_dropped"] == 1


def test_a_client_whose_answer_was_cut_is_not_called_silent(room: Room) -> None:
    answer = a_answer("a.example", *[f"203.0.113.{n}" for n in range(200)])
    rows = room.take(
        make_drained(dns=[make_dns(answer)], small=[make_redis(PING, raddr="203.0.113.199")])
    )

    assert rows["exchanges"][0]["bound_name"] is None
    assert rows["exchanges"][0]["flags"] & ExchangeFlag.DNS_LOST


def test_lost_dns_marks_the_clients_that_lived_then(room: Room) -> None:
    room.tracer.dns_lost_ns = time.monotonic_ns()
    records = [
        make_redis(PING, proc_start_ns=500),
        make_redis(PING, conn_id=78, proc_start_ns=time.monotonic_ns() + NS, tgid=4_000_001),
    ]
    before, after = room.take(make_drained(small=records))["exchanges"]

    assert before["flags"] & ExchangeFlag.DNS_LOST
    assert not after["flags"] & ExchangeFlag.DNS_LOST


def test_words_stand_once_in_their_dictionary_whatever_has_no_word(room: Room) -> None:
    """ClickHouse refuses a batch whose dictionary holds a word twice."""
    records = [make_redis(PING, conn_id=n, proto=proto) for n, proto in enumerate((2, 0, 99, 250))]
    room.tracer.take(make_drained(small=records), now_ns=time.monotonic_ns())

    for _, batch in room.tracer.take_batches():
        for column in read_batch(batch).columns:
            if isinstance(column, pa.DictionaryArray):
                words = column.dictionary.to_pylist()
                assert len(words) == len(set(words))


def test_only_wanted_protocols_are_taken(tmp_path: Path) -> None:
    room = Room(tmp_path, spec={"capture": {"protocols": ["http"]}})
    rows = room.take(make_drained(small=[make_redis(PING)], large=[make_http(GET, conn_id=78)]))
    assert [r["protocol"] for r in rows["exchanges"]] == ["http"]


def test_host_processes_are_left_out_when_they_are_not_wanted(tmp_path: Path) -> None:
    room = Room(tmp_path, spec={"capture": {"hostProcesses": False}})
    rows = room.take(
        make_drained(
            dns=[make_dns(a_answer("a.example", "203.0.113.1"), cgroup_id=55)],
            small=[make_redis(PING, cgroup_id=56)],
        )
    )
    assert rows == {}
    counters = room.tracer.counters()
    assert counters["unwanted_dns"] == counters["unwanted_exchanges"] == 1
    room.policy.refresh()
    assert set(room.applied[-1]) == {55, 56}


def test_own_cgroups_are_dropped_in_the_kernel_and_policy_is_applied_once(tmp_path: Path) -> None:
    room = Room(tmp_path, own_cgroups=["/farcall"])
    room.policy.refresh()
    room.policy.refresh()
    assert room.applied == [{99: events.POLICY_DROP}]


def test_masking_can_be_turned_off_by_a_new_config(room: Room, tmp_path: Path) -> None:
    drained: Callable[[], Drained] = lambda: make_drained(large=[make_http(GET)])  # noqa: E731
    assert room.take(drained())["exchanges"][0]["query"] == "id=?"
    config = make_config(tmp_path, spec={"capture": {"masking": {"enabled": False}}})
    room.tracer.configure(config, frozenset())
    assert room.take(drained())["exchanges"][0]["query"] == "id=42"


def test_many_drains_make_one_batch_with_the_right_owners(room: Room) -> None:
    for drain in range(5):
        records = [
            make_http(
                GET, conn_id=100 + n, seq=drain, tgid=4_000_000 + n % 3, comm=b"c%d" % (n % 3)
            )
            for n in range(40)
        ]
        room.tracer.take(make_drained(large=records), now_ns=0)
    kinds = dict(room.tracer.take_batches())
    rows = read_batch(kinds["exchanges"]).to_pylist()

    assert len(rows) == 200 and kinds["connections"].rows == 40
    for row in rows:
        assert row["tgid"] == 4_000_000 + (row["connection_id"] - 100) % 3
        assert row["executable"] == f"c{(row['connection_id'] - 100) % 3}"
    assert room.tracer.pending_rows == 0


def test_text_is_bounded_as_the_contract_says() -> None:
    assert MAX_TEXT == exchange.MAX_TEXT_BYTES


def test_flags_of_the_kernel_are_those_of_the_contract() -> None:
    for flag in events.Flag:
        assert flag.name is not None and ExchangeFlag[flag.name] == flag


def test_statuses_of_a_block_agree_with_the_parser() -> None:
    from farcall_probes.reading import read_status
    from farcall_probes.wire.http1 import parse_status

    lines = [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.0 404 x\r\n",
        b"HTTP/1.1 099 x\r\n",
        b"HTTP/1.1 2x0 x\r\n",
        b"HTTP/1.1 20",
        b"",
        b"+OK\r\n",
    ]
    block = np.concatenate([make_http(GET, line) for line in lines])
    expected = [s if isinstance(s, int) else 0 for s in map(parse_status, lines)]
    assert read_status(block).tolist() == expected
