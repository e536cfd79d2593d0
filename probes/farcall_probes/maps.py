"""The BPF maps: kinds, sizes, and how much kernel memory they take. Layouts of values are bpf/maps.h's.

They are made here, not declared to the compiler: so compiling needs no privilege, and sizes can be chosen at start.
"""

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from farcall_probes import events
from farcall_probes.bpfsys import Map, MapType

MIB = 1024 * 1024
# MAP_STEPS as uprobes' programs see it: a table holds programs of one kind only.
UPROBE_STEPS = "MAP_STEPS_UPROBE"
KEPT_STEPS = "MAP_STEPS_KEPT"
_TLS_USERS = 1024  # processes that began with TLS between two looks
_WORKSPACES = 7  # enum workspace, and UPROBE_WORKSPACES


@dataclass(frozen=True, slots=True, kw_only=True)
class MapSizes:
    """Bytes of rings (powers of two), entries of tables: 39.5 MB of kernel memory in all, with opened.h's table.

    A ring holds rate x stall x stride: 4 MiB of large records are a stall of 0.4 s at 10,000 records/s. Rings count in the
    kernel alone: ring.py maps no more of them than it reads. Tables evict what was used least: a connection in flight is then
    lost, an idle one is only looked up anew.
    """

    ring_small: int = 2 * MIB
    ring_large: int = 4 * MIB
    ring_head: int = 2 * MIB
    ring_dns: int = 4 * MIB
    connections: int = 13_300  # so that all are below 40 MB
    descriptors: int = 16_384
    asked: int = 8_192  # questions: a second of them at the highest rate of DNS that is measured
    policies: int = 4_096
    serving: int = 8_192
    dials: int = 4_096
    buckets: int = 4_096
    tls_threads: int = 4_096
    tls_sessions: int = 8_192
    tls_kept: int = (
        256  # threads between a connection's first plaintext and the system call that sends it
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """struct settings."""

    enabled: bool = False
    default_policy: int = 0
    own_tgid: int = 0
    only_tgid: int = 0
    dns_port: int = 0
    cap: int = 0
    left_out: int = 0
    policies: int = 1

    def pack(self) -> bytes:
        return struct.pack(
            "<IIIIIIII",
            self.enabled,
            self.default_policy,
            self.own_tgid,
            self.only_tgid,
            self.dns_port,
            self.cap,
            self.left_out,
            self.policies,
        )


def count_possible_cpus(path: Path = Path("/sys/devices/system/cpu/possible")) -> int:
    """Per-CPU maps hold a value for each CPU that could ever be there ("0-3", "0,2-7")."""
    last = path.read_text(encoding="ascii").strip().split(",")[-1]
    return int(last.rpartition("-")[2]) + 1


class Maps:
    """All maps of one load, by their names in ids.h. Owns their descriptors."""

    def __init__(self, constants: Mapping[str, int], sizes: MapSizes) -> None:
        self._maps: dict[str, Map] = {}
        self.cpus = count_possible_cpus()
        try:
            for name, kind, key, value, entries in _list_maps(constants, sizes):
                self._maps[name] = Map(name.removeprefix("MAP_").lower(), kind, key, value, entries)
        except BaseException:
            self.close()
            raise

    def __getitem__(self, name: str) -> Map:
        return self._maps[name]

    def list_fds(self) -> dict[str, int]:
        return {name: map_.fd for name, map_ in self._maps.items()}

    def set_step(self, index: int, program_fd: int) -> None:
        self["MAP_STEPS"].update(struct.pack("<I", index), struct.pack("<I", program_fd))

    def set_uprobe_step(self, index: int, program_fd: int) -> None:
        self[UPROBE_STEPS].update(struct.pack("<I", index), struct.pack("<I", program_fd))

    def set_kept_step(self, index: int, program_fd: int) -> None:
        self[KEPT_STEPS].update(struct.pack("<I", index), struct.pack("<I", program_fd))

    def take_tls_users(self) -> set[int]:
        """Processes that began to speak TLS since the last call."""
        users = self["MAP_TLS_USERS"]
        keys = users.list_keys()
        for key in keys:
            users.delete(key)
        return {struct.unpack("<I", key)[0] for key in keys}

    def read_tls_hits(self) -> int:
        raw = self["MAP_TLS_HITS"].lookup(struct.pack("<I", 0)) or bytes(8)
        return int(struct.unpack("<Q", raw)[0])

    def set_settings(self, settings: Settings) -> None:
        self["MAP_SETTINGS"].update(struct.pack("<I", 0), settings.pack())

    def set_policy(self, flags_by_cgroup: Mapping[int, int]) -> bool:
        """Replaces the table: new flags first, then what is gone, so that nothing is unprotected in between. Whether anything is
        other than it was."""
        policy = self["MAP_POLICY"]
        wanted = {
            struct.pack("<Q", id_): struct.pack("<I", flags)
            for id_, flags in flags_by_cgroup.items()
        }
        known = {key: policy.lookup(key) for key in policy.list_keys()}
        changed = {k: v for k, v in wanted.items() if known.get(k) != v}
        gone = known.keys() - wanted.keys()
        for key, value in changed.items():
            policy.update(key, value)
        for key in gone:
            policy.delete(key)
        return bool(changed or gone)

    def read_counts(self) -> list[int]:
        """Each counter, summed over CPUs. They stand first in struct call, the CPU's workspace."""
        totals = [0] * events.COUNT_MAX
        for workspace in range(_WORKSPACES):
            raw = self["MAP_CALL"].lookup(struct.pack("<I", workspace), self.cpus) or b""
            step = len(raw) // self.cpus
            for cpu in range(self.cpus if step else 0):
                values = struct.unpack_from(f"<{events.COUNT_MAX}Q", raw, cpu * step)
                totals = [a + b for a, b in zip(totals, values, strict=True)]
        return totals

    def close(self) -> None:
        for map_ in self._maps.values():
            map_.close()


def _list_maps(
    constants: Mapping[str, int], sizes: MapSizes
) -> list[tuple[str, MapType, int, int, int]]:
    ring = MapType.RINGBUF
    steps = sum(n.startswith("STEP_") for n in constants)
    return [
        ("MAP_FDS", MapType.LRU_HASH, 8, constants["SIZE_FDENT"], sizes.descriptors),
        ("MAP_CONNS", MapType.LRU_HASH, 8, constants["SIZE_CONN"], sizes.connections),
        ("MAP_OPENS", MapType.ARRAY, 4, constants["SIZE_OPENED"], constants["SIZE_OPENED_ROWS"]),
        ("MAP_BUCKETS", MapType.LRU_HASH, 8, constants["SIZE_BUCKET"], sizes.buckets),
        ("MAP_DIALS", MapType.LRU_HASH, 8, constants["SIZE_WHO"], sizes.dials),
        ("MAP_SERVING", MapType.LRU_HASH, 8, constants["SIZE_SERVING"], sizes.serving),
        ("MAP_ASKED", MapType.LRU_HASH, 8, constants["SIZE_ASKED"], sizes.asked),
        ("MAP_CALL", MapType.PERCPU_ARRAY, 4, constants["SIZE_CALL"], _WORKSPACES),
        ("MAP_SETTINGS", MapType.ARRAY, 4, constants["SIZE_SETTINGS"], 1),
        ("MAP_POLICY", MapType.HASH, 8, 4, sizes.policies),
        ("MAP_STEPS", MapType.PROG_ARRAY, 4, 4, steps),
        (UPROBE_STEPS, MapType.PROG_ARRAY, 4, 4, steps),
        (KEPT_STEPS, MapType.PROG_ARRAY, 4, 4, steps),
        ("MAP_TLS_CALLS", MapType.LRU_HASH, 8, constants["SIZE_TLS_CALL"], sizes.tls_threads),
        (
            "MAP_TLS_SESSIONS",
            MapType.LRU_HASH,
            constants["SIZE_TLS_KEY"],
            constants["SIZE_TLS_SESSION"],
            sizes.tls_sessions,
        ),
        ("MAP_TLS_KEPT", MapType.LRU_HASH, 8, constants["SIZE_TLS_KEPT"], sizes.tls_kept),
        ("MAP_TLS_USERS", MapType.LRU_HASH, 4, 4, _TLS_USERS),
        ("MAP_TLS_HITS", MapType.ARRAY, 4, 8, 1),
        ("MAP_RING_SMALL", ring, 0, 0, sizes.ring_small),
        ("MAP_RING_LARGE", ring, 0, 0, sizes.ring_large),
        ("MAP_RING_HEAD", ring, 0, 0, sizes.ring_head),
        ("MAP_RING_DNS", ring, 0, 0, sizes.ring_dns),
    ]


def read_locked_bytes(fd: int) -> int:
    """Kernel memory of a map, as the kernel counts it."""
    text = Path(f"/proc/{os.getpid()}/fdinfo/{fd}").read_text(encoding="ascii")
    return int(text.partition("memlock:")[2].split()[0])
