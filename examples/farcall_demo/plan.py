"""Who lives where: the addresses, names and namespaces of one demo. Pure, but for the claim of a slot.

Nothing of it is routed anywhere: every address exists only inside namespaces that the demo makes. Pods are inside the
examples' clusterCIDRs, the other hosts have addresses that RFC 5737 keeps for documentation. Several demos run side
by side because each holds a slot of its own, and a slot is a share of every range.
"""

import hashlib
import json
import socket
from dataclasses import dataclass

from farcall.rundir import RUN_ROOT, RunDir

NAMES = "fcdemo-"  # what every namespace of every demo begins with
SLOTS = 15  # 16 addresses of 203.0.113.0/24 each; a 16th would hold the broadcast address
CLUSTER_DOMAIN = "shop.svc.cluster.local"


class DemoError(Exception):
    """The demo cannot run here; the message says what is missing and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One network namespace with its addresses; the first is the one it calls from."""

    name: str
    addresses: tuple[str, ...]
    resolves: bool  # it is given the cluster's resolv.conf; the others have none


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`instance` as name_instance gives it."""

    instance: str
    slot: int

    @property
    def prefix(self) -> str:
        return namespace_prefix(self.instance)

    def pod(self, number: int) -> str:
        return f"10.244.{100 + self.slot}.{number}"

    def external(self, number: int) -> str:
        return f"203.0.113.{16 * self.slot + number}"

    @property
    def node(self) -> str:
        return self.pod(1)

    @property
    def resolver(self) -> str:
        return f"10.96.{100 + self.slot}.10"

    @property
    def outside(self) -> str:
        return f"198.51.100.{16 * self.slot + 7}"

    @property
    def api(self) -> str:
        return self.external(10)

    @property
    def payments(self) -> str:
        return self.external(11)

    @property
    def cache(self) -> str:
        return self.external(12)

    @property
    def inventory(self) -> str:
        return self.pod(15)

    @property
    def hosts(self) -> tuple[Host, ...]:
        return (
            Host(name="node", addresses=(self.node,), resolves=False),
            Host(name="dns", addresses=(self.resolver,), resolves=False),
            Host(name="storefront", addresses=(self.pod(11),), resolves=True),
            Host(name="report", addresses=(self.pod(12),), resolves=True),
            Host(name="cart", addresses=(self.pod(13),), resolves=True),
            Host(name="checkout", addresses=(self.pod(14),), resolves=True),
            Host(name="inventory", addresses=(self.inventory,), resolves=True),
            Host(name="frontend", addresses=(self.pod(16),), resolves=True),
            Host(name="external", addresses=(self.api, self.payments, self.cache), resolves=False),
            Host(name="outside", addresses=(self.outside,), resolves=False),
        )

    @property
    def records(self) -> dict[str, str]:
        """What the DNS server answers with an address."""
        return {
            "api.example.com": self.api,
            "payments.example.com": self.payments,
            # What a managed cache looks like: the application's name is an alias of the provider's.
            "cache-7f3a.provider.example.net": self.cache,
            f"inventory.{CLUSTER_DOMAIN}": self.inventory,
        }

    @property
    def aliases(self) -> dict[str, str]:
        return {"cache.example.com": "cache-7f3a.provider.example.net"}

    def find(self, name: str) -> Host:
        return next(host for host in self.hosts if host.name == name)

    def namespace(self, host: str) -> str:
        return f"{self.prefix}{host}"


def namespace_prefix(instance: str) -> str:
    return f"{NAMES}{instance}-"


def name_instance(run_dir: RunDir) -> str:
    """The instance's name; elsewhere than in the usual place with a mark of where, because names are machine-wide."""
    if run_dir.path.parent == RUN_ROOT:
        return run_dir.instance
    mark = hashlib.sha256(str(run_dir.path.absolute()).encode()).hexdigest()[:6]
    return f"{run_dir.instance}-{mark}"


PLAN_FILE = "demo.json"  # in the run directory, for whoever wants to look at a demo that runs


def write_plan(plan: Plan, run_dir: RunDir) -> None:
    (run_dir.path / PLAN_FILE).write_text(json.dumps({"slot": plan.slot}) + "\n", encoding="ascii")


def read_plan(run_dir: RunDir) -> Plan:
    """Raises DemoError."""
    try:
        slot = json.loads((run_dir.path / PLAN_FILE).read_bytes())["slot"]
    except (OSError, ValueError, KeyError) as e:
        raise DemoError(f"no demo runs in {run_dir.path}") from e
    return Plan(instance=name_instance(run_dir), slot=int(slot))


class Claim:
    """Holds an instance's name and a slot for as long as this process lives.

    An abstract socket's name goes away with its process, kill -9 included: there is no stale lock to clean up.
    """

    def __init__(self, instance: str) -> None:
        self._held: list[socket.socket] = []
        if not self._hold(f"instance-{instance}"):
            raise DemoError(f"a demo of the instance {instance!r} runs already; stop it first")
        for slot in range(SLOTS):
            if self._hold(f"slot-{slot}"):
                self.plan = Plan(instance=instance, slot=slot)
                return
        self.release()
        raise DemoError(
            f"{SLOTS} demos run on this machine, which is as many as there are addresses for"
        )

    def _hold(self, name: str) -> bool:
        holder = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            holder.bind(f"\0farcall-demo-{name}")
        except OSError:
            holder.close()
            return False
        self._held.append(holder)
        return True

    def release(self) -> None:
        for holder in self._held:
            holder.close()
        self._held.clear()
