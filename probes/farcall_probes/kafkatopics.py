"""Kafka's topics by number: newer clients name them by a UUID alone, and only some responses say what it is called."""

import base64
from collections import OrderedDict

from farcall_probes.wire.kafka import KafkaRequest, KafkaResponse, join_topics

MAX_TOPICS = 16384  # the least recently used go; a large cluster has some thousands


class KafkaTopics:
    """UUID → name, for all connections: no two topics of any cluster have the same one."""

    def __init__(self) -> None:
        self._names: OrderedDict[bytes, str] = OrderedDict()

    def learn(self, response: KafkaResponse) -> None:
        """Metadata, CreateTopics and DescribeTopicPartitions tell; every client asks the first before it does anything else."""
        for number, name in response.topics:
            self._names[number] = name
            self._names.move_to_end(number)
            if len(self._names) > MAX_TOPICS:
                self._names.popitem(last=False)

    def find(self, request: KafkaRequest) -> str | None:
        """The request's topics by name. `unknown topic (b7VsQOmXTEu…)` of one that is not known: the number as Kafka's tools print it."""
        if not request.topic_ids:
            return request.target
        return join_topics((*request.topics, *map(self._name, request.topic_ids)))

    def _name(self, number: bytes) -> str:
        name = self._names.get(number)
        if name is None:
            printed = base64.urlsafe_b64encode(number).decode("ascii").rstrip("=")
            return f"unknown topic ({printed})"
        self._names.move_to_end(number)
        return name
