"""Which processes are traced, by config; and the kernel's policy map that follows from it.

Everything not known to be unwanted is recorded, and unwanted cgroups are learned from their first record: a new pod's first DNS
answer must not be lost to a map that did not know the pod yet. Until the map knows, rows are dropped here.
"""

from collections.abc import Callable

from farcall.effective import CaptureConfig
from farcall_probes import events
from farcall_probes.identity import Identity

MAX_LEARNED = (
    4096  # below the map's size (bpf/maps); more unwanted cgroups are dropped here instead
)


class Policy:
    def __init__(
        self,
        capture: CaptureConfig,
        *,
        mode: str,
        ids_below: Callable[[str], set[int]],
        apply: Callable[[dict[int, int]], None],
    ) -> None:
        self._capture = capture
        self._mode = mode
        self._ids_below = ids_below
        self._apply = apply
        self._own: set[int] = set()
        self._learned: set[int] = set()
        self._changed = True

    def configure(self, capture: CaptureConfig) -> None:
        self._capture = capture
        self._learned.clear()
        self._changed = True

    def keeps(self, identity: Identity) -> bool:
        """Whether this process is traced. Own cgroups never get here: the kernel drops them."""
        capture = self._capture
        if identity.container_id is None:
            # On Kubernetes, no cgroup of this node means another node's process (one kernel may carry several).
            return capture.host_processes and (identity.known_cgroup or self._mode == "local")
        if identity.namespace is None:
            return not capture.namespaces_include
        if identity.namespace in capture.namespaces_exclude:
            return False
        return not capture.namespaces_include or identity.namespace in capture.namespaces_include

    def learn(self, cgroup_id: int, identity: Identity) -> None:
        """A record of an unwanted process came: the kernel need not send another one of its cgroup.

        Outside containers only when none is wanted: one cgroup may hold processes of several kinds there. ID 1 is the root, and
        what an unreadable group is reported as.
        """
        if cgroup_id <= 1 or cgroup_id in self._learned or len(self._learned) >= MAX_LEARNED:
            return
        if identity.container_id is not None or not self._capture.host_processes:
            self._learned.add(cgroup_id)
            self._changed = True

    def refresh(self) -> None:
        """Applies what changed. Cheap when nothing did; own cgroups may get new children at any time."""
        own = {i for d in self._capture.own_cgroups for i in self._ids_below(d)}
        if own == self._own and not self._changed:
            return
        self._own, self._changed = own, False
        self._apply(dict.fromkeys(self._own | self._learned, events.POLICY_DROP))
