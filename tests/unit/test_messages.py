"""Messages that nobody answers become exchanges of one each, with their last byte, or as they stand where it does not come."""

from dataclasses import replace

import pytest

from farcall_probes import events
from farcall_probes.capture import Records
from farcall_probes.messages import DELIVERED, Messages
from farcall_probes.pairing import UNENDED_NS
from farcall_probes.segments import Segments
from support_pairing import Message, make_block
from support_segments import CLOSED, REQUEST, RESPONSE, kafka_request, kafka_response

pytestmark = pytest.mark.unit

NATS = events.PROTO_NATS
PUBLISH, DELIVER = b"PUB orders 5\r\nhello\r\n", b"MSG orders 1 5\r\nhello\r\n"
FIRST = Message(kind=REQUEST, seq=0, data=PUBLISH, proto=NATS, ts_ns=1000)
SECOND = Message(kind=RESPONSE, seq=0, data=DELIVER, proto=NATS, ts_ns=2000, ended_ns=2500)
LONG = replace(FIRST, seq=1, length=9000, ended=events.ENDED_LATER, ts_ns=3000)
ITS_END = Message(kind=REQUEST, seq=2, proto=NATS, ts_ns=7000)


def list_rows(done: Records | None) -> list[tuple[int, ...]]:
    """(request bytes, response bytes, start, end) of each."""
    if done is None:
        return []
    names = ("req_bytes", "resp_bytes", "ts_req_ns", "ended_ns")
    return [tuple(int(row[name]) for name in names) for row in done]


def test_each_is_an_exchange_in_its_direction() -> None:
    block = make_block([FIRST, SECOND])
    block["isn_client"], block["isn_server"] = 7, 9
    done = Messages().take(block)

    assert list_rows(done) == [(len(PUBLISH), 0, 1000, 1000), (0, len(DELIVER), 2000, 2500)]
    assert done is not None
    assert [bytes(row["req"])[: int(row["req_cap"])] for row in done] == [PUBLISH, DELIVER]
    # In the other direction's sequence space: not to be met by what was published at the same place.
    assert done["isn_client"].tolist() == [7, 9] and done["isn_server"].tolist() == [9, 7]
    assert done["seq"].tolist() == [0, DELIVERED] and not done["segment"].any()
    assert (done["ts_resp_ns"] == done["ended_ns"]).all()


@pytest.mark.parametrize("together", [True, False])
def test_one_that_goes_on_lasts_to_its_last_byte(together: bool) -> None:
    messages = Messages()
    blocks = [[LONG, SECOND, ITS_END]] if together else [[LONG], [SECOND], [ITS_END]]
    rows = [row for block in blocks for row in list_rows(messages.take(make_block(block)))]

    assert sorted(rows) == [(0, len(DELIVER), 2000, 2500), (9000, 0, 3000, 7000)]
    assert len(messages) == 0 and not sum(messages.counters.values())


def test_one_whose_end_does_not_come_is_told_of_as_it_stands() -> None:
    closed = Message(kind=CLOSED, seq=0, proto=NATS, ts_ns=8000, length=2)
    stands = [(9000, 0, 3000, 3000)]
    messages = Messages(max_waiting=1)

    assert messages.take(make_block([LONG])) is None
    assert list_rows(messages.take(make_block([closed]))) == stands
    assert list_rows(messages.take(make_block([LONG, LONG]))) == stands
    assert list_rows(messages.take(make_block([replace(LONG, conn_id=2)]))) == stands
    assert list_rows(messages.tell_late(3001 + UNENDED_NS, 0)) == stands
    assert messages.take(make_block([ITS_END])) is None
    assert messages.counters["messages_unended"] == 4
    assert messages.counters["messages_orphans"] == 1
    messages.take(make_block([LONG]))
    assert list_rows(messages.let_go()) == stands


def test_other_protocols_are_paired_beside_them() -> None:
    asked = Message(kind=REQUEST, seq=0, data=kafka_request(1), ts_ns=10)
    answered = Message(kind=RESPONSE, seq=0, data=kafka_response(1), ts_ns=20)
    segments = Segments()
    done = segments.take(make_block([asked, replace(FIRST, conn_id=2), answered]))

    assert done is not None
    assert sorted(done["proto"].tolist()) == [events.PROTO_KAFKA, NATS]
    assert segments.take(make_block([replace(asked, seq=1)])) is None and len(segments) == 1
    assert "multiplexed_gaps" in segments.counters and "messages_unended" in segments.counters
