"""What farcall takes in a cluster at 1,000 requests a second: processor and memory of each of its containers.

On the cluster of `make cluster`. Two pods on each of two nodes call servers on the other node, 4/5 HTTP/1 and 1/5 Redis, so that
each node's agent sees 1,000 requests a second, half of them as the client's node and half as the server's, and the exporter
gets each call twice. Figures are the kubelets' (the containers' cgroups): first without that load, then under it, window by
window. What the BPF programs take is taken from the processes that they interrupt and is in no container of ours: the
kernel's own count of it stands beside. Nodes of kind share one kernel, so each agent's programs also run for the
other node's calls, and for everything else on the machine: twice what a node of its own would pay.

How noisy the machine was stands beside the figures: its load, what a hypervisor took, and how long a fixed piece of Python took.

    make bench-cluster             figures go to bench/results/cluster.json; QUICK=1 for one short window
"""

import ctypes
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support_cluster import NAMESPACE, Cluster, Object, find_kubectl, wait_until
from support_cluster_shop import pod_spec
from support_cluster_usage import Container, Usage, read_usage

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "cluster.json"
QUICK = os.environ.get("QUICK") == "1"
RATE = 1_000
WINDOW_S = 20 if QUICK else 60
WINDOWS = 1 if QUICK else 3
SETTLE_S = 10 if QUICK else 30
LOAD, CONFIG = "load", "bench"
CALLERS_PER_NODE = 2
MB = 1_000_000
SYS_BPF = {"x86_64": 321, "aarch64": 280}
BPF_ENABLE_STATS = 32
# The names of our containers, and what they are called in the table.
COMPONENTS = {
    "probe": "agent",
    "exporter": "exporter",
    "store": "store",
    "console": "console",
    "redis": "redis",
    "operator": "operator",
}
PUBLISHED = (
    "published for the product of the FAQ, its agent: 0.2 core and 0.2 GB per 1,000 requests/s"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything that only grows, at one time."""

    at_s: float
    usage: dict[Container, Usage]
    made: int  # requests
    failed: int
    counters: dict[str, int]  # of all agents and the exporter, summed by name
    machine: tuple[float, float, float]  # seconds of all processors: all, idle, stolen
    bpf_s: float | None  # of all our programs


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What happened between two snapshots."""

    seconds: float
    requests_per_s: float
    failed: int
    cores: dict[str, float]  # by "component node"
    working_set_mb: dict[str, float]
    rss_mb: dict[str, float]
    bpf_cores: float | None
    spans_per_s: float
    rows_per_s: float
    lost: int
    busy_cores: float
    stolen_cores: float
    loop_ms: float
    load_average: float


def main() -> None:
    cluster = Cluster(find_kubectl())
    others = cluster.items("tracingconfigs")
    if others:
        names = ", ".join(one["metadata"]["name"] for one in others)
        raise SystemExit(f"there are TracingConfigs in the cluster, which would be measured too: delete {names}")  # fmt: skip
    with counting_programs(), opened(cluster):
        print(f"without load, {WINDOW_S} s", flush=True)
        idle = measure(cluster)
        start_callers(cluster)
        loaded = []
        for number in range(WINDOWS):
            print(f"at {RATE} requests/s, {WINDOW_S} s ({number + 1} of {WINDOWS})", flush=True)
            loaded.append(measure(cluster))
    report(idle, loaded)


# ---- the load --------------------------------------------------------------------------------------------------------


@contextmanager
def opened(cluster: Cluster) -> Iterator[None]:
    """Servers, callers that do not call yet, and farcall."""
    nodes = cluster.nodes()[:2]
    if len(nodes) < 2:
        raise SystemExit("two nodes are needed: run `make cluster`")
    try:
        cluster.apply(*build_load(nodes))
        cluster.apply(
            {
                "apiVersion": "farcall.dev/v1alpha1",
                "kind": "TracingConfig",
                "metadata": {"name": CONFIG},
                "spec": {"tier": "Hobby"},
            }
        )
        for name in ("server-0", "server-1"):
            cluster.kubectl("-n", LOAD, "rollout", "status", f"deployment/{name}")
        cluster.wait_current(CONFIG)
        yield
    finally:
        cluster.kubectl("delete", "tracingconfig", CONFIG, "--ignore-not-found", "--wait")
        cluster.kubectl("delete", "namespace", LOAD, "--ignore-not-found", "--wait=false")


def build_load(nodes: list[str]) -> list[Object]:
    source = (HERE / "clusterload.py").read_text()
    built: list[Object] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": LOAD}},
        {**head("v1", "ConfigMap", "workload"), "data": {"clusterload.py": source}},
    ]
    rate = str(RATE // len(nodes) // CALLERS_PER_NODE)
    for number, node in enumerate(nodes):
        server, other = f"server-{number}", f"server-{1 - number}"
        command = ["python3", "/app/clusterload.py"]
        ports = [{"name": "http", "port": 8080}, {"name": "redis", "port": 6379}]
        service = {"selector": {"app": server}, "ports": ports}
        built += [
            build_deployment(server, node, [*command, "serve"], replicas=1),
            {**head("v1", "Service", server), "spec": service},
            build_deployment(f"caller-{number}", node, [*command, "call", other, other, rate], replicas=0),
        ]  # fmt: skip
    return built


def build_deployment(name: str, node: str, command: list[str], *, replicas: int) -> Object:
    template = {"metadata": {"labels": {"app": name}}, "spec": pod_spec(node, command)}
    return {
        **head("apps/v1", "Deployment", name),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": template,
        },
    }


def head(version: str, kind: str, name: str) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": LOAD}}


def start_callers(cluster: Cluster) -> None:
    for number in range(2):
        scale = ("scale", f"deployment/caller-{number}", f"--replicas={CALLERS_PER_NODE}")
        cluster.kubectl("-n", LOAD, *scale)
    wait_until(lambda: read_made(cluster)[0] > RATE, "the callers call")


def read_made(cluster: Cluster) -> tuple[int, int]:
    """Requests that were answered, and that were not, so far."""
    made = failed = 0
    for number in range(2):
        selector = ("--selector", f"app=caller-{number}")
        for line in cluster.kubectl("-n", LOAD, "logs", *selector, "--tail=1").splitlines():
            _, answered, unanswered = line.split()
            made, failed = made + int(answered), failed + int(unanswered)
    return made, failed


# ---- measuring -------------------------------------------------------------------------------------------------------


def measure(cluster: Cluster) -> Window:
    time.sleep(SETTLE_S)
    first = take(cluster)
    loop_ms = time_loop()
    time.sleep(WINDOW_S)
    return compare(first, take(cluster), loop_ms)


def take(cluster: Cluster) -> Snapshot:
    made, failed = read_made(cluster)
    at_s = time.time()
    machine = read_machine()
    bpf_s = read_program_seconds()
    usage = read_usage(cluster)
    return Snapshot(
        at_s=at_s,
        usage={c: u for c, u in usage.items() if c.namespace in (NAMESPACE, LOAD)},
        made=made,
        failed=failed,
        counters=read_counters(cluster),
        machine=machine,
        bpf_s=bpf_s,
    )


def read_counters(cluster: Cluster) -> dict[str, int]:
    found: dict[str, int] = {}
    with cluster.open_api(CONFIG) as api:
        components = api.read_status().components
    for name, value in (item for c in components for item in c.counters.items()):
        found[name] = found.get(name, 0) + int(value)
    return found


def read_machine() -> tuple[float, float, float]:
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    ticks = [int(field) / os.sysconf("SC_CLK_TCK") for field in fields]
    return sum(ticks), ticks[3] + ticks[4], ticks[7]


def time_loop() -> float:
    """Milliseconds of processor for a fixed piece of work: what a shared machine gives for a second of its time."""
    begin = time.thread_time()
    total = 0
    for i in range(1_000_000):
        total += i & 7
    return (time.thread_time() - begin) * 1_000


def compare(first: Snapshot, last: Snapshot, loop_ms: float) -> Window:
    seconds = last.at_s - first.at_s
    everything, idle, stolen = (b - a for a, b in zip(first.machine, last.machine, strict=True))
    both = {c: (first.usage[c], last.usage[c]) for c in last.usage if c in first.usage}
    spent = {c: (b.cpu_s - a.cpu_s) / (b.at_s - a.at_s) for c, (a, b) in both.items() if b.at_s > a.at_s}  # fmt: skip
    grown = {n: v - first.counters.get(n, 0) for n, v in last.counters.items()}
    bpf_s = None if first.bpf_s is None or last.bpf_s is None else last.bpf_s - first.bpf_s
    return Window(
        seconds=round(seconds, 1),
        requests_per_s=round((last.made - first.made) / seconds, 1),
        failed=last.failed - first.failed,
        cores=add_up(spent),
        working_set_mb=add_up({c: u.working_set_bytes / MB for c, u in last.usage.items()}),
        rss_mb=add_up({c: u.rss_bytes / MB for c, u in last.usage.items()}),
        bpf_cores=None if bpf_s is None else round(bpf_s / seconds, 4),
        spans_per_s=round(grown.get("spans_written", 0) / seconds, 1),
        rows_per_s=round(grown.get("rows_received", 0) / seconds, 1),
        lost=sum(n for name, n in grown.items() if name.endswith(("_lost", "_dropped"))),
        busy_cores=round((everything - idle - stolen) / seconds, 2),
        stolen_cores=round(stolen / seconds, 3),
        loop_ms=round(loop_ms, 1),
        load_average=round(os.getloadavg()[0], 2),
    )


def add_up(found: dict[Container, float]) -> dict[str, float]:
    """By component; agents one by one, the pods of the load together."""
    sums: dict[str, float] = {}
    for container, value in found.items():
        name = COMPONENTS.get(container.name, container.name)
        if container.namespace == LOAD:
            name = "load"
        elif name == "agent":
            name = f"agent on {container.node}"
        sums[name] = sums.get(name, 0.0) + value
    return {name: round(value, 4) for name, value in sorted(sums.items())}


# ---- what the programs take ------------------------------------------------------------------------------------------


@contextmanager
def counting_programs() -> Iterator[None]:
    """The kernel counts the time of BPF programs while a descriptor asks for it; some 20 ns for each run."""
    libc = ctypes.CDLL(None, use_errno=True)
    number = SYS_BPF.get(platform.machine(), -1)
    descriptor = libc.syscall(number, BPF_ENABLE_STATS, ctypes.create_string_buffer(128), 128)
    if descriptor < 0:
        print(f"what BPF programs take is not counted: {os.strerror(ctypes.get_errno())}")
    try:
        yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def read_program_seconds() -> float | None:
    """Of every program that an agent of the cluster holds, whoever ran into it. None where it is not counted."""
    seen: dict[str, int] = {}
    for process in Path("/proc").glob("[0-9]*"):
        if is_agent(process):
            for info in (process / "fdinfo").iterdir():
                seen.update(read_program(info))
    return sum(seen.values()) / 1e9 or None


def is_agent(process: Path) -> bool:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
        return b"agent" in words and b"kubepods" in (process / "cgroup").read_bytes()
    except OSError:
        return False


def read_program(info: Path) -> dict[str, int]:
    """ID of the program → nanoseconds; empty for any other descriptor."""
    try:
        fields = dict(line.split(":\t", 1) for line in info.read_text().splitlines() if ":\t" in line)  # fmt: skip
    except OSError:
        return {}
    return {fields["prog_id"]: int(fields["run_time_ns"])} if "run_time_ns" in fields else {}


# ---- report ----------------------------------------------------------------------------------------------------------


def report(idle: Window, loaded: list[Window]) -> None:
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    figures = {
        "machine": {"platform": platform.platform(), "cpus": os.cpu_count()},
        "rate": RATE,
        "published": PUBLISHED,
        "idle": asdict(idle),
        "loaded": [asdict(window) for window in loaded],
    }
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n")
    print(f"\n{'':34}{'idle':>12}{'at ' + str(RATE) + '/s':>12}{'':>18}{'working set':>14}{'anonymous':>12}")  # fmt: skip
    for name in loaded[-1].cores:
        spent = [window.cores[name] * 1_000 for window in loaded if name in window.cores]
        spread = f"[{min(spent):.0f} … {max(spent):.0f}]"
        print(
            f"{name:34}{idle.cores.get(name, 0) * 1_000:10.0f} m{statistics.median(spent):10.0f} m{spread:>18}"
            f"{max(w.working_set_mb[name] for w in loaded):11.0f} MB{max(w.rss_mb[name] for w in loaded):9.0f} MB"
        )
    print_rest("BPF programs of both agents, cores", [w.bpf_cores for w in (idle, *loaded)])
    print_rest("requests/s", [w.requests_per_s for w in (idle, *loaded)])
    print_rest("requests that failed", [w.failed for w in (idle, *loaded)])
    print_rest("rows/s at the exporter", [w.rows_per_s for w in (idle, *loaded)])
    print_rest("spans/s stored", [w.spans_per_s for w in (idle, *loaded)])
    print_rest("counted losses", [w.lost for w in (idle, *loaded)])
    print_rest("machine: cores busy", [w.busy_cores for w in (idle, *loaded)])
    print_rest("machine: cores stolen", [w.stolen_cores for w in (idle, *loaded)])
    print_rest("machine: fixed work, ms", [w.loop_ms for w in (idle, *loaded)])
    print_rest("machine: load average", [w.load_average for w in (idle, *loaded)])
    print(PUBLISHED)


def print_rest(name: str, values: list[float | None] | list[float] | list[int]) -> None:
    print(f"{name:36}" + "".join("         —" if v is None else f"{v:10g}" for v in values))


if __name__ == "__main__":
    main()
