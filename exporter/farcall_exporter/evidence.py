"""Rows of `dns_answers` and `connections`: what was true when it was decided. `farcall explain` reads only these."""

import numpy as np
import pyarrow as pa

from farcall.names import NameSource
from farcall.rows import CONNECTIONS, DNS_ANSWERS
from farcall_exporter.cluster.destinations import Places
from farcall_exporter.columns import (
    Coded,
    choose,
    code_addresses,
    code_column,
    constant,
    overlay,
)
from farcall_exporter.decode import Decoded
from farcall_exporter.exchanges import CLIENT, Ends, Ints, Owner
from farcall_exporter.naming import Named
from farcall_exporter.spans import connection_ids


def build_answers(decoded: Decoded, *, owner: Owner) -> pa.Table:
    table = decoded.table
    columns = {
        "Timestamp": table.column("time"),
        **_who(owner, decoded.header.node, table.num_rows),
        "Resolver": code_addresses(table, "resolver").to_strings(),
        "Question": table.column("question"),
        "QuestionType": code_column(table, "question_type").to_words(),
        "Rcode": table.column("rcode"),
        "Address": code_addresses(table, "address").or_else("").to_strings(),
        "TtlSeconds": table.column("ttl_s"),
        "CanonicalName": code_column(table, "canonical_name").or_else("").to_strings(),
    }
    return pa.Table.from_arrays([columns[name] for name in DNS_ANSWERS.names], schema=DNS_ANSWERS)


def build_connections(
    decoded: Decoded,
    *,
    owner: Owner,
    ends: Ends,
    role: Ints,
    named: Named,
    places: Places,
    ttl_s: int,
) -> pa.Table:
    """`named` holds a decision for each row; a server's end has no destination to name."""
    table = decoded.table
    count = table.num_rows
    is_client = role == CLIENT
    by_cluster = places.certain
    label = overlay(named.texts("label"), places.texts(lambda i: i.label), by_cluster)
    source = overlay(named.texts("source"), constant(NameSource.KUBERNETES, count), by_cluster)
    columns = {
        "Timestamp": table.column("time"),
        "ConnectionId": connection_ids(decoded.header.boot_id, ends.connection).to_strings(),
        "Opened": table.column("opened"),
        "Role": choose(("client", "server"), role).to_words(),
        "Protocol": code_column(table, "protocol").to_words(),
        "Flags": table.column("flags"),
        **_who(owner, decoded.header.node, count),
        "LocalAddress": ends.local.to_strings(),
        "LocalPort": table.column("local_port"),
        "PeerAddress": ends.peer.to_strings(),
        "PeerPort": table.column("peer_port"),
        "BoundName": ends.bound_name.or_else("").to_strings(),
        "BoundAnswered": table.column("bound_answered"),
        "Rivals": _rivals(table),
        "Label": label.only(is_client).or_else("").to_strings(),
        "NameSource": source.only(is_client).or_else("").to_words(),
        "UnknownReason": named.texts("reason").only(is_client).or_else("").to_words(),
        "AnsweredAt": _times(np.where(is_client & ~by_cluster, named.answered_ns(), 0)),
        "TtlSeconds": pa.array(np.full(count, ttl_s, np.uint32)),
    }
    return pa.Table.from_arrays([columns[name] for name in CONNECTIONS.names], schema=CONNECTIONS)


def _who(owner: Owner, node: str, count: int) -> dict[str, pa.Array]:
    words: dict[str, Coded] = {
        "ClientKey": owner.client_key,
        "Node": constant(node, count),
        "ServiceName": owner.service,
        "Executable": owner.executable,
        "ContainerId": owner.container_id.or_else(""),
        "Namespace": owner.namespace.or_else(""),
        "Pod": owner.pod.or_else(""),
    }
    return {
        **{name: coded.to_words() for name, coded in words.items()},
        "Pid": pa.array(owner.tgid.astype(np.uint32)),
    }


def _rivals(table: pa.Table) -> pa.Array:
    column = table.column("rivals").combine_chunks()
    lists = column.to_pylist()
    return pa.array([rivals or [] for rivals in lists], CONNECTIONS.field("Rivals").type)


def _times(times_ns: Ints) -> pa.Array:
    return pa.array(times_ns, mask=times_ns == 0).cast(CONNECTIONS.field("AnsweredAt").type)
