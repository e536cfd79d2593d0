"""For tests with more traffic than is looked at row by row: `farcall agent` alone, and how much it sent and said."""

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from farcall.envelope import BATCH_PATH, STATUS_PATH
from support_agent import FakeExporter, make_config, write_config
from support_agent_live import child, wait

# What a sight can be lost to, from the hook to the exporter.
LOSS = re.compile(r"(_lost|_dropped|kernel_orphan|kernel_overwritten|kernel_read_fault)$")


@contextmanager
def running_agent(
    directory: Path, exporter: FakeExporter, *, spec: dict[str, Any] | None = None
) -> Iterator["subprocess.Popen[str]"]:
    """`farcall agent` without a cache, ready; ended by SIGTERM unless it has ended before."""
    config = write_config(make_config(directory, exporter=exporter.url, spec=spec), directory)
    ready = directory / "ready"
    ready.unlink(missing_ok=True)
    words = ("agent", "--config", str(config), "--ready-file", str(ready))
    with child(sys.executable, "-m", "farcall.commands", *words) as agent:
        wait(lambda: ready.exists() or agent.poll() is not None, within_s=120)
        assert agent.poll() is None
        yield agent


def count_losses(status: dict[str, Any]) -> int:
    """Of everything on this machine."""
    return sum(count for name, count in status["counters"].items() if LOSS.search(name))


@dataclass(slots=True)
class Told:
    """What agents told an exporter of the exchanges with one server; bodies are let go once they are counted."""

    exporter: FakeExporter
    port: int  # the server's
    sights: Counter[int] = field(default_factory=Counter)  # by role
    statuses: list[dict[str, Any]] = field(default_factory=list)

    def look(self) -> None:
        with self.exporter.changed:
            posted, self.exporter.posted = self.exporter.posted, []
        for post in posted:
            if post.path == STATUS_PATH:
                self.statuses.append(json.loads(post.body))
            elif post.path == BATCH_PATH:
                header, table = post.table()
                if header.kind == "exchanges":
                    self._count(table)

    def _count(self, table: Any) -> None:
        roles = table["role"].to_numpy()
        for role, column in ((0, "peer_port"), (1, "local_port")):
            ours = table[column].to_numpy() == self.port
            self.sights[role] += int(np.count_nonzero(ours & (roles == role)))

    @property
    def losses(self) -> int:
        return count_losses(self.statuses[-1]) if self.statuses else 0

    def wait_all(self, made: int, lost_before: int = 0, within_s: float = 120.0) -> int:
        """Until each of `made` exchanges was seen by both ends or is a counted loss. Returns the sights that were not seen."""

        def are_told() -> bool:
            self.look()
            unseen = 2 * made - self.sights[0] - self.sights[1]
            return unseen <= self.losses - lost_before

        wait(are_told, within_s)
        return 2 * made - self.sights[0] - self.sights[1]
