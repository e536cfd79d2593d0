"""The thread that keeps TLS libraries probed. It reads /proc and files of containers, which the loop that drains rings must not wait for.

What it says of itself is replaced whole after each look, so that the sender's thread reads one state.
"""

import resource
import threading
import time
from contextlib import suppress
from pathlib import Path

from farcall import journal
from farcall.envelope import Capability
from farcall_probes.bpfsys import BpfError
from farcall_probes.capture import TlsProbes
from farcall_probes.libraries import Libraries

LOOK_EVERY_S = 0.5  # a process that starts is read within a second
_DESCRIPTORS = 8192  # an attached point is one; the usual limit is 1,024
_STEP_S = 0.05  # between two looks when work is left
_OFF = Capability(
    name="tls",
    on=False,
    why="capture.tls is Off",
    cost="nothing inside TLS is read, only SNI",
)


class TlsWatch:
    """`probes` None: the kernel side has none, as in tests; then nothing is ever looked at. Not `wanted`: nothing is probed,
    and what was is let go."""

    def __init__(
        self, probes: TlsProbes | None, *, proc: Path = Path("/proc"), wanted: bool = True
    ) -> None:
        self._probes = probes
        self._proc = proc
        self._wanted = wanted
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tls", daemon=True)
        self._log = journal.get_log("agent")
        self._found: tuple[Capability, ...] = ()
        self._clock: int | None = None  # the thread's CPU time
        self._cpu_ns = 0
        self.counters: dict[str, int] = {}
        self.gauges: dict[str, float] = {}

    def start(self) -> None:
        if self._probes is not None:
            allow_descriptors()
            self._thread.start()

    @property
    def capabilities(self) -> tuple[Capability, ...]:
        return self._found if self._wanted else (_OFF,)

    def set_wanted(self, wanted: bool) -> None:
        """In force at the next look."""
        self._wanted = wanted

    def cpu_ns(self) -> int:
        """CPU time that the thread took so far; nothing while it has not begun."""
        if (clock := self._clock) is not None:
            with suppress(OSError):  # EINVAL: the thread has just gone, and has said what it took
                return time.clock_gettime_ns(clock)
        return self._cpu_ns

    def stop(self, within_s: float) -> None:
        """Ends the thread; what it attached goes with it."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(within_s)

    def _run(self) -> None:
        # Of the thread itself: asked from outside it is undefined once the thread is gone (pthread_getcpuclockid(3)).
        self._clock = time.pthread_getcpuclockid(threading.get_ident())
        try:
            self._keep_probed()
        finally:
            self._cpu_ns, self._clock = time.thread_time_ns(), None

    def _keep_probed(self) -> None:
        probes = self._probes
        while probes is not None and not self._stop.is_set():
            if not self._wanted:
                self._stop.wait(LOOK_EVERY_S)
            elif self._load(probes):
                self._watch(probes)
            else:
                return

    def _load(self, probes: TlsProbes) -> bool:
        try:
            probes.load()
        except BpfError as e:
            self._found = (
                Capability(
                    name="tls", on=False, why=str(e), cost="nothing inside TLS is read, only SNI"
                ),
            )
            self._log.warning("TLS is not read", why=str(e))
            return False
        return True

    def _watch(self, probes: TlsProbes) -> None:
        """Until the end, or until it is not wanted any more."""
        libraries = Libraries(probes.attach, proc=self._proc)
        try:
            while self._wanted and not self._stop.is_set():
                more = self._look(probes, libraries)
                self._stop.wait(_STEP_S if more else LOOK_EVERY_S)
        finally:
            libraries.close()
            self._found = ()
            self.gauges = {**self.gauges, **libraries.gauges()}

    def _look(self, probes: TlsProbes, libraries: Libraries) -> bool:
        begin = time.thread_time()
        try:
            more = libraries.look(probes.take_users())
            libraries.guard_rate(probes.read_hits())
        except Exception:  # the tracing of everything else goes on, and so does this
            libraries.counters["tls_looks_faulted"] += 1
            self._log.exception("a look for TLS libraries failed: this is a fault of farcall")
            more = False
        self._found = libraries.describe()
        self.counters = dict(libraries.counters)
        self.gauges = {**libraries.gauges(), "tls_look_ms": (time.thread_time() - begin) * 1e3}
        return more


def allow_descriptors() -> None:
    """Raises the soft limit, as far as the hard one goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
