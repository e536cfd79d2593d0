"""The plural of a kind: the table's, else what the API server's discovery says, remembered.

A kind that is not there is asked for again after half a minute: its CRD may have come meanwhile.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any

from farcall_operator.cluster.paths import PLURALS, build_root
from farcall_operator.cluster.port import ClusterError, Manifest

ASK_AGAIN_S = 30.0
GONE = 404

ReadJson = Callable[[str], Awaitable[Manifest]]


class Kinds:
    def __init__(self, read: ReadJson, clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._plurals: dict[str, dict[str, str]] = {}
        self._asked_at: dict[str, float] = {}

    async def find_plural(self, api_version: str, kind: str) -> str:
        """Raises ClusterError, 404 when the API server does not know the kind."""
        known = PLURALS.get((api_version, kind))
        if known is not None:
            return known
        if kind not in self._plurals.get(api_version, {}) and self._may_ask(api_version):
            self._plurals[api_version] = await self._discover(api_version)
            self._asked_at[api_version] = self._clock()
        try:
            return self._plurals[api_version][kind]
        except KeyError:
            raise ClusterError(
                GONE, "NotFound", f"the API server knows no {kind} in {api_version}"
            ) from None

    def _may_ask(self, api_version: str) -> bool:
        asked = self._asked_at.get(api_version)
        return asked is None or self._clock() - asked >= ASK_AGAIN_S

    async def _discover(self, api_version: str) -> dict[str, str]:
        try:
            answer: dict[str, Any] = await self._read(build_root(api_version))
        except ClusterError as e:
            if e.status == GONE:
                return {}
            raise
        resources = answer.get("resources") or []
        return {r["kind"]: r["name"] for r in resources if "/" not in r["name"]}
