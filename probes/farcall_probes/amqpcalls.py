"""What an AMQP call was, and what it was about: from what was asked, or told, and its answer. A message that is delivered names the consumer
that gets it, not the queue: that is remembered of the request that made the consumer."""

from typing import NamedTuple

from farcall_probes.wire import amqp, tracecontext
from farcall_probes.wire.outcomes import Outcome, Truncated

MAX_CONSUMERS = 8192  # of all connections; the oldest are forgotten first
DEFAULT_EXCHANGE = "amq.default"  # it has no name; this is what RabbitMQ's own tools call it
_Consumer = tuple[int, int, str]  # connection, channel, tag


class AmqpCall(NamedTuple):
    is_cut: bool
    operation: str
    destination: str | None
    routing_key: str | None
    error: str | None
    body_bytes: tuple[int, int] | None  # of a message that was published, and of one that was got
    ids: tracecontext.Ids
    trace_format: int
    trace_state: str | None


class AmqpCalls:
    def __init__(self, *, max_consumers: int = MAX_CONSUMERS) -> None:
        self._max_consumers = max_consumers
        self._queues: dict[_Consumer, str] = {}

    def read(self, connection: int, data: bytes, answer: bytes) -> AmqpCall | None:
        """`answer` is empty where there is none. None: it is no call."""
        asked, is_cut = _parse(data)
        if asked is None:
            return None
        answered, is_answer_cut = _parse(answer) if answer else (None, False)
        if asked.kind == amqp.CONSUME and answered is not None and not answered.error:
            self._learn((connection, asked.channel, asked.tag or answered.tag or ""), asked.queue)
        error = asked.error or (answered.error if answered is not None else None)
        queue = asked.queue
        message = asked
        if asked.kind == amqp.GET and answered is not None and not answered.error:
            message = answered
        elif asked.kind == amqp.DELIVER:
            queue = self._queues.get((connection, asked.channel, asked.tag or ""))
        elif answered is not None:
            queue = queue or answered.queue  # the server gave it its name
        is_published = message.kind == amqp.PUBLISH
        size = message.body_bytes
        if size is None and message.kind in amqp.CARRIES:
            size = 0
        return AmqpCall(
            is_cut or is_answer_cut,
            message.name if message.kind == amqp.GET_EMPTY else asked.name,
            name_destination(message, queue),
            message.routing_key or None,
            error,
            None if size is None else (size, 0) if is_published else (0, size),
            message.ids,
            message.trace_format,
            message.trace_state,
        )

    def _learn(self, consumer: _Consumer, queue: str | None) -> None:
        if not queue:
            return
        self._queues.pop(consumer, None)
        if len(self._queues) >= self._max_consumers:
            del self._queues[next(iter(self._queues))]
        self._queues[consumer] = queue


def name_destination(message: amqp.AmqpMethod, queue: str | None) -> str | None:
    """As the semantic conventions for RabbitMQ want it: exchange, routing key and queue, as far as there are any, a queue of its routing key's
    name left out."""
    key = message.routing_key
    parts = [message.exchange, key, queue if queue != key else None]
    name = ":".join(part for part in parts if part)
    if not name and message.kind in amqp.CARRIES:
        return DEFAULT_EXCHANGE
    return name or None


def _parse(data: bytes) -> tuple[amqp.AmqpMethod | None, bool]:
    """And whether it is cut."""
    outcome = amqp.parse_method(data, cut=True)
    if isinstance(outcome, Truncated):
        return outcome.partial, True
    return (None, False) if isinstance(outcome, Outcome) else (outcome, False)
