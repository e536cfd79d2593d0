"""The words of naming: where a name came from, how sure it is, and why there is none. Closed lists."""

from enum import StrEnum

UNKNOWN_EXTERNAL_SERVICE = "Unknown External Service"


class NameSource(StrEnum):
    """`farcall.name.source`: which evidence named the destination, best first."""

    KUBERNETES = "kubernetes"  # a service, pod or workload of the cluster
    SERVER = (
        "server"  # the server's own sight of the same call, joined: its process says what it is
    )
    HTTP = "http"  # Host or :authority of the request itself
    SNI = "sni"  # server_name of the TLS ClientHello
    DNS = "dns"  # the answer that this connection was opened with
    CACHE = "cache"  # Redis, by this client and address
    CLUSTER = "cluster"  # Redis, by address for the whole cluster


class Confidence(StrEnum):
    """`farcall.name.confidence`."""

    EXACT = "exact"  # said by the request, or by the answer that the connection was opened with
    CLIENT = (
        "client"  # this client's word: asked for, but not provably for this connection; or the Host
        # of a request to an address inside that no answer bears out
    )
    SHARED = "shared"  # another client of the cluster asked for it


class UnknownReason(StrEnum):
    """`farcall.unknown.reason`: why a destination is `Unknown External Service`. Each has its test."""

    NO_DNS_SEEN = (
        "no_dns_seen"  # watched from its start, and it asked for nothing that led to this address
    )
    EXPIRED = "expired"  # the answer is older than the tier's TTL
    AMBIGUOUS = (
        "ambiguous"  # several names lead to this address, and none is bound to this connection
    )
    CACHE_UNAVAILABLE = "cache_unavailable"  # Redis could not be asked
    CACHE_EVICTED = "cache_evicted"  # Redis knew it, and gave it up before its time
    AGENT_STARTED_LATER = "agent_started_later"  # the connection is older than the agent's watch
    DNS_LOST = "dns_lost"  # DNS records of this node were lost while this client lived


class DestinationKind(StrEnum):
    """`farcall.destination.kind`."""

    SERVICE = "service"  # inside the cluster
    EXTERNAL = "external"
    UNKNOWN = "unknown"
