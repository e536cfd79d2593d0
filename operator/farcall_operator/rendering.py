"""What `farcall render` prints: the objects, and in front of them what they rely on and cannot contain."""

from collections.abc import Iterator

from farcall import tlsfiles
from farcall.tracingconfig import TracingConfig
from farcall_operator.context import Context
from farcall_operator.kubernetes import build_manifests
from farcall_operator.layout import CLICKHOUSE_KEYS, EXPORTER_ACCOUNT, SECRET_FILES
from farcall_operator.manifests import render_manifests
from farcall_operator.transport import SERVERS, find_tls_child, read_mode
from farcall_operator.view import split_secret_files


def render_config(config: TracingConfig, context: Context) -> str:
    head = "".join(f"# {line}\n" for line in describe_needs(config, context))
    return head + render_manifests(build_manifests(config, context))


def describe_needs(config: TracingConfig, context: Context) -> Iterator[str]:
    """The Secret by the names of its keys; never a value."""
    name, namespace = config.metadata.name, context.namespace
    yield f"What the TracingConfig {name} ({config.spec.tier} tier) becomes in the namespace {namespace}."
    yield "The namespace must admit the probe: pod-security.kubernetes.io/enforce=privileged."
    yield f"The installation (deploy/install.yaml) brings the ServiceAccount {EXPORTER_ACCOUNT}."
    every = tuple(dict.fromkeys(file for files in SECRET_FILES.values() for file in files))
    ours, theirs = split_secret_files(config, every)
    yield f"The operator makes the Secret {name}-secrets, with the keys {', '.join(ours)}."
    if theirs and config.spec.dns_cache:
        yield f"You make the Secret {config.spec.dns_cache.existing_secret}, with the keys {', '.join(theirs)}."
    clickhouse = config.spec.exporter.clickhouse if config.spec.exporter else None
    if clickhouse and clickhouse.secret_ref:
        yield f"You make the Secret {clickhouse.secret_ref}, with the keys {', '.join(CLICKHOUSE_KEYS)}."
    yield describe_certificates(config)
    if config.spec.cluster_cidrs is None and context.discovery is None:
        yield "clusterCIDRs are left out: the operator discovers them, and here the list is empty."


def describe_certificates(config: TracingConfig) -> str:
    mode, keys = read_mode(config), ", ".join(tlsfiles.ALL)
    if mode == "disabled":
        return (
            "spec.tls.mode is disabled: the parts talk plain text, passwords and tokens included."
        )
    if mode == "secret":
        secret = config.spec.tls.secret_ref if config.spec.tls else None
        return f"You make the Secret {secret or '(spec.tls.secretRef is missing)'}, with the keys {keys}."
    made = " and ".join(find_tls_child(config.metadata.name, server) for server in SERVERS)
    return f"The operator makes the Secrets {made}, with the keys {keys}."
