"""TracingConfig, the one resource a user writes. The model is the source of crds/tracingconfigs.yaml.

Strict: an unknown field, a wrong type or an impossible value is refused with the field, the value and what is
allowed. No field has a default that is written back: what is left out is computed from the tier (`effective`).
"""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel

from farcall.faults import describe_faults
from farcall.quantities import (
    BYTES_PATTERN,
    RETENTION_PATTERN,
    parse_bytes,
    parse_duration_s,
)
from farcall.tiers import TierName
from farcall.yamltext import YamlTextError, parse_yaml

GROUP = "farcall.dev"
VERSION = "v1alpha1"
KIND = "TracingConfig"
API_VERSION = f"{GROUP}/{VERSION}"

# A child's name is `<name>-<part>`; 40 leaves room for the part, a hash and a pod's suffix in 63 (RFC 1123 label).
NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$"

ProtocolName = Literal[
    "http",
    "http2",
    "grpc",
    "redis",
    "postgresql",
    "mysql",
    "memcached",
    "mongodb",
    "kafka",
    "cassandra",
    "dns",
    "tcp",
]


class InvalidConfigError(Exception):
    """A TracingConfig that cannot be used. `problems` holds one sentence per fault, each naming its field."""

    def __init__(self, source: str, problems: list[str]) -> None:
        self.source = source
        self.problems = problems
        super().__init__("\n".join(f"{source}: {problem}" for problem in problems))


# Address, slash, prefix length; ipaddress alone would also take a bare address, a netmask and a zone.
_CIDR = re.compile(r"[0-9a-fA-F:.]+/[0-9]{1,3}")
MAX_RETENTION = "3650d"  # ten years; nanoseconds of more than 292 do not fit the store's integers
MAX_SIZE = "8192Ti"  # 2^53: what every JSON reader holds exactly


def _check_cidr(text: str) -> str:
    try:
        if _CIDR.fullmatch(text) is None:
            raise ValueError("it needs an address, a slash and a prefix length")
        ipaddress.ip_network(text, strict=True)
    except ValueError as e:
        raise ValueError(f"must be a CIDR such as 10.244.0.0/16 or fd00::/48: {e}") from e
    return text


def _check_address(text: str) -> str:
    try:
        if "%" in text:
            raise ValueError("a zone means nothing on another machine")
        ipaddress.ip_address(text)
    except ValueError as e:
        raise ValueError("must be an IP address such as 10.96.0.10") from e
    return text


def _check_retention(text: str) -> str:
    if parse_duration_s(text) > parse_duration_s(MAX_RETENTION):
        raise ValueError(f"must be at most {MAX_RETENTION}")
    return text


def _check_size(text: str) -> str:
    if parse_bytes(text) > parse_bytes(MAX_SIZE):
        raise ValueError(f"must be at most {MAX_SIZE}")
    return text


LABEL_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
HEADER_PATTERN = r"^[a-z0-9-]+$"
URL_PATTERN = r"^https?://[^\s@]+$"

Cidr = Annotated[str, Field(max_length=43), AfterValidator(_check_cidr)]
Address = Annotated[str, Field(max_length=39), AfterValidator(_check_address)]
Retention = Annotated[
    str, Field(pattern=RETENTION_PATTERN, max_length=8), AfterValidator(_check_retention)
]
Size = Annotated[str, Field(pattern=BYTES_PATTERN, max_length=12), AfterValidator(_check_size)]
Label = Annotated[str, Field(min_length=1, max_length=63, pattern=LABEL_PATTERN)]
Text = Annotated[str, Field(min_length=1, max_length=1024)]
# Handed through to Kubernetes as it is (tolerations, affinity and the like): its own schema is the API server's business.
PassThrough = dict[str, Any]


class Part(BaseModel):
    """Base of every part of the spec: camelCase outside, unknown fields refused, immutable once read."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, alias_generator=to_camel, populate_by_name=True
    )


class RetentionSpec(Part):
    traces: Retention | None = Field(
        None, description="How long spans are kept, `h`, `d` or `w`; up to one day longer."
    )
    logs: Retention | None = Field(None, description="How long log lines are kept.")
    max_size: Size | None = Field(
        None, description="When the store grows past this, its oldest day goes first."
    )


class DnsSpec(Part):
    hold_while_connected: bool | None = Field(
        None,
        description="Keep a connection's name for as long as the connection lives, beyond the tier's TTL.",
    )
    resolvers: Annotated[list[Address], Field(max_length=32)] | None = Field(
        None,
        description="Further trusted resolvers: their answers may name other clients' older connections.",
    )


class NamespacesSpec(Part):
    include: Annotated[list[Label], Field(max_length=256)] | None = Field(
        None, description="Trace only these."
    )
    exclude: Annotated[list[Label], Field(max_length=256)] | None = Field(
        None, description="Trace all but these."
    )


class MaskingSpec(Part):
    enabled: bool | None = Field(
        None,
        description="Mask URL query values, SQL literals and cache arguments in the agent. Default true.",
    )


class CaptureSpec(Part):
    protocols: Annotated[list[ProtocolName], Field(max_length=16)] | None = Field(
        None, description="Only these protocols; all when left out."
    )
    host_processes: bool | None = Field(
        None,
        description="Trace processes outside containers. Default false on Kubernetes, true in local mode.",
    )
    headers: (
        Annotated[
            list[Annotated[str, Field(max_length=64, pattern=HEADER_PATTERN)]],
            Field(max_length=32),
        ]
        | None
    ) = Field(None, description="Further request headers that may leave the agent, in lower case.")
    masking: MaskingSpec | None = None


class LogsSpec(Part):
    enabled: bool | None = Field(None, description="Take in logs. Default true.")
    exclude: Annotated[list[Label], Field(max_length=256)] | None = Field(
        None, description="Namespaces left out."
    )
    paths: Annotated[list[Text], Field(max_length=64)] | None = Field(
        None, description="Local mode: files to follow."
    )


class ResourcesSpec(Part):
    requests: Annotated[dict[str, str], Field(max_length=8)] | None = None
    limits: Annotated[dict[str, str], Field(max_length=8)] | None = None


class ProbeSpec(Part):
    resources: ResourcesSpec | None = None
    tolerations: Annotated[list[PassThrough], Field(max_length=64)] | None = None
    node_selector: Annotated[dict[str, str], Field(max_length=64)] | None = None
    affinity: PassThrough | None = None
    priority_class_name: Text | None = None
    update_strategy: PassThrough | None = None
    privileged: bool | None = Field(
        None, description="Fall back to a privileged container where BPF and PERFMON are unknown."
    )


class PersistenceSpec(Part):
    enabled: bool | None = None
    size: Size | None = None
    storage_class_name: Text | None = None


class DnsCacheSpec(Part):
    image: Text | None = None
    resources: ResourcesSpec | None = None
    persistence: PersistenceSpec | None = None
    existing_secret: Label | None = Field(
        None, description="A Secret with the users' passwords instead of the operator's."
    )


class SecretKeyRef(Part):
    name: Annotated[str, Field(min_length=1, max_length=253)]
    key: Annotated[str, Field(min_length=1, max_length=253)]


class ClickHouseSpec(Part):
    url: Annotated[str, Field(max_length=512, pattern=URL_PATTERN)] = Field(
        description="A ClickHouse server instead of the embedded store; without user and password, those come by secretRef."
    )
    secret_ref: Annotated[str, Field(min_length=1, max_length=253)] | None = None


class OtlpTlsSpec(Part):
    ca_secret_ref: SecretKeyRef | None = None
    insecure_skip_verify: bool | None = None


class OtlpSpec(Part):
    endpoint: Annotated[str, Field(max_length=512, pattern=URL_PATTERN)] = Field(
        description="Spans are sent here too, by OTLP over HTTP (`/v1/traces` is appended)."
    )
    tls: OtlpTlsSpec | None = None
    headers_secret_ref: Annotated[str, Field(min_length=1, max_length=253)] | None = None


class ExporterSpec(Part):
    replicas: Annotated[int, Field(ge=1, le=64)] | None = None
    resources: ResourcesSpec | None = None
    clickhouse: ClickHouseSpec | None = None
    storage: PersistenceSpec | None = None
    otlp: OtlpSpec | None = None

    @model_validator(mode="after")
    def _has_one_writer(self) -> Self:
        if self.clickhouse is None and self.replicas is not None and self.replicas > 1:
            raise ValueError(
                f"replicas must be 1 without clickhouse.url (it is {self.replicas}): the embedded store has one writer"
            )
        return self


class ConsoleSpec(Part):
    ingress: PassThrough | None = None
    oidc: PassThrough | None = None
    public_share: bool | None = None


class ImagesSpec(Part):
    registry: Text | None = None
    digests: Annotated[dict[str, str], Field(max_length=16)] | None = None
    pull_secrets: Annotated[list[Label], Field(max_length=16)] | None = None


class TlsSpec(Part):
    mode: Literal["operator", "secret", "disabled"] | None = None
    secret_ref: Annotated[str, Field(min_length=1, max_length=253)] | None = None


class TracingConfigSpec(Part):
    tier: TierName = Field(
        description="Hobby keeps DNS answers 1 h, Scale 168 h; the tier also sizes everything."
    )
    retention: RetentionSpec | None = None
    cluster_cidrs: Annotated[list[Cidr], Field(max_length=64)] | None = Field(
        None,
        alias="clusterCIDRs",  # on the field itself: inside the union pydantic ignores it
        description="What counts as inside. Discovered from nodes, pods and service ranges when left out.",
    )
    dns: DnsSpec | None = None
    namespaces: NamespacesSpec | None = None
    capture: CaptureSpec | None = None
    logs: LogsSpec | None = None
    probe: ProbeSpec | None = None
    dns_cache: DnsCacheSpec | None = None
    exporter: ExporterSpec | None = None
    console: ConsoleSpec | None = None
    images: ImagesSpec | None = None
    tls: TlsSpec | None = None
    paused: bool | None = Field(
        None, description="Leave everything as it is and reconcile nothing."
    )
    deletion_policy: Literal["Delete", "Retain"] | None = Field(
        None, description="What happens to volumes."
    )


class Metadata(BaseModel):
    """The part of metadata we read; the API server owns the rest, so unknown fields are no fault."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    name: Annotated[str, Field(pattern=NAME_PATTERN, max_length=40)]
    generation: Annotated[int, Field(ge=0)] = 1
    uid: str = ""


class TracingConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)

    api_version: Literal["farcall.dev/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["TracingConfig"]
    metadata: Metadata
    spec: TracingConfigSpec
    status: dict[str, Any] | None = None


# etcd refuses an object of more than 1.5 MiB; a TracingConfig of a sixth of that is a mistake, not a configuration.
MAX_FILE_BYTES = 256 * 1024

_EXAMPLES = {
    RETENTION_PATTERN: "3d: a whole number above 0 and h, d or w",
    BYTES_PATTERN: "8Gi: a whole number above 0 and Ki, Mi, Gi or Ti",
    NAME_PATTERN: "main: a DNS label of at most 40 characters",
    LABEL_PATTERN: "kube-system: lower-case letters, digits and hyphens",
    HEADER_PATTERN: "x-request-id: lower-case letters, digits and hyphens",
    URL_PATTERN: "https://host:port/path, without user and password",
}


def read_tracingconfig(path: Path) -> TracingConfig:
    """Reads the one TracingConfig in a YAML file. Raises InvalidConfigError, whatever is wrong with it."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)  # no more: it may be a device
    except OSError as e:
        raise InvalidConfigError(str(path), [f"cannot be read: {e.strerror or e}"]) from e
    return parse_tracingconfig(raw, source=str(path))


def parse_tracingconfig(raw: bytes, *, source: str) -> TracingConfig:
    """YAML bytes to a TracingConfig; `source` names the file in every problem. Raises InvalidConfigError."""
    if len(raw) > MAX_FILE_BYTES:
        raise InvalidConfigError(source, [f"is larger than {MAX_FILE_BYTES} bytes"])
    try:
        documents = parse_yaml(raw)
    except YamlTextError as e:
        raise InvalidConfigError(source, [str(e)]) from e
    if len(documents) != 1:
        raise InvalidConfigError(
            source,
            [f"holds {len(documents)} YAML documents; exactly one TracingConfig is expected"],
        )
    try:
        return TracingConfig.model_validate(documents[0], by_alias=True, by_name=False)
    except ValidationError as e:
        problems = describe_faults(e, model=TracingConfig, examples=_EXAMPLES)
        raise InvalidConfigError(source, problems) from e
