"""Store calls from worker threads: bounded in time and in number."""

import asyncio
import threading

import pytest

from farcall.storeport import Reader, StoreUnavailableError
from farcall_console.problems import TooBusyError, TooSlowError
from farcall_console.reads import MAX_WAITING, THREADS, Reads
from support_console import MemoryReader

pytestmark = pytest.mark.unit


def test_answers_and_errors_come_back() -> None:
    async def scenario() -> None:
        reads = Reads(MemoryReader())
        assert await reads.call(lambda reader: reader.read_statuses()) == []
        with pytest.raises(StoreUnavailableError):
            await reads.call(fail)
        reads.close()

    def fail(_reader: Reader) -> None:
        raise StoreUnavailableError("gone")

    asyncio.run(scenario())


def test_a_slow_call_is_given_up() -> None:
    release = threading.Event()

    async def scenario() -> None:
        reads = Reads(MemoryReader(), time_limit_s=0.05)
        with pytest.raises(TooSlowError):
            await reads.call(lambda _: release.wait(30))
        release.set()
        assert await reads.call(lambda _: "next") == "next"
        reads.close()

    asyncio.run(scenario())


def test_more_than_can_wait_are_refused_and_room_comes_back() -> None:
    release = threading.Event()

    async def scenario() -> None:
        reads = Reads(MemoryReader(), time_limit_s=30)
        async with asyncio.TaskGroup() as group:
            for _ in range(THREADS + MAX_WAITING):
                group.create_task(reads.call(lambda _: release.wait(30)))
            await asyncio.sleep(0)
            with pytest.raises(TooBusyError):
                await reads.call(lambda _: None)
            release.set()
        assert await reads.call(lambda _: "again") == "again"
        reads.close()

    asyncio.run(scenario())
