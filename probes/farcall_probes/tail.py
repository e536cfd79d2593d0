"""`farcall tail`: what this machine's agent sees, as it sees it. A tcpdump for requests.

Reads the agent's local socket (stream.py). Filters here, not in the agent. Names are the agent's own evidence, Host or the
DNS answer that the connection was opened with; the exporter knows more.
"""

import argparse
import ipaddress
import json
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from farcall.commands import EXIT_FAULT, EXIT_OK, EXIT_USAGE
from farcall.rundir import RUN_ROOT, RunDirError, find_rundir
from farcall.terminal import cut_text, escape_text, measure_width
from farcall_probes.stream import HEADER, SOCKET_NAME
from farcall_probes.tailfilter import FilterError, parse_filter

Row = dict[str, Any]
MAX_FRAME_BYTES = 1 << 28
_TITLES = ("TIME", "SIDE", "SERVICE", "DESTINATION", "PROTOCOL", "MS", "STATUS", "REQUEST")
_WIDTHS = (12, 6, 18, 30, 10, 9, 18)  # the last takes what is left
_RIGHT = frozenset(("MS",))


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="farcall tail",
        description="live exchanges of this machine, as its agent sees them",
        epilog="QUERY: words, and key:value (also -key:value, key:>5, key:a*b) that all must hold; keys are the fields of -o ndjson",
    )
    parser.add_argument(
        "-q", "--query", metavar="QUERY", default="", help="show only what it matches"
    )
    parser.add_argument("-o", choices=("table", "ndjson"), default="table", dest="output")
    parser.add_argument("-n", type=int, metavar="COUNT", help="end after so many")
    parser.add_argument("--instance", help="of local mode, where several run")
    parser.add_argument("--socket", type=Path, help="the agent's socket")
    chosen = parser.parse_args(_attach_query(argv))
    try:
        matches = parse_filter(chosen.query)
        path = chosen.socket or find_socket(chosen.instance)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.connect(str(path))
            shown = _show(sock, matches, chosen.output, chosen.n)
    except (FilterError, RunDirError) as e:
        sys.stderr.write(f"farcall tail: {e}\n")
        return EXIT_USAGE
    except (ConnectionRefusedError, FileNotFoundError):
        sys.stderr.write(f"farcall tail: no agent listens at {path}\n")
        return EXIT_FAULT
    except PermissionError:
        sys.stderr.write(f"farcall tail: {path} may not be opened; run this as root\n")
        return EXIT_FAULT
    except KeyboardInterrupt:
        return EXIT_OK
    except BrokenPipeError:  # `| head`
        sys.stderr.close()
        return EXIT_OK
    if chosen.n is not None and shown >= chosen.n:
        return EXIT_OK
    sys.stderr.write("farcall tail: the agent ended\n")
    return EXIT_FAULT


def _attach_query(argv: Sequence[str]) -> list[str]:
    """`-q -status:200`: what begins with a hyphen would be taken for an option."""
    words = list(argv)
    if "-q" in words[:-1]:
        at = words.index("-q")
        words[at : at + 2] = [f"--query={words[at + 1]}"]
    return words


def find_socket(instance: str | None, *, root: Path = RUN_ROOT) -> Path:
    """In an agent's pod it lies in the root itself, in local mode with the instance. Raises RunDirError."""
    here = root / SOCKET_NAME
    if instance is None and here.exists():
        return here
    return find_rundir(instance, root=root).ready_file("agent").with_name(SOCKET_NAME)


def _show(sock: socket.socket, matches: Any, output: str, count: int | None) -> int:
    shown, lost = 0, 0
    if output == "table":
        sys.stdout.write(render_line(dict(zip(_TITLES, _TITLES, strict=True))) + "\n")
        sys.stdout.flush()
    for rows, dropped in read_frames(sock):
        if dropped > lost:
            sys.stderr.write(f"farcall tail: {dropped - lost} exchanges were too many to show\n")
            lost = dropped
        for row in rows:
            if not matches(row):
                continue
            line = json.dumps(row, ensure_ascii=True) if output == "ndjson" else render_row(row)
            sys.stdout.write(line + "\n")
            shown += 1
            if count is not None and shown >= count:
                sys.stdout.flush()
                return shown
        sys.stdout.flush()
    return shown


def read_frames(sock: socket.socket) -> Iterator[tuple[list[Row], int]]:
    """Rows, and how many were left out so far; until the agent hangs up."""
    with sock.makefile("rb") as file:
        while len(header := file.read(HEADER.size)) == HEADER.size:
            size, dropped = HEADER.unpack(header)
            if size > MAX_FRAME_BYTES:
                return
            payload = file.read(size)
            if len(payload) < size:
                return
            with pa.ipc.open_stream(payload) as reader:
                yield [describe(row) for row in _to_rows(reader.read_all())], dropped


def _to_rows(table: pa.Table) -> list[Row]:
    for index, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):  # Python's have no nanoseconds
            table = table.set_column(index, field.name, table.column(index).cast(pa.int64()))
    return [dict(row) for row in table.to_pylist()]


def describe(row: Mapping[str, Any]) -> Row:
    """A row of EXCHANGES as people filter and read it; what is absent is left out."""
    found: Row = {
        "time": _render_time(row["start"]),
        "side": "server" if row["role"] else "client",
        "destination": row["host"] or row["bound_name"] or _render_address(row["peer_address"]),
        "duration_ms": round(row["duration_ns"] / 1e6, 3),
    }
    for name, value in row.items():
        if value is None or name in ("start", "role", "duration_ns"):
            continue
        if name.endswith("_address"):
            value = _render_address(value)
        elif isinstance(value, bytes):
            value = value.hex()
        elif name in ("connection_opened", "bound_answered"):
            value = _render_time(value)
        found[name] = value
    return found


def _render_time(unix_ns: int) -> str:
    whole, rest = divmod(unix_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def _render_address(packed: bytes) -> str:
    address = ipaddress.IPv6Address(packed)
    return str(address.ipv4_mapped or address)


def render_row(row: Row) -> str:
    status = row.get("error") or row.get("rpc_status") or row.get("status") or "-"
    request = " ".join(str(row[k]) for k in ("operation", "target") if k in row)
    port = row["local_port"] if row["side"] == "server" else row["peer_port"]
    cells = (
        row["time"][11:23],
        row["side"],
        row["service"],
        f"{row['destination']}:{port}" if row["side"] == "client" else f":{port}",
        row["protocol"],
        f"{row['duration_ms']:.2f}",
        str(status),
        request,
    )
    return render_line(dict(zip(_TITLES, cells, strict=True)))


def render_line(cells: Mapping[str, str]) -> str:
    """Columns of fixed widths: a stream cannot wait for its widest value."""
    parts = []
    for title, width in zip(_TITLES, _WIDTHS, strict=False):
        text = cut_text(escape_text(cells[title]), width)
        padding = " " * (width - measure_width(text))
        parts.append(padding + text if title in _RIGHT else text + padding)
    used = sum(_WIDTHS) + 2 * len(_WIDTHS)
    left = max(shutil.get_terminal_size((160, 24)).columns - used, 20)
    return "  ".join([*parts, cut_text(escape_text(cells[_TITLES[-1]]), left)]).rstrip()
