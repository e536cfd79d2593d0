"""Keeps the components running: starts them in order, restarts what ends, reports it, and stops all in reverse.

One thread calls `tick` again and again; nothing here waits, so a component that hangs holds up nobody. Processes,
readiness, clock and chance come from outside.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from farcall.commands import EXIT_USAGE
from farcall.component import STOP_WITHIN_S
from farcall_operator.desired import Component, RestartPolicy
from farcall_operator.local.processes import Running, Spawner, describe_exit

LOOP_ENDS = 5  # this many ends within LOOP_WINDOW_S are called a crash loop
LOOP_WINDOW_S = 120.0


class Phase(Enum):
    WAITING = "waiting"  # for what it depends on
    STARTING = "starting"
    READY = "ready"
    BACKOFF = "backoff"
    STOPPING = "stopping"
    ENDED = "ended"


class Hooks:
    """What the supervisor asks of its surroundings about one component; `local.surroundings` is the real one."""

    def before_start(self, component: Component) -> None:
        """The former run's ready file must be gone before this one could be taken for ready."""

    def has_started(self, component: Component, pid: int) -> None: ...

    def has_ended(self, component: Component) -> None: ...

    def is_ready(self, component: Component) -> bool:
        raise NotImplementedError

    def last_words(self, component: Component) -> str:
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One sentence about one component, for a person. `bad` when something went wrong."""

    component: str
    sentence: str
    bad: bool


@dataclass(slots=True)
class Supervised:
    component: Component
    phase: Phase = Phase.WAITING
    running: Running | None = None
    since_s: float = 0.0  # when the phase began
    started_s: float = 0.0
    retry_at_s: float = 0.0
    attempts: int = 0  # since it last ran for settled_s
    was_ready: bool = False  # at any time
    is_late: bool = False  # was ended because it did not become ready
    exit_code: int | None = None
    restarts: int = 0
    ends: deque[float] = field(default_factory=lambda: deque(maxlen=LOOP_ENDS))

    @property
    def name(self) -> str:
        return self.component.name


class Supervisor:
    """`clock` is monotonic seconds, `chance` gives numbers from 0 to 1."""

    def __init__(
        self,
        components: Sequence[Component],
        *,
        spawner: Spawner,
        hooks: Hooks,
        report: Callable[[Report], None],
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self.all = [Supervised(component) for component in components]
        self.refused: Supervised | None = (
            None  # said before it was ever ready that it lacks something
        )
        self._spawner = spawner
        self._hooks = hooks
        self._report = report
        self._clock = clock
        self._chance = chance

    def find(self, name: str) -> Supervised:
        return next(s for s in self.all if s.name == name)

    @property
    def is_ready(self) -> bool:
        return all(s.phase is Phase.READY or s.phase is Phase.ENDED for s in self.all)

    def tick(self) -> None:
        for supervised in self.all:
            self._notice_end(supervised)
            if supervised.phase is Phase.WAITING:
                self._start_when_due(supervised)
            elif supervised.phase is Phase.STARTING:
                self._notice_ready(supervised)
            elif supervised.phase is Phase.BACKOFF and self._clock() >= supervised.retry_at_s:
                self._start(supervised)

    def _start_when_due(self, supervised: Supervised) -> None:
        if all(self.find(name).was_ready for name in supervised.component.dependencies):
            self._start(supervised)

    def _start(self, supervised: Supervised) -> None:
        self._hooks.before_start(supervised.component)
        supervised.started_s = self._clock()
        supervised.is_late = False
        try:
            supervised.running = self._spawner.spawn(supervised.component)
        except OSError as e:
            self._back_off(supervised, f"cannot be started: {e.strerror or e}")
            return
        self._hooks.has_started(supervised.component, supervised.running.pid)
        self._enter(supervised, Phase.STARTING)

    def _notice_ready(self, supervised: Supervised) -> None:
        took_s = self._clock() - supervised.started_s
        if self._hooks.is_ready(supervised.component):
            again = " again" if supervised.was_ready else ""
            supervised.was_ready = True
            self._enter(supervised, Phase.READY)
            self._say(supervised, f"is ready{again} ({took_s:.1f} s)", bad=False)
        elif took_s > supervised.component.ready_within_s and supervised.running:
            supervised.is_late = True
            supervised.running.kill()  # its end is noticed, and counted, as any other

    def _notice_end(self, supervised: Supervised) -> None:
        if supervised.running is None or (code := supervised.running.poll()) is None:
            return
        supervised.running = None
        supervised.exit_code = code
        self._hooks.has_ended(supervised.component)
        how = describe_exit(code)
        if supervised.is_late:
            how = f"was not ready after {supervised.component.ready_within_s:g} s"
        if supervised.component.restart is None:
            self._enter(supervised, Phase.ENDED)
        elif code == EXIT_USAGE and not supervised.was_ready:
            self.refused = supervised
            self._enter(supervised, Phase.ENDED)
            self._say(supervised, f"{how}{self._words(supervised)}", bad=True)
        else:
            self._back_off(supervised, how)

    def _back_off(self, supervised: Supervised, how: str) -> None:
        policy = supervised.component.restart or RestartPolicy()
        now = self._clock()
        if supervised.was_ready and now - supervised.started_s >= policy.settled_s:
            supervised.attempts = 0
        wait_s = compute_backoff_s(policy, supervised.attempts, self._chance())
        supervised.attempts += 1
        supervised.restarts += 1
        supervised.ends.append(now)
        supervised.retry_at_s = now + wait_s
        self._enter(supervised, Phase.BACKOFF)
        loop = self._describe_loop(supervised)
        self._say(
            supervised,
            f"{how}{loop}; it starts again in {wait_s:.1f} s{self._words(supervised)}",
            bad=True,
        )

    def _describe_loop(self, supervised: Supervised) -> str:
        ends = supervised.ends
        if len(ends) < LOOP_ENDS or ends[-1] - ends[0] > LOOP_WINDOW_S:
            return ""
        return f", the {supervised.restarts}th time: it is in a crash loop"

    def _words(self, supervised: Supervised) -> str:
        words = self._hooks.last_words(supervised.component)
        return f"; its last words: {words}" if words else ""

    def _enter(self, supervised: Supervised, phase: Phase) -> None:
        supervised.phase = phase
        supervised.since_s = self._clock()

    def _say(self, supervised: Supervised, sentence: str, *, bad: bool) -> None:
        self._report(Report(component=supervised.name, sentence=sentence, bad=bad))

    def stop(
        self,
        *,
        sleep: Callable[[float], None],
        hurry: Callable[[], bool] = lambda: False,
        poll_s: float = 0.02,
    ) -> None:
        """Last started first, each within STOP_WITHIN_S or until `hurry`, then by force. Returns when nothing runs."""
        for supervised in reversed(self.all):
            running = supervised.running
            if running is not None:
                self._enter(supervised, Phase.STOPPING)
                self._end(supervised, running, sleep, hurry, poll_s)
                self._hooks.has_ended(supervised.component)
            supervised.running = None
            self._enter(supervised, Phase.ENDED)

    def _end(
        self,
        supervised: Supervised,
        running: Running,
        sleep: Callable[[float], None],
        hurry: Callable[[], bool],
        poll_s: float,
    ) -> None:
        running.terminate()
        deadline = self._clock() + STOP_WITHIN_S
        killed = False
        while running.poll() is None:
            if not killed and (hurry() or self._clock() >= deadline):
                killed = True
                running.kill()
                waited_s = self._clock() - deadline + STOP_WITHIN_S
                self._say(supervised, f"did not stop within {waited_s:.0f} s: killed", bad=True)
            sleep(poll_s)


def compute_backoff_s(policy: RestartPolicy, attempts: int, chance: float) -> float:
    """The wait before attempt `attempts` + 1 (0-based count of those before), moved by `chance` from 0 to 1."""
    doubled = policy.first_s * 2 ** min(attempts, 32)
    return float(min(doubled, policy.most_s) * (1 + policy.jitter * (2 * chance - 1)))
