"""TracingConfig, the one resource a user writes. The model is the source of crds/tracingconfigs.yaml.

Strict: an unknown field, a wrong type or an impossible value is refused with the field, the value and what is
allowed. No field has a default that is written back: what is left out is computed from the tier (`effective`).
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from farcall.faults import describe_faults
from farcall.fieldtypes import (
    HEADER_PATTERN,
    NAME_PATTERN,
    PATTERN_EXAMPLES,
    Address,
    Cidr,
    Label,
    Retention,
    Size,
    Text,
)
from farcall.kinds import ProtocolName
from farcall.tiers import TierName
from farcall.workloadspec import (
    ConsoleSpec,
    DnsCacheSpec,
    ExporterSpec,
    ImagesSpec,
    Part,
    ProbeSpec,
    TlsSpec,
)
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


# `*` stands for any text, also for none; everything else for itself.
Glob = Annotated[str, Field(min_length=1, max_length=256)]


class SamplingSpec(Part):
    percent: Annotated[int, Field(ge=1, le=100)] = Field(
        description="How many of a hundred traces are stored, chosen by trace ID; calls that failed or were slow are stored always."
    )
    slower_than_milliseconds: Annotated[int, Field(ge=0, le=3_600_000)] | None = Field(
        None, description="What is slow; 1000 when left out."
    )


class FilterSpec(Part):
    """Spans that match every given field are not stored."""

    namespaces: Annotated[list[Label], Field(max_length=64)] | None = Field(
        None, description="Of the workload whose span it is."
    )
    services: Annotated[list[Glob], Field(max_length=64)] | None = Field(
        None, description="The name of the service whose span it is; `*` is any text."
    )
    paths: Annotated[list[Glob], Field(max_length=64)] | None = Field(
        None, description="The path of an HTTP or gRPC call, such as `/health*`; `*` is any text."
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not (self.namespaces or self.services or self.paths):
            raise ValueError("a filter needs namespaces, services or paths")
        return self


class RateLimitsSpec(Part):
    spans_per_second: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        None,
        description="Of one service, in each exporter: what comes beyond is counted and not stored, so that one noisy service does not drown the others.",
    )
    records_per_second: Annotated[int, Field(ge=0, le=1_000_000)] | None = Field(
        None,
        description="Of one container, in its node's kernel: what comes beyond is counted and not seen, so that one noisy container does not crowd the others out of the agent. Default 20000; 0: no limit.",
    )
    cpu_millicores: Annotated[int, Field(ge=0, le=64_000)] | None = Field(
        None,
        description="CPU of one node's agent, in thousandths of a core: beyond it for three seconds the agent takes a part of the calls only, alike at both ends, failed ones as far as the kernel can tell them, and says so. Reading the libraries of new programs is not held against it. Default 1000; 0: no limit.",
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
    sampling: SamplingSpec | None = Field(
        None, description="Store only a part of the traces. Charts count what is stored."
    )
    filters: Annotated[list[FilterSpec], Field(max_length=32)] | None = Field(
        None, description="Calls that are not stored. One that matches any of them is left out."
    )
    rate_limits: RateLimitsSpec | None = Field(
        None, description="How much one service may store at most."
    )
    answer_timeout_seconds: Annotated[int, Field(ge=0, le=3600)] | None = Field(
        None,
        description="A request without an answer for so long becomes a span with error.type=timeout while it still waits. Default 60; 0: never.",
    )
    tls: Literal["Auto", "Off"] | None = Field(
        None,
        description="Off: TLS libraries are left alone, and of TLS connections only the server name (SNI), times and bytes are seen. Default Auto: what they write and read is read wherever it can be.",
    )


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
        None,
        description="Encryption between the parts. Without effect in local mode, where they talk on loopback and by a socket file.",
    )
    paused: bool | None = Field(
        None, description="Leave everything as it is and reconcile nothing; status says so."
    )
    deletion_policy: Literal["Delete", "Retain"] | None = Field(
        None,
        description="What happens to volumes when the resource, or the reason for them, goes. Delete when left out.",
    )


# The one annotation that is read. It is no field of spec: a tier is what is promised, and this breaks the promise.
DNS_TTL_OVERRIDE = "farcall.dev/dns-ttl-override-s"


def _pick_annotations(raw: object) -> object:
    """Ours alone: others may be as large as they like. Raises ValueError when it is no number of seconds."""
    if not isinstance(raw, dict) or DNS_TTL_OVERRIDE not in raw:
        return {}
    text = raw[DNS_TTL_OVERRIDE]
    if not isinstance(text, str) or re.fullmatch("[1-9][0-9]{0,8}", text) is None:
        raise ValueError(f"{DNS_TTL_OVERRIDE} must be a whole number of seconds, such as '60'")
    return {DNS_TTL_OVERRIDE: text}


class Metadata(BaseModel):
    """The part of metadata we read; the API server owns the rest, so unknown fields are no fault."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    name: Annotated[str, Field(pattern=NAME_PATTERN, max_length=40)]
    generation: Annotated[int, Field(ge=0)] = 1
    uid: str = ""
    annotations: Annotated[dict[str, str], BeforeValidator(_pick_annotations)] = Field(
        default_factory=dict
    )

    @property
    def dns_ttl_override_s(self) -> int | None:
        """For tests only: names expire after this many seconds, whatever the tier promises. Status and console say so loudly."""
        text = self.annotations.get(DNS_TTL_OVERRIDE)
        return int(text) if text is not None else None


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
