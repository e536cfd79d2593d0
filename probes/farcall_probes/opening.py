"""The capture of a process that may trace; any other ends here, with what mends it."""

from pathlib import Path

from farcall import component
from farcall_probes.capture import Capture
from farcall_probes.probes import ProbesError, open_probes
from farcall_probes.procfs import read_bounded

_CAP_SYS_ADMIN = 21
_CAPABILITIES = (("CAP_BPF", 39), ("CAP_PERFMON", 38))  # capability.h


def open_capture() -> Capture:
    """The real one. Exits with 2 and what mends it where this machine does not let us trace."""
    if missing := missing_capabilities():
        component.refuse(
            "agent",
            f"tracing needs {' and '.join(missing)}, which this process lacks; run it as root: sudo farcall agent …",
        )
    try:
        return open_probes()
    except ProbesError as e:
        component.refuse(
            "agent", f"this machine cannot be traced as it is: {e}; `farcall doctor` says more"
        )


def missing_capabilities(status: Path = Path("/proc/self/status")) -> list[str]:
    """Of BPF and PERFMON; SYS_ADMIN stands for both (capabilities(7))."""
    raw = read_bounded(status) or b""
    line = next((x for x in raw.splitlines() if x.startswith(b"CapEff:")), b"CapEff: 0")
    held = int(line.split()[1], 16)
    if held >> _CAP_SYS_ADMIN & 1:
        return []
    return [name for name, bit in _CAPABILITIES if not held >> bit & 1]
