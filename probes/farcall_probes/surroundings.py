"""What of the machine the agent looks at; tests give it another one."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    proc: Path = Path("/proc")
    cgroups: Path = Path("/sys/fs/cgroup")
    pod_logs: Path = Path("/var/log")
    resolv_conf: Path = Path("/etc/resolv.conf")
    status_every_s: float = 3.0
    tail_socket: Path | None = None
