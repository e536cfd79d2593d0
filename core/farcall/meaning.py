"""What a TracingConfig means: its effective config, after tier presets and discovery. Pure.

For whoever starts components: the operator and local mode. Components read the result (farcall.effective).
"""

from farcall.effective import (
    CaptureConfig,
    DnsConfig,
    DropRule,
    EffectiveConfig,
    Endpoints,
    ExporterConfig,
    Mode,
    RetentionConfig,
    SelectionConfig,
)
from farcall.quantities import parse_bytes, parse_duration_s
from farcall.tiers import TIERS
from farcall.tracingconfig import (
    CaptureSpec,
    DnsSpec,
    NamespacesSpec,
    RetentionSpec,
    TracingConfig,
    TracingConfigSpec,
)

# Where the Secrets of `exporter.otlp` are in the exporter's pod: a file beside our own, and a directory of its own,
# because nobody knows the names of its keys.
OTLP_CA = "otlp-ca.crt"
OTLP_HEADERS_DIR = "/run/secrets/farcall-otlp-headers"

# A machine of its own is a cluster of its own in local mode: loopback and the usual private pod ranges.
LOCAL_CLUSTER_CIDRS = ["10.244.0.0/16", "10.96.0.0/12", "127.0.0.0/8", "::1/128"]


def build_effective(
    config: TracingConfig,
    *,
    mode: Mode,
    endpoints: Endpoints,
    secrets_dir: str,
    state_dir: str,
    node: str = "",
    discovered_cidrs: list[str] | None = None,
    discovered_resolvers: list[str] | None = None,
    own_cgroups: list[str] | None = None,
    dns_ttl_override_s: int | None = None,
) -> EffectiveConfig:
    """What `config` means here. Pure: the same arguments give the same result, byte for byte once written."""
    spec = config.spec
    override_s = dns_ttl_override_s or config.metadata.dns_ttl_override_s
    given = spec.cluster_cidrs
    discovered = discovered_cidrs if discovered_cidrs is not None else LOCAL_CLUSTER_CIDRS
    return EffectiveConfig(
        name=config.metadata.name,
        generation=config.metadata.generation,
        mode=mode,
        tier=spec.tier,
        node=node,
        cluster_cidrs=list(given if given is not None else discovered),
        cluster_cidrs_source="given" if given is not None else "discovered",
        dns=_build_dns(spec, discovered_resolvers or [], override_s),
        retention=_build_retention(spec),
        capture=_build_capture(spec, mode, own_cgroups or []),
        selection=_build_selection(spec),
        exporter=_build_exporter(spec, mode, secrets_dir),
        endpoints=endpoints,
        secrets_dir=secrets_dir,
        state_dir=state_dir,
    )


def _build_dns(
    spec: TracingConfigSpec, discovered_resolvers: list[str], ttl_override_s: int | None
) -> DnsConfig:
    dns = spec.dns or DnsSpec.model_validate({})
    return DnsConfig(
        ttl_s=TIERS[spec.tier].dns_ttl_s,
        ttl_override_s=ttl_override_s,
        hold_while_connected=bool(dns.hold_while_connected),
        resolvers=sorted({*(dns.resolvers or []), *discovered_resolvers}),
    )


def _build_exporter(spec: TracingConfigSpec, mode: Mode, secrets_dir: str) -> ExporterConfig:
    """Secrets are a cluster's: in local mode nobody mounts them, and the system's authorities are asked."""
    otlp = spec.exporter.otlp if spec.exporter else None
    if otlp is None:
        return ExporterConfig()
    has_secrets = mode == "kubernetes"
    has_ca = has_secrets and otlp.tls and otlp.tls.ca_secret_ref
    return ExporterConfig(
        otlp_out_endpoint=otlp.endpoint,
        otlp_out_ca_file=f"{secrets_dir}/{OTLP_CA}" if has_ca else None,
        otlp_out_headers_dir=OTLP_HEADERS_DIR if has_secrets and otlp.headers_secret_ref else None,
        otlp_out_skip_verify=bool(otlp.tls and otlp.tls.insecure_skip_verify),
    )


def _build_selection(spec: TracingConfigSpec) -> SelectionConfig:
    capture = spec.capture or CaptureSpec.model_validate({})
    sampling, limits = capture.sampling, capture.rate_limits
    slow_ms = sampling.slower_than_milliseconds if sampling else None
    return SelectionConfig(
        percent=sampling.percent if sampling else 100,
        slower_than_s=slow_ms / 1_000 if slow_ms is not None else 1.0,
        drop=[
            DropRule(
                namespaces=list(given.namespaces or []),
                services=list(given.services or []),
                paths=list(given.paths or []),
            )
            for given in capture.filters or []
        ],
        spans_per_second=limits.spans_per_second if limits else None,
    )


def _build_retention(spec: TracingConfigSpec) -> RetentionConfig:
    tier = TIERS[spec.tier]
    given = spec.retention or RetentionSpec.model_validate({})
    # The engine merges parts into new ones before it drops the old: a volume that is full cannot merge.
    storage = spec.exporter.storage if spec.exporter else None
    volume = storage.size if storage and storage.size else tier.store_volume
    usable_bytes = max(parse_bytes(volume) * 8 // 10, 1)
    return RetentionConfig(
        traces_s=parse_duration_s(given.traces) if given.traces else tier.retention_traces_s,
        logs_s=parse_duration_s(given.logs) if given.logs else tier.retention_logs_s,
        max_size_bytes=parse_bytes(given.max_size) if given.max_size else usable_bytes,
    )


def _build_capture(spec: TracingConfigSpec, mode: Mode, own_cgroups: list[str]) -> CaptureConfig:
    capture = spec.capture or CaptureSpec.model_validate({})
    masking = capture.masking.enabled if capture.masking else None
    namespaces = spec.namespaces or NamespacesSpec.model_validate({})
    limits = capture.rate_limits
    records = limits.records_per_second if limits else None
    millicores = limits.cpu_millicores if limits else None
    hosts, timeout_s = capture.host_processes, capture.answer_timeout_seconds
    return CaptureConfig(
        protocols=list(capture.protocols or []),
        host_processes=hosts if hosts is not None else mode == "local",
        headers=list(capture.headers or []),
        masking=masking if masking is not None else True,
        namespaces_include=list(namespaces.include or []),
        namespaces_exclude=list(namespaces.exclude or []),
        own_cgroups=own_cgroups,
        records_per_s=20_000 if records is None else records,
        cpu_millicores=1_000 if millicores is None else millicores,
        answer_timeout_s=60 if timeout_s is None else timeout_s,
        tls=capture.tls != "Off",
    )
