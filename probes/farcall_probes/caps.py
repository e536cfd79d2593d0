"""What is not captured, and why: containers that had more records than one may have, and the agent's own CPU ceiling.

Both are acted upon in the kernel; here they are looked at, and said.
"""

import time
from collections.abc import Callable

from farcall import journal
from farcall.envelope import Capability
from farcall_probes.bpfsys import BpfError
from farcall_probes.capture import Capture
from farcall_probes.ceiling import Ceiling
from farcall_probes.cgroups import CgroupTree, parse_path

MAX_TOLD = 8  # in one look
EVERY_CALL = "capture/every-call"  # a capability


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


class CpuCap:
    """Keeps the agent below the CPU that it may use, by what the kernel leaves out.

    What calls cost is held against it, and what the agent uses anyway. What it costs to read libraries of new programs is not:
    that is there once, and as large whatever is left out.
    """

    def __init__(
        self,
        capture: Capture,
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        used_ns: Callable[[], int] = time.process_time_ns,  # CPU time of all threads so far
    ) -> None:
        self._capture = capture
        self._clock_ns, self._used_ns = clock_ns, used_ns
        self._ceiling = Ceiling()
        self._looked_ns: tuple[int, int] | None = None  # when, and CPU until then
        self._log = journal.get_log("agent")

    @property
    def share(self) -> float:
        """Of all exchanges, how large a part is taken."""
        return self._ceiling.share

    def capability(self) -> Capability:
        left_out = 1 - self.share
        if not left_out:
            return Capability(name=EVERY_CALL, on=True)
        return Capability(
            name=EVERY_CALL,
            on=False,
            why="the agent would use more CPU than capture.rateLimits.cpuMillicores",
            cost=f"{left_out:.1%} of the calls that did not fail are left out; the tracestate of the others (ot=th) says for how many each stands",
        )

    def look(self, limit_millicores: int, libraries_ns: int) -> None:
        """About once a second: what was used since the last time, against what may be. `libraries_ns`: CPU time that went into
        reading libraries so far. The first time is the beginning: what the agent's start took is nobody's load."""
        last_ns = self._looked_ns
        now_ns, cpu_ns = self._clock_ns(), self._used_ns() - libraries_ns
        self._looked_ns = now_ns, cpu_ns
        if last_ns is None:
            return
        used = (cpu_ns - last_ns[1]) / max(now_ns - last_ns[0], 1)
        before = self._ceiling.share
        share = self._ceiling.note(used, limit_millicores / 1_000)
        self._capture.set_kept(share)
        if before == 1 and share < 1:
            self._log.warning(
                "the agent would use more CPU than it may: a part of the calls is left out",
                used_cores=round(used, 3),
                limit="capture.rateLimits.cpuMillicores",
            )
        elif before < 1 and share == 1:
            self._log.info("all calls are taken again")
