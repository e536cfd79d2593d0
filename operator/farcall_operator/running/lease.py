"""Who of several operators works: the holder of one Lease (coordination.k8s.io/v1).

Clocks of two machines are never compared: a standby counts from when it saw the Lease change last, by its own clock, as
client-go does. The holder writes nothing more before anybody else may take over, and whoever lost it must end.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

from farcall import journal
from farcall_operator.cluster.port import Cluster, ClusterError, Manifest, Ref

NAME = "farcall-operator"
API_VERSION, KIND = "coordination.k8s.io/v1", "Lease"
DURATION_S = 7.0  # after a crash nobody works for this long
RENEW_EVERY_S = 2.0
GIVE_UP_S = 5.0  # since the last renewal began; two seconds before the others may think so
POLL_S = 0.5
ANSWER_WITHIN_S = 4.0
RELEASE_WITHIN_S = 2.0
CONFLICT = (409, 404)  # another was faster; or the Lease was deleted in between


class LeaseLostError(Exception):
    """Another may work now. The only right thing to do is to end."""


class Lease:
    """`acquire`, then `hold` for as long as there is work, then `release`. One writer: `acquire` returns once it is ours."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        namespace: str,
        identity: str,
        clock: Callable[[], float] = time.monotonic,
        renew_every_s: float = RENEW_EVERY_S,
        poll_s: float = POLL_S,
    ) -> None:
        self._cluster = cluster
        self._ref = Ref(API_VERSION, KIND, namespace, NAME)
        self._identity = identity
        self._clock = clock
        self._renew_every_s = renew_every_s
        self._poll_s = poll_s
        self._ours: Manifest | None = None  # as we wrote it last: renewing it takes one request
        self._renewed_at: float | None = None
        self._seen: tuple[str, float] = ("", 0.0)  # resource version, when we saw it first
        self._holder = ""
        self._log = journal.get_log("lease")

    @property
    def identity(self) -> str:
        return self._identity

    def is_held(self) -> bool:
        """Whether writing is safe at this very moment."""
        return self._renewed_at is not None and self._clock() - self._renewed_at < GIVE_UP_S

    async def acquire(self, is_prepared: Callable[[], bool] = lambda: True) -> None:
        """Waits for as long as it takes; the API server may be away meanwhile.

        Looks on from the beginning, and takes it once `is_prepared`: another may be so already.
        """
        while not await self._try("take", is_prepared()):  # noqa: ASYNC110 - others change it
            await asyncio.sleep(self._poll_s)
        self._log.info("leading", identity=self._identity)

    async def hold(self) -> None:
        """Renews until cancelled. Raises LeaseLostError once another has it.

        An API server that is away for longer than the lease is no loss yet: nobody else can have taken it without
        changing it, which our renewal would notice. Until it succeeds, `is_held` says no and nothing is written.
        """
        while True:
            await asyncio.sleep(self._renew_every_s)
            while not await self._try("renew"):
                if self._holder not in ("", self._identity):
                    raise LeaseLostError(f"{self._holder} leads now")
                await asyncio.sleep(self._poll_s / 2)

    async def release(self) -> None:
        """So that the next takes over at its next poll. Best effort: without it they wait for DURATION_S."""
        if not self.is_held():
            return
        self._renewed_at = None
        try:
            async with asyncio.timeout(RELEASE_WITHIN_S):
                lease = await self._cluster.get(self._ref)
                if lease is not None and _holder_of(lease) == self._identity:
                    spec = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
                    await self._cluster.replace({**lease, "spec": spec})
        except (ClusterError, TimeoutError) as e:
            self._log.warning("lease not released", error=str(e))

    async def _try(self, what: str, may_take: bool = True) -> bool:
        began = self._clock()
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                taken = await self._take(began, may_take)
        except TimeoutError:
            self._log.warning("lease not reached", doing=what, error="no answer in time")
            return False
        except ClusterError as e:
            if e.status not in CONFLICT:
                self._log.warning("lease not reached", doing=what, reason=e.reason, error=e.message)
            return False
        if taken:
            self._renewed_at = began
        return taken

    async def _take(self, now: float, may_take: bool) -> bool:
        if self._ours is not None:
            ours, self._ours = (
                self._ours,
                None,
            )  # once: when somebody else wrote it, we have to look
            self._ours = await self._cluster.replace(self._build(ours))
            return True
        lease = await self._cluster.get(self._ref)
        if lease is not None:
            self._observe(lease, now)
        if not may_take:
            return False
        if lease is None:
            self._holder = ""
            self._ours = await self._cluster.create(self._build(None))
            return True
        if self._holder not in ("", self._identity) and not self._is_expired(lease, now):
            return False
        self._ours = await self._cluster.replace(self._build(lease))
        self._holder = self._identity
        return True

    def _observe(self, lease: Manifest, now: float) -> None:
        version = str(lease["metadata"].get("resourceVersion", ""))
        if version != self._seen[0]:
            self._seen = (version, now)
        self._holder = _holder_of(lease)

    def _is_expired(self, lease: Manifest, now: float) -> bool:
        duration_s = float((lease.get("spec") or {}).get("leaseDurationSeconds") or DURATION_S)
        return now - self._seen[1] >= duration_s

    def _build(self, before: Manifest | None) -> Manifest:
        """Ours from now on; with the resource version that was read, so that only one of two can win."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")  # MicroTime: six digits
        spec = dict((before or {}).get("spec") or {})
        if before is None or _holder_of(before) != self._identity:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + (before is not None)
        spec |= {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": int(DURATION_S),
            "renewTime": now,
        }
        metadata: Manifest = {"name": self._ref.name, "namespace": self._ref.namespace}
        if before is not None:
            metadata["resourceVersion"] = before["metadata"]["resourceVersion"]
        return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}


def _holder_of(lease: Manifest) -> str:
    return str((lease.get("spec") or {}).get("holderIdentity") or "")
