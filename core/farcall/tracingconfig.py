"""TracingConfig, the one resource a user writes. The model is the source of crds/tracingconfigs.yaml.

Strict: an unknown field, a wrong type or an impossible value is refused with the field, the value and what is
allowed. No field has a default that is written back: what is left out is computed from the tier (`effective`).
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel

from farcall.faults import describe_faults
from farcall.fieldtypes import (
    HEADER_PATTERN,
    NAME_PATTERN,
    PATTERN_EXAMPLES,
    URL_PATTERN,
    Address,
    Cidr,
    Label,
    PassThrough,
    ProtocolName,
    Retention,
    Size,
    Text,
)
from farcall.tiers import TierName
from farcall.yamltext import YamlTextError, parse_yaml

GROUP = "farcall.dev"
VERSION = "v1alpha1"
KIND = "TracingConfig"
API_VERSION = f"{GROUP}/{VERSION}"


class InvalidConfigError(Exception):
    """A TracingConfig that cannot be used. `problems` holds one sentence per fault, each naming its field."""

    def __init__(self, source: str, problems: list[str]) -> None:
        self.source = source
        self.problems = problems
        super().__init__("\n".join(f"{source}: {problem}" for problem in problems))


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
    ) = Field(
        None,
        description="Further request headers that may leave the agent, in lower case. Reserved: without effect in this version.",
    )
    masking: MaskingSpec | None = Field(None, description="What leaves the agent unmasked.")


class LogsSpec(Part):
    enabled: bool | None = Field(
        None, description="Take in logs. Default true. Reserved: without effect in this version."
    )
    exclude: Annotated[list[Label], Field(max_length=256)] | None = Field(
        None, description="Namespaces left out. Reserved: without effect in this version."
    )
    paths: Annotated[list[Text], Field(max_length=64)] | None = Field(
        None, description="Local mode: files to follow. Reserved: without effect in this version."
    )


class ResourcesSpec(Part):
    requests: Annotated[dict[str, str], Field(max_length=8)] | None = Field(
        None,
        description="As in a container's `resources.requests`; what is left out comes from the tier.",
    )
    limits: Annotated[dict[str, str], Field(max_length=8)] | None = Field(
        None,
        description="As in a container's `resources.limits`; what is left out comes from the tier.",
    )


class ProbeSpec(Part):
    resources: ResourcesSpec | None = Field(None, description="Of the probe's container.")
    tolerations: Annotated[list[PassThrough], Field(max_length=64)] | None = Field(
        None,
        description="As in a pod. Every taint is tolerated when left out: a node that is not traced is a hole in every trace.",
    )
    node_selector: Annotated[dict[str, str], Field(max_length=64)] | None = Field(
        None, description="As in a pod. Every Linux node when left out."
    )
    affinity: PassThrough | None = Field(None, description="As in a pod.")
    priority_class_name: Text | None = Field(None, description="As in a pod.")
    update_strategy: PassThrough | None = Field(
        None, description="As in a DaemonSet. A tenth of the nodes at once when left out."
    )
    privileged: bool | None = Field(
        None, description="Fall back to a privileged container where BPF and PERFMON are unknown."
    )


class PersistenceSpec(Part):
    enabled: bool | None = Field(None, description="Whether there is a volume.")
    size: Size | None = Field(None, description="Of the volume.")
    storage_class_name: Text | None = Field(
        None, description="Of the volume claim; the cluster's default when left out."
    )


class DnsCacheSpec(Part):
    image: Text | None = Field(None, description="Redis or Valkey; a full reference.")
    resources: ResourcesSpec | None = Field(None, description="Of the cache's container.")
    persistence: PersistenceSpec | None = Field(
        None, description="Whether answers outlive the pod; the tier decides when left out."
    )
    existing_secret: Label | None = Field(
        None, description="A Secret with the users' passwords instead of the operator's."
    )


class SecretKeyRef(Part):
    name: Annotated[str, Field(min_length=1, max_length=253)] = Field(description="Of the Secret.")
    key: Annotated[str, Field(min_length=1, max_length=253)] = Field(description="In the Secret.")


class ClickHouseSpec(Part):
    url: Annotated[str, Field(max_length=512, pattern=URL_PATTERN)] = Field(
        description="A ClickHouse server instead of the embedded store; without user and password, those come by secretRef."
    )
    secret_ref: Annotated[str, Field(min_length=1, max_length=253)] | None = Field(
        None,
        description="The Secret with `username` and `password`. Reserved: without effect in this version.",
    )


class OtlpTlsSpec(Part):
    ca_secret_ref: SecretKeyRef | None = Field(
        None,
        description="The certificate authority that the endpoint's certificate is checked with. Reserved: without effect in this version.",
    )
    insecure_skip_verify: bool | None = Field(
        None,
        description="Do not check the endpoint's certificate. Reserved: without effect in this version.",
    )


class OtlpSpec(Part):
    endpoint: Annotated[str, Field(max_length=512, pattern=URL_PATTERN)] = Field(
        description="Spans are sent here too, by OTLP over HTTP (`/v1/traces` is appended)."
    )
    tls: OtlpTlsSpec | None = Field(
        None,
        description="How the endpoint's certificate is checked. Reserved: without effect in this version.",
    )
    headers_secret_ref: Annotated[str, Field(min_length=1, max_length=253)] | None = Field(
        None,
        description="A Secret whose keys and values become request headers. Reserved: without effect in this version.",
    )


class ExporterSpec(Part):
    replicas: Annotated[int, Field(ge=1, le=64)] | None = Field(
        None, description="More than one only with `clickhouse.url`."
    )
    resources: ResourcesSpec | None = Field(
        None,
        description="Of the exporter's container; store and console beside it are sized by the tier.",
    )
    clickhouse: ClickHouseSpec | None = Field(
        None, description="A ClickHouse server instead of the embedded store."
    )
    storage: PersistenceSpec | None = Field(
        None, description="The embedded store's volume; the tier sizes it when left out."
    )
    otlp: OtlpSpec | None = Field(None, description="Where spans are sent beside the store.")

    @model_validator(mode="after")
    def _has_one_writer(self) -> Self:
        if self.clickhouse is None and self.replicas is not None and self.replicas > 1:
            raise ValueError(
                f"replicas must be 1 without clickhouse.url (it is {self.replicas}): the embedded store has one writer"
            )
        return self


class ConsoleSpec(Part):
    ingress: PassThrough | None = Field(
        None, description="Lets ingress controllers reach the console; the Ingress itself is yours."
    )
    oidc: PassThrough | None = Field(
        None, description="Login by OpenID Connect. Reserved: without effect in this version."
    )
    public_share: bool | None = Field(
        None,
        description="Share links that need no login. Reserved: without effect in this version.",
    )


class ImagesSpec(Part):
    registry: Text | None = Field(
        None, description="Where all images come from, for example `mirror.example.com/farcall`."
    )
    digests: Annotated[dict[str, str], Field(max_length=16)] | None = Field(
        None, description="Image name to `sha256:…`; pins that image."
    )
    pull_secrets: Annotated[list[Label], Field(max_length=16)] | None = Field(
        None, description="Names of Secrets, as in a pod's `imagePullSecrets`."
    )


class TlsSpec(Part):
    mode: Literal["operator", "secret", "disabled"] | None = Field(
        None,
        description="Who makes the certificates between the parts. Reserved: without effect in this version.",
    )
    secret_ref: Annotated[str, Field(min_length=1, max_length=253)] | None = Field(
        None,
        description="The Secret with the certificates, for the mode `secret`. Reserved: without effect in this version.",
    )


class TracingConfigSpec(Part):
    tier: TierName = Field(
        description="Hobby keeps DNS answers 1 h, Scale 168 h; the tier also sizes everything."
    )
    retention: RetentionSpec | None = Field(
        None, description="How long and how much is kept; the tier decides what is left out."
    )
    cluster_cidrs: Annotated[list[Cidr], Field(max_length=64)] | None = Field(
        None,
        alias="clusterCIDRs",  # on the field itself: inside the union pydantic ignores it
        description="What counts as inside. Discovered from nodes, pods and service ranges when left out.",
    )
    dns: DnsSpec | None = Field(None, description="How DNS answers become names.")
    namespaces: NamespacesSpec | None = Field(None, description="Whose calls are traced.")
    capture: CaptureSpec | None = Field(None, description="What is recorded of a call.")
    logs: LogsSpec | None = Field(
        None, description="Log lines of containers. Reserved: without effect in this version."
    )
    probe: ProbeSpec | None = Field(None, description="The node agent.")
    dns_cache: DnsCacheSpec | None = Field(None, description="The DNS cache (Redis).")
    exporter: ExporterSpec | None = Field(None, description="Exporter and store.")
    console: ConsoleSpec | None = Field(None, description="The web application.")
    images: ImagesSpec | None = Field(None, description="Where images come from.")
    tls: TlsSpec | None = Field(
        None, description="Encryption between the parts. Reserved: without effect in this version."
    )
    paused: bool | None = Field(
        None,
        description="Leave everything as it is and reconcile nothing. Reserved: without effect in this version.",
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
    return check_tracingconfig(documents[0], source=source)


def check_tracingconfig(document: object, *, source: str) -> TracingConfig:
    """Values as YAML or the API server gives them to a TracingConfig. Raises InvalidConfigError."""
    try:
        return TracingConfig.model_validate(document, by_alias=True, by_name=False)
    except ValidationError as e:
        problems = describe_faults(e, model=TracingConfig, examples=PATTERN_EXAMPLES)
        raise InvalidConfigError(source, problems) from e
