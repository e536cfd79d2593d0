"""TracingConfigs for tests: the corpus of right and wrong ones, and a strategy that makes any spec that is right."""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from hypothesis import strategies as st

from farcall.kinds import ProtocolName
from farcall.quantities import parse_quantity
from farcall.tiers import TIER_NAMES
from farcall.workloadspec import DigestsSpec
from support_ground import ROOT

CORPUS = ROOT / "tests/corpus/tracingconfigs"
Spec = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """`field` and `reason` are the file's first line; good ones have no field."""

    path: Path
    field: str
    reason: str


def list_cases(folder: str) -> list[Case]:
    return [read_case(path) for path in sorted((CORPUS / folder).glob("*.yaml"))]


def read_case(path: Path) -> Case:
    first = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
    field, _, reason = (
        first.rpartition(": ") if path.parent.name == "good" else first.partition(": ")
    )
    return Case(path=path, field=field, reason=reason)


def name_case(case: Case) -> str:
    return case.path.stem


# Few characters: what matters is which fields stand together, and a failure is to be read by people.
LABELS = st.from_regex(r"[a-z]([-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True)
NAMES = st.from_regex(r"[a-z][a-z0-9]{0,5}(\.[a-z]{1,5})?", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
URLS = st.builds("{}://{}.example.com:{}".format, st.sampled_from(["http", "https"]), LABELS, st.integers(1, 65_535))  # fmt: skip
IMAGES = st.builds("{}.example.com/{}:{}".format, LABELS, LABELS, st.integers(1, 9))
DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64).map("sha256:{}".format)
SIZES = st.builds("{}{}".format, st.integers(1, 999), st.sampled_from(["", "Ki", "Mi", "Gi"]))
RETENTIONS = st.builds("{}{}".format, st.integers(1, 500), st.sampled_from("hdw"))
JSON = st.recursive(
    st.booleans() | st.integers(-(2**31), 2**31) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=4,
)
OBJECTS = st.dictionaries(NAMES, JSON, max_size=2)
ANNOTATIONS = st.dictionaries(NAMES, TEXTS, max_size=2)


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Spec]:
    """A mapping in which each field may be missing."""
    return st.fixed_dictionaries({}, optional=fields)


@st.composite
def cidrs(draw: st.DrawFn) -> str:
    if draw(st.booleans()):
        length = draw(st.integers(0, 32))
        return str(ipaddress.ip_network((draw(st.integers(0, 2**32 - 1)), length), strict=False))
    # Not below ::/8, where IPv4 is written as IPv6.
    address = draw(st.integers(2**120, 2**128 - 1))
    return str(ipaddress.ip_network((address, draw(st.integers(8, 128))), strict=False))


ADDRESSES = cidrs().map(lambda cidr: cidr.partition("/")[0]).filter(lambda a: a != "::")


@st.composite
def resources(draw: st.DrawFn) -> Spec:
    """A request that is above its limit is left out."""
    quantities = {
        "cpu": st.builds("{}m".format, st.integers(1, 9_999)),
        "memory": st.builds("{}Mi".format, st.integers(1, 9_999)),
        "ephemeral-storage": st.builds("{}Mi".format, st.integers(1, 9_999)),
    }
    spec = draw(optional(requests=optional(**quantities), limits=optional(**quantities)))
    limits = spec.get("limits", {})
    if "requests" in spec:
        spec["requests"] = {
            name: value
            for name, value in spec["requests"].items()
            if name not in limits or parse_quantity(value) <= parse_quantity(limits[name])
        }
    return spec


PLACEMENT = {
    "tolerations": st.lists(OBJECTS, max_size=2),
    "nodeSelector": st.dictionaries(NAMES, LABELS, max_size=2),
    "affinity": OBJECTS
    | st.fixed_dictionaries(
        {
            "nodeAffinity": st.fixed_dictionaries(
                {
                    "requiredDuringSchedulingIgnoredDuringExecution": st.fixed_dictionaries(
                        {"nodeSelectorTerms": st.lists(OBJECTS, max_size=2)}
                    )
                }
            )
        }
    ),
    "priorityClassName": NAMES,
    "podAnnotations": ANNOTATIONS,
    "resources": resources(),
}
SPREAD = {**PLACEMENT, "topologySpreadConstraints": st.lists(OBJECTS, max_size=2)}
PERSISTENCE = optional(enabled=st.booleans(), size=SIZES, storageClassName=NAMES)
OTLP = st.fixed_dictionaries(
    {"endpoint": URLS},
    optional={
        "tls": optional(
            caSecretRef=st.fixed_dictionaries({"name": NAMES, "key": NAMES}),
            insecureSkipVerify=st.booleans(),
        ),
        "headersSecretRef": NAMES,
    },
)


@st.composite
def autoscalings(draw: st.DrawFn) -> Spec:
    most = draw(st.integers(1, 64))
    spec: Spec = {}
    if draw(st.booleans()):
        spec["maxReplicas"] = most
    if draw(st.booleans()):
        spec["minReplicas"] = draw(st.integers(1, most))
    if draw(st.booleans()):
        spec["targetCPUUtilizationPercentage"] = draw(st.integers(10, 100))
    return spec


@st.composite
def exporters(draw: st.DrawFn) -> Spec:
    """The embedded store has one writer; how many there are is said in one way only."""
    spec = draw(optional(**SPREAD, storage=PERSISTENCE, otlp=OTLP))
    if not draw(st.booleans()):
        return spec | draw(optional(replicas=st.just(1)))
    spec["clickhouse"] = draw(st.fixed_dictionaries({"url": URLS}, optional={"secretRef": NAMES}))
    counts: list[Callable[[], Spec]] = [
        dict,
        lambda: {"replicas": draw(st.integers(1, 64))},
        lambda: {"autoscaling": draw(autoscalings())},
    ]
    return spec | draw(st.sampled_from(counts))()


TLS = st.sampled_from([{}, {"mode": "operator"}, {"mode": "disabled"}]) | NAMES.map(
    lambda name: {"mode": "secret", "secretRef": name}
)
INGRESS = st.fixed_dictionaries(
    {"host": NAMES},
    optional={"className": NAMES, "annotations": ANNOTATIONS, "tlsSecretName": NAMES},
)
PARTS: dict[str, st.SearchStrategy[Any]] = {
    "retention": optional(traces=RETENTIONS, logs=RETENTIONS, maxSize=SIZES),
    "clusterCIDRs": st.lists(cidrs(), max_size=3),
    "dns": optional(holdWhileConnected=st.booleans(), resolvers=st.lists(ADDRESSES, max_size=2)),
    "namespaces": optional(
        include=st.lists(LABELS, max_size=3), exclude=st.lists(LABELS, max_size=3)
    ),
    "capture": optional(
        protocols=st.lists(st.sampled_from(get_args(ProtocolName)), max_size=4),
        hostProcesses=st.booleans(),
        headers=st.lists(LABELS, max_size=2),
        masking=optional(enabled=st.booleans()),
    ),
    "logs": optional(
        enabled=st.booleans(),
        exclude=st.lists(LABELS, max_size=2),
        paths=st.lists(TEXTS, max_size=2),
    ),
    "probe": optional(**PLACEMENT, updateStrategy=OBJECTS, privileged=st.booleans()),
    "dnsCache": optional(**SPREAD, image=IMAGES, persistence=PERSISTENCE, existingSecret=NAMES),
    "exporter": exporters(),
    "console": optional(ingress=INGRESS, oidc=OBJECTS, publicShare=st.booleans()),
    "images": optional(
        registry=NAMES,
        digests=optional(**dict.fromkeys(DigestsSpec.model_fields, DIGESTS)),
        pullSecrets=st.lists(NAMES, max_size=2),
    ),
    "tls": TLS,
    "paused": st.booleans(),
    "deletionPolicy": st.sampled_from(["Delete", "Retain"]),
}


def specs() -> st.SearchStrategy[Spec]:
    """Any spec that is right, by the model and by the CRD."""
    return st.fixed_dictionaries({"tier": st.sampled_from(TIER_NAMES)}, optional=PARTS)


def make_document(spec: Spec, name: str = "main") -> dict[str, Any]:
    """The resource as YAML and the API server have it."""
    return {
        "apiVersion": "farcall.dev/v1alpha1",
        "kind": "TracingConfig",
        "metadata": {"name": name},
        "spec": spec,
    }
