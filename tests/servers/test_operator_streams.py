"""What the watches survive: cut, silent and outdated streams, refused tokens, an API server that says no."""

import asyncio
import contextlib
import copy
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from farcall_operator.cluster.access import Access, load_access
from farcall_operator.cluster.port import Ref
from farcall_operator.cluster.world import World
from farcall_operator.running import streams
from farcall_operator.running.metrics import Counters
from farcall_operator.running.watching import PAGE, WATCHED, Watching
from support_operator_fake import (
    FakeServer,
    child_path,
    config_path,
    fail,
    serving,
    write_kubeconfig,
)
from support_operator_process import build_child, build_config

pytestmark = pytest.mark.servers
GONE = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}}
CHILD = Ref("v1", "ConfigMap", "farcall", "c")


class Watcher:
    """The watching of one operator, in this process."""

    def __init__(self, access: Access) -> None:
        self.world = World()
        self.called: list[str] = []
        self.counters = Counters()
        self.watching = Watching(
            access,
            self.world,
            namespace="farcall",
            add=lambda name, _delay_s: self.called.append(name),
            count=self.counters.count_request,
        )

    def stream(self, kind: str) -> streams.Stream:
        return next(s for s in self.watching.streams.all() if s.watched.kind == kind)


async def until(holds: Callable[[], bool], what: str) -> None:
    for _ in range(2_000):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"it did not come to that: {what}")


@contextlib.asynccontextmanager
async def watching(fake: FakeServer, kubeconfig: Path) -> AsyncIterator[Watcher]:
    watcher = Watcher(load_access(kubeconfig))
    running = asyncio.ensure_future(watcher.watching.run(asyncio.Event()))
    listed = asyncio.ensure_future(watcher.watching.streams.wait_until_listed())
    try:
        done, _ = await asyncio.wait({running, listed}, timeout=20, return_when="FIRST_COMPLETED")
        assert listed in done, "the first lists are in"
        await until(lambda: len(fake.watches) == len(WATCHED), "all kinds are watched")
        yield watcher
    finally:
        running.cancel()
        listed.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


def play(scene: Callable[[FakeServer, Path], Awaitable[None]], folder: Path) -> None:
    async def run() -> None:
        async with serving(FakeServer()) as fake:
            fake.put(config_path("main"), build_config("main"))
            fake.put(child_path("configmaps", "c"), build_child("main", "c"))
            await scene(fake, write_kubeconfig(folder / "kubeconfig", fake.url))

    asyncio.run(run())


def test_first_lists_and_events_fill_the_world(tmp_path: Path) -> None:
    async def scene(fake: FakeServer, kubeconfig: Path) -> None:
        async with watching(fake, kubeconfig) as watcher:
            assert set(watcher.world.configs()) == {"main"}
            assert set(watcher.world.children("main")) == {CHILD}
            watcher.called.clear()
            fake.delete(child_path("configmaps", "c"))
            await until(lambda: watcher.called == ["main"], "the deletion calls its owner")
            assert len(watcher.world.children("main")) == 0

    play(scene, tmp_path)


def test_cut_streams_go_on_where_they_were_without_a_new_list(tmp_path: Path) -> None:
    async def scene(fake: FakeServer, kubeconfig: Path) -> None:
        async with watching(fake, kubeconfig) as watcher:
            for number in range(3):
                fake.cut_watches()
                fake.put(config_path(f"after-{number}"), build_config(f"after-{number}"))
                await until(
                    lambda n=number: watcher.world.config(f"after-{n}") is not None, "it is seen"
                )  # type: ignore[misc]
            assert watcher.stream("TracingConfig").lists == 1

    play(scene, tmp_path)


def test_a_server_that_cuts_every_stream_is_not_asked_in_a_tight_loop(tmp_path: Path) -> None:
    async def scene(fake: FakeServer, kubeconfig: Path) -> None:
        async with watching(fake, kubeconfig):
            fake.cuts_at_once = True
            fake.cut_watches()
            before = fake.asked["watch", "pods"]
            await asyncio.sleep(1.6)
            assert fake.asked["watch", "pods"] - before <= 5

    play(scene, tmp_path)


def test_what_vanished_while_a_stream_was_outdated_is_noticed_by_the_next_list(
    tmp_path: Path,
) -> None:
    """kopf itself never tells of it: the object is simply not in the list."""

    async def scene(fake: FakeServer, kubeconfig: Path) -> None:
        async with watching(fake, kubeconfig) as watcher:
            watcher.called.clear()
            fake.delete(child_path("configmaps", "c"), tell=False)
            fake.cut_watches(GONE)
            await until(lambda: len(watcher.world.children("main")) == 0, "it is dropped")
            assert "main" in watcher.called
            assert watcher.stream("ConfigMap").lists == 2

    play(scene, tmp_path)


def test_what_we_wrote_and_somebody_deleted_before_any_watch_told_is_noticed(
    tmp_path: Path,
) -> None:
    async def scene(fake: FakeServer, kubeconfig: Path) -> None:
        async with watching(fake, kubeconfig) as watcher:
            written = build_child("main", "ours")
            written["metadata"] |= {"uid": "short-lived", "resourceVersion": str(fake.version)}
            watcher.world.note(written)
            assert len(watcher.world.children("main")) == 2
            watcher.called.clear()
            fake.cut_watches(GONE)
            await until(lambda: set(watcher.world.children("main")) == {CHILD}, "it is dropped")
            assert "main" in watcher.called

    play(scene, tmp_path)


def test_what_was_heard_before_a_new_list_does_not_undo_it(tmp_path: Path) -> None:
    """kopf may hand over late what the old stream told: of an object that changed since, and of one that is gone since."""

    async def scene(fake: FakeServer, kubeconfig: Path) -> None:
        path, other = child_path("configmaps", "c"), child_path("configmaps", "other")
        old = copy.deepcopy(fake.objects[path])
        fake.put(other, build_child("main", "other"))
        gone = copy.deepcopy(fake.objects[other])
        async with watching(fake, kubeconfig) as watcher:
            fake.put(path, {**build_child("main", "c"), "data": {"is": "new"}})
            fake.delete(other, tell=False)
            fake.cut_watches(GONE)
            await until(lambda: watcher.stream("ConfigMap").lists == 2, "it is listed again")
            await until(lambda: len(fake.watches) == len(WATCHED), "and watched")
            for late in (old, gone):
                fake.tell("MODIFIED", path, late)
            fake.put(child_path("configmaps", "last"), build_child("main", "last"))
            last = CHILD._replace(name="last")
            await until(lambda: last in watcher.world.children("main"), "all that was told is in")
            children = watcher.world.children("main")
            assert set(children) == {CHILD, last}
            assert children[CHILD]["data"] == {"is": "new"}

    play(scene, tmp_path)


def test_lists_of_many_pages_are_read_whole(tmp_path: Path) -> None:
    async def scene(fake: FakeServer, kubeconfig: Path) -> None:
        for number in range(2 * PAGE):
            fake.put(child_path("configmaps", f"c-{number}"), build_child("main", f"c-{number}"))
        async with watching(fake, kubeconfig) as watcher:
            assert len(watcher.world.children("main")) == 2 * PAGE + 1
            assert watcher.stream("ConfigMap").lists == 1
            fake.delete(child_path("configmaps", f"c-{PAGE}"), tell=False)
            fake.cut_watches(GONE)
            await until(lambda: len(watcher.world.children("main")) == 2 * PAGE, "one is missing")

    play(scene, tmp_path)


def test_bookmarks_are_signs_of_life_and_silence_becomes_stale(tmp_path: Path) -> None:
    async def scene(fake: FakeServer, kubeconfig: Path) -> None:
        async with watching(fake, kubeconfig) as watcher:
            every = watcher.watching.streams
            before = watcher.stream("Pod").alive_at
            fake.bookmark()
            await until(lambda: watcher.stream("Pod").alive_at > before, "a bookmark is noticed")
            assert every.find_stale() == []
            watcher.stream("Pod").alive_at -= streams.STALE_AFTER_S + 1
            assert every.find_stale() == ["Pod"]

    play(scene, tmp_path)


@pytest.mark.parametrize("code", [500, 503, 429])
def test_a_server_that_cannot_answer_is_asked_again_and_the_failures_are_counted(
    tmp_path: Path, code: int
) -> None:
    async def scene(fake: FakeServer, kubeconfig: Path) -> None:
        left = [3]

        def refuse(request: web.Request) -> web.Response | None:
            if left[0] and request.path.endswith("/pods"):
                left[0] -= 1
                return fail(code, "Busy")
            return None

        fake.refuse = refuse
        async with watching(fake, kubeconfig) as watcher:
            assert watcher.stream("Pod").failures == 3
            assert watcher.stream("Node").failures == 0

    play(scene, tmp_path)


def test_a_token_that_rotates_is_used_by_the_running_watches(tmp_path: Path) -> None:
    async def scene(fake: FakeServer, kubeconfig: Path) -> None:
        token = tmp_path / "token"
        token.write_text("first")
        write_kubeconfig(kubeconfig, fake.url, token)
        fake.tokens = {"first"}
        async with watching(fake, kubeconfig) as watcher:
            fake.tokens = {"second"}
            token.write_text("second")
            fake.cut_watches()
            fake.put(config_path("later"), build_config("later"))
            await until(lambda: watcher.world.config("later") is not None, "it is seen")

    play(scene, tmp_path)


def test_an_object_of_a_foreign_manager_is_never_held(tmp_path: Path) -> None:
    async def scene(fake: FakeServer, kubeconfig: Path) -> None:
        async with watching(fake, kubeconfig) as watcher:
            foreign: dict[str, Any] = build_child("main", "foreign")
            foreign["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "Helm"
            fake.put(child_path("configmaps", "foreign"), foreign)
            fake.put(child_path("configmaps", "ours"), build_child("main", "ours"))
            await until(lambda: len(watcher.world.children("main")) == 2, "ours is seen")
            assert CHILD._replace(name="foreign") not in watcher.world.children("main")

    play(scene, tmp_path)
