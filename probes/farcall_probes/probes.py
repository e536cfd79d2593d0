"""The kernel side as one object: load, self-test, drain, policy, counters. Implements capture.Capture over BPF.

What cannot be attached is listed in `capabilities`; what is essential and missing raises ProbesError with what mends it.
"""

import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from farcall.envelope import Capability
from farcall_probes import artefact, btf, counters, events, selftest, sites, tracefs
from farcall_probes.bpfsys import BpfError
from farcall_probes.capture import Drained, TlsProbes
from farcall_probes.loader import Attached, Loaded, LoadError
from farcall_probes.maps import Maps, MapSizes, Settings
from farcall_probes.ring import LargeRing, Ring
from farcall_probes.uprobes import Uprobes

# A record is reserved and submitted within microseconds, unless its CPU was taken away in between.
_BUSY_WAIT_S = 0.002
# What reading a DNS answer costs: a take of many must not last until their ring is full.
_EXCHANGES_PER_ANSWER = 4
_FULL = 0.25  # of a ring: so much came while this drain copied that another one at once is worth it

_BLOCK = 256  # connections read at once
_WINDOW_BITS = 27  # caps.h
_WAITING = (2, 3)  # CONN_REQUEST, CONN_RESPONSE
_MISSES_EVERY_S = 10.0  # a file of /proc for each hook: 0.4 ms

# Without these nothing is paired; the others cost one kind of caller each.
ESSENTIAL = frozenset(
    (
        "sys_enter_write",
        "sys_enter_sendto",
        "sys_exit_read",
        "sys_exit_recvfrom",
        "inet_sock_set_state",
    )
)
_COSTS = {
    "sys_enter_write": "no request or response that is written by write(2)",
    "sys_enter_writev": "no request or response that is written by writev(2)",
    "sys_enter_sendto": "no request or response that is written by send(2)",
    "sys_enter_sendmsg": "no request or response that is written by sendmsg(2)",
    "sys_enter_sendmmsg": "no request that is written by sendmmsg(2)",
    "sys_exit_read": "no request or response that is read by read(2)",
    "sys_exit_readv": "no request or response that is read by readv(2)",
    "sys_exit_recvfrom": "nothing that is read by recv(2), most DNS answers among it",
    "sys_exit_recvmsg": "nothing that is read by recvmsg(2), DNS answers of some resolvers among it",
    "sys_exit_recvmmsg": "no DNS answer that is read by recvmmsg(2)",
    "sys_exit_splice": "no size of a request whose body is read by splice(2), no connection that a proxy only splices",
    "sys_exit_sendfile64": "no connection that only sendfile(2) writes to",
    "sys_exit_socket": "a descriptor's reuse is noticed up to a second late",
    "sys_exit_accept": "a descriptor's reuse is noticed up to a second late",
    "sys_exit_accept4": "a descriptor's reuse is noticed up to a second late",
    "sys_exit_connect": "no connect that fails",
    "inet_sock_set_state": "no opening times of connections, and no request that stays without an answer",
}


class ProbesError(Exception):
    """Nothing can be captured on this machine as it is. The message says what mends it."""


def describe_attached(attached: Attached) -> Capability:
    name = attached.name
    off = bool(attached.why)
    return Capability(
        name=f"kernel/{name}",
        on=not off,
        why=attached.why,
        cost=_COSTS.get(name, "") if off else "",
    )


def _connection_layout(constants: Mapping[str, int]) -> np.dtype[np.void]:
    """What tell_late looks at in struct conn, which begins with a record."""
    fields = events.EXCHANGE.fields
    assert fields is not None
    return np.dtype(
        {
            "names": ["ts_req_ns", "state"],
            "formats": ["<u8", "u1"],
            "offsets": [fields["ts_req_ns"][1], constants["SIZE_BEFORE_STATE"]],
            "itemsize": constants["SIZE_CONN"],
        }
    )


class KernelCapture:
    """Maps, programs and rings of one load."""

    def __init__(
        self, compiled: artefact.Artefact, values: Mapping[str, int], sizes: MapSizes
    ) -> None:
        self._settings = Settings()
        self._closed = False
        self._misses, self._misses_due = 0, 0.0
        self._rings: list[Ring] = []
        self.maps = Maps(compiled.constants, sizes)
        self._connection = _connection_layout(compiled.constants)
        try:
            self._small = self._map_ring("MAP_RING_SMALL", sizes.ring_small, events.SMALL)
            self._large = LargeRing(self.maps["MAP_RING_LARGE"].fd, sizes.ring_large)
            self._rings.append(self._large)
            self._head = self._map_ring("MAP_RING_HEAD", sizes.ring_head, events.HEAD)
            self._dns = self._map_ring("MAP_RING_DNS", sizes.ring_dns, events.DNS)
            self._loaded = Loaded(compiled, values, self.maps)
        except BaseException:
            self._close_maps()
            raise
        self.capabilities = tuple(describe_attached(a) for a in self._loaded.attached)
        self.tls: TlsProbes | None = Uprobes(self._loaded, self.maps)

    def _map_ring(self, name: str, size: int, layout: np.dtype[np.void]) -> Ring:
        ring = Ring(self.maps[name].fd, size, layout)
        self._rings.append(ring)
        return ring

    @property
    def own_tgid(self) -> int:
        """This process' ID in the first PID namespace, whose thread IDs records have."""
        return self._loaded.own_tgid

    # ---- settings ----

    def _change(self, settings: Settings) -> None:
        self._settings = settings
        self.maps.set_settings(settings)

    def enable(self, *, only_own: bool = False) -> None:
        """Attaching is not atomic: records begin when every hook is there. `only_own`: of this process alone."""
        only = self.own_tgid if only_own else 0
        self._change(replace(self._settings, enabled=True, only_tgid=only))

    def set_dns_port(self, port: int) -> None:
        """A second port beside 53 whose answers are taken; 0 for none. For the self-test."""
        self._change(replace(self._settings, dns_port=port))

    def set_policy(self, flags_by_cgroup: dict[int, int], *, default: int) -> None:
        changed = self.maps.set_policy(flags_by_cgroup)
        if changed or default != self._settings.default_policy:
            policies = self._settings.policies % (2**32 - 1) + 1
            self._change(replace(self._settings, default_policy=default, policies=policies))

    def set_cap(self, records_per_s: int) -> None:
        windows_per_s = 1_000_000_000 >> _WINDOW_BITS
        cap = max(records_per_s // windows_per_s, 1) if records_per_s else 0
        self._change(replace(self._settings, cap=cap))

    def set_kept(self, share: float) -> None:
        # Records tell of 16 bits.
        left_out = min(max(round((1 - share) * 2**16), 0), 2**16 - 1) << 16
        if left_out != self._settings.left_out:
            self._change(replace(self._settings, left_out=left_out))

    def read_capped(self) -> dict[int, int]:
        lost: dict[int, int] = {}
        for keys, values, count in self.maps["MAP_BUCKETS"].read_blocks(_BLOCK):
            lost.update(
                zip(
                    np.frombuffer(keys, "<u8", count).tolist(),
                    np.frombuffer(values, "<u8", 3 * count)[2::3].tolist(),
                    strict=True,
                )
            )
        return {cgroup_id: n for cgroup_id, n in lost.items() if n}

    def forget_own_process(self) -> None:
        self._change(replace(self._settings, own_tgid=self.own_tgid))

    # ---- reading ----

    def read_counters(self) -> dict[str, int]:
        if time.monotonic() >= self._misses_due:
            self._misses = self._loaded.count_misses()
            self._misses_due = time.monotonic() + _MISSES_EVERY_S
        counts = zip(counters.KERNEL_COUNTERS, self.maps.read_counts(), strict=False)
        return {**dict(counts), "kernel_missed_lost": self._misses}

    def measure_fill(self) -> float:
        return max(ring.measure_fill() for ring in self._rings)

    def gather(self, most: int | None = None) -> int:
        self._gather(most)
        answers = _EXCHANGES_PER_ANSWER * self._dns.gathered
        return max(self._small.gathered, self._large.gathered, answers)

    def _gather(self, most: int | None) -> None:
        """The exchange rings' ends first, then DNS whole, then the rest up to those ends: an answer that was read before
        an exchange that was gathered here began was gathered too, now or earlier."""
        small_end, large_end = self._small.read_end(), self._large.read_end()
        self._gather_whole(self._dns)
        self._head.gather(self._head.read_end())
        self._small.gather(small_end, most)
        self._large.gather(large_end, most)

    def drain(self, most: int | None = None) -> Drained:
        self._gather(most)
        count = max(self._small.gathered, self._large.gathered)
        return Drained(
            dns=self._dns.take(),
            heads=self._head.take(),
            small=self._small.take(),
            large=self._large.take(),
            frames=self._large.take_frames(),
            full=(most is not None and count >= most) or self.measure_fill() >= _FULL,
        )

    def _gather_whole(self, ring: Ring) -> None:
        """A record that is being written on another CPU hides those behind it: wait for it, briefly."""
        end = ring.read_end()
        ring.gather(end)
        deadline = time.monotonic() + _BUSY_WAIT_S
        while not ring.has_read_to(end) and time.monotonic() < deadline:
            ring.gather(end)

    def tell_late(self, limit_ns: int) -> int:
        """Records requests that have waited for their answer for longer than `limit_ns`, once each; how many. Reads the whole
        table of connections: for now and then. Raises BpfError."""
        late = self._list_waiting(time.monotonic_ns() - limit_ns)
        return sum(self._loaded.run("tell_late", sk, limit_ns) for sk in late)

    def ask_rest(self, sk: int, conn_id: int, seq: int) -> bool:
        return bool(self._loaded.run("ask_rest", sk, conn_id, seq))

    def count_in_flight(self) -> int:
        return len(self._list_waiting(time.monotonic_ns()))

    def _list_waiting(self, before_ns: int) -> list[int]:
        """The socks whose request was sent before then and waits for its answer."""
        found: list[int] = []
        for keys, values, count in self.maps["MAP_CONNS"].read_blocks(_BLOCK):
            connections = np.frombuffer(values, self._connection, count)
            old = connections["ts_req_ns"] < before_ns
            waiting = np.isin(connections["state"], _WAITING)
            found += np.frombuffer(keys, "<u8", count)[old & waiting].tolist()
        return found

    # ---- end ----

    def stop_recording(self) -> None:
        self._misses_due = 0.0
        self._change(replace(self._settings, enabled=False))

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._loaded.close()
        self._close_maps()

    def _close_maps(self) -> None:
        for ring in self._rings:
            ring.close()
        self._rings.clear()
        self.maps.close()


def load_capture(sizes: MapSizes | None = None) -> KernelCapture:
    """Loads and attaches, nothing more: no self-test, not enabled. Raises ProbesError."""
    try:
        compiled = artefact.read_artefact()
        values = sites.find_values(btf.read_vmlinux())
        capture = KernelCapture(compiled, values, sizes or MapSizes())
    except (
        artefact.ArtefactError,
        btf.BtfError,
        sites.SiteError,
        tracefs.TracefsError,
        BpfError,
        LoadError,
    ) as e:
        raise ProbesError(str(e)) from e
    missing = [
        c for c in capture.capabilities if not c.on and c.name.removeprefix("kernel/") in ESSENTIAL
    ]
    if missing:
        capture.close()
        raise ProbesError("; ".join(f"{c.name}: {c.why}" for c in missing))
    return capture


def open_probes(
    sizes: MapSizes | None = None, *, default_policy: int = events.POLICY_KEEP
) -> KernelCapture:
    """Loads, proves itself with own connections, and begins to record. Raises ProbesError.

    `default_policy` holds until set_policy: with POLICY_DROP nothing is recorded before.
    """
    early = selftest.open_pair()  # before the hooks are there
    try:
        capture = load_capture(sizes)
        try:
            capture.enable(only_own=True)
            capture.capabilities += selftest.rehearse(capture, early)
            capture.drain()
            capture.set_policy({}, default=default_policy)
            capture.enable()
        except BaseException:
            capture.close()
            raise
    except (selftest.SelfTestError, OSError) as e:
        raise ProbesError(str(e)) from e
    finally:
        early.close()
    return capture
