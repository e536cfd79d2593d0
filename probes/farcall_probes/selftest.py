"""Proof, at each start, that offsets and hooks are right: own connections whose every number is known.

Wrong offsets load silently, so nothing is reported before this has passed. The process talks to itself over loopback, v4
and v6, also over a connection older than the hooks; the records must say the ports, addresses, bytes, times and identity
that the process knows of itself, and both ends must agree on the join key. Nothing leaves the machine.
"""

import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from farcall.envelope import Capability
from farcall_probes import events
from farcall_probes.capture import Drained, Records

HTTP_REQUEST = b"GET /farcall-self-test HTTP/1.1\r\nHost: self-test.invalid\r\n\r\n"
HTTP_RESPONSE = b"HTTP/1.1 204 No Content\r\n\r\n"
REDIS_REQUEST = b"*2\r\n$3\r\nGET\r\n$9\r\nself-test\r\n"
REDIS_RESPONSE = b"$-1\r\n"
DNS_QUERY = b"\xfa\x11\x01\x00\x00\x01" + bytes(6) + b"\x07invalid\x00\x00\x01\x00\x01"
DNS_ANSWER = b"\xfa\x11\x81\x83\x00\x01" + bytes(6) + b"\x07invalid\x00\x00\x01\x00\x01"

# Not 127.0.0.1, which the client has: the two addresses of a connection must differ to be told apart.
_LOOPBACK: dict[int, str] = {socket.AF_INET: "127.0.0.2", socket.AF_INET6: "::1"}
_TIMEOUT_S = 5.0  # loopback answers at once; past this the machine is not in a state to be measured


class SelfTestError(Exception):
    """What the kernel side says is not what happened. The message lists the differences."""


class Rehearsable(Protocol):
    def drain(self) -> Drained: ...

    def set_dns_port(self, port: int) -> None: ...


def map_address(address: str, family: int) -> bytes:
    raw = socket.inet_pton(family, address)
    return raw if len(raw) == 16 else bytes(10) + b"\xff\xff" + raw


@dataclass(frozen=True, slots=True)
class Pair:
    """Both ends of one connection, in this process."""

    family: int
    client: socket.socket
    server: socket.socket
    opened_after_ns: int
    opened_before_ns: int

    def exchange(self, request: bytes, response: bytes) -> None:
        self.client.sendall(request)
        if self.server.recv(4096) != request:
            raise SelfTestError("loopback did not deliver a request whole")
        self.server.sendall(response)
        if self.client.recv(4096) != response:
            raise SelfTestError("loopback did not deliver a response whole")

    def close(self) -> None:
        self.client.close()
        self.server.close()


def open_pair(family: int = socket.AF_INET) -> Pair:
    """Raises OSError where this machine has no such loopback."""
    before = time.monotonic_ns()
    with socket.create_server((_LOOPBACK[family], 0), family=family) as listener:
        client = socket.create_connection(listener.getsockname()[:2], _TIMEOUT_S)
        server, _ = listener.accept()
    server.settimeout(_TIMEOUT_S)
    return Pair(family, client, server, before, time.monotonic_ns())


@dataclass(slots=True)
class _Findings:
    """Differences between what is known and what was recorded."""

    differences: list[str] = field(default_factory=list)

    def expect(self, what: str, known: object, recorded: object) -> None:
        if known != recorded:
            self.differences.append(f"{what} is {known}, recorded as {recorded}")

    def expect_between(self, what: str, low: int, high: int, recorded: int) -> None:
        if not low <= recorded <= high:
            self.differences.append(f"{what} is in {low}..{high}, recorded as {recorded}")

    def settle(self) -> None:
        if self.differences:
            listed = "; ".join(self.differences[:6])
            raise SelfTestError(
                f"the self-test failed, so nothing is recorded: {listed}"
                f"{' …' if len(self.differences) > 6 else ''}"
            )


def read_start_ticks() -> int:
    """When this process started, in clock ticks since boot: field 22 of /proc/self/stat."""
    stat = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace")
    return int(stat.rpartition(")")[2].split()[19])


def _check_process(findings: _Findings, what: str, record: np.void) -> None:
    tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    findings.expect(f"{what}: process ID", os.getpid(), int(record["tgid"]))
    findings.expect(f"{what}: parent", os.getppid(), int(record["parent_tgid"]))
    findings.expect(
        f"{what}: network namespace", os.stat("/proc/self/ns/net").st_ino, int(record["netns"])
    )
    findings.expect(
        f"{what}: process start (ticks)",
        read_start_ticks(),
        int(record["proc_start_ns"]) // tick_ns,
    )
    if int(record["cgroup_id"]) == 0:
        findings.differences.append(f"{what}: no cgroup was recorded")


def _check_addresses(findings: _Findings, what: str, record: np.void, end: socket.socket) -> None:
    family = int(end.family)
    local, peer = end.getsockname()[:2], end.getpeername()[:2]
    findings.expect(f"{what}: family", family, int(record["family"]))
    findings.expect(f"{what}: local port", local[1], int(record["lport"]))
    findings.expect(f"{what}: remote port", peer[1], int(record["rport"]))
    for name, address in (("laddr", local[0]), ("raddr", peer[0])):
        findings.expect(
            f"{what}: {name}", map_address(address, family).hex(), bytes(record[name]).hex()
        )


def _captured(record: np.void, name: str) -> bytes:
    return bytes(record[name])[: int(record[f"{name}_cap"])]


def _check_exchange(
    findings: _Findings, what: str, record: np.void, end: socket.socket, sent: tuple[bytes, bytes]
) -> None:
    _check_process(findings, what, record)
    _check_addresses(findings, what, record, end)
    findings.expect(f"{what}: request", sent[0], _captured(record, "req"))
    findings.expect(f"{what}: response", sent[1], _captured(record, "resp"))
    findings.expect(f"{what}: request bytes", len(sent[0]), int(record["req_bytes"]))
    if not int(record["flags"]) & events.FLAG_IDENTITY:
        findings.differences.append(f"{what}: no join key")


def _join_key(record: np.void) -> tuple[int, int, int]:
    return int(record["isn_client"]), int(record["isn_server"]), int(record["request_seq"])


def _own(records: Records, pair: Pair) -> Iterator[tuple[np.void, np.void]]:
    """(client's, server's) records of the pair, exchange by exchange."""
    ports = (pair.client.getsockname()[1], pair.server.getsockname()[1])
    sides = []
    for local, remote in (ports, ports[::-1]):
        mask = (records["lport"] == local) & (records["rport"] == remote)
        sides.append(records[mask & (records["tgid"] == os.getpid())])
    yield from zip(*sides, strict=False)


def _check_pair(
    findings: _Findings, what: str, records: Records, pair: Pair, sent: list[tuple[bytes, bytes]]
) -> list[tuple[int, int, int]]:
    found = list(_own(records, pair))
    findings.expect(f"{what}: exchanges", len(sent), len(found))
    keys = []
    for (client, server), bytes_ in zip(found, sent, strict=False):
        _check_exchange(findings, f"{what}, client", client, pair.client, bytes_)
        _check_exchange(findings, f"{what}, server", server, pair.server, bytes_)
        findings.expect(f"{what}, client: role", events.ROLE_CLIENT, int(client["role"]))
        findings.expect(f"{what}, server: role", events.ROLE_SERVER, int(server["role"]))
        findings.expect(f"{what}: join key of both ends", _join_key(client), _join_key(server))
        keys.append(_join_key(client))
    return keys


def _check_opening(findings: _Findings, what: str, records: Records, pair: Pair) -> None:
    for client, server in _own(records, pair):
        for record in (client, server):
            findings.expect_between(
                f"{what}: opening time",
                pair.opened_after_ns,
                pair.opened_before_ns,
                int(record["conn_open_ns"]),
            )


def rehearse_tcp(capture: Rehearsable, family: int, what: str) -> None:
    """Two HTTP exchanges and a Redis one on a new connection. Raises SelfTestError, or OSError without such a loopback."""
    pair, findings = open_pair(family), _Findings()
    try:
        for request, response in (
            (HTTP_REQUEST, HTTP_RESPONSE),
            (HTTP_REQUEST, HTTP_RESPONSE),
            (REDIS_REQUEST, REDIS_RESPONSE),
        ):
            pair.exchange(request, response)
        drained = capture.drain()
        keys = _check_pair(
            findings, f"{what} HTTP", drained.large, pair, [(HTTP_REQUEST, HTTP_RESPONSE)] * 2
        )
        keys += _check_pair(
            findings, f"{what} Redis", drained.small, pair, [(REDIS_REQUEST, REDIS_RESPONSE)]
        )
        _check_opening(findings, what, drained.large, pair)
    finally:
        pair.close()
    if len(keys) == 3:
        first = keys[0][2]
        steps = [(key[2] - first) & 0xFFFFFFFF for key in keys]
        findings.expect(
            f"{what}: places of the requests",
            [0, len(HTTP_REQUEST), 2 * len(HTTP_REQUEST)],
            steps,
        )
        findings.expect(f"{what}: first byte", keys[0][0], first)
    findings.settle()


def rehearse_early(capture: Rehearsable, pair: Pair) -> None:
    """A connection that is older than the hooks has addresses and a join key too."""
    findings = _Findings()
    pair.exchange(HTTP_REQUEST, HTTP_RESPONSE)
    drained = capture.drain()
    _check_pair(findings, "older connection", drained.large, pair, [(HTTP_REQUEST, HTTP_RESPONSE)])
    for client, _ in _own(drained.large, pair):
        findings.expect(
            "older connection: flagged late",
            events.FLAG_LATE,
            int(client["flags"]) & events.FLAG_LATE,
        )
    findings.settle()


def _answer(resolver: socket.socket) -> None:
    _, client = resolver.recvfrom(512)
    resolver.sendto(DNS_ANSWER, client)


def rehearse_dns(capture: Rehearsable) -> None:
    """An answer to a connected socket and one to an unconnected."""
    findings = _Findings()
    address = _LOOPBACK[socket.AF_INET]
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as resolver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connected,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free,
    ):
        for end in (resolver, connected, free):
            end.settimeout(_TIMEOUT_S)
        resolver.bind((address, 0))
        port = resolver.getsockname()[1]
        capture.set_dns_port(port)
        try:
            connected.connect((address, port))
            connected.send(DNS_QUERY)
            _answer(resolver)
            connected.recv(512)
            free.sendto(DNS_QUERY, (address, port))
            _answer(resolver)
            free.recvfrom(512)
            drained = capture.drain()
        finally:
            capture.set_dns_port(0)
    dns = drained.dns
    own = dns[(dns["tgid"] == os.getpid()) & (dns["rport"] == port)]
    findings.expect("DNS: answers", 2, len(own))
    for record in own:
        _check_process(findings, "DNS", record)
        data = bytes(record["data"])[: int(record["cap"])]
        findings.expect("DNS: answer", DNS_ANSWER, data)
        findings.expect(
            "DNS: resolver",
            map_address(address, socket.AF_INET).hex(),
            bytes(record["raddr"]).hex(),
        )
    findings.settle()


def rehearse(capture: Rehearsable, early: Pair) -> tuple[Capability, ...]:
    """All of it. Raises SelfTestError; a machine without IPv6 is a capability off."""
    capture.drain()
    rehearse_early(capture, early)
    rehearse_tcp(capture, socket.AF_INET, "IPv4")
    rehearse_dns(capture)
    passed = [Capability(name="self-test/ipv4", on=True), Capability(name="self-test/dns", on=True)]
    try:
        rehearse_tcp(capture, socket.AF_INET6, "IPv6")
    except OSError as e:
        why = f"no IPv6 on loopback ({e.strerror or e})"
        passed.append(
            Capability(
                name="self-test/ipv6", on=False, why=why, cost="IPv6 addresses are not proved"
            )
        )
    else:
        passed.append(Capability(name="self-test/ipv6", on=True))
    return tuple(passed)
