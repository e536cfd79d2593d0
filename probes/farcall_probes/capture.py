"""The border inside this room: what the kernel side (load, rings) gives to the user side (parse, name, batch).

`probes.open_probes()` returns a Capture over BPF; tests hand the agent a Capture of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from farcall.envelope import Capability
from farcall_probes.tlspoints import Point

Records = npt.NDArray[np.void]  # structured, dtypes in events.py


@dataclass(frozen=True, slots=True)
class Frames:
    """Segments of HTTP/2, in order. Few of them fill a third of their record, and they come at twice the rate of calls and more."""

    data: bytes  # one events.SHORT behind the other; then, as events.LARGE, those whose `req_cap` is above SHORT_REQ, in the same order
    count: int

    def __len__(self) -> int:
        return self.count


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """One drain, in the order that makes names right: every answer read before an exchange of this drain is in `dns`.

    The arrays own their memory (the ring moves on). `full` says that a ring was full to the end of this drain, or that records
    were left for the next: drain again without sleeping.
    """

    dns: Records  # events.DNS
    heads: Records  # events.HEAD; belong to exchanges of this or a later drain
    small: Records  # events.SMALL
    large: Records  # events.LARGE but for `frames`
    frames: Frames
    full: bool

    @property
    def exchanges(self) -> int:
        """Records of exchanges, and of parts of them."""
        return len(self.small) + len(self.large) + len(self.frames)

    def keep_dns(self) -> "Drained":
        """Its answers, and nothing else."""
        nothing = {name: getattr(self, name)[:0] for name in ("heads", "small", "large")}
        return replace(self, frames=Frames(b"", 0), **nothing)


class Attached(Protocol):
    def close(self) -> None:
        """Detaches. Idempotent."""


class TlsProbes(Protocol):
    """The part of the kernel side that reads TLS libraries. Used by one thread."""

    def load(self) -> None:
        """Raises BpfError where this kernel has no uprobes."""

    def attach(self, file: int, points: Sequence[Point]) -> Attached:
        """Raises BpfError."""

    def take_users(self) -> set[int]:
        """Processes that began to speak TLS since the last call."""

    def read_hits(self) -> int:
        """Hits of probes that the kernel single-steps; only grows."""


class Capture(Protocol):
    capabilities: tuple[Capability, ...]
    tls: TlsProbes | None

    def measure_fill(self) -> float:
        """Of the fullest ring, 0..1."""

    def gather(self, most: int | None, /) -> int:
        """Makes room in the rings: what lies there is copied to where the next drain finds it, up to `most` exchanges of each ring.
        How many exchanges of one ring wait there now, the most of all, two segments of HTTP/2 as one; or DNS answers, each as the
        exchanges that it costs."""

    def drain(self, most: int | None = None) -> Drained:
        """All that was gathered and lies in the rings. `most`: exchanges of each ring; those beyond are left for the next drain."""

    def read_counters(self) -> dict[str, int]:
        """Names as in counters.py, summed over CPUs; only ever grow."""

    def set_policy(self, flags_by_cgroup: dict[int, int], *, default: int) -> None:
        """Flags are events.POLICY_*; replaces what was set before."""

    def forget_own_process(self) -> None:
        """The agent's own system calls produce no records from now on."""

    def set_cap(self, records_per_s: int) -> None:
        """So many records of one container a second, others are counted and lost; 0: all."""

    def set_kept(self, share: float) -> None:
        """So large a part of all exchanges becomes records, chosen alike at both ends; above 0, at most 1."""

    def read_capped(self) -> dict[int, int]:
        """Cgroup ID → records lost to that so far. Raises BpfError."""

    def stop_recording(self) -> None:
        """Nothing begins to be recorded from here on; what was can still be drained. Raises BpfError."""

    def count_in_flight(self) -> int:
        """Requests that still wait for their answer, at each end that they are seen at. Raises BpfError."""

    def tell_late(self, limit_ns: int) -> int:
        """Requests that have waited longer than this for their answer become records, once each; how many."""

    def ask_rest(self, sk: int, conn_id: int, seq: int) -> bool:
        """Has the rest of that exchange's response told, as far as it has come and was not told yet. False when no more will ever
        be told of it. Raises BpfError."""

    def close(self) -> None:
        """Detaches everything. Idempotent."""
