"""The demo's story in order: what holds at any time, what a restart must not lose, what the TTL must end.

Everything runs on the main thread: the kernel ties "die with your parent" to the thread that forked.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import redis

from farcall.client import ApiError
from farcall.effective import EffectiveConfigError
from farcall.names import UNKNOWN_EXTERNAL_SERVICE, NameSource, UnknownReason
from farcall.secretfiles import SecretError
from farcall_demo.expectations import (
    Expectation,
    Finding,
    check_named,
    check_unknown,
    is_client_to_outside,
    list_expectations,
    of_host,
)
from farcall_demo.plan import Plan
from farcall_demo.view import View

STEADY_WITHIN_S = 45.0
AGENT_BACK_WITHIN_S = 20.0
STEP_WITHIN_S = 25.0
POLL_S = 0.5
# Younger connections are named again from the client's answers; the story is about a long-lived one (farcall.dnscache).
CONNECTION_AGE_S = 12.0
SHORT_TTL_S = 3
CACHE_NAME = "cache.example.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    expectation: Expectation
    finding: Finding
    after_s: float


class Story:
    """`tick` keeps the workload going and is called between two looks."""

    def __init__(self, view: View, plan: Plan, tick: Callable[[], None]) -> None:
        self._view = view
        self._plan = plan
        self._cart = of_host(plan, "cart")
        self._tick = tick
        self._started = time.monotonic()
        self.results: list[Result] = []

    @property
    def held(self) -> bool:
        return bool(self.results) and all(result.finding.held for result in self.results)

    def run(self) -> None:
        self.run_steady()
        self.run_restart()
        self.run_expiry()

    def run_steady(self) -> None:
        self._await(list_expectations(self._plan), STEADY_WITHIN_S)

    def run_restart(self) -> None:
        """The agent is killed; the connection that it had watched being opened lives on."""
        port = self._read_cart_port()
        self._pass_until(self._started + CONNECTION_AGE_S)
        killed_at_ns = time.time_ns()
        problem = self._restart_agent(killed_at_ns)
        expectation = Expectation(
            name="Redis after the agent's restart",
            rows="M4 M5",
            query=self._cart,
            must=f"the same connection is named {CACHE_NAME} from the Redis cache",
            check=lambda view: problem or self._check_same_connection(view, port),
        )
        self._await([expectation], STEP_WITHIN_S)

    def run_expiry(self) -> None:
        """The TTL that the effective config overrides for tests passes; the connection still lives."""
        self._view.override_ttl(SHORT_TTL_S)
        try:
            self._await([self._expect_status(overridden=True)], STEP_WITHIN_S)
            self._pass_until(time.monotonic() + SHORT_TTL_S)
            self._view.since_ns = time.time_ns()
            self._await([self._expect_expired()], STEP_WITHIN_S)
        finally:
            self._view.override_ttl(None)
        self._await([self._expect_status(overridden=False)], STEP_WITHIN_S)

    def _expect_expired(self) -> Expectation:
        return Expectation(
            name="Redis after the TTL",
            rows="M5 M6",
            query=self._cart,
            must=f"{UNKNOWN_EXTERNAL_SERVICE}, {UnknownReason.EXPIRED}",
            check=lambda view: check_unknown(view, self._cart, UnknownReason.EXPIRED),
        )

    def _expect_status(self, *, overridden: bool) -> Expectation:
        return Expectation(
            name="Status says the TTL is overridden" if overridden else "Status is quiet again",
            rows="M6",
            query="/api/v1/status",
            must=f"dns_ttl_overridden is {str(overridden).lower()}",
            check=lambda view: check_status(view, overridden=overridden),
        )

    def _restart_agent(self, killed_at_ns: int) -> Finding | None:
        """None when it is back; otherwise what went wrong."""
        try:
            killed = self._view.kill_agent()
        except (OSError, ValueError) as e:
            return Finding(held=False, found=f"the agent's process cannot be found: {e}")
        deadline = time.monotonic() + AGENT_BACK_WITHIN_S
        while not self._view.is_agent_back(killed=killed, killed_at_ns=killed_at_ns):
            if time.monotonic() > deadline:
                return Finding(held=False, found="the agent did not come back")
            self._pass_until(time.monotonic() + POLL_S)
        self._view.since_ns = time.time_ns()
        return None

    def _read_cart_port(self) -> str:
        try:
            spans = [s for s in self._view.list_spans(self._cart) if is_client_to_outside(s)]
        except ApiError:
            return ""
        return spans[0].attributes.get("network.local.port", "") if spans else ""

    def _check_same_connection(self, view: View, port: str) -> Finding:
        finding = check_named(view, self._cart, CACHE_NAME, (NameSource.CACHE,))
        if not finding.held:
            return finding
        for span in view.list_spans(self._cart):
            now = span.attributes.get("network.local.port", "")
            if is_client_to_outside(span) and now != port:
                return Finding(held=False, found=f"another connection: port {now}, not {port}")
        return Finding(held=True, found=f"{finding.found}, port {port} as before")

    def _await(self, expectations: list[Expectation], within_s: float) -> None:
        """Looks until all hold or the time is over, and keeps the last finding of each."""
        began = time.monotonic()
        while True:
            results = [self._look(expectation) for expectation in expectations]
            if all(r.finding.held for r in results) or time.monotonic() - began > within_s:
                self.results += results
                return
            self._pass_until(time.monotonic() + POLL_S)

    def _look(self, expectation: Expectation) -> Result:
        self._tick()
        finding = look(expectation, self._view)
        after_s = time.monotonic() - self._started
        return Result(expectation=expectation, finding=finding, after_s=after_s)

    def _pass_until(self, moment: float) -> None:
        while (left := moment - time.monotonic()) > 0:
            self._tick()
            time.sleep(min(left, POLL_S))


def look(expectation: Expectation, view: View) -> Finding:
    """A question that cannot be asked yet is a finding as well: the component may be on its way back."""
    try:
        return expectation.check(view)
    except (ApiError, redis.RedisError, SecretError, EffectiveConfigError) as e:
        return Finding(held=False, found=f"{type(e).__name__}: {e}"[:200])


def check_status(view: View, *, overridden: bool) -> Finding:
    status = view.read_status()
    found = f"dns_ttl_overridden is {str(status.dns_ttl_overridden).lower()}, {status.dns_ttl_s} s"
    return Finding(held=status.dns_ttl_overridden is overridden, found=found)
