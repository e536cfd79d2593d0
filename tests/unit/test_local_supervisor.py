"""The supervisor alone: processes, clock and chance are given to it, so every test is exact and none waits."""

from dataclasses import dataclass, field

import pytest

from farcall_operator.desired import Component, ReadyFile, RestartPolicy
from farcall_operator.local.processes import Running
from farcall_operator.local.supervisor import (
    Hooks,
    Phase,
    Report,
    Supervisor,
    compute_backoff_s,
)

pytestmark = pytest.mark.unit


@dataclass(slots=True)
class FakeProcess:
    pid: int
    deaf: bool = False
    code: int | None = None

    def poll(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        if not self.deaf and self.code is None:
            self.code = 0

    def kill(self) -> None:
        if self.code is None:
            self.code = -9


@dataclass(slots=True)
class Stage(Hooks):
    """Spawner, hooks and clock of one test; a component is ready as soon as it is in `ready`."""

    ready: set[str] = field(default_factory=set)
    deaf: set[str] = field(default_factory=set)
    unstartable: set[str] = field(default_factory=set)
    now: float = 0.0
    started: list[str] = field(default_factory=list)
    processes: dict[str, FakeProcess] = field(default_factory=dict)
    reports: list[Report] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)

    def spawn(self, component: Component) -> Running:
        if component.name in self.unstartable:
            raise OSError(2, "No such file or directory")
        self.started.append(component.name)
        process = FakeProcess(pid=len(self.started), deaf=component.name in self.deaf)
        self.processes[component.name] = process
        return process

    def is_ready(self, component: Component) -> bool:
        return component.name in self.ready

    def has_ended(self, component: Component) -> None:
        self.stopped.append(component.name)

    def last_words(self, component: Component) -> str:
        return "no luck"

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def supervise(self, *components: Component) -> Supervisor:
        return Supervisor(
            components,
            spawner=self,
            hooks=self,
            report=self.reports.append,
            clock=lambda: self.now,
            chance=lambda: 0.5,
        )

    @property
    def sentences(self) -> list[str]:
        return [f"{r.component} {r.sentence}" for r in self.reports]


def make(name: str, *dependencies: str, once: bool = False) -> Component:
    return Component(
        name=name,
        argv=(name,),
        readiness=ReadyFile(path=f"/ready/{name}"),
        dependencies=dependencies,
        restart=None if once else RestartPolicy(),
    )


def test_a_component_starts_only_when_all_it_depends_on_are_ready() -> None:
    stage = Stage(ready={"redis"})
    supervisor = stage.supervise(make("redis"), make("store"), make("exporter", "redis", "store"))
    supervisor.tick()
    supervisor.tick()

    assert stage.started == ["redis", "store"]

    stage.ready.add("store")
    supervisor.tick()

    assert stage.started == ["redis", "store", "exporter"]


def test_a_killed_component_comes_back_and_its_dependants_stay() -> None:
    stage = Stage(ready={"redis", "agent"})
    supervisor = stage.supervise(make("redis"), make("agent", "redis"))
    for _ in range(3):
        supervisor.tick()
    stage.processes["redis"].code = -9
    supervisor.tick()

    assert supervisor.find("redis").phase is Phase.BACKOFF
    assert (
        stage.sentences[-1]
        == "redis was killed by SIGKILL; it starts again in 0.2 s; its last words: no luck"
    )

    stage.now += 0.2
    supervisor.tick()
    supervisor.tick()

    assert stage.started == ["redis", "agent", "redis"]
    assert stage.sentences[-1] == "redis is ready again (0.0 s)"


def test_backoff_doubles_up_to_its_cap_and_jitter_stays_within_bounds() -> None:
    policy = RestartPolicy(first_s=1, most_s=8, jitter=0.25)

    assert [compute_backoff_s(policy, n, 0.5) for n in range(5)] == [1, 2, 4, 8, 8]
    assert compute_backoff_s(policy, 0, 0.0) == 0.75
    assert compute_backoff_s(policy, 10_000, 1.0) == 10


def test_a_component_that_keeps_ending_is_called_a_crash_loop() -> None:
    stage = Stage()
    supervisor = stage.supervise(make("store"))
    supervisor.tick()
    for _ in range(6):
        stage.processes["store"].code = 1
        supervisor.tick()
        stage.now = supervisor.find("store").retry_at_s
        supervisor.tick()

    loops = ["crash loop" in sentence for sentence in stage.sentences]
    assert loops == [False] * 4 + [True] * 2
    assert "the 5th time" in stage.sentences[4]


def test_backoff_begins_anew_for_a_component_that_had_settled() -> None:
    stage = Stage(ready={"store"})
    supervisor = stage.supervise(make("store"))
    for lived_s in (1, 1, 61):
        supervisor.tick()
        supervisor.tick()
        stage.now += lived_s
        stage.processes["store"].code = 1
        supervisor.tick()
        stage.now = supervisor.find("store").retry_at_s

    waits = [
        s.partition("again in ")[2].partition(" s")[0] for s in stage.sentences if "again in" in s
    ]
    assert waits == ["0.2", "0.4", "0.2"]


def test_a_component_that_does_not_become_ready_is_started_anew() -> None:
    stage = Stage()
    supervisor = stage.supervise(make("console"))
    supervisor.tick()
    stage.now = 61
    supervisor.tick()
    supervisor.tick()

    assert stage.sentences[-1].startswith("console was not ready after 60 s; it starts again in")


def test_one_that_refuses_before_it_was_ever_ready_is_not_restarted() -> None:
    stage = Stage()
    supervisor = stage.supervise(make("agent"))
    supervisor.tick()
    stage.processes["agent"].code = 2
    supervisor.tick()

    assert supervisor.refused is supervisor.find("agent")
    assert stage.sentences == ["agent ended with exit code 2; its last words: no luck"]


def test_one_that_was_ready_and_then_refuses_is_restarted() -> None:
    stage = Stage(ready={"agent"})
    supervisor = stage.supervise(make("agent"))
    supervisor.tick()
    supervisor.tick()
    stage.processes["agent"].code = 2
    supervisor.tick()

    assert supervisor.refused is None
    assert supervisor.find("agent").phase is Phase.BACKOFF


def test_a_program_that_cannot_be_started_is_tried_again() -> None:
    stage = Stage(unstartable={"redis"})
    supervisor = stage.supervise(make("redis"))
    supervisor.tick()

    assert "redis cannot be started: No such file or directory" in stage.sentences[0]

    stage.unstartable.clear()
    stage.now = supervisor.find("redis").retry_at_s
    supervisor.tick()

    assert stage.started == ["redis"]


def test_what_runs_once_is_not_restarted_and_keeps_its_exit_code() -> None:
    stage = Stage()
    supervisor = stage.supervise(make("demo", once=True))
    supervisor.tick()
    stage.processes["demo"].code = 3
    supervisor.tick()

    assert (supervisor.find("demo").phase, supervisor.find("demo").exit_code) == (Phase.ENDED, 3)
    assert stage.reports == []


def test_stop_goes_backwards_and_kills_what_does_not_listen() -> None:
    stage = Stage(ready={"redis", "store", "agent"}, deaf={"store"})
    supervisor = stage.supervise(make("redis"), make("store"), make("agent"))
    supervisor.tick()
    supervisor.stop(sleep=stage.sleep)

    assert stage.stopped == ["agent", "store", "redis"]
    assert stage.sentences == ["store did not stop within 10 s: killed"]
    assert all(process.code is not None for process in stage.processes.values())


def test_a_second_request_to_stop_waits_for_nobody() -> None:
    stage = Stage(deaf={"store"})
    supervisor = stage.supervise(make("store"))
    supervisor.tick()
    supervisor.stop(sleep=stage.sleep, hurry=lambda: True)

    assert stage.now < 1
    assert stage.processes["store"].code == -9
