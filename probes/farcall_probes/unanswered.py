"""Requests that stayed without an answer, counted by protocol: what the kernel side counts in one number for all of them."""

from collections import Counter

import numpy as np
import numpy.typing as npt

from farcall_probes import events

_NAMES = {
    events.PROTO_HTTP1: "http_no_answer",
    events.PROTO_REDIS: "redis_no_answer",
    events.PROTO_POSTGRES: "postgresql_no_answer",
    events.PROTO_MYSQL: "mysql_no_answer",
    events.PROTO_MEMCACHED: "memcached_no_answer",
    events.PROTO_HTTP2: "http2_no_answer",
    events.PROTO_GRPC: "grpc_no_answer",
    events.PROTO_KAFKA: "kafka_no_answer",
    events.PROTO_MONGODB: "mongodb_no_answer",
    events.PROTO_CASSANDRA: "cassandra_no_answer",
}


class Unanswered:
    def __init__(self) -> None:
        self.counters: Counter[str] = Counter(dict.fromkeys(_NAMES.values(), 0))

    def take(self, protos: npt.NDArray[np.uint8], flags: npt.NDArray[np.uint32]) -> None:
        """Of each exchange its events.PROTO_* and its flags. Connects that failed are no requests, and not counted."""
        silent = protos[flags & np.uint32(events.FLAG_NO_RESPONSE) != 0]
        for code, count in zip(*np.unique(silent, return_counts=True), strict=True):
            if name := _NAMES.get(int(code)):
                self.counters[name] += int(count)
