"""The parts of a TracingConfig that say how its workloads run. The rest, and the resource itself, is in tracingconfig.

What two fields mean together is checked here and by a CEL rule of the CRD (farcall.crd); tests/corpus holds both to it.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from farcall.fieldtypes import (
    DIGEST_PATTERN,
    IMAGE_PATTERN,
    KEY_PATTERN,
    LABEL_VALUE_PATTERN,
    REGISTRY_PATTERN,
    URL_PATTERN,
    PassThrough,
    Size,
    Subdomain,
)
from farcall.quantities import QUANTITY_PATTERN, parse_quantity


class Part(BaseModel):
    """Base of every part of the spec: camelCase outside, unknown fields refused, immutable once read."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, alias_generator=to_camel, populate_by_name=True
    )


Quantity = Annotated[str, Field(max_length=20, pattern=QUANTITY_PATTERN)]
Annotations = Annotated[dict[str, Annotated[str, Field(max_length=4_096)]], Field(max_length=64)]


class QuantitiesSpec(Part):
    cpu: Quantity | None = Field(None, description="Cores, for example `100m`.")
    memory: Quantity | None = Field(None, description="Bytes, for example `256Mi`.")
    ephemeral_storage: Quantity | None = Field(
        None, alias="ephemeral-storage", description="Bytes on the node's disk."
    )


class ResourcesSpec(Part):
    requests: QuantitiesSpec | None = Field(
        None,
        description="As in a container's `resources.requests`; what is left out comes from the tier.",
    )
    limits: QuantitiesSpec | None = Field(
        None,
        description="As in a container's `resources.limits`; what is left out comes from the tier.",
    )

    @model_validator(mode="after")
    def _requests_fit(self) -> Self:
        requests = self.requests.model_dump(exclude_none=True) if self.requests else {}
        limits = self.limits.model_dump(exclude_none=True) if self.limits else {}
        for name in requests.keys() & limits.keys():
            if parse_quantity(requests[name]) > parse_quantity(limits[name]):
                raise ValueError(
                    f"requests must not be above limits (of {name}, {requests[name]} and {limits[name]})"
                )
        return self


class PlacementSpec(Part):
    """Where pods may run; the names are core/v1's."""

    tolerations: Annotated[list[PassThrough], Field(max_length=64)] | None = Field(
        None, description="As in a pod."
    )
    node_selector: (
        Annotated[
            dict[str, Annotated[str, Field(max_length=63, pattern=LABEL_VALUE_PATTERN)]],
            Field(max_length=64),
        ]
        | None
    ) = Field(None, description="As in a pod.")
    affinity: PassThrough | None = Field(
        None,
        description="As in a pod. That the node runs Linux on an architecture with images is always added.",
    )
    priority_class_name: Subdomain | None = Field(None, description="As in a pod.")
    pod_annotations: Annotations | None = Field(
        None, description="Of the pods, beside the operator's own."
    )


class SpreadSpec(PlacementSpec):
    topology_spread_constraints: Annotated[list[PassThrough], Field(max_length=16)] | None = Field(
        None, description="As in a pod."
    )


class ProbeSpec(PlacementSpec):
    tolerations: Annotated[list[PassThrough], Field(max_length=64)] | None = Field(
        None,
        description="As in a pod. Every taint is tolerated when left out: a node that is not traced is a hole in every trace.",
    )
    resources: ResourcesSpec | None = Field(None, description="Of the probe's container.")
    update_strategy: PassThrough | None = Field(
        None, description="As in a DaemonSet. A tenth of the nodes at once when left out."
    )
    privileged: bool | None = Field(
        None, description="Fall back to a privileged container where BPF and PERFMON are unknown."
    )


class PersistenceSpec(Part):
    enabled: bool | None = Field(None, description="Whether there is a volume.")
    size: Size | None = Field(None, description="Of the volume. It may grow, and never shrinks.")
    storage_class_name: Subdomain | None = Field(
        None, description="Of the volume claim; the cluster's default when left out."
    )


class DnsCacheSpec(SpreadSpec):
    image: Annotated[str, Field(max_length=512, pattern=IMAGE_PATTERN)] | None = Field(
        None, description="Redis or Valkey; a full reference."
    )
    resources: ResourcesSpec | None = Field(
        None,
        description="Of the cache's container. The limit on memory decides how much the cache may hold.",
    )
    persistence: PersistenceSpec | None = Field(
        None, description="Whether answers outlive the pod; the tier decides when left out."
    )
    existing_secret: Subdomain | None = Field(
        None, description="A Secret with the users' passwords instead of the operator's."
    )


class SecretKeyRef(Part):
    name: Subdomain = Field(description="Of the Secret.")
    key: Annotated[str, Field(min_length=1, max_length=253, pattern=KEY_PATTERN)] = Field(
        description="In the Secret."
    )


class ClickHouseSpec(Part):
    url: Annotated[str, Field(max_length=512, pattern=URL_PATTERN)] = Field(
        description="A ClickHouse server instead of the embedded store; without user and password, those come by secretRef. Its tables must be there: this version makes them in the embedded store alone."
    )
    secret_ref: Subdomain | None = Field(
        None, description="The Secret with `username` and `password`."
    )


class OtlpTlsSpec(Part):
    ca_secret_ref: SecretKeyRef | None = Field(
        None,
        description="The certificate authority that the endpoint's certificate is checked with; the system's when left out, and in local mode.",
    )
    insecure_skip_verify: bool | None = Field(
        None,
        description="Do not check the endpoint's certificate: whoever is between can read the spans and the headers.",
    )


class OtlpSpec(Part):
    endpoint: Annotated[str, Field(max_length=512, pattern=URL_PATTERN)] = Field(
        description="Spans are sent here too, by OTLP over HTTP (`/v1/traces` is appended)."
    )
    tls: OtlpTlsSpec | None = Field(
        None,
        description="How the endpoint's certificate is checked.",
    )
    headers_secret_ref: Subdomain | None = Field(
        None,
        description="A Secret whose keys and values become request headers, for example `authorization`. Without effect in local mode.",
    )


Replicas = Annotated[int, Field(ge=1, le=64)]


class AutoscalingSpec(Part):
    min_replicas: Replicas | None = Field(
        None, description="Two when left out, so that one may go; `maxReplicas` when that is one."
    )
    max_replicas: Replicas | None = Field(
        None, description="Ten when left out, or `minReplicas` when that is more."
    )
    target_cpu_utilization_percentage: Annotated[int, Field(ge=10, le=100)] | None = Field(
        None,
        alias="targetCPUUtilizationPercentage",
        description="Of what the exporter's container requests; 70 when left out.",
    )

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        least, most = self.min_replicas, self.max_replicas
        if least is not None and most is not None and least > most:
            raise ValueError("minReplicas must not be above maxReplicas")
        return self


class ExporterSpec(SpreadSpec):
    replicas: Replicas | None = Field(
        None, description="More than one only with `clickhouse.url`; two then when left out."
    )
    autoscaling: AutoscalingSpec | None = Field(
        None,
        description="Instead of `replicas`, and only with `clickhouse.url`. Coming from `replicas`, one exporter serves alone until the autoscaler has looked, some 15 s.",
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
        if self.clickhouse is None and self.autoscaling is not None:
            raise ValueError("autoscaling needs clickhouse.url: the embedded store has one writer")
        if self.replicas is not None and self.autoscaling is not None:
            raise ValueError("replicas and autoscaling exclude each other")
        return self


class IngressSpec(Part):
    host: Subdomain = Field(description="The name that people open; the console answers to it.")
    class_name: Subdomain | None = Field(
        None, description="`ingressClassName`; the cluster's default when left out."
    )
    annotations: Annotations | None = Field(None, description="Of the Ingress.")
    tls_secret_name: Subdomain | None = Field(
        None, description="The Secret with the host's certificate; plain HTTP when left out."
    )


class ConsoleSpec(Part):
    ingress: IngressSpec | None = Field(
        None,
        description="An Ingress for the console, and leave for ingress controllers to reach it.",
    )
    oidc: PassThrough | None = Field(
        None, description="Login by OpenID Connect. Reserved: without effect in this version."
    )
    public_share: bool | None = Field(
        None,
        description="Share links that need no login. Reserved: without effect in this version.",
    )


Digest = Annotated[str, Field(max_length=71, pattern=DIGEST_PATTERN)]


class DigestsSpec(Part):
    probes: Digest | None = Field(None, description="Of the node agent's image.")
    exporter: Digest | None = Field(None, description="Of the exporter's and the store's image.")
    console: Digest | None = Field(None, description="Of the console's image.")
    redis: Digest | None = Field(
        None, description="Of the DNS cache's image, unless `dnsCache.image` is given."
    )


class ImagesSpec(Part):
    registry: Annotated[str, Field(max_length=255, pattern=REGISTRY_PATTERN)] | None = Field(
        None, description="Where all images come from, for example `mirror.example.com/farcall`."
    )
    digests: DigestsSpec | None = Field(
        None, description="Image name to `sha256:…`; pins that image."
    )
    pull_secrets: Annotated[list[Subdomain], Field(max_length=16)] | None = Field(
        None, description="Names of Secrets, as in a pod's `imagePullSecrets`."
    )


class TlsSpec(Part):
    mode: Literal["operator", "secret", "disabled"] | None = Field(
        None,
        description="Who makes the certificates between the parts: the operator when left out, you in the Secret `secretRef`, or nobody: then tokens and passwords travel in plain text.",
    )
    secret_ref: Subdomain | None = Field(
        None,
        description="For the mode `secret`: a Secret with `ca.crt`, `tls.crt` and `tls.key`, for the hosts `<name>-exporter.<namespace>.svc` and `<name>-redis.<namespace>.svc`.",
    )

    @model_validator(mode="after")
    def _secret_goes_with_its_mode(self) -> Self:
        if (self.mode == "secret") != (self.secret_ref is not None):
            raise ValueError("secretRef goes with the mode secret, and the mode needs it")
        return self
