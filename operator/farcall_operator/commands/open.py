"""`farcall open`: into the console of a cluster, by kubectl's port-forward and a one-time login link.

Whoever may read the admin secret may log in: the Secret is read by the user's own rights, and never shown. The console is
reachable on this machine's loopback alone, for as long as the command runs.
"""

import argparse
import base64
import binascii
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from farcall.commands import EXIT_OK
from farcall.logintoken import LIFETIME_S, mint_login_token, render_login_link
from farcall.secretfiles import ADMIN_SECRET, MIN_LENGTH
from farcall_operator.cluster.port import Cluster, Manifest, Ref
from farcall_operator.commands import outputs, reach
from farcall_operator.commands.outputs import FaultError
from farcall_operator.layout import PORTS

STOP_WITHIN_S = 5.0
_FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) ->")
_HANDLING = "Handling connection for"  # one line per connection; says nothing
NO_KUBECTL = (
    "kubectl is not on the path, and it makes the way to the console: install it "
    "(https://kubernetes.io/docs/tasks/tools), or reach the Service {service} by an ingress of yours"
)


def main(argv: Sequence[str]) -> int:
    parser = outputs.make_parser(
        "open",
        "Open a way to the console of a cluster (kubectl port-forward) and print a one-time login link. "
        "Runs until Ctrl-C.",
        "farcall open",
        "farcall open main --port 8430",
    )
    parser.add_argument("name", nargs="?", default="", help="of the TracingConfig, if several")
    parser.add_argument(
        "--port", type=parse_port, default=0, help="on this machine; a free one when left out"
    )
    reach.add_target_options(parser)
    arguments = parser.parse_args(argv)
    return outputs.run("open", lambda: open_console(arguments))


def parse_port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65_536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: 1 to 65535 is expected")
    return int(text)


def open_console(arguments: argparse.Namespace) -> int:
    target = reach.read_target(arguments)
    name, secret = reach.ask(
        target,
        reach.connect_cluster,
        lambda cluster: read_admin_secret(cluster, arguments.name, target.namespace),
    )
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise FaultError(NO_KUBECTL.format(service=f"{name}-console"))
    forward(build_command(kubectl, target, name, arguments.port), secret)
    return EXIT_OK


async def read_admin_secret(cluster: Cluster, name: str, namespace: str) -> tuple[str, str]:
    """(name of the TracingConfig, its admin secret). Raises FaultError."""
    config: Manifest = await reach.read_config(cluster, name)
    found = config["metadata"]["name"]
    ref = Ref("v1", "Secret", namespace, f"{found}-secrets")
    secret = await cluster.get(ref)
    if secret is None:
        raise FaultError(
            f"there is no Secret {ref.name} in the namespace {namespace} yet: the operator makes it; "
            f"see `farcall status {found}`, or name the operator's namespace with --namespace"
        )
    return found, decode_admin_secret(secret, ref)


def decode_admin_secret(secret: Manifest, ref: Ref) -> str:
    raw = (secret.get("data") or {}).get(ADMIN_SECRET, "")
    try:
        value = base64.b64decode(raw, validate=True).decode("ascii").strip()
    except (binascii.Error, UnicodeDecodeError):
        value = ""  # not chained: both exceptions hold what they could not read
    if len(value) < MIN_LENGTH:
        raise FaultError(f"the Secret {ref.name} has no usable key {ADMIN_SECRET}")
    return value


def build_command(kubectl: str, target: reach.Target, name: str, port: int) -> list[str]:
    command = [kubectl]
    if target.kubeconfig:
        command += ["--kubeconfig", target.kubeconfig]
    if target.context:
        command += ["--context", target.context]
    local = str(port) if port else ""
    return [
        *command, "--namespace", target.namespace, "port-forward", "--address", "127.0.0.1",
        f"service/{name}-console", f"{local}:{PORTS['console']}",
    ]  # fmt: skip


def forward(command: Sequence[str], secret: str) -> None:
    """Until Ctrl-C. Raises FaultError with kubectl's own words when it ends by itself."""
    with run_child(command) as child:
        last = ""
        for line in child.stdout or ():
            if match := _FORWARDING.match(line):
                tell_link(int(match[1]), secret)
            elif line.strip() and not line.startswith(_HANDLING):
                last = line.strip()
        raise FaultError(f"the way to the console has ended: {last or 'kubectl said nothing'}")


def tell_link(port: int, secret: str) -> None:
    token = mint_login_token(secret, now_s=time.time())
    sys.stdout.write(f"{render_login_link(f'http://127.0.0.1:{port}', token)}\n")
    sys.stdout.flush()
    outputs.tell("open", f"the link works once, within {LIFETIME_S // 60} minutes; Ctrl-C closes")


@contextmanager
def run_child(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """Ends with the block, also when we are told to stop."""
    # Interrupted like Ctrl-C: otherwise the child would outlive us.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    try:
        yield child
    finally:
        signal.signal(signal.SIGTERM, before)
        child.terminate()
        try:
            child.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        if child.stdout is not None:
            child.stdout.close()
