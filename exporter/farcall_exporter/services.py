"""What the service of this end of a call is called in a cluster. Pure, over what the agent said and the catalog knows.

OpenTelemetry's order for Kubernetes: the program's own word (OTEL_SERVICE_NAME, which the agent reads), the pod's
annotation, the workload, the pod, the container; the well-known labels stand between only where a user opts in. The agent does not know workloads and falls back to the container's name, which is `main` or `app` in half of
all charts; whatever else it says stays. https://opentelemetry.io/docs/specs/semconv/non-normative/k8s-attributes/
"""

from dataclasses import replace

import numpy as np

from farcall_exporter.cluster.destinations import Places
from farcall_exporter.cluster.identity import Identity
from farcall_exporter.columns import Coded, Mask, overlay
from farcall_exporter.exchanges import Owner


def name_services(owner: Owner, own: Places) -> Owner:
    """The same with the workload's or pod's name where the agent had but the container's; `own` is who each row is."""
    known = own.texts(find_name)
    falls_back = _are_equal(owner.service, owner.container) & known.present
    return replace(owner, service=overlay(owner.service, known, falls_back))


def find_name(identity: Identity) -> str:
    """A static pod belongs to its node, which is no workload; one of a kind that we do not know (a Rollout) is one."""
    if identity.declared:
        return identity.declared
    workload = identity.workload
    return workload.name if workload and workload.kind != "Node" else identity.pod


def _are_equal(left: Coded, right: Coded) -> Mask:
    """Row by row, by their texts; nulls equal nothing."""
    codes = {text: code for code, text in enumerate(left.texts())}
    translated = np.array([*(codes.get(text, -2) for text in right.texts()), -2], np.int64)
    equal: Mask = translated[right.codes] == left.codes
    return equal
