"""What reconciling asks the cluster beside its own objects, each at most once in a while and shared by all resources.

Nothing in here decides anything; every answer may be a moment old, and one that cannot be had is as good as none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from farcall_operator.cluster.port import Cluster, ClusterError, Manifest

EVENTS_FOR = timedelta(seconds=10)
MAX_EVENTS = 5_000  # kept; the newest of a namespace that has more
KINDS_FOR = timedelta(minutes=10)


@dataclass(slots=True, kw_only=True)
class Surroundings:
    cluster: Cluster
    namespace: str
    failures: int = 0  # answers that could not be had
    _events: tuple[datetime, Sequence[Manifest]] | None = None
    _monitors: tuple[datetime, bool] | None = None

    async def list_warnings(self, now: datetime) -> Sequence[Manifest]:
        """Warning events of the namespace; asked for only when something is not as it should be."""
        if self._events is not None and now - self._events[0] < EVENTS_FOR:
            return self._events[1]
        try:
            found = await self.cluster.list("v1", "Event", self.namespace, fields="type=Warning")
        except ClusterError:
            self.failures += 1
            found = []
        self._events = (now, found[-MAX_EVENTS:])
        return self._events[1]

    async def has_service_monitors(self, now: datetime) -> bool:
        if self._monitors is not None and now - self._monitors[0] < KINDS_FOR:
            return self._monitors[1]
        try:
            await self.cluster.list("monitoring.coreos.com/v1", "ServiceMonitor", self.namespace)
            found = True
        except ClusterError:  # the kind does not exist, or we may not use it
            found = False
        self._monitors = (now, found)
        return found
