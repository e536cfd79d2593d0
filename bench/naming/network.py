"""The lab's network: a namespace for everything outside the cluster, and three whose processes are clients inside.

    far     10.96.77.10 DNS, 10.96.77.99 DNS that nobody vouches for, and every address of the documentation's ranges
    pods    10.244.77.1, asks 10.96.77.10
    stub    10.244.77.2, asks dnsmasq on 127.0.0.53, as a machine with a resolver daemon does
    cached  10.244.77.3, asks dnsmasq on 169.254.20.10, as a node with a node-local cache does

Whole ranges are local to `far` (ip-route(8), `local`), so every row of the table has addresses of its own.
"""

import os
import shutil
import subprocess
from pathlib import Path

from farcall_demo.network import ETC_NETNS, RUN_NETNS, end_processes_in, run_ip

PREFIX = "fcnaming-"
RESOLVER, UNTRUSTED = "10.96.77.10", "10.96.77.99"
STUB, CACHED = "127.0.0.53", "169.254.20.10"
SELF, SELF_LOOPBACK = "127.0.0.77", "127.0.0.54"
INSIDE = "10.244.77.9"
SEARCH = "shop.svc.cluster.local svc.cluster.local cluster.local corp.example.com"
PODS = {"pods": ("10.244.77.1", RESOLVER), "stub": ("10.244.77.2", STUB), "cached": ("10.244.77.3", CACHED)}  # fmt: skip
GATE, GATE6 = "10.96.77.1", "2001:db8:ff::1"


class Network:
    def __init__(self) -> None:
        self.prefix = f"{PREFIX}{os.getpid()}-"

    def name(self, space: str) -> str:
        return self.prefix + space

    def enter(self, space: str) -> tuple[str, ...]:
        """Words to put in front of a command."""
        return ("ip", "netns", "exec", self.name(space))

    def make(self, hosts: dict[str, str]) -> None:
        """`hosts`: what /etc/hosts of `pods` says beside localhost. Raises DemoError."""
        remove_leftovers()
        for space in (*PODS, "far"):
            self._write_etc(space, hosts if space == "pods" else {})
        run_ip([], [f"netns add {self.name(space)}" for space in (*PODS, "far")])
        far = self.name("far")
        run_ip(["-n", far], FAR)
        for number, (space, (address, _)) in enumerate(PODS.items()):
            pod = self.name(space)
            run_ip([], [f"link add eth0 netns {pod} type veth peer name p{number} netns {far}"])
            run_ip(["-n", far], list_port_commands(number, address))
            run_ip(["-n", pod], list_pod_commands(number, address))
        run_ip(["-n", self.name("pods")], [f"addr add {INSIDE}/32 dev lo"])
        run_ip(["-n", self.name("cached")], [f"addr add {CACHED}/32 dev lo"])

    def remove(self) -> None:
        remove_spaces(self.prefix)

    def _write_etc(self, space: str, hosts: dict[str, str]) -> None:
        folder = ETC_NETNS / self.name(space)
        folder.mkdir(parents=True, exist_ok=True)
        resolver = PODS[space][1] if space in PODS else "127.0.0.1"
        lines = f"nameserver {resolver}\nsearch {SEARCH}\noptions ndots:5 timeout:2 attempts:2\n"
        (folder / "resolv.conf").write_text(lines, encoding="ascii")
        known = "".join(f"{address} {name}\n" for name, address in hosts.items())
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n{known}", encoding="ascii")
        (folder / "nsswitch.conf").write_text("passwd: files\nhosts: files dns\n", encoding="ascii")


FAR = [
    "link set lo up",
    *(f"addr add {address}/32 dev lo" for address in (RESOLVER, UNTRUSTED, GATE)),
    "route add local 203.0.113.0/24 dev lo",
    "route add local 198.51.100.0/24 dev lo",
    "route add local 2001:db8:1::/64 dev lo",
]


def list_port_commands(number: int, address: str) -> list[str]:
    return [
        f"link set p{number} up",
        f"route add {address}/32 dev p{number} src {GATE}",
        f"addr add {GATE6.replace('ff', f'f{number}')}/64 dev p{number} nodad",
    ]


def list_pod_commands(number: int, address: str) -> list[str]:
    gate6 = GATE6.replace("ff", f"f{number}")
    return [
        "link set lo up",
        "link set eth0 up",
        f"addr add {address}/32 dev eth0",
        f"route add {GATE}/32 dev eth0",
        f"route add default via {GATE} src {address}",
        f"addr add {gate6[:-1]}2/64 dev eth0 nodad",
        f"route add ::/0 via {gate6}",
    ]


def remove_spaces(prefix: str) -> None:
    for name in [path.name for path in RUN_NETNS.glob(f"{prefix}*")]:
        end_processes_in(name)
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
    for path in ETC_NETNS.glob(f"{prefix}*"):
        shutil.rmtree(path, ignore_errors=True)


def remove_leftovers() -> None:
    """Of runs that were killed: their process is gone."""
    for path in {*RUN_NETNS.glob(f"{PREFIX}*"), *ETC_NETNS.glob(f"{PREFIX}*")}:
        pid = path.name.removeprefix(PREFIX).partition("-")[0]
        if not Path(f"/proc/{pid}").exists():
            remove_spaces(f"{PREFIX}{pid}-")
