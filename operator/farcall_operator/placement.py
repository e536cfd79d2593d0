"""Where a workload's pods may run: what the TracingConfig says, and that the node can run our images. Pure.

What the user wrote goes through as it is, also when it is nonsense: the API server says so, with the field, and the
operator repeats it. Only the nodes' system and architecture are added, as a required node affinity.
"""

from collections.abc import Sequence
from typing import Any

from farcall.workloadspec import PlacementSpec

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def build_placement(
    given: PlacementSpec | None,
    architectures: Sequence[str],
    *,
    tolerations: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Fields of a pod's spec. `tolerations` are those of a resource that gives none."""
    spec = given.model_dump(by_alias=True, exclude_none=True) if given else {}
    found = {
        name: spec[name]
        for name in ("nodeSelector", "priorityClassName", "topologySpreadConstraints")
        if spec.get(name)
    }
    tolerated = spec.get("tolerations", list(tolerations))
    return {
        **found,
        "affinity": merge_affinity(spec.get("affinity", {}), list_needs(architectures)),
        **({"tolerations": tolerated} if tolerated else {}),
    }


def list_needs(architectures: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]},
        {"key": "kubernetes.io/arch", "operator": "In", "values": sorted(architectures)},
    ]


def merge_affinity(given: dict[str, Any], needs: list[dict[str, Any]]) -> dict[str, Any]:
    """Terms are alternatives, so each of them gets the needs; what has another shape is left to the API server."""
    nodes = given.get("nodeAffinity") or {}
    required = (nodes.get(REQUIRED) or {}) if isinstance(nodes, dict) else None
    if not isinstance(nodes, dict) or not isinstance(required, dict):
        return given
    terms = required.get("nodeSelectorTerms") or []
    if not _are_terms(terms):
        return given
    merged = [_add_needs(term, needs) for term in terms] or [{"matchExpressions": needs}]
    return {
        **given,
        "nodeAffinity": {**nodes, REQUIRED: {**required, "nodeSelectorTerms": merged}},
    }


def _are_terms(terms: object) -> bool:
    return isinstance(terms, list) and all(
        isinstance(term, dict) and isinstance(term.get("matchExpressions") or [], list)
        for term in terms
    )


def _add_needs(term: dict[str, Any], needs: list[dict[str, Any]]) -> dict[str, Any]:
    """An empty term matches no node in Kubernetes, and must not begin to match some."""
    if not term:
        return term
    return {**term, "matchExpressions": [*(term.get("matchExpressions") or []), *needs]}
