"""Hands for the agent's tests: records as the kernel side writes them, a Capture and an exporter of our own, small DNS messages."""

import ipaddress
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

from farcall.arrowschemas import read_header
from farcall.effective import EffectiveConfig, Endpoints, write_effective
from farcall.envelope import BATCH_PATH, Capability
from farcall.exchange import BatchHeader
from farcall.meaning import build_effective
from farcall.secretfiles import INGEST_TOKEN, REDIS_AGENT_PASSWORD
from farcall.tracingconfig import TracingConfig
from farcall_probes import events
from farcall_probes.arrowstream import Batch, render_stream
from farcall_probes.capture import Drained, Records
from support_frames import split

TOKEN, PASSWORD = "t" * 40, "p" * 40
NS = 1_000_000_000


def read_batch(batch: Batch) -> pa.RecordBatch:
    read = pa.ipc.open_stream(render_stream(batch)).read_next_batch()
    read.validate(full=True)
    return read


def packed(text: str) -> bytes:
    address = ipaddress.ip_address(text)
    return address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed


def make_record(dtype: np.dtype[np.void], **values: Any) -> Records:
    """One record; bytes fields are padded, addresses may be text."""
    record = np.zeros(1, dtype=dtype)
    for name, value in values.items():
        if name in ("laddr", "raddr") and isinstance(value, str):
            value = packed(value)
        if isinstance(value, bytes) and dtype[name].kind == "V":
            value = np.frombuffer(value.ljust(dtype[name].itemsize, b"\0"), dtype=dtype[name])[0]
        record[name] = value
    return record


def make_http(
    request: bytes, response: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", **values: Any
) -> Records:
    dtype = events.LARGE
    return make_record(
        dtype,
        **{
            **_ORDINARY,
            "proto": events.PROTO_HTTP1,
            "req": request[: events.LARGE_REQ],
            "resp": response[: events.LARGE_RESP],
            "req_cap": min(len(request), events.LARGE_REQ),
            "resp_cap": min(len(response), events.LARGE_RESP),
            "req_bytes": len(request),
            "resp_bytes": len(response),
            **values,
        },
    )


def make_segment(data: bytes, **values: Any) -> Records:
    """A message's or a frame's record: its bytes run on from `req` into `resp`."""
    return make_record(
        events.LARGE,
        **{
            **_ORDINARY,
            "proto": events.PROTO_HTTP2,
            "req": data[: events.LARGE_REQ],
            "resp": data[events.LARGE_REQ :],
            "req_cap": len(data),
            "req_bytes": len(data),
            "ts_resp_ns": 0,
            **values,
        },
    )


def make_redis(request: bytes, response: bytes = b"+OK\r\n", **values: Any) -> Records:
    return make_record(
        events.SMALL,
        **{
            **_ORDINARY,
            "proto": events.PROTO_REDIS,
            "ended": events.ENDED_ANSWER,
            "req": request[: events.SMALL_REQ],
            "resp": response[: events.SMALL_RESP],
            "req_cap": min(len(request), events.SMALL_REQ),
            "resp_cap": min(len(response), events.SMALL_RESP),
            "req_bytes": len(request),
            "resp_bytes": len(response),
            **values,
        },
    )


_ORDINARY: dict[str, Any] = {
    "conn_id": 77,
    "conn_open_ns": 1_000,
    "tgid": 4_000_000,  # above the kernel's limit: no process of this machine has it
    "proc_start_ns": 500,
    "cgroup_id": 1,
    "family": 2,
    "lport": 40_000,
    "rport": 80,
    "laddr": "10.0.0.1",
    "raddr": "203.0.113.10",
    "comm": b"client",
    "ts_req_ns": 2_000,
    "ts_resp_ns": 3_000,
}


def make_dns(message: bytes, **values: Any) -> Records:
    cap = min(len(message), events.DNS_DATA)
    ordinary = {
        k: v for k, v in _ORDINARY.items() if k in (events.DNS.names or ()) and k != "conn_id"
    }
    return make_record(
        events.DNS,
        **{
            **ordinary,
            "raddr": "10.96.0.10",
            "rport": 53,
            "ts_ns": 900,
            "len": len(message),
            "asked_cap": min(len(message[12:]), events.DNS_ASKED),
            "asked": message[12 : 12 + events.DNS_ASKED],
            "cap": cap,
            "data": message[:cap],
            **values,
        },
    )


def make_head(data: bytes, **values: Any) -> Records:
    return make_record(
        events.HEAD, **{"conn_id": 77, "cap": len(data), "len": len(data), "data": data, **values}
    )


def make_drained(
    *,
    dns: Sequence[Records] = (),
    heads: Sequence[Records] = (),
    small: Sequence[Records] = (),
    large: Sequence[Records] = (),
    full: bool = False,
) -> Drained:
    def joined(records: Sequence[Records], dtype: np.dtype[np.void]) -> Records:
        return np.concatenate(records) if records else np.zeros(0, dtype=dtype)

    exchanges, frames = split(joined(large, events.LARGE))
    return Drained(
        dns=joined(dns, events.DNS),
        heads=joined(heads, events.HEAD),
        small=joined(small, events.SMALL),
        large=exchanges,
        frames=frames,
        full=full,
    )


# ---- DNS messages ---------------------------------------------------------------------------------------------------


def dns_name(name: str) -> bytes:
    labels = [label.encode() for label in name.split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def dns_record(owner: bytes, kind: int, data: bytes, ttl_s: int = 60) -> bytes:
    return owner + struct.pack("!HHIH", kind, 1, ttl_s, len(data)) + data


def dns_message(
    question: str,
    records: Iterable[bytes] = (),
    *,
    kind: int = 1,
    flags: int = 0x8180,
    transaction: int = 7,
) -> bytes:
    listed = list(records)
    head = struct.pack("!HHHHHH", transaction, flags, 1, len(listed), 0, 0)
    return head + dns_name(question) + struct.pack("!HH", kind, 1) + b"".join(listed)


def a_answer(question: str, *addresses: str) -> bytes:
    """A or AAAA by the first address; owners are compressed as real servers do it."""
    first = ipaddress.ip_address(addresses[0])
    kind = 1 if first.version == 4 else 28
    records = [
        dns_record(b"\xc0\x0c", kind, ipaddress.ip_address(address).packed) for address in addresses
    ]
    return dns_message(question, records, kind=kind)


# ---- the ports ------------------------------------------------------------------------------------------------------


class FakeCapture:
    """A Capture whose rings are a queue of Drained."""

    capabilities: tuple[Capability, ...] = (Capability(name="fake", on=True),)
    tls = None

    def __init__(self) -> None:
        self.waiting: deque[Drained] = deque()
        self.counters: dict[str, int] = {"kernel_dns_lost": 0}
        self.policies: list[dict[int, int]] = []
        self.cap = -1
        self.shares: list[float] = []
        self.set_kept = self.shares.append
        self.stop_recording: Callable[[], None] = lambda: None
        self.count_in_flight: Callable[[], int] = lambda: 0
        self.read_capped: Callable[[], dict[int, int]] = dict
        self.ask_rest: Callable[[int, int, int], bool] = lambda sk, conn_id, seq: False
        self.measure_fill: Callable[[], float] = lambda: 0.01 * bool(self.waiting)
        self.gather: Callable[[int | None], int] = lambda most: 0
        self.limits_ns: list[int] = []  # that late requests were looked for with
        self.closed = False
        self.forgot_own = False

    def drain(self, most: int | None = None) -> Drained:
        return self.waiting.popleft() if self.waiting else make_drained()

    def read_counters(self) -> dict[str, int]:
        return dict(self.counters)

    def set_policy(self, flags_by_cgroup: dict[int, int], *, default: int) -> None:
        self.policies.append(flags_by_cgroup)

    def set_cap(self, records_per_s: int) -> None:
        self.cap = records_per_s

    def tell_late(self, limit_ns: int) -> int:
        self.limits_ns.append(limit_ns)
        return 0

    def forget_own_process(self) -> None:
        self.forgot_own = True

    def close(self) -> None:
        self.closed = True


@dataclass(kw_only=True)
class Posted:
    path: str
    authorization: str
    body: bytes

    def table(self) -> tuple[BatchHeader, pa.Table]:
        with pa.ipc.open_stream(self.body) as reader:
            return read_header(reader.schema), reader.read_all()


@dataclass(kw_only=True)
class Reply:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hang_up: bool = False


class FakeExporter:
    """A real HTTP server on a free port that notes what is posted; `script` decides the answers."""

    def __init__(self, script: Callable[[Posted], Reply] | None = None, *, port: int = 0) -> None:
        self.posted: list[Posted] = []
        self.changed = threading.Condition()
        self.script = script or (lambda _posted: Reply())
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(length := int(self.headers["Content-Length"]))
                if len(body) < length:  # who sent it was killed
                    return
                posted = Posted(
                    path=self.path, authorization=self.headers["Authorization"] or "", body=body
                )
                reply = outer.script(posted)
                with outer.changed:
                    outer.posted.append(posted)
                    outer.changed.notify_all()
                if reply.hang_up:
                    self.close_connection = True
                    return
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> "FakeExporter":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait_for(self, enough: Callable[[list[Posted]], bool], within_s: float = 60.0) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: enough(self.posted), within_s), (
                f"not posted in time; {len(self.posted)} posts came"
            )

    def batches(self, kind: str) -> list[pa.Table]:
        tables = (p.table() for p in list(self.posted) if p.path == BATCH_PATH)
        return [table for header, table in tables if header.kind == kind]


def rows_of(tables: Iterable[pa.Table]) -> list[dict[str, Any]]:
    return [row for table in tables for row in table.to_pylist()]


def make_secrets(directory: Path) -> Path:
    directory.mkdir(mode=0o700, exist_ok=True)
    for name, secret in ((INGEST_TOKEN, TOKEN), (REDIS_AGENT_PASSWORD, PASSWORD)):
        (directory / name).write_text(secret)
    return directory


def make_config(
    directory: Path,
    *,
    exporter: str = "http://127.0.0.1:9",
    redis: str = "unix:///nonexistent/redis.sock",
    spec: dict[str, Any] | None = None,
    dns_ttl_override_s: int | None = None,
    own_cgroups: list[str] | None = None,
    mode: Any = "local",
    metrics: str | None = None,
) -> EffectiveConfig:
    config = TracingConfig.model_validate(
        {
            "apiVersion": "farcall.dev/v1alpha1",
            "kind": "TracingConfig",
            "metadata": {"name": "test"},
            "spec": {"tier": "Hobby", **(spec or {})},
        }
    )
    endpoints = Endpoints(
        exporter_ingest=exporter,
        exporter_otlp_http="http://127.0.0.1:9",
        redis=redis,
        store="http://127.0.0.1:9",
        console="http://127.0.0.1:9",
        agent_metrics=metrics,
    )
    return build_effective(
        config,
        mode=mode,
        endpoints=endpoints,
        secrets_dir=str(make_secrets(directory / "secrets")),
        state_dir=str(directory),
        node="node-1",
        dns_ttl_override_s=dns_ttl_override_s,
        own_cgroups=own_cgroups,
    )


def write_config(config: EffectiveConfig, directory: Path) -> Path:
    path = directory / "effective.json"
    write_effective(config, path)
    return path
