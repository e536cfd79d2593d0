"""The queue between what happens and what is done about it: keys in, one `reconcile(key)` at a time out.

It knows nothing of Kubernetes but that a ClusterError may say when to come back. Nothing a reconciliation raises ends it.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from farcall import journal
from farcall_operator.cluster.port import ClusterError, Outcome, Reconciler
from farcall_operator.running.schedule import JITTER, Schedule

# The longest honest one waits for two dozen requests of 30 s, of which hardly two in a row are that slow.
RECONCILE_WITHIN_S = 180.0
# No key finished for this long though some are due: no reconciliation may take that long, so the loop is broken.
STUCK_AFTER_S = 300.0


class WatchesWork(Protocol):
    def reconciled(self, result: str, duration_s: float) -> None:
        """`result` is `ok`, `error` or `timeout`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueState:
    depth: int
    running: int
    oldest_s: float
    longest_s: float
    is_stuck: bool


class Workqueue:
    """`add` from anywhere in the loop; `run` works until it is cancelled. A key is looked at again every `resync_s`
    for as long as `keeps` says that there is such a thing."""

    def __init__(
        self,
        reconciler: Reconciler,
        *,
        watcher: WatchesWork,
        keeps: Callable[[str], bool],
        resync_s: float,
        pick: Callable[[], float] = random.random,
    ) -> None:
        self._reconciler = reconciler
        self._watcher = watcher
        self._keeps = keeps
        self._resync_s = resync_s
        self._pick = pick
        self._schedule = Schedule(pick)
        self._work = asyncio.Event()
        self._finished_at = _now()
        self._log = journal.get_log("queue")

    def add(self, key: str, delay_s: float = 0.0) -> None:
        self._schedule.add(key, _now(), delay_s)
        self._work.set()

    def state(self) -> QueueState:
        now, schedule = _now(), self._schedule
        oldest_s, longest_s = schedule.oldest_s(now), schedule.longest_s(now)
        waited_s = max(oldest_s, longest_s)
        return QueueState(
            depth=schedule.depth,
            running=schedule.running,
            oldest_s=oldest_s,
            longest_s=longest_s,
            is_stuck=min(waited_s, now - self._finished_at) > STUCK_AFTER_S,
        )

    async def run(self, workers: int) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._serve())

    async def _serve(self) -> None:
        while True:
            key = self._schedule.take(_now())
            if key is None:
                await self._wait()
            else:
                await self._work_on(key)

    async def _wait(self) -> None:
        due = self._schedule.next_due()
        self._work.clear()
        try:
            async with asyncio.timeout_at(due):
                await self._work.wait()
        except TimeoutError:
            pass

    async def _work_on(self, key: str) -> None:
        started = _now()
        result, again_in_s = "error", None
        try:
            async with asyncio.timeout(RECONCILE_WITHIN_S):
                outcome = await self._reconciler.reconcile(key)
            result, again_in_s = "ok", self._plan_next(key, outcome)
        except TimeoutError:
            result = "timeout"
            self._log.error("reconcile timed out", name=key, after_s=RECONCILE_WITHIN_S)
        except ClusterError as e:
            again_in_s = e.retry_after_s
            self._log.warning("reconcile failed", name=key, reason=e.reason, error=e.message)
        except Exception:
            self._log.exception("reconcile failed", name=key)
        finally:
            now = _now()
            self._finished_at = now
            self._schedule.finish(key, now, again_in_s=again_in_s, failed=result != "ok")
            self._work.set()  # for the workers that wait: this key may be due before what they wait for
            self._watcher.reconciled(result, now - started)

    def _plan_next(self, key: str, outcome: Outcome) -> float | None:
        if not self._keeps(key):
            return outcome.again_in_s
        resync_s = self._resync_s * (1 + JITTER * (2 * self._pick() - 1))
        return resync_s if outcome.again_in_s is None else min(resync_s, outcome.again_in_s)


def _now() -> float:
    return asyncio.get_running_loop().time()
