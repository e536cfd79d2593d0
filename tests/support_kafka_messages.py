"""Messages by kafka-python, a second implementation of Kafka's definitions, with something in every field."""

import importlib
import pkgutil
import uuid
from collections.abc import Iterator
from typing import Any

import kafka.protocol
from kafka.protocol.api_message import ApiMessage
from kafka.protocol.schemas.fields.base import BaseField

OTHER, TOPIC, GROUP, FAILED = "other", "orders", "billing", 3
NUMBER = uuid.UUID(bytes=bytes(range(1, 17)))
_TOPIC_NAMES = ("topic", "topics", "topic_name", "topic_names")


class _Bits(int):
    """A set of bits, which it takes as a number in some messages and by its members in others."""

    def __iter__(self) -> Iterator[int]:
        return iter((0,))


def all_messages() -> Iterator[type[ApiMessage]]:
    """The class of each request and response that has a schema; one for all its versions."""
    for module in pkgutil.walk_packages(kafka.protocol.__path__, "kafka.protocol."):
        importlib.import_module(module.name)
    for made in ApiMessage.__subclasses__():
        if made.API_KEY is not None and "_v" not in made.__name__:
            yield made


def encode(made: type[ApiMessage], version: int, *, failed: int) -> bytes:
    """With its length, correlation 7 and client `shop`; `failed`: all its error codes."""
    filled = made(version=version, **_fill_all(made.fields, version, failed))
    filled.with_header(correlation_id=7, client_id="shop")
    return bytes(filled.encode(header=True, framed=True))


def _fill_all(fields: Any, version: int, failed: int) -> dict[str, Any]:
    return {
        field.name: _fill(field, version, failed)
        for field in fields.values()
        if field.for_version_q(version) and not field.tagged_field_q(version)
    }


def _fill(field: BaseField, version: int, failed: int) -> Any:
    if field.is_struct_array():
        return [field.data_class(**_fill_all(field.fields, version, failed)) for _ in range(2)]
    if field.is_struct():
        return field.data_class(**_fill_all(field.fields, version, failed))
    if field.is_array():
        return [_fill_plain(field.array_of, field, failed)] * 2
    return _fill_plain(field, field, failed)


def _fill_plain(field: BaseField, named: BaseField, failed: int) -> Any:
    kind = field._type_str
    if kind == "string":
        if named._entity_type == "groupId":
            return GROUP
        is_topic = named._entity_type == "topicName" or named.name in _TOPIC_NAMES
        return TOPIC if is_topic else OTHER
    if kind == "uuid":
        return NUMBER
    if kind in ("bytes", "records"):
        return b"secret"
    if kind == "bool":
        return True
    if named.name.endswith("authorized_operations"):
        return _Bits(1)
    if named.name.endswith("error_code"):
        return failed
    return 1.0 if kind == "float64" else 1
