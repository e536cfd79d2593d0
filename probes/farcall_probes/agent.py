"""The node agent. Starts what traces, runs the loop that drains it, and ends without losing what it has.

The loop itself does no network and no disk: batches go to sender.py's thread, answers to dnswriter.py's.
A capture is handed to Agent; starting.py opens the real one.
"""

import contextlib
import os
import secrets
import socket
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from farcall import journal, tlsfiles
from farcall.cacheacl import AGENT
from farcall.dnscache import CacheUnavailableError, CacheWriter
from farcall.effective import EffectiveConfig, EffectiveConfigError, EffectiveWatcher
from farcall.envelope import AgentStatus
from farcall.footprint import trim_memory
from farcall.redislink import RedisLink
from farcall.secretfiles import SecretError, read_secret
from farcall_probes import events
from farcall_probes.bpfsys import BpfError
from farcall_probes.caps import Caps, CpuCap
from farcall_probes.capture import Capture, Drained
from farcall_probes.cgroups import CgroupTree, PodLogs
from farcall_probes.clocks import read_offsets
from farcall_probes.dispatch import Dispatcher, find_addresses
from farcall_probes.dnswriter import DnsWriter
from farcall_probes.giveway import give_way, looking
from farcall_probes.identity import Identities
from farcall_probes.pacing import SLEEP_LAST_S, Pace, next_sleep_s
from farcall_probes.policy import Policy
from farcall_probes.recall import make_recall
from farcall_probes.resolvers import read_nameservers, read_node_netns, trusted_resolvers
from farcall_probes.spectators import Spectators
from farcall_probes.status import make_status
from farcall_probes.surroundings import Surroundings
from farcall_probes.tlswatch import TlsWatch
from farcall_probes.tracer import NS, Tracer

GATHER_FILL = 0.05  # so little may lie in the rings until it is taken
# What was copied becomes rows together: that costs 2 to 4 ms however little it is, for after a sleep nothing is in a cache. What
# comes after a quiet time is taken at the next look; where nothing comes and nothing waits, a take is but for what others ask.
TAKE_EVERY_NS = 450_000_000
REST_EVERY_NS = 900_000_000
# Exchanges of each ring that are taken at once: two looks of a steady load of 10,000 records/s, or of 20,000 of HTTP/2. Half as many
# cost Redis calls 14 % more each; what is taken divided into parts of 2 MB costs gRPC calls 7 % more (both agents over one load).
PORTION = 4096
# A ring of 20,000 records/s is full after 0.2 s: while a take goes on for longer than this, because others run, rings are looked at.
LOOK_AGAIN_NS = 25_000_000
CONFIG_EVERY_S = 1.0
HOUSEKEEPING_EVERY_S = 10.0
LATE_EVERY_S = 3.0  # so much later than asked for may a request be called late; 10,000 connections cost 5 ms each time
STOP_SENDER_S = 5.0  # with the writer's, a second of grace each and the last drain: below component.STOP_WITHIN_S
STOP_WRITER_S = 1.5
STOP_TLS_S = 0.5
MAX_LAST_DRAINS = 50
_UNREAD = "records could not be read: this is a fault of farcall"


class Agent:
    """One run over an open Capture. `run` returns after `stop` was called, which a signal handler may do."""

    def __init__(
        self,
        watcher: EffectiveWatcher,
        capture: Capture,
        *,
        surroundings: Surroundings | None = None,
    ) -> None:
        self._watcher = watcher
        self._config = config = watcher.current
        self._revision = config.revision
        self._capture = capture
        self._around = surroundings or Surroundings()
        self._log = journal.get_log("agent")
        self.node = config.node or os.environ.get("NODE_NAME") or socket.gethostname()
        self.boot_id = secrets.token_hex(16)
        self._started_ns = time.time_ns()
        self._ended_ns = 0  # when recording ended; 0: it goes on
        self._reported_ns = 0  # what ended before is with the sender
        self._stopping = False  # a plain flag: an Event's lock could be held when the signal comes
        self._fill = 0.0
        self._taken_ns = 0
        self._has_gathered = False  # what lies in no ring any more, and is no row yet
        self._dns_lost = 0
        self._pace = Pace()
        self._faults: Counter[str] = Counter()
        # Programs ran since open_probes; what they saw before this moment is drained, but not relied on.
        self._watched_since_ns = time.monotonic_ns()
        tree = CgroupTree(self._around.cgroups)
        self._policy = Policy(
            config.capture, mode=config.mode, ids_below=tree.ids_below, apply=self._apply_policy
        )
        self._tracer = Tracer(
            config,
            identities=Identities(
                node=self.node,
                proc=self._around.proc,
                cgroups=tree,
                pods=PodLogs(self._around.pod_logs),
            ),
            policy=self._policy,
            offsets=read_offsets(),
            watched_since_ns=self._watched_since_ns,
            trusted=self._trusted(),
            node_netns=read_node_netns(self._around.proc),
        )
        members = config.endpoints.exporter_members
        self._sender = Dispatcher(
            url=members or config.endpoints.exporter_ingest,
            find=partial(find_addresses, members) if members else None,
            node=self.node,
            boot_id=self.boot_id,
            secrets_dir=config.secrets_dir,
            make_status=self._make_status,
            status_every_s=self._around.status_every_s,
        )
        self._writer = DnsWriter(
            lambda: _connect_cache(config),
            ttl_s=config.dns.effective_ttl_s,
            held=config.dns.hold_while_connected,
            owner=self.node,
            recall=make_recall(self.node, self._around.proc, self._around.cgroups),
        )
        self._tls = TlsWatch(capture.tls, proc=self._around.proc, wanted=config.capture.tls)
        self._caps = Caps(capture, tree)
        self._cpu_cap = CpuCap(capture)
        self._spectators = Spectators(
            metrics_url=config.endpoints.agent_metrics,
            tail_socket=self._around.tail_socket,
            make_status=self._make_status,
        )
        # As of the last second; replaced whole, so that the sender's thread reads one state.
        self._counters: dict[str, int] = {}
        self._gauges: dict[str, float] = {}

    def stop(self) -> None:
        self._stopping = True

    def run(self, mark_ready: Callable[[], None]) -> None:
        self._capture.forget_own_process()
        self._capture.set_cap(self._config.capture.records_per_s)
        self._policy.refresh()
        # Exchanges from before the policy may be of processes that are not to be traced; answers are evidence all the same.
        before = self._capture.drain()
        self._faults["before_policy_dropped"] = before.exchanges
        self._take(before.keep_dns(), time.monotonic_ns())
        self._started_ns = time.time_ns()  # whatever begins from here on is told of
        self._update_numbers()
        self._tracer.dns_lost_ns = 0  # what was lost before we watched is not held against anybody
        self._writer.start()
        self._sender.start()
        self._tls.start()
        self._spectators.start()
        mark_ready()
        self._log.info("agent traces this node", node=self.node, boot_id=self.boot_id)
        try:
            self._loop()
        finally:
            self._finish()

    # ---- the loop ---------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        sleep_s = SLEEP_LAST_S
        second_due, house_due = time.monotonic(), time.monotonic() + HOUSEKEEPING_EVERY_S
        late_due = time.monotonic() + LATE_EVERY_S
        while not self._stopping:
            full = self._look()
            now = time.monotonic()
            if now >= second_due:
                second_due = now + CONFIG_EVERY_S
                self._poll_config()
                self._policy.refresh()
                give_way()
                self._update_numbers()
                give_way()
                self._cpu_cap.look(self._config.capture.cpu_millicores, self._tls.cpu_ns())
            if now >= late_due:
                late_due = now + LATE_EVERY_S
                self._tell_late()
            if now >= house_due:
                house_due = now + HOUSEKEEPING_EVERY_S
                self._tracer.offsets = read_offsets()
                self._tracer.expire(time.monotonic_ns())
                self._caps.look()
                trim_memory()  # what a burst left behind
            sleep_s = next_sleep_s(sleep_s, self._fill)
            if not full:
                time.sleep(sleep_s)

    def _tell_late(self) -> None:
        limit_s = self._config.capture.answer_timeout_s
        if not limit_s:
            return
        self._tracer.tell_late(time.monotonic_ns(), limit_s * NS)
        try:
            self._capture.tell_late(limit_s * NS)
        except BpfError as e:
            self._faults["late_unlooked"] += 1
            self._log.warning("requests without an answer were not looked for", why=str(e))

    def _ask_rests(self) -> None:
        try:
            self._tracer.rests.ask(time.monotonic_ns(), self._capture.ask_rest)
        except BpfError as e:
            self._faults["rests_unasked"] += 1
            self._log.warning("how responses went on was not asked", why=str(e))

    def _look(self) -> bool:
        """At what lies in the rings, and takes it when it is time; whether there is more to be taken at once."""
        self._fill = self._capture.measure_fill()
        give_way()
        every_ns = TAKE_EVERY_NS if self._has_work() else REST_EVERY_NS
        is_due = time.monotonic_ns() - self._taken_ns >= every_ns
        if not is_due and self._fill >= GATHER_FILL:
            self._has_gathered = True
            # As many again until the next look might not fit.
            is_due = self._capture.gather(PORTION) > PORTION // 2
        if not is_due:
            return False
        full = self._drain()
        give_way()
        self._ask_rests()
        return full

    def _has_work(self) -> bool:
        waiting = self._tracer.pending_rows + len(self._tracer.rests)
        return bool(self._fill or self._has_gathered or waiting)

    def _drain(self) -> bool:
        """One drain; whether a ring was full."""
        drained = self._capture.drain(PORTION)
        self._has_gathered = False
        full = drained.full
        self._taken_ns = now_ns = time.monotonic_ns()
        with looking(self._gather_more, LOOK_AGAIN_NS):
            self._take(drained, now_ns)
            give_way()
            del drained  # the batch is made in the memory that its records had
            self._write_cache()
            give_way()
            rows = self._tracer.pending_rows
            if rows and self._pace.take(rows, now_ns, is_behind=self._sender.is_behind):
                self._flush()
        if not full and not self._tracer.pending_rows:
            self._reported_ns = now_ns + self._tracer.offsets.unix_ns
        return full

    def _gather_more(self) -> None:
        if self._capture.measure_fill() < GATHER_FILL:
            return
        self._has_gathered = True
        with contextlib.suppress(OSError):  # the next look says so
            self._capture.gather(PORTION // 2)

    def _take(self, drained: Drained, now_ns: int) -> None:
        """A fault of ours in these records must not end the tracing of all others: it is logged, and what it cost is counted."""
        try:
            self._tracer.take(drained, now_ns=now_ns)
        except Exception as e:
            lost = len(drained.dns) + len(drained.heads) + drained.exchanges
            self._faults["records_faulted_lost"] += lost
            self._log.error(_UNREAD, lost=lost, exception=journal.render_frames(e))

    def _write_cache(self) -> None:
        self._tracer.bindings.recall(self._writer.take_recalled())
        if self._writer.lost_memory.is_set():
            self._writer.lost_memory.clear()
            self._writer.put(self._tracer.held_answers(), self._tracer.held_bindings())
        writes = self._tracer.take_cache_writes()
        if writes is not None:
            self._writer.put(writes.answers, writes.bindings)

    def _flush(self) -> None:
        # Read before rows are built: a client must not be called silent when the loss was ours.
        self._note_dns_loss(self._capture.read_counters())
        for kind, batch in self._tracer.take_batches():
            if kind == "exchanges":
                self._spectators.show(batch)
            since_ns = self._watched_since_ns + self._tracer.offsets.unix_ns
            self._sender.put(kind, batch, watched_since_ns=since_ns)

    def _note_dns_loss(self, counters: dict[str, int]) -> None:
        lost = counters.get("kernel_dns_lost", 0)
        if lost > self._dns_lost:
            self._dns_lost = lost
            self._tracer.dns_lost_ns = time.monotonic_ns()

    # ---- config, status, end ----------------------------------------------------------------------------------

    def _poll_config(self) -> None:
        try:
            config = self._watcher.poll()
        except EffectiveConfigError as e:
            self._faults["config_refused"] += 1
            self._log.warning("the new config is unusable; the old one stays", why=str(e))
            return
        if config is None:
            return
        self._config, self._revision = config, config.revision
        self._policy.configure(config.capture)
        self._capture.set_cap(config.capture.records_per_s)
        self._tls.set_wanted(config.capture.tls)
        self._tracer.configure(config, self._trusted())
        self._writer.set_life(config.dns.effective_ttl_s, held=config.dns.hold_while_connected)
        self._log.info("config applied", generation=config.generation, revision=self._revision)

    def _trusted(self) -> frozenset[bytes]:
        of_node = read_nameservers(self._around.resolv_conf)
        return trusted_resolvers(self._config.dns.resolvers, of_node)

    def _apply_policy(self, drops: dict[int, int]) -> None:
        self._capture.set_policy(drops, default=events.POLICY_KEEP)

    def _update_numbers(self) -> None:
        counters = self._capture.read_counters()
        self._note_dns_loss(counters)
        self._counters = {**counters, **self._tracer.counters(), **self._faults}
        self._gauges = {
            **self._tracer.gauges(),
            "ring_fill": self._fill,
            "kept_share": self._cpu_cap.share,
        }

    def _make_status(self) -> AgentStatus:
        others = (
            *self._tls.capabilities,
            self._writer.capability(),
            self._cpu_cap.capability(),
        )
        return make_status(
            node=self.node,
            boot_id=self.boot_id,
            started_ns=self._started_ns,
            ended_ns=self._ended_ns,
            reported_ns=self._reported_ns,
            config=self._config,
            revision=self._revision,
            capabilities=(*self._capture.capabilities, *others),
            counters=(
                self._counters,
                self._tls.counters,
                self._sender.counters(),
                self._writer.counters(),
                self._spectators.counters(),
            ),
            gauges=(
                self._gauges,
                self._tls.gauges,
                self._sender.gauges(),
                self._writer.gauges(),
            ),
        )

    def _finish(self) -> None:
        """The last records, then the threads; within component.STOP_WITHIN_S."""
        self._ended_ns = time.time_ns()  # what was answered before this is recorded
        try:
            self._capture.stop_recording()
            self._faults["in_flight_lost"] = self._capture.count_in_flight()
            self._tracer.rests.ask_all(self._capture.ask_rest)
        except BpfError as e:
            self._log.warning("what is in flight was not counted", why=str(e))
        for _ in range(MAX_LAST_DRAINS):
            if not self._drain():
                break
        self._tracer.let_go(time.monotonic_ns())
        self._faults["in_flight_lost"] += self._tracer.in_flight
        self._flush()
        self._update_numbers()
        self._tls.stop(STOP_TLS_S)  # before the maps that it reads are closed
        self._spectators.stop()
        self._capture.close()
        self._writer.stop(STOP_WRITER_S)
        self._sender.stop(STOP_SENDER_S)
        self._log.info("agent stopped", in_flight_lost=self._faults["in_flight_lost"])


def _connect_cache(config: EffectiveConfig) -> CacheWriter:
    try:
        password = read_secret(config.secrets_dir, AGENT.password_file)
    except SecretError as e:
        raise CacheUnavailableError(str(e)) from e
    return CacheWriter(
        RedisLink(
            config.endpoints.redis,
            username=AGENT.name,
            password=password,
            ca_file=Path(config.secrets_dir) / tlsfiles.CA,
        )
    )
