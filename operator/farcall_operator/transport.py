"""What `spec.tls` means: schemes, names in certificates, which Secret each workload mounts, and Redis' lines. Pure.

The parts that hold secrets or calls talk TLS: agents to the exporter, agents and the exporter to Redis. Not the rest:
the store is reached inside its pod alone, OTLP comes from applications that know no authority of ours, and the
console is behind the user's ingress or a port-forward.
"""

from typing import Literal

from farcall import tlsfiles
from farcall.tracingconfig import TracingConfig
from farcall_operator.layout import REDIS_PORT, SECRETS_DIR

Mode = Literal["operator", "secret", "disabled"]
# Which TLS files each workload sees, and no more.
TLS_FILES = {"probe": (tlsfiles.CA,), "redis": tlsfiles.ALL, "exporter": tlsfiles.ALL}
SERVERS = ("exporter", "redis")  # each has a certificate
# How the Services of each server end; all of their names are in its certificate.
_SERVICES = {"exporter": ("exporter", "exporter-headless"), "redis": ("redis", "redis-headless")}
_REDIS_ANYWHERE = ("bind * -::*", "tcp-keepalive 60")
REDIS_PLAIN = (f"port {REDIS_PORT}", *_REDIS_ANYWHERE)
REDIS_TLS = (
    "port 0",
    f"tls-port {REDIS_PORT}",
    *_REDIS_ANYWHERE,
    f"tls-cert-file {SECRETS_DIR}/{tlsfiles.CERTIFICATE}",
    f"tls-key-file {SECRETS_DIR}/{tlsfiles.PRIVATE_KEY}",
    "tls-auth-clients no",  # they show passwords, so Redis needs no authority of its own
    'tls-protocols "TLSv1.2 TLSv1.3"',
)


def read_mode(config: TracingConfig) -> Mode:
    return (config.spec.tls and config.spec.tls.mode) or "operator"


def has_tls(config: TracingConfig) -> bool:
    return read_mode(config) != "disabled"


def find_host(name: str, namespace: str, server: str) -> str:
    """What clients dial, and what the certificate must be for."""
    return f"{name}-{server}.{namespace}.svc"


def list_names(name: str, namespace: str, server: str) -> tuple[str, ...]:
    """All DNS names of the server's certificate; the one that clients dial comes first."""
    services = [find_host(name, namespace, service) for service in _SERVICES[server]]
    return (*services, *(f"{service}.cluster.local" for service in services))


def find_tls_secret(config: TracingConfig, workload: str) -> str | None:
    """The Secret that `workload` mounts its TLS_FILES from; None without TLS."""
    mode = read_mode(config)
    if mode == "disabled":
        return None
    if mode == "secret" and config.spec.tls and config.spec.tls.secret_ref:
        return config.spec.tls.secret_ref
    # The agent is given the authorities of the exporter's, which are those of all.
    return find_tls_child(config.metadata.name, "redis" if workload == "redis" else "exporter")


def find_tls_child(name: str, server: str) -> str:
    return f"{name}-{server}-tls"
