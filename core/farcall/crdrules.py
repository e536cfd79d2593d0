"""What the CRD checks by CEL because a type or a pattern cannot say it. Pure data; the model checks the same in Python.

`self` is the node that a rule stands at, `oldSelf` what it was before. Both are bounded in the schema: the API server
estimates a rule's cost from the bounds, and refuses the CRD when it is too high.
"""

from typing import NamedTuple

from farcall.fieldtypes import MAX_RETENTION, MAX_SIZE, NAME_PATTERN
from farcall.quantities import parse_duration_s

HOUR_S = 3_600


class Rule(NamedTuple):
    """CEL, and what the user is told when it is false."""

    rule: str
    message: str


_MOST_HOURS = parse_duration_s(MAX_RETENTION) // HOUR_S
NAME = Rule(
    f"self.metadata.name.matches('{NAME_PATTERN}')",
    "the name must be a DNS label of at most 40 characters",
)
_CIDR = Rule(
    "isCIDR(self) && cidr(self).masked() == cidr(self)",
    "must be a CIDR whose host bits are 0, such as 10.244.0.0/16",
)
_RETENTION = Rule(
    "int(self.substring(0, size(self) - 1)) * "
    "(self.endsWith('w') ? 168 : self.endsWith('d') ? 24 : 1) "
    f"<= {_MOST_HOURS}",
    f"must be at most {MAX_RETENTION}",
)
_SIZE = Rule(
    f"quantity(self).compareTo(quantity('{MAX_SIZE}')) <= 0", f"must be at most {MAX_SIZE}"
)
_GROWS = Rule(
    "quantity(self).compareTo(quantity(oldSelf)) >= 0",
    "a volume may grow, and never shrinks",
)


def _limit_requests(name: str) -> str:
    field = name.replace("-", "__dash__")  # as CEL spells a name that is no identifier
    return (
        f"(!has(self.requests.{field}) || !has(self.limits.{field}) || "
        f"quantity(self.requests.{field}).compareTo(quantity(self.limits.{field})) <= 0)"
    )


_RESOURCES = Rule(
    "!has(self.requests) || !has(self.limits) || "
    f"({' && '.join(map(_limit_requests, ('cpu', 'memory', 'ephemeral-storage')))})",
    "requests must not be above limits",
)
# By path in the spec, `[]` for a list's entries.
RULES: dict[str, tuple[Rule, ...]] = {
    "clusterCIDRs[]": (_CIDR,),
    "dns.resolvers[]": (Rule("isIP(self)", "must be an IP address"),),
    "capture.filters[]": (
        Rule(
            " || ".join(
                f"(has(self.{name}) && size(self.{name}) > 0)"
                for name in ("namespaces", "services", "paths")
            ),
            "a filter needs namespaces, services or paths",
        ),
    ),
    "retention.traces": (_RETENTION,),
    "retention.logs": (_RETENTION,),
    "retention.maxSize": (_SIZE,),
    "probe.resources": (_RESOURCES,),
    "dnsCache.resources": (_RESOURCES,),
    "dnsCache.persistence.size": (_SIZE, _GROWS),
    "exporter.resources": (_RESOURCES,),
    "exporter.storage.size": (_SIZE, _GROWS),
    "exporter": (
        Rule(
            "!has(self.replicas) || self.replicas == 1 || has(self.clickhouse)",
            "replicas must be 1 without clickhouse.url: the embedded store has one writer",
        ),
        Rule(
            "!has(self.autoscaling) || has(self.clickhouse)",
            "autoscaling needs clickhouse.url: the embedded store has one writer",
        ),
        Rule(
            "!has(self.autoscaling) || !has(self.replicas)",
            "replicas and autoscaling exclude each other",
        ),
    ),
    "exporter.autoscaling": (
        Rule(
            "!has(self.minReplicas) || !has(self.maxReplicas) || "
            "self.minReplicas <= self.maxReplicas",
            "minReplicas must not be above maxReplicas",
        ),
    ),
    "tls": (
        Rule(
            "has(self.secretRef) == (has(self.mode) && self.mode == 'secret')",
            "secretRef goes with the mode secret, and the mode needs it",
        ),
    ),
}
