"""An agent in a PID namespace of its own, as in the nodes of kind: several nodes share one kernel, each sees its own."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from support_probes import OK, connection, make_request, port_of, receive
from support_tlslib import open_tls_pair

pytestmark = pytest.mark.bpf

# One exchange with itself; prints its port, and stays so that /proc can be asked for it.
_CALLER = """
import sys
from farcall_probes.selftest import open_pair, HTTP_REQUEST, HTTP_RESPONSE
pair = open_pair()
pair.exchange(HTTP_REQUEST, HTTP_RESPONSE)
print(pair.client.getsockname()[1], flush=True)
sys.stdin.read()
"""
# The agent: says `ready`, waits for a line, then prints what it saw and what its /proc knows of its callers.
_AGENT = """
import json, subprocess, sys
from contextlib import ExitStack
from pathlib import Path
from farcall_probes.probes import open_probes
sys.path.append(sys.argv[2])
from support_tlslib import find_own_libssl, probed

capture = open_probes()
reading = ExitStack()
reading.enter_context(probed(capture, find_own_libssl().path))
before = capture.read_counters()
print("ready", flush=True)
sys.stdin.readline()
now = capture.read_counters()
counted = {name: now[name] - before[name] for name in now}

def start(*wrapper):
    caller = subprocess.Popen([*wrapper, sys.executable, "-c", sys.argv[1]], text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    return caller, int(caller.stdout.readline())

def list_children(pid):
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

near, near_port = start()
nested, nested_port = start("unshare", "--pid", "--fork")
nested_id = list_children(nested.pid)[0]
drained = capture.drain()
seen = [[int(r["lport"]), int(r["rport"]), int(r["tgid"]), int(r["parent_tgid"])] for r in drained.large]
print(json.dumps({"seen": seen, "near": [near_port, near.pid], "nested": [nested_port, nested_id],
                  "unshare": nested.pid, "counted": counted}), flush=True)
for caller in (near, nested):
    caller.stdin.close()
    caller.wait()
reading.close()
capture.close()
"""

_APART = ["unshare", "--pid", "--fork", "--mount-proc"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A process in a PID namespace of its own that has the probes open."""

    said: IO[str]
    told: IO[str]


@pytest.fixture
def node() -> Iterator[Node]:
    agent = subprocess.Popen(
        [*_APART, sys.executable, "-c", _AGENT, _CALLER, str(Path(__file__).parents[1])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
    )
    assert agent.stdin is not None and agent.stdout is not None
    assert agent.stdout.readline() == "ready\n"
    yield Node(said=agent.stdout, told=agent.stdin)
    agent.stdin.close()
    agent.stdout.close()
    assert agent.wait(timeout=30) == 0


def test_ids_are_those_of_the_agents_proc_and_other_nodes_are_not_recorded(
    node: Node, certificate: tuple[Path, Path]
) -> None:
    sealed = open_tls_pair(certificate)
    sealed.exchange(make_request("/sealed"), OK)
    sealed.close()
    with connection() as elsewhere:
        elsewhere.server.sendall(OK)  # an answer to nothing
        receive(elsewhere.client, len(OK))
        request = make_request("/elsewhere")
        elsewhere.client.sendall(request)
        receive(elsewhere.server, len(request))
        elsewhere.server.sendall(OK)
        receive(elsewhere.client, len(OK))
        port = port_of(elsewhere)
        node.told.write("go\n")
        node.told.flush()
        told = json.loads(node.said.readline())

    by_port: dict[int, set[tuple[int, int]]] = {}
    for lport, rport, tgid, parent in told["seen"]:
        for either in (lport, rport):
            by_port.setdefault(either, set()).add((tgid, parent))
    assert by_port[told["near"][0]] == {(told["near"][1], 1)}
    assert by_port[told["nested"][0]] == {(told["nested"][1], told["unshare"])}
    assert port not in by_port
    counted = told["counted"]
    assert counted["kernel_policy"] > 0
    assert counted["kernel_orphan"] == counted["kernel_tls_unowned"] == 0
