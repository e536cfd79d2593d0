"""The order of events that all rows share: a restart, an outage. Rows meet there, so that one event serves all of them."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

Event = tuple[str, Callable[[], Awaitable[None]]]


class Stages:
    """Rows call `reach`; `run` lets an event happen once nobody is busy, and only if somebody waits for it."""

    def __init__(self, rows: int) -> None:
        self._waiting: Counter[str] = Counter()
        self._happened: dict[str, asyncio.Event] = {}
        self._busy = rows
        self._changed = asyncio.Condition()

    async def play(self, row: Awaitable[None]) -> None:
        try:
            await row
        finally:
            await self._release()

    async def reach(self, event: str) -> None:
        """Returns when the event has happened; at once if it has already."""
        happened = self._happened.setdefault(event, asyncio.Event())
        if happened.is_set():
            return
        self._waiting[event] += 1
        await self._release()
        await happened.wait()

    async def run(self, events: Sequence[Event]) -> None:
        for name, happen in events:
            async with self._changed:
                await self._changed.wait_for(lambda: self._busy == 0)
            waiting = self._waiting[name]
            if waiting:
                await happen()
            self._busy += waiting
            self._happened.setdefault(name, asyncio.Event()).set()
        async with self._changed:
            await self._changed.wait_for(lambda: self._busy == 0)

    async def _release(self) -> None:
        async with self._changed:
            self._busy -= 1
            self._changed.notify_all()
