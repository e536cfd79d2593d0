"""Which TracingConfigs may live side by side: those whose `namespaces.include` lists are given and disjoint. Pure.

Of two that trace the same namespace the older one stands, so that a second one applied by mistake changes nothing.
Those that are being deleted, or are paused, still run and still count.
"""

from collections.abc import Mapping
from typing import Any

from farcall_operator.cluster.port import Manifest

ALL_NAMESPACES = "all namespaces"


def find_overlap(config: Manifest, configs: Mapping[str, Manifest]) -> str:
    """The sentence that says which older TracingConfig is in the way of `config`; empty when none is."""
    mine = read_included(config)
    age = rank_age(config)
    # Each of a thousand looks at all the others: what is cheap to tell apart goes first.
    sharing = [c for c in configs.values() if not _is_apart(mine, c)]
    older = [c for c in sharing if rank_age(c) < age and _share(mine, read_included(c))]
    if not older:
        return ""
    oldest = min(older, key=rank_age)
    return (
        f"TracingConfig {oldest['metadata']['name']}, which is older, traces "
        f"{_share(mine, read_included(oldest))} too. "
        f"Give both a `namespaces.include`, without a common namespace, or delete one."
    )


def rank_age(config: Manifest) -> tuple[str, str, str]:
    """Sorts the older first; names and uids decide within a second (RFC 3339 in UTC sorts as text)."""
    metadata = config["metadata"]
    return metadata.get("creationTimestamp") or "", metadata["name"], metadata.get("uid", "")


def read_included(config: Manifest) -> frozenset[str]:
    """Empty: all. Whatever the resource holds: an invalid neighbour must not stop a valid one with an error."""
    spec: Any = config.get("spec")
    namespaces: Any = spec.get("namespaces") if isinstance(spec, dict) else None
    include: Any = namespaces.get("include") if isinstance(namespaces, dict) else None
    return frozenset(str(name) for name in include) if isinstance(include, list) else frozenset()


def _is_apart(mine: frozenset[str], other: Manifest) -> bool:
    """Only where that is plain; `_share` has the last word."""
    try:
        include = other["spec"]["namespaces"]["include"]
        given = mine and include and isinstance(include, list)
        return bool(given) and mine.isdisjoint(include)
    except (KeyError, TypeError):
        return False


def _share(mine: frozenset[str], theirs: frozenset[str]) -> str:
    if not mine and not theirs:
        return ALL_NAMESPACES
    shared = sorted(mine & theirs if mine and theirs else mine | theirs)
    more = f" and {len(shared) - 3} more" if len(shared) > 3 else ""
    return f"{', '.join(shared[:3])}{more}" if shared else ""
