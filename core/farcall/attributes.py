"""The attribute registry: every key that farcall writes on a span, once. Documentation, filters and tests come from it.

Names follow the OpenTelemetry semantic conventions (1.37); what is ours alone starts with `farcall.`;
`metoro.is_server_span` is named by the brief and stays.
"""

from dataclasses import dataclass
from typing import Literal

from farcall.names import UnknownReason

AttributeType = Literal["string", "int", "bool", "float"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """`source` is the convention it follows: `otel`, `farcall` or `brief`."""

    key: str
    brief: str
    example: str
    type: AttributeType = "string"
    source: Literal["otel", "farcall", "brief"] = "otel"
    values: tuple[str, ...] = ()  # closed list, when it is one


_ALL = (
    # Who is called
    Attribute(
        key="server.address",
        brief="The name the client used, else the IP address.",
        example="api.example.com",
    ),
    Attribute(key="server.port", type="int", brief="Port of the server.", example="443"),
    Attribute(
        key="client.address",
        brief="Address of the client, on server-side spans.",
        example="198.51.100.7",
    ),
    Attribute(
        key="client.port",
        type="int",
        brief="Port of the client, on server-side spans.",
        example="49152",
    ),
    Attribute(
        key="network.peer.address",
        brief="IP address of the other end of the connection.",
        example="203.0.113.10",
    ),
    Attribute(key="network.peer.port", type="int", brief="Port of the other end.", example="6379"),
    Attribute(
        key="network.local.address",
        brief="IP address of this end.",
        example="10.244.0.5",
    ),
    Attribute(key="network.local.port", type="int", brief="Port of this end.", example="49152"),
    Attribute(
        key="network.type",
        brief="Version of IP.",
        example="ipv4",
        values=("ipv4", "ipv6"),
    ),
    Attribute(
        key="network.transport",
        brief="Transport.",
        example="tcp",
        values=("tcp", "udp"),
    ),
    Attribute(key="network.protocol.name", brief="Application protocol.", example="http"),
    Attribute(
        key="network.protocol.version",
        brief="Version of the application protocol: 2 for HTTP/2 and gRPC, else not set.",
        example="2",
    ),
    # HTTP
    Attribute(key="http.request.method", brief="Method.", example="GET"),
    Attribute(key="http.response.status_code", type="int", brief="Status.", example="200"),
    Attribute(key="url.path", brief="Path of the request target.", example="/api/data"),
    Attribute(key="url.query", brief="Query with its values masked.", example="page=?&q=?"),
    Attribute(
        key="url.scheme",
        brief="http or https.",
        example="http",
        values=("http", "https"),
    ),
    Attribute(key="user_agent.original", brief="User-Agent header.", example="curl/8.5"),
    Attribute(
        key="http.request.header.content-type",
        brief="Content-Type of the request.",
        example="application/json",
    ),
    Attribute(
        key="http.request.size",
        type="int",
        brief="Bytes of the request when the answer came, head and framing included.",
        example="512",
    ),
    Attribute(
        key="http.response.size",
        type="int",
        brief="Bytes of the response, head and framing included, up to its end where that is known, else as far as it was seen.",
        example="2048",
    ),
    # gRPC
    Attribute(key="rpc.system", brief="The system.", example="grpc", values=("grpc",)),
    Attribute(
        key="rpc.service",
        brief="Full name of the service that is called, its package included.",
        example="shop.Cart",
    ),
    Attribute(key="rpc.method", brief="Method of the service.", example="AddItem"),
    Attribute(
        key="rpc.grpc.status_code",
        type="int",
        brief="gRPC's status code, from the trailers.",
        example="5",
    ),
    # Databases and caches
    Attribute(key="db.system.name", brief="The system.", example="redis"),
    Attribute(key="db.operation.name", brief="Command or statement verb.", example="GET"),
    Attribute(
        key="db.namespace",
        brief="MongoDB's database, Cassandra's keyspace.",
        example="shop",
    ),
    Attribute(
        key="db.collection.name",
        brief="MongoDB's collection, Cassandra's table.",
        example="orders",
    ),
    Attribute(
        key="db.query.text",
        brief="Statement or command with its arguments masked.",
        example="GET ?",
    ),
    Attribute(
        key="db.operation.batch.size",
        type="int",
        brief="Commands of a pipeline, when more than one.",
        example="16",
    ),
    Attribute(
        key="db.response.status_code",
        brief="The server's error code.",
        example="WRONGTYPE",
    ),
    # Messaging
    Attribute(key="messaging.system", brief="The system.", example="kafka"),
    Attribute(
        key="messaging.operation.name",
        brief="Name of the request, as Kafka's protocol has it; of NATS `publish`, `receive` or `error`; the method of AMQP, of its messages without `basic.`.",
        example="Produce",
    ),
    Attribute(
        key="messaging.operation.type",
        brief="What it does with messages; not set for requests that move none.",
        example="send",
        values=("send", "receive", "process"),
    ),
    Attribute(
        key="messaging.destination.name",
        brief="Topic, or topics in the order of the request; `unknown topic (…)` where a request has only its ID. NATS' subject. Of RabbitMQ `exchange:routing key:queue`, as far as there are any.",
        example="orders",
    ),
    Attribute(
        key="messaging.message.body.size",
        type="int",
        brief="Bytes of a NATS or AMQP message without its headers.",
        example="512",
    ),
    Attribute(
        key="messaging.rabbitmq.destination.routing_key",
        brief="Routing key of the message, or of the binding.",
        example="orders.new",
    ),
    Attribute(key="messaging.consumer.group.name", brief="Its group.", example="billing"),
    # Connections whose protocol is not read
    Attribute(
        key="farcall.tcp.client_bytes",
        type="int",
        source="farcall",
        brief="Bytes from the connecting end, in this span's time.",
        example="4096",
    ),
    Attribute(
        key="farcall.tcp.server_bytes",
        type="int",
        source="farcall",
        brief="Bytes from the other end, in this span's time.",
        example="65536",
    ),
    Attribute(
        key="tls.client.server_name",
        brief="Name that the client's TLS handshake asked for (SNI).",
        example="api.example.com",
    ),
    Attribute(
        key="farcall.tls.alpn",
        source="farcall",
        brief="Application protocols that the client's TLS handshake offered (ALPN), in its order.",
        example="h2,http/1.1",
    ),
    Attribute(key="error.type", brief="Why the call failed.", example="500"),
    # Whose process
    Attribute(
        key="service.name",
        brief="Service of this end: OTEL_SERVICE_NAME, else its pod's annotation, workload, pod or container, else the executable's name.",
        example="checkout",
    ),
    Attribute(
        key="process.pid",
        type="int",
        brief="Process ID as the node's own /proc shows it.",
        example="4711",
    ),
    Attribute(
        key="process.executable.name",
        brief="Name of the executable.",
        example="python3",
    ),
    Attribute(key="container.id", brief="Container ID.", example="4c01db0b339c"),
    # Among the resource's attributes these speak of this end, among the span's own of the destination inside the cluster.
    Attribute(
        key="k8s.namespace.name",
        brief="Namespace: of this end among the resource's attributes, of the destination among the span's.",
        example="shop",
    ),
    Attribute(
        key="k8s.pod.name",
        brief="Pod: of this end among the resource's attributes, of the destination among the span's.",
        example="checkout-7d9c",
    ),
    *(
        Attribute(
            key=f"k8s.{word}.name",
            brief=f"{kind} that the pod belongs to: this end's among the resource's attributes, the destination's among the span's.",
            example=example,
        )
        for word, kind, example in (
            ("deployment", "Deployment", "checkout"),
            ("statefulset", "StatefulSet", "redis"),
            ("daemonset", "DaemonSet", "node-exporter"),
            ("replicaset", "ReplicaSet (without a Deployment)", "checkout-7d9c"),
            ("cronjob", "CronJob", "backup"),
            ("job", "Job (without a CronJob)", "import-2026"),
        )
    ),
    Attribute(
        key="k8s.pod.uid",
        brief="UID of that pod.",
        example="275ecb36-5aa8-4c2a-9c47-d8bb681b9aff",
    ),
    Attribute(key="k8s.container.name", brief="Container of this end.", example="app"),
    Attribute(
        key="k8s.service.name",
        brief="Service that was called, where the cluster leaves no doubt which.",
        example="cart",
    ),
    Attribute(
        key="k8s.node.name",
        brief="Node: that saw this end among the resource's attributes, of the destination among the span's.",
        example="node-1",
    ),
    # Ours
    Attribute(
        key="metoro.is_server_span",
        type="bool",
        brief="`true` on server-side spans, absent on the others.",
        example="true",
        source="brief",
        values=("true",),
    ),
    Attribute(
        key="farcall.destination.name",
        brief="The label: service, host, or `Unknown External Service`.",
        example="api.example.com",
        source="farcall",
    ),
    Attribute(
        key="farcall.destination.kind",
        brief="What the label stands for.",
        example="external",
        source="farcall",
        values=("service", "external", "unknown"),
    ),
    Attribute(
        key="farcall.name.source",
        brief="Which evidence named it.",
        example="dns",
        source="farcall",
        values=("kubernetes", "server", "http", "sni", "dns", "cache", "cluster"),
    ),
    Attribute(
        key="farcall.name.confidence",
        brief="How sure the name is.",
        example="exact",
        source="farcall",
        values=("exact", "client", "shared"),
    ),
    Attribute(
        key="farcall.name.age_s",
        type="int",
        brief="Seconds from the DNS answer to the call.",
        example="12",
        source="farcall",
    ),
    Attribute(
        key="farcall.unknown.reason",
        brief="Why there is no name.",
        example="no_dns_seen",
        source="farcall",
        values=tuple(map(str, UnknownReason)),
    ),
    Attribute(
        key="farcall.link.tracestate",
        brief="What the request's `tracestate` said beside its `traceparent`; the link's trace state in OTLP out.",
        example="rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
        source="farcall",
    ),
    Attribute(
        key="farcall.join",
        brief="How the server's sight was found: `exact`, `overlap`; `none` on a server-side span whose client's sight never came.",
        example="exact",
        source="farcall",
        values=("exact", "overlap", "none"),
    ),
    Attribute(
        key="farcall.server.duration_ns",
        type="int",
        brief="Duration as the server saw it; the rest is network and queueing.",
        example="1200000",
        source="farcall",
    ),
    Attribute(
        key="farcall.server.service.name",
        brief="Service name of the server's process, from its own sight.",
        example="inventory",
        source="farcall",
    ),
    Attribute(
        key="farcall.server.pod.name",
        brief="Pod of the server's process, from its own sight.",
        example="inventory-5f",
        source="farcall",
    ),
    Attribute(
        key="farcall.request.duration_ns",
        type="int",
        brief="From the request's first byte to its last, where it came in several calls: the time that sending it took.",
        example="350000",
        source="farcall",
    ),
    Attribute(
        key="farcall.response.first_byte_ns",
        type="int",
        brief="From the request's first byte to the response's first, where the response came in several calls; the span lasts to its last byte.",
        example="1800000",
        source="farcall",
    ),
    Attribute(
        key="farcall.pipeline.count",
        type="int",
        brief="Requests that an HTTP/1 client sent at once, when more than one; method, path and answer are the first one's.",
        example="16",
        source="farcall",
    ),
    Attribute(
        key="farcall.flags",
        brief="What was imperfect: `cut`, `late`, `pipelined`, `head_lost`.",
        example="late",
        source="farcall",
    ),
    Attribute(
        key="farcall.connection.id",
        brief="Key into the `connections` table.",
        example="6f1c…",
        source="farcall",
    ),
)

REGISTRY: dict[str, Attribute] = {attribute.key: attribute for attribute in _ALL}
IS_SERVER_SPAN = "metoro.is_server_span"
