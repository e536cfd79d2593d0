"""A batch of exchanges, unpacked once into numpy columns and coded texts. Everything behind decode reads this."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from farcall.exchange import ExchangeFlag
from farcall_exporter.columns import Coded, Mask, code_addresses, code_column, integers
from farcall_exporter.decode import Decoded

Ints = npt.NDArray[np.int64]
CLIENT, SERVER = 0, 1
# Their requests' bytes lie between others', or the size is not theirs on the wire.
_INTERLEAVED = frozenset({"http2", "grpc", "nats", "amqp"})
_NUMBERED = frozenset({"kafka", "mongodb", "cassandra"})  # inside TLS their place is a number


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose end it is: the same columns in every kind of batch."""

    client_key: Coded
    tgid: Ints
    executable: Coded
    service: Coded
    container_id: Coded
    pod_uid: Coded
    pod: Coded
    namespace: Coded
    container: Coded

    @classmethod
    def of(cls, table: pa.Table) -> "Owner":
        return cls(
            tgid=integers(table, "tgid"),
            **{name: code_column(table, name) for name in _OWNER_TEXTS},
        )


_OWNER_TEXTS = (
    "client_key",
    "executable",
    "service",
    "container_id",
    "pod_uid",
    "pod",
    "namespace",
    "container",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """The connection and the evidence for its name: in exchanges and in connections alike."""

    connection: Ints
    flags: Ints
    local: Coded
    local_port: Ints
    peer: Coded
    peer_port: Ints
    opened: Ints  # 0: older than the agent
    bound_name: Coded
    bound_answered: Ints

    @classmethod
    def of(cls, table: pa.Table, *, opened: str) -> "Ends":
        return cls(
            connection=integers(table, "connection_id"),
            flags=integers(table, "flags"),
            local=code_addresses(table, "local_address"),
            local_port=integers(table, "local_port"),
            peer=code_addresses(table, "peer_address"),
            peer_port=integers(table, "peer_port"),
            opened=integers(table, opened),
            bound_name=code_column(table, "bound_name"),
            bound_answered=integers(table, "bound_answered"),
        )

    def has(self, flag: ExchangeFlag) -> Mask:
        mask: Mask = (self.flags & int(flag)) != 0
        return mask


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanges:
    boot_id: str
    node: str
    count: int
    start: Ints
    duration: Ints
    request_duration: Ints  # 0: it came in one call
    first_byte: Ints  # 0: as duration
    role: Ints
    sequence: Ints
    protocol: Coded
    owner: Owner
    ends: Ends
    isn_client: Ints
    isn_server: Ints
    request_seq: Ints
    request_bytes: Ints
    request_span: Ints  # bytes behind `request_seq` that are no other request's: what joins look at
    response_bytes: Ints
    operation: Coded
    target: Coded
    query: Coded
    host: Coded
    status: Ints  # 0 for none
    rpc_status: Coded
    message: Coded
    database: Coded
    collection: Coded
    group: Coded
    error: Coded
    batch_size: Ints  # 0 for none
    alpn: Coded
    user_agent: Coded
    content_type: Coded
    trace_id: Coded  # values are 16 bytes
    parent_span_id: Coded  # values are 8 bytes
    trace_state: Coded
    has_cause: Mask
    cause_connection: Ints
    cause_sequence: Ints

    @classmethod
    def of(cls, decoded: Decoded) -> "Exchanges":
        table = decoded.table
        return cls(
            boot_id=decoded.header.boot_id,
            node=decoded.header.node,
            count=table.num_rows,
            start=integers(table, "start"),
            duration=integers(table, "duration_ns"),
            request_duration=integers(table, "request_duration_ns"),
            first_byte=integers(table, "first_byte_ns"),
            owner=Owner.of(table),
            ends=Ends.of(table, opened="connection_opened"),
            role=integers(table, "role"),
            sequence=integers(table, "sequence"),
            isn_client=integers(table, "isn_client"),
            isn_server=integers(table, "isn_server"),
            request_seq=integers(table, "request_seq"),
            request_bytes=integers(table, "request_bytes"),
            request_span=_measure_spans(table),
            response_bytes=integers(table, "response_bytes"),
            status=integers(table, "status"),
            batch_size=integers(table, "batch_size"),
            protocol=code_column(table, "protocol"),
            operation=code_column(table, "operation"),
            target=code_column(table, "target"),
            query=code_column(table, "query"),
            host=code_column(table, "host"),
            rpc_status=code_column(table, "rpc_status"),
            message=code_column(table, "message"),
            database=code_column(table, "database"),
            collection=code_column(table, "collection"),
            group=code_column(table, "group"),
            error=code_column(table, "error"),
            alpn=code_column(table, "alpn"),
            user_agent=code_column(table, "user_agent"),
            content_type=code_column(table, "content_type"),
            trace_id=code_column(table, "trace_id"),
            parent_span_id=code_column(table, "parent_span_id"),
            trace_state=code_column(table, "trace_state"),
            has_cause=_present(table, "cause_connection_id") & _present(table, "cause_sequence"),
            cause_connection=integers(table, "cause_connection_id"),
            cause_sequence=integers(table, "cause_sequence"),
        )

    @property
    def is_client(self) -> Mask:
        mask: Mask = self.role == CLIENT
        return mask

    @property
    def connection_identities(self) -> npt.NDArray[np.uint64]:
        """First client and server byte in TCP sequence space; 0 where not known."""
        both = self.isn_client.astype(np.uint64) << np.uint64(32) | self.isn_server.astype(
            np.uint64
        )
        return np.where(self.has_identity, both, np.uint64(0))

    @property
    def has_identity(self) -> Mask:
        return self.ends.has(ExchangeFlag.IDENTITY)


def _measure_spans(table: pa.Table) -> Ints:
    protocols = code_column(table, "protocol")
    sealed = integers(table, "flags") & int(ExchangeFlag.TLS) != 0
    has_none = protocols.is_one_of(_INTERLEAVED) | (protocols.is_one_of(_NUMBERED) & sealed)
    return np.where(has_none, np.int64(1), integers(table, "request_bytes"))


def _present(table: pa.Table, name: str) -> Mask:
    mask: Mask = table.column(name).is_valid().to_numpy()
    return mask
