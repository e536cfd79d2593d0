"""What `farcall operator` may be told, each with its default. Parsing only."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from farcall_operator.commands.reach import parse_namespace

# Nothing that is watched needs it. It is for what is not: referenced Secrets, hand-made changes while a watch was cut.
RESYNC_S = 600.0
# A reconciliation waits for the API server most of its time, so several at once; beyond, one core is what limits.
WORKERS = 8
LISTEN = ":8080"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`namespace` empty: the one of the service account or the kubeconfig's context."""

    namespace: str = ""
    kubeconfig: Path | None = None
    host: str | None = None  # every address
    port: int = 8080
    resync_s: float = RESYNC_S
    workers: int = WORKERS
    as_text: bool = False


def parse_options(argv: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(
        prog="farcall operator",
        description="Keep the cluster as its TracingConfigs say. Several may run: one works, the others wait.",
    )
    parser.add_argument(
        "--namespace",
        type=parse_namespace,
        default=None,
        help="where the children live (default: its own)",
    )
    parser.add_argument(
        "--kubeconfig", type=Path, help="default: $KUBECONFIG, ~/.kube/config, the pod's own"
    )
    parser.add_argument(
        "--listen", type=parse_listen, default=parse_listen(LISTEN), metavar="[HOST]:PORT",
        help=f"for /metrics, /healthz and /readyz (default {LISTEN})",
    )  # fmt: skip
    parser.add_argument(
        "--resync-s", type=parse_positive, default=RESYNC_S,
        help=f"look at each TracingConfig at least this often (default {RESYNC_S:.0f})",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=int, choices=range(1, 65), default=WORKERS, metavar="1-64",
        help=f"TracingConfigs reconciled at once (default {WORKERS})",
    )  # fmt: skip
    parser.add_argument("--log-format", choices=("json", "text"), default="json")
    arguments = parser.parse_args(argv)
    host, port = arguments.listen
    return Options(
        namespace=arguments.namespace or "",
        kubeconfig=arguments.kubeconfig,
        host=host,
        port=port,
        resync_s=arguments.resync_s,
        workers=arguments.workers,
        as_text=arguments.log_format == "text",
    )


def parse_listen(text: str) -> tuple[str | None, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or not 0 <= int(port) <= 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not [HOST]:PORT")
    return host.removeprefix("[").removesuffix("]") or None, int(port)


def parse_positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 1 to 86400")
    return value
