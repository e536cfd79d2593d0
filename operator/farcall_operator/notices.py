"""Kubernetes Events about a TracingConfig, when a condition changes and at no other time.

They are written to the namespace `default`, where events about cluster-scoped objects live. One that cannot be written
is counted and forgotten: an event is news, and status says the same.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from farcall_operator.cluster.port import MANAGER, Cluster, ClusterError, Manifest
from farcall_operator.conditions import (
    READY,
    RECONCILING,
    STALLED,
    Condition,
    Transition,
    render_time,
)

NAMESPACE = "default"
MAX_MESSAGE = 1_000  # the API server refuses more than 1,024
SAME_WITHIN = timedelta(minutes=10)  # a pod that comes and goes is told of once in that time
PROGRESS = frozenset(("Creating", "RollingOut", "NotAvailable", "NotApplied"))
MAX_KNOWN = 4_096  # of 1,000 resources with a few reasons each


@dataclass(slots=True, kw_only=True)
class Notices:
    cluster: Cluster
    host: str = ""
    lost: int = 0  # events that could not be written
    written: int = 0
    _known: OrderedDict[tuple[str, str, str], datetime] = field(default_factory=OrderedDict)

    async def tell(
        self, config: Manifest, transitions: Sequence[Transition], now: datetime
    ) -> None:
        for condition in choose(transitions):
            if not self._is_new(config, condition, now):
                continue
            try:
                await self.cluster.create(build_event(config, condition, now, self.host))
                self.written += 1
            except ClusterError:
                self.lost += 1

    def _is_new(self, config: Manifest, condition: Condition, now: datetime) -> bool:
        digest = hashlib.sha256(condition.message.encode()).hexdigest()[:16]
        key = (config["metadata"].get("uid", ""), condition.reason, digest)
        last = self._known.get(key)
        if last is not None and now - last < SAME_WITHIN:
            return False
        self._known[key] = now
        self._known.move_to_end(key)
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return True


def choose(transitions: Sequence[Transition]) -> Iterator[Condition]:
    """Stalled speaks for all. Of the parts only what went wrong: the rest is progress, and status shows that."""
    by_type = {transition.now.type: transition for transition in transitions}
    stalled = by_type.pop(STALLED, None)
    if stalled is not None and stalled.now.status == "True":
        yield stalled.now
        return
    by_type.pop(RECONCILING, None)
    ready = by_type.pop(READY, None)
    if ready is not None and ready.now.status != "False":
        yield ready.now
    for transition in by_type.values():
        if transition.now.status == "False" and transition.now.reason not in PROGRESS:
            yield transition.now


def build_event(config: Manifest, condition: Condition, now: datetime, host: str) -> Manifest:
    metadata = config["metadata"]
    is_good = condition.status != "False" and condition.type != STALLED
    # A name of its own for each: `generateName` would make a retried request a second event.
    stamp = f"{int(now.astimezone(UTC).timestamp() * 1e6):x}"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{metadata['name']}.{condition.type.lower()}.{stamp}",
            "namespace": NAMESPACE,
        },
        "involvedObject": {
            "apiVersion": config["apiVersion"],
            "kind": config["kind"],
            "name": metadata["name"],
            "uid": metadata.get("uid", ""),
            "resourceVersion": metadata.get("resourceVersion", ""),
        },
        "type": "Normal" if is_good else "Warning",
        "reason": condition.reason,
        "message": condition.message[:MAX_MESSAGE] or condition.type,
        "action": "Reconcile",
        "reportingComponent": MANAGER,
        "reportingInstance": host or MANAGER,
        "source": {"component": MANAGER, **({"host": host} if host else {})},
        "firstTimestamp": render_time(now),
        "lastTimestamp": render_time(now),
        "count": 1,
    }
