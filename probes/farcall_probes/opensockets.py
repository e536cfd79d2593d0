"""Which TCP connections are open on this node, and whose they are, from /proc alone: for those that are older than the agent.

/proc/TGID/net/tcp lists all sockets of that process' network namespace, listening ones first (proc_net_tcp(5)); a process'
descriptors say which of them are its own. Both can be long, so the list is made in portions: a None says that some time has
passed and nothing was found. Costs 1 s of one core for 100,000 connections (measured); ends of servers are left out.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from farcall.dnscache import format_endpoint
from farcall_probes.resolvers import address_text

# Of one network namespace; about 130 bytes each while its processes are asked.
MAX_SOCKETS = 131_072
MAX_PROCESSES = 65_536
PORTION = 64  # files looked at between two Nones
_ESTABLISHED, _LISTENING = b"01", b"0A"
_MAPPED = bytes(10) + b"\xff\xff"

Table = dict[int, bytes]  # inode → both ends, packed: two addresses of 16 bytes, two ports


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSocket:
    tgid: int
    local: str  # farcall.dnscache.format_endpoint
    peer: str


class OpenSockets:
    """One pass over the node. `left_out` counts sockets and processes beyond the bounds."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self.left_out = 0

    def find(self) -> Iterator[OpenSocket | None]:
        """Clients' ends. A socket that several processes share comes once for each of them."""
        namespaces: dict[int, list[int]] = {}
        for number, tgid in enumerate(self._list_processes()):
            space = _read_netns(self._proc, tgid)
            if space is not None:
                namespaces.setdefault(space, []).append(tgid)
            if number % PORTION == 0:
                yield None
        for tgids in namespaces.values():
            table: Table = {}
            for family in ("tcp", "tcp6"):
                yield from self._read_table(tgids, family, table)
            if table:
                for tgid in tgids:
                    yield from self._find_of(tgid, table)

    def _list_processes(self) -> list[int]:
        try:
            tgids = [int(name) for name in os.listdir(self._proc) if name.isdigit()]
        except OSError:
            return []
        self.left_out += max(0, len(tgids) - MAX_PROCESSES)
        return tgids[:MAX_PROCESSES]

    def _read_table(self, tgids: list[int], family: str, table: Table) -> Iterator[None]:
        """Through the first process that is still there."""
        for tgid in tgids:
            try:
                with open(self._proc / str(tgid) / "net" / family, "rb") as lines:
                    yield from self._parse_table(lines, table)
                return
            except OSError:
                continue

    def _parse_table(self, lines: Iterator[bytes], table: Table) -> Iterator[None]:
        served: set[bytes] = set()  # local ports that somebody listens at
        next(lines, None)  # the heading
        for number, line in enumerate(lines):
            if number % (8 * PORTION) == 0:
                yield None
            fields = line.split(None, 10)
            if len(fields) < 10:
                continue
            local, state = fields[1], fields[3]
            if state == _LISTENING:
                served.add(local[-4:])
            elif state == _ESTABLISHED and local[-4:] not in served:
                if len(table) >= MAX_SOCKETS:
                    self.left_out += 1
                    continue
                ends, inode = _pack(local, fields[2]), fields[9]
                if ends is not None and inode.isdigit():
                    table[int(inode)] = ends

    def _find_of(self, tgid: int, table: Table) -> Iterator[OpenSocket | None]:
        folder = f"{self._proc}/{tgid}/fd"
        try:
            names = os.listdir(folder)
        except OSError:
            return  # gone, or not to be looked at
        for number, name in enumerate(names):
            if number % PORTION == 0:
                yield None
            try:
                target = os.readlink(f"{folder}/{name}")
            except OSError:
                continue
            if target.startswith("socket:[") and (ends := table.get(int(target[8:-1]))):
                yield _unpack(tgid, ends)


def _read_netns(proc: Path, tgid: int) -> int | None:
    try:
        return os.stat(f"{proc}/{tgid}/ns/net").st_ino
    except OSError:
        return None


def _pack(local: bytes, peer: bytes) -> bytes | None:
    """`0100007F:1F90`: words of the address as numbers of this machine, the port as a number."""
    packed = []
    try:
        for end in (local, peer):
            words, _, port = end.partition(b":")
            numbers = [int(words[at : at + 8], 16) for at in range(0, len(words), 8)]
            address = struct.pack(f"={len(numbers)}I", *numbers)
            full = address if len(address) == 16 else _MAPPED + address
            packed.append(full + struct.pack("!H", int(port, 16)))
    except (ValueError, struct.error):
        return None
    return b"".join(packed) if len(packed[0]) == len(packed[1]) == 18 else None


def _unpack(tgid: int, ends: bytes) -> OpenSocket:
    texts = [
        format_endpoint(address_text(ends[at : at + 16]), int.from_bytes(ends[at + 16 : at + 18]))
        for at in (0, 18)
    ]
    return OpenSocket(tgid=tgid, local=texts[0], peer=texts[1])
