"""Containers that had more records than one may have: which, and how many, for the log."""

from farcall import journal
from farcall_probes.bpfsys import BpfError
from farcall_probes.capture import Capture
from farcall_probes.cgroups import CgroupTree, parse_path

MAX_TOLD = 8  # in one look


class Caps:
    def __init__(self, capture: Capture, cgroups: CgroupTree) -> None:
        self._capture = capture
        self._cgroups = cgroups
        self._known: dict[int, int] = {}
        self._log = journal.get_log("agent")

    def look(self) -> None:
        """One line for each container that lost records since the last look, the worst first."""
        try:
            lost = self._capture.read_capped()
        except BpfError as e:
            self._log.warning("what containers lost to their limit was not read", why=str(e))
            return
        # An entry that was evicted begins at 0 again.
        grown = {id_: n - self._known.get(id_, 0) for id_, n in lost.items()}
        self._known = lost
        worst = sorted((g for g in grown.items() if g[1] > 0), key=lambda g: -g[1])[:MAX_TOLD]
        for cgroup_id, count in worst:
            path = self._cgroups.find(cgroup_id) or f"cgroup {cgroup_id}"
            container = parse_path(path)
            self._log.warning(
                "a container makes more calls than one may have; some are not seen",
                container=container.container_id if container else path,
                lost=count,
                limit="capture.rateLimits.recordsPerSecond",
            )
