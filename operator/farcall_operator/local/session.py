"""One run of one instance, from the run directory to the last process: makes it, watches it, and takes it down again.

Whatever ends it, an exception included, everything that was made is undone in reverse.
"""

import contextlib
import random
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from farcall.cacheacl import NO_DEFAULT_USER, USERS, render_acl_rule
from farcall.client import ApiClient, find_server
from farcall.commands import EXIT_FAULT, EXIT_OK
from farcall.effective import Endpoints, write_effective
from farcall.logintoken import LIFETIME_S, mint_login_token, render_login_link
from farcall.rundir import RunDir
from farcall.secretfiles import ADMIN_SECRET, read_secret
from farcall.tracingconfig import TracingConfig
from farcall_operator.desired import (
    Desired,
    Place,
    Workload,
    build_desired,
    is_redis_persistent,
)
from farcall_operator.local.cgroup import CgroupError, OwnCgroup, open_own_cgroup
from farcall_operator.local.checks import find_program
from farcall_operator.local.credentials import write_secrets
from farcall_operator.local.feed import Feed
from farcall_operator.local.instance import StateDir
from farcall_operator.local.logfiles import Follower, bound_log
from farcall_operator.local.ports import LOOPBACK, PortClaims
from farcall_operator.local.processes import ProcessSpawner
from farcall_operator.local.screen import Overview, Screen
from farcall_operator.local.supervisor import Phase, Report, Supervisor
from farcall_operator.local.surroundings import LocalHooks
from farcall_operator.redisconf import quote, render_redis_conf

TICK_S = 0.05
DRAW_EVERY_S = 0.25
BOUND_EVERY_S = 5.0
# --once must end by itself: with every component starting one after the other on a busy machine it takes 20 s.
ONCE_READY_WITHIN_S = 180.0
RESOLV_CONF = Path("/etc/resolv.conf")
FIRST_PORT = {"console": 8430, "otlp": 4318, "otlp-grpc": 4317, "ingest": 8440, "store": 8640}
DEMO = "demo"
THIS_FARCALL = (sys.executable, "-m", "farcall.commands")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    console: int
    otlp: int
    otlp_grpc: int
    ingest: int
    store: int

    def to_endpoints(self, run_dir: RunDir) -> Endpoints:
        return Endpoints(
            exporter_ingest=f"http://{LOOPBACK}:{self.ingest}",
            exporter_otlp_http=f"http://{LOOPBACK}:{self.otlp}",
            exporter_otlp_grpc=f"http://{LOOPBACK}:{self.otlp_grpc}",
            redis=f"unix://{run_dir.redis_socket}",
            store=f"http://{LOOPBACK}:{self.store}",
            console=f"http://{LOOPBACK}:{self.console}",
        )


def choose_ports(claims: PortClaims, *, console: int | None, otlp: int | None) -> Ports:
    """A port that was asked for is had or refused; the others are the first free ones. Raises PortTakenError."""
    for port in (console, otlp):
        if port is not None:
            claims.claim(port)
    return Ports(
        console=console or claims.claim_from(FIRST_PORT["console"]),
        otlp=otlp or claims.claim_from(FIRST_PORT["otlp"]),
        otlp_grpc=claims.claim_from(FIRST_PORT["otlp-grpc"]),
        ingest=claims.claim_from(FIRST_PORT["ingest"]),
        store=claims.claim_from(FIRST_PORT["store"]),
    )


def read_resolvers(path: Path = RESOLV_CONF) -> tuple[str, ...]:
    """The addresses that this machine's own processes ask."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    words = [line.split() for line in lines]
    return tuple(w[1].partition("%")[0] for w in words if len(w) > 1 and w[0] == "nameserver")


def build_place(
    run_dir: RunDir,
    state: StateDir,
    ports: Ports,
    own_cgroups: Sequence[str],
    *,
    farcall: tuple[str, ...],
    redis_data: Path,
) -> Place:
    """`redis_data` is in the run directory where the tier keeps nothing: a killed Redis remembers, a new run does not."""
    return Place(
        mode="local",
        endpoints=ports.to_endpoints(run_dir),
        farcall=farcall,
        redis_server=find_program("redis-server") or "redis-server",
        redis_conf=str(run_dir.path / "redis.conf"),
        redis_listen=(
            "port 0",
            f"unixsocket {quote(str(run_dir.redis_socket))}",
            "unixsocketperm 600",
        ),
        redis_data_dir=str(redis_data),
        redis_survives_crash=True,
        config_file=str(run_dir.effective),
        ready_dir=str(run_dir.path / "ready"),
        run_dir=str(run_dir.path),
        secrets_dir=str(run_dir.secrets),
        state_dir=str(state.store),
        node=socket.gethostname(),
        resolvers=read_resolvers(),
        own_cgroups=tuple(own_cgroups),
    )


def write_files(desired: Desired, run_dir: RunDir, state: StateDir) -> None:
    """Secrets, Redis' configuration and, last, the effective config: where it is, an instance runs."""
    write_secrets(run_dir.secrets, state.kept_secrets)
    rules = [
        render_acl_rule(user, read_secret(run_dir.secrets, user.password_file)) for user in USERS
    ]
    text = render_redis_conf(desired.redis, acl_lines=(NO_DEFAULT_USER, *rules))
    (run_dir.path / "redis.conf").write_text(text, encoding="utf-8")
    write_effective(desired.effective, run_dir.effective)


@dataclass(slots=True)
class Stop:
    """Set by signals. `requests` counts them: at the second, nobody is waited for."""

    requests: int = 0

    def request(self) -> None:
        self.requests += 1


@dataclass(slots=True)
class Session:
    """The instance's lock and the ports are held by whoever runs the session, until it is over."""

    config: TracingConfig
    run_dir: RunDir
    state: StateDir
    ports: Ports
    workload: Workload
    screen: Screen
    stop: Stop
    farcall: tuple[str, ...] = THIS_FARCALL
    _warnings: tuple[str, ...] = ()
    _losses: dict[str, int] = field(default_factory=dict)
    _trouble: str = ""

    def run(self) -> int:
        with contextlib.ExitStack() as undo:
            cgroup = self._enter_cgroup(undo)
            self.state.make()
            own = [str(cgroup.shared)] if cgroup else []
            place = build_place(
                self.run_dir,
                self.state,
                self.ports,
                own,
                farcall=self.farcall,
                redis_data=self._make_redis_data(),
            )
            desired = build_desired(self.config, place, workload=self.workload)
            write_files(desired, self.run_dir, self.state)
            spawner = ProcessSpawner(
                logs=self.run_dir.path / "logs",
                outside=cgroup.outside if cgroup else None,
                captured=frozenset({DEMO}),
            )
            supervisor = self._supervise(desired, spawner)
            undo.callback(lambda: self._stop_all(supervisor))
            return self._watch(desired, supervisor, Follower(spawner.output(DEMO)))

    def _make_redis_data(self) -> Path:
        if is_redis_persistent(self.config):
            return self.state.redis
        path = self.run_dir.path / "redis"
        path.mkdir(mode=0o700)
        return path

    def _enter_cgroup(self, undo: contextlib.ExitStack) -> OwnCgroup | None:
        try:
            cgroup = open_own_cgroup(self.run_dir.path)
            cgroup.enter()
        except CgroupError as e:
            self._say(f"farcall's own calls will be seen as well: {e}")
            return None
        undo.callback(cgroup.leave)
        return cgroup

    def _supervise(self, desired: Desired, spawner: ProcessSpawner) -> Supervisor:
        return Supervisor(
            desired.components,
            spawner=spawner,
            hooks=LocalHooks(self.run_dir),
            report=self._report,
            clock=time.monotonic,
            chance=random.random,
        )

    def _watch(self, desired: Desired, supervisor: Supervisor, demo: Follower) -> int:
        """Until it is told to stop, the demo has ended, or a component lacks something."""
        self._introduce(desired)
        feed: Feed | None = None
        begun_s = time.monotonic()
        draw = Every(DRAW_EVERY_S)
        bound = Every(BOUND_EVERY_S)
        while not self.stop.requests and not self.screen.is_closed:
            supervisor.tick()
            if supervisor.refused:
                self._say(f"stopping, because {supervisor.refused.name} cannot run like this")
                return EXIT_FAULT
            if feed is None and supervisor.find("console").was_ready:
                feed = self._open_console()
            for line in demo.read_lines():
                self.screen.say(line)
            self._take_news(feed, was_ready=all(s.was_ready for s in supervisor.all))
            if (code := self._once_result(supervisor, begun_s)) is not None:
                for line in demo.read_lines():
                    self.screen.say(line)
                return code
            if draw.is_due():
                self._draw(desired, supervisor)
            if bound.is_due():
                self._bound_logs()
            time.sleep(TICK_S)
        return EXIT_FAULT if self.workload == "once" else EXIT_OK

    def _once_result(self, supervisor: Supervisor, begun_s: float) -> int | None:
        """The demo's exit code once it has ended; a fault when it never came to start."""
        if self.workload != "once":
            return None
        demo = supervisor.find(DEMO)
        if demo.phase is Phase.ENDED:
            if demo.exit_code:
                words = LocalHooks(self.run_dir).last_words(demo.component)
                self._say(
                    f"the demo ended with exit code {demo.exit_code}{': ' if words else ''}{words}"
                )
            return EXIT_OK if demo.exit_code == 0 else max(demo.exit_code or 0, EXIT_FAULT)
        if not demo.was_ready and time.monotonic() - begun_s > ONCE_READY_WITHIN_S:
            self._say(f"the demo could not be started within {ONCE_READY_WITHIN_S:g} s")
            return EXIT_FAULT
        return None

    def _introduce(self, desired: Desired) -> None:
        effective = desired.effective
        self._say(f"{self._title(desired)}; run directory {self.run_dir.path}")
        for what, wanted, got in (
            ("console", FIRST_PORT["console"], self.ports.console),
            ("OTLP", FIRST_PORT["otlp"], self.ports.otlp),
        ):
            if wanted != got:
                self._say(f"{what} is on port {got}, not on the usual {wanted}")
        endpoints = effective.endpoints
        self._say(
            f"applications send OTLP over HTTP to {endpoints.exporter_otlp_http}, "
            f"over gRPC to {endpoints.exporter_otlp_grpc}"
        )

    def _title(self, desired: Desired) -> str:
        ttl_h = desired.effective.dns.ttl_s // 3_600
        return f"{self.run_dir.instance} on the {desired.effective.tier} tier, DNS answers are kept for {ttl_h} h"

    def _open_console(self) -> Feed:
        server = find_server(self.run_dir)
        admin_secret = read_secret(self.run_dir.secrets, ADMIN_SECRET)
        link = render_login_link(
            server.url, mint_login_token(admin_secret, now_s=time.time(), lifetime_s=LIFETIME_S)
        )
        self._say(f"log in to the console, once and within {LIFETIME_S // 60} min: {link}")
        feed = Feed(ApiClient(server))
        feed.start()
        return feed

    def _take_news(self, feed: Feed | None, *, was_ready: bool) -> None:
        """Warnings of before everything was ready for the first time would only say that."""
        for news in feed.take() if feed else ():
            self._trouble = news.trouble
            if news.warnings is not None and was_ready:
                self._warnings = news.warnings
            if news.losses is not None:
                self._losses = news.losses
            self.screen.show_spans(news.spans)

    def _draw(self, desired: Desired, supervisor: Supervisor) -> None:
        self.screen.show_overview(
            Overview(
                title=f"farcall {self._title(desired)}",
                components=supervisor.all,
                warnings=self._warnings,
                losses=self._losses,
                trouble=self._trouble,
            )
        )

    def _bound_logs(self) -> None:
        for path in (self.run_dir.path / "logs").glob("*.log"):
            bound_log(path)

    def _stop_all(self, supervisor: Supervisor) -> None:
        before = self.stop.requests
        supervisor.stop(sleep=time.sleep, hurry=lambda: self.stop.requests > before)

    def _report(self, report: Report) -> None:
        self._say(f"{report.component} {report.sentence}")

    def _say(self, sentence: str) -> None:
        self.screen.say(f"farcall: {sentence}")


@dataclass(slots=True)
class Every:
    """True once per period."""

    period_s: float
    clock: Callable[[], float] = time.monotonic
    _next_s: float = 0.0

    def is_due(self) -> bool:
        now = self.clock()
        if now < self._next_s:
            return False
        self._next_s = now + self.period_s
        return True
