"""Makes and removes the demo's network: one namespace per host, all on one bridge in the node's namespace.

The machine's own namespace gets no interface, no address and no route, so nothing of it has to be put back. Each
host has /32 addresses and asks for everybody else by ARP on the bridge; there is nothing to route.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from farcall_demo.plan import CLUSTER_DOMAIN, DemoError, Host, Plan

ETC_NETNS = Path("/etc/netns")  # `ip netns exec` lays these files over /etc, for that process alone
RUN_NETNS = Path("/run/netns")
COMMAND_TIMEOUT_S = 30
KILL_WITHIN_S = 5.0


def find_tool(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin")


def check_tools(find: Callable[[str], str | None] = find_tool) -> None:
    """Raises DemoError with the command that mends it."""
    if os.geteuid() != 0:
        raise DemoError("the demo makes network namespaces and must be root: use sudo")
    packages = {"ip": "iproute2", "dnsmasq": "dnsmasq-base", "redis-server": "redis-server"}
    missing = [package for tool, package in packages.items() if find(tool) is None]
    if missing:
        raise DemoError(
            f"something is missing; install it with: apt-get install {' '.join(missing)}"
        )


def build_network(plan: Plan) -> None:
    """Makes all namespaces. Raises DemoError; what was made until then is removed by remove_network."""
    write_etc_files(plan)
    names = [plan.namespace(host.name) for host in plan.hosts]
    run_ip([], [f"netns add {name}" for name in names])
    node = plan.namespace("node")
    run_ip(["-n", node], ["link add br0 type bridge", "link set lo up", "link set br0 up"])
    run_ip(
        [],
        [
            f"link add eth0 netns {plan.namespace(host.name)} type veth peer name p-{host.name} netns {node}"
            for host in plan.hosts
            if host.name != "node"
        ],
    )
    ports = [host.name for host in plan.hosts if host.name != "node"]
    run_ip(["-n", node], [f"link set p-{name} master br0 up" for name in ports])
    for host in plan.hosts:
        run_ip(["-n", plan.namespace(host.name)], list_address_commands(host))


def list_address_commands(host: Host) -> list[str]:
    device = "br0" if host.name == "node" else "eth0"
    return [
        "link set lo up",
        f"link set {device} up",
        *[f"addr add {address}/32 dev {device}" for address in host.addresses],
        f"route add default dev {device} src {host.addresses[0]}",
    ]


def write_etc_files(plan: Plan) -> None:
    """What a pod's /etc says. ndots:5 as in Kubernetes: the search domains are really asked first."""
    cluster = CLUSTER_DOMAIN.partition(".")[2]
    search = f"{CLUSTER_DOMAIN} {cluster} {cluster.partition('.')[2]}"
    for host in plan.hosts:
        folder = ETC_NETNS / plan.namespace(host.name)
        folder.mkdir(parents=True, exist_ok=True)
        resolver = plan.resolver if host.resolves else "127.0.0.1"
        (folder / "resolv.conf").write_text(
            f"nameserver {resolver}\nsearch {search}\noptions ndots:5 timeout:2\n", encoding="ascii"
        )
        (folder / "hosts").write_text("127.0.0.1 localhost\n", encoding="ascii")
        # A desktop's nss modules would ask a daemon over a Unix socket, past the network namespace.
        (folder / "nsswitch.conf").write_text("passwd: files\nhosts: files dns\n", encoding="ascii")


def remove_network(instance: str) -> None:
    """Ends what still runs in the instance's namespaces and removes them. Also cleans up after a killed run."""
    names = list_namespaces(instance)
    for name in names:
        end_processes_in(name)
    if names:
        run_ip(["-force"], [f"netns del {name}" for name in names], check=False)
    for name in list_own(ETC_NETNS, instance):
        shutil.rmtree(ETC_NETNS / name, ignore_errors=True)
    try:
        ETC_NETNS.rmdir()  # only when it is empty: then nobody else uses it
    except OSError:
        pass


def list_namespaces(instance: str) -> list[str]:
    return list_own(RUN_NETNS, instance)


def list_own(directory: Path, instance: str) -> list[str]:
    """Names in `directory` that are this instance's; not those of one whose name begins like it (`main`, `main-2`)."""
    plan = Plan(instance=instance, slot=0)
    known = {plan.namespace(host.name) for host in plan.hosts}
    return sorted(path.name for path in directory.glob(f"{plan.prefix}*") if path.name in known)


def end_processes_in(namespace: str) -> None:
    deadline = time.monotonic() + KILL_WITHIN_S
    while pids := list_pids(namespace):
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if time.monotonic() > deadline:
            return  # the namespace lives on without a name until the process is gone
        time.sleep(0.02)


def list_pids(namespace: str) -> list[int]:
    listed = subprocess.run(
        [find_tool("ip") or "ip", "netns", "pids", namespace],
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    return [int(pid) for pid in listed.stdout.split()]


def run_ip(options: Sequence[str], commands: Sequence[str], *, check: bool = True) -> None:
    """Runs a batch of `ip` commands. Raises DemoError with what `ip` said."""
    done = subprocess.run(
        [find_tool("ip") or "ip", *options, "-batch", "-"],
        input="".join(f"{command}\n" for command in commands),
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    if check and done.returncode != 0:
        raise DemoError(f"the demo's network cannot be made: ip: {done.stderr.strip()[:300]}")
