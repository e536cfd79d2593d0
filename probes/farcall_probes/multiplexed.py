"""Exchanges of Kafka, MongoDB, Cassandra, NATS and AMQP → columns. How a response is to be read is said by its request alone.

The captured bytes are all there will ever be, so parsers are called with cut=True.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from farcall.exchange import ExchangeFlag
from farcall_probes import events
from farcall_probes.amqpcalls import AmqpCalls
from farcall_probes.capture import Records
from farcall_probes.databases import unwrap
from farcall_probes.giveway import in_pieces
from farcall_probes.kafkatopics import KafkaTopics
from farcall_probes.readcolumns import TRACE_FLAGS, Columns, captured, name_ends
from farcall_probes.statements import CassandraStatements
from farcall_probes.wire import cassandra, kafka, mongodb, nats, tracecontext
from farcall_probes.wire.outcomes import Outcome, Truncated


class _Read(NamedTuple):
    """One exchange. Made once per record: a tuple costs a fifth of a frozen dataclass."""

    is_cut: bool
    operation: str | None
    target: str | None
    error: str | None
    size: int | None = None  # statements or documents, when more than one
    database: str | None = None  # or routing key
    collection: str | None = None  # or topic
    group: str | None = None
    ids: tracecontext.Ids = tracecontext.NOBODY
    trace_format: int = tracecontext.W3C
    trace_state: str | None = None
    body_bytes: tuple[int, int] | None = (
        None  # of a message that was published, and of one that was delivered
    )


# (connection, request, response) → None when it is no message of the protocol
_Parse = Callable[[int, bytes, bytes], _Read | None]


class MultiplexedReader:
    def __init__(self, *, masking: bool) -> None:
        self._topics = KafkaTopics()
        self._statements = CassandraStatements(masking=masking)
        self._amqp = AmqpCalls()
        self._parsers: dict[int, tuple[str, _Parse]] = {
            events.PROTO_KAFKA: ("kafka", self._read_kafka),
            events.PROTO_MONGODB: ("mongodb", self._read_mongodb),
            events.PROTO_CASSANDRA: ("cassandra", self._read_cassandra),
            events.PROTO_NATS: ("nats", _read_nats),
            events.PROTO_AMQP: ("amqp", self._read_amqp),
        }
        names = [name for name, _ in self._parsers.values()]
        self.dropped: Counter[str] = Counter(dict.fromkeys(names, 0))

    def reads(self, code: int) -> bool:
        return code in self._parsers

    def read(self, code: int, block: Records) -> Columns:
        """`block`: pairing.PAIRED of one protocol."""
        name, parse = self._parsers[code]
        rows: list[int] = []
        found: list[_Read] = []
        connections = block["conn_id"].tolist()
        requests = captured(block, "req", "req_cap")
        responses = captured(block, "resp", "resp_cap")
        for row, request in enumerate(in_pieces(requests)):
            read = parse(connections[row], request, responses[row])
            if read is not None:
                rows.append(row)
                found.append(read)
        self.dropped[name] += len(block) - len(rows)
        kept = np.array(rows, dtype=np.intp)
        columns = list(zip(*found, strict=True)) or [()] * len(_Read._fields)
        cut, operation, target, error, size, database, collection, group = columns[:8]
        ids, forms, states, bodies = columns[8:]
        marks = np.where(np.array(cut, dtype=np.bool_), np.uint32(ExchangeFlag.CUT), np.uint32(0))
        flags = block["flags"][kept] & ~np.uint32(ExchangeFlag.CUT) | marks
        flags |= np.array([TRACE_FLAGS[form] for form in forms], dtype=np.uint32)
        silent = name_ends(block if len(rows) == len(block) else block[kept])
        nothing = [None] * len(rows)
        return Columns(
            rows=kept,
            flags=flags,
            operation=operation,
            target=target,
            query=nothing,
            host=nothing,
            status=np.zeros(len(rows), dtype=np.int32),
            error=[none or own for none, own in zip(silent, error, strict=True)],
            batch_size=size,
            user_agent=nothing,
            content_type=nothing,
            trace_id=[trace for trace, _ in ids],
            parent_span_id=[span for _, span in ids],
            trace_state=states,
            database=database,
            collection=collection,
            group=group,
            ended_ns=block["ended_ns"][kept],
            request_bytes=_sizes(bodies, 0, block["req_bytes"][kept]),
            response_bytes=_sizes(bodies, 1, block["resp_bytes"][kept]),
        )

    def _read_kafka(self, _connection: int, data: bytes, answer: bytes) -> _Read | None:
        found = unwrap(kafka.parse_request(data, cut=True))
        if found is None:
            return None
        request, is_cut = found
        error = None
        answered = unwrap(kafka.parse_response(answer, request, cut=True)) if answer else None
        if answered is not None:
            error = answered[0].error
            if answered[0].topics:
                self._topics.learn(answered[0])
        topics = self._topics.find(request)
        return _Read(
            is_cut, request.operation, topics, error, collection=topics, group=request.group
        )

    def _read_mongodb(self, _connection: int, data: bytes, answer: bytes) -> _Read | None:
        found = unwrap(mongodb.parse_request(data, cut=True))
        if found is None:
            return None
        request, is_cut = found
        answered = unwrap(mongodb.parse_response(answer, cut=True)) if answer else None
        return _Read(
            is_cut,
            request.operation,
            mongodb.render_text(request),
            answered[0].error if answered is not None else None,
            request.documents if request.documents > 1 and not is_cut else None,
            request.database,
            request.collection,
        )

    def _read_cassandra(self, connection: int, data: bytes, answer: bytes) -> _Read | None:
        found = unwrap(cassandra.parse_request(data, cut=True))
        if found is None:
            return None
        request, is_cut = found
        answered = unwrap(cassandra.parse_response(answer, request, cut=True)) if answer else None
        response = answered[0] if answered is not None else None
        call = self._statements.find(connection, request, response)
        return _Read(
            is_cut,
            call.operation,
            call.text,
            response.error if response is not None else None,
            call.executions if call.executions > 1 else None,
            call.namespace,
            call.collection,
        )

    def _read_amqp(self, connection: int, data: bytes, answer: bytes) -> _Read | None:
        call = self._amqp.read(connection, data, answer)
        if call is None:
            return None
        return _Read(
            call.is_cut,
            call.operation,
            call.destination,
            call.error,
            database=call.routing_key,
            collection=call.destination,
            ids=call.ids,
            trace_format=call.trace_format,
            trace_state=call.trace_state,
            body_bytes=call.body_bytes,
        )


def _sizes(
    bodies: Sequence[tuple[int, int] | None], which: int, own: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint64] | None:
    """None where the records' own hold, of all."""
    if not any(bodies):
        return None
    sizes = own.copy()
    for at, body in enumerate(bodies):
        if body is not None:
            sizes[at] = body[which]
    return sizes


def _read_nats(_connection: int, data: bytes, _answer: bytes) -> _Read | None:
    outcome = nats.parse_message(data, cut=True)
    if isinstance(outcome, Outcome):
        return None
    is_cut = isinstance(outcome, Truncated)
    message = outcome.partial if isinstance(outcome, Truncated) else outcome
    if isinstance(message, nats.NatsError):
        return _Read(
            is_cut,
            "error",
            message.subject,
            message.code,
            collection=message.subject,
            body_bytes=(0, 0),
        )
    return _Read(
        is_cut,
        "publish" if message.is_published else "receive",
        message.subject,
        None,
        collection=message.subject,
        ids=message.ids,
        trace_format=message.trace_format,
        trace_state=message.trace_state,
        body_bytes=(message.body_bytes, 0) if message.is_published else (0, message.body_bytes),
    )
