"""A tracer with config, policy and clocks of the test's own, and what it lets out."""

import time
from pathlib import Path
from typing import Any

from farcall.effective import EffectiveConfig
from farcall_probes.capture import Drained
from farcall_probes.cgroups import CgroupTree
from farcall_probes.clocks import Offsets
from farcall_probes.identity import Identities
from farcall_probes.policy import Policy
from farcall_probes.tracer import Tracer
from support_agent import NS, make_config, packed, read_batch

UNIX = 1_700_000_000 * NS
GET = b"GET /cart?id=42 HTTP/1.1\r\nHost: api.example.com\r\n\r\n"
PING = b"*1\r\n$4\r\nPING\r\n"
RESOLVER = packed("10.96.0.10")
Rows = list[dict[str, Any]]


class Room:
    """A tracer and what it lets out."""

    def __init__(self, tmp_path: Path, **config: Any) -> None:
        self.config: EffectiveConfig = make_config(tmp_path, **config)
        self.applied: list[dict[int, int]] = []
        self.policy = Policy(
            self.config.capture,
            mode=self.config.mode,
            ids_below=lambda _d: {99},
            apply=self.applied.append,
        )
        self.tracer = Tracer(
            self.config,
            identities=Identities(node="n1", cgroups=CgroupTree(tmp_path)),
            policy=self.policy,
            offsets=Offsets(unix_ns=UNIX, boot_ns=0),
            watched_since_ns=100,
            trusted=frozenset({RESOLVER}),
        )

    def take(self, drained: Drained) -> dict[str, Rows]:
        self.tracer.take(drained, now_ns=time.monotonic_ns())
        return {kind: read_batch(batch).to_pylist() for kind, batch in self.tracer.take_batches()}

    def no_answers(self) -> dict[str, int]:
        """How many requests stayed without an answer, of protocols that any did."""
        counted = self.tracer.counters().items()
        return {name: n for name, n in counted if name.endswith("_no_answer") and n}
