"""The effective config: what a TracingConfig means after tier presets and discovery, as one JSON file.

It is the whole contract between whoever starts the components (operator or local mode) and the components. On
Kubernetes it is a ConfigMap, locally a file in the run directory. Secrets are never in it: components read them from
`secrets_dir`, by the file names in `farcall.secretfiles`.

Every field is `live` (components watch the file and apply it without a restart) or `restart` (part of the
pod-template hash). The mark is in the field's json_schema_extra and a test insists on it.

Nothing of a TracingConfig's own model is imported here, nor pydantic: a component on every node would carry it for nothing (20 MB).
What one means is farcall.meaning's.
"""

import hashlib
import ipaddress
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from farcall.kinds import ProtocolName, check_cidr
from farcall.sections import (
    Check,
    MisfitError,
    Section,
    dump_section,
    parse_section,
    section_field,
)
from farcall.tiers import TierName

SCHEMA_VERSION = 1
Applies = Literal["live", "restart"]
Mode = Literal["kubernetes", "local"]


class EffectiveConfigError(Exception):
    """The file cannot be read or does not fit the model; the message says which field."""


def _field(applies: Applies, description: str, **kwargs: Any) -> Any:
    return section_field(description, applies=applies, **kwargs)


Cidr = Annotated[str, Check(check_cidr)]


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsConfig(Section):
    ttl_s: int = _field(
        "live",
        "The tier's time to live of a DNS answer, in seconds, counted from the answer.",
        gt=0,
    )
    ttl_override_s: int | None = _field(
        "live",
        "For tests only, from the TracingConfig's annotation farcall.dev/dns-ttl-override-s: replaces ttl_s; "
        "status and console then say so loudly.",
        default=None,
        gt=0,
    )
    hold_while_connected: bool = _field("live", "Keep a connection's name for as long as it lives.")
    resolvers: list[str] = _field(
        "live", "Trusted resolvers: their answers may go to the cluster-wide key."
    )

    @property
    def effective_ttl_s(self) -> int:
        """The time to live that is in force, in seconds. The only one that components may use."""
        return self.ttl_override_s if self.ttl_override_s is not None else self.ttl_s


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionConfig(Section):
    traces_s: int = _field("live", "Seconds that spans are kept.", gt=0)
    logs_s: int = _field("live", "Seconds that log lines are kept.", gt=0)
    max_size_bytes: int = _field("live", "Past this size the oldest day goes first.", gt=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureConfig(Section):
    protocols: list[ProtocolName] = _field("live", "Empty: all.")
    host_processes: bool = _field("live", "Trace processes outside containers.")
    headers: list[str] = _field(
        "live", "Request headers allowed to leave the agent beside the built-in ones."
    )
    masking: bool = _field("live", "Mask query values, literals and arguments in the agent.")
    namespaces_include: list[str] = _field("live", "Empty: all.")
    namespaces_exclude: list[str] = _field("live", "Namespaces that never produce a record.")
    records_per_s: int = _field(
        "live",
        "Of one container, in the kernel; what comes beyond is counted and lost; 0: no limit.",
        default=20_000,
        ge=0,
    )
    cpu_millicores: int = _field(
        "live",
        "CPU that the agent may use, in thousandths of a core; beyond it only a part of the calls is taken; 0: no limit.",
        default=1_000,
        ge=0,
    )
    answer_timeout_s: int = _field(
        "live",
        "A request without an answer for so long is an error of its own; 0: never.",
        default=60,
        ge=0,
    )
    tls: bool = _field("live", "Read what TLS libraries write and read.", default=True)
    own_cgroups: list[str] = _field(
        "live",
        "Local mode: cgroup directories (absolute) of farcall's own processes; they never produce a record.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints(Section):
    """Where a component listens and where the others find it. Ports are real, never 0."""

    exporter_ingest: str = _field("restart", "Agents post batches here: http(s)://host:port.")
    exporter_members: str | None = _field(
        "restart",
        "Where there may be several exporters: http(s)://host:port, a name whose addresses are theirs. "
        "Agents choose among them by connection, so that both ends of a call meet; null: exporter_ingest takes all.",
        default=None,
    )
    exporter_otlp_http: str = _field(
        "restart", "Applications send OTLP over HTTP here: http://host:port."
    )
    exporter_otlp_grpc: str | None = _field(
        "restart",
        "Applications send OTLP over gRPC here: http://host:port; nobody listens when null.",
        default=None,
    )
    redis: str = _field(
        "restart", "unix:///path or redis(s)://host:port; user and password come from secrets_dir."
    )
    store: str = _field("restart", "The store's HTTP interface: http://host:port.")
    console: str = _field("restart", "The console and the HTTP API: http://host:port.")
    agent_metrics: str | None = _field(
        "restart",
        "Each agent answers Prometheus here, at /metrics: http://host:port. Nowhere when null.",
        default=None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DropRule(Section):
    """Spans that match every list that is not empty are left out; `*` in a pattern is any text."""

    namespaces: list[str] = section_field("Of the client or the server.", default=[])
    services: list[str] = section_field("Of the client or the server.", default=[])
    paths: list[str] = section_field("Of the request.", default=[])


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionConfig(Section):
    percent: int = _field(
        "live", "How many of a hundred traces are stored.", ge=1, le=100, default=100
    )
    slower_than_s: float = _field(
        "live", "A call that took longer is stored whatever the sample says.", ge=0, default=1.0
    )
    drop: list[DropRule] = _field("live", "Calls that are not stored.", default=[])
    spans_per_second: int | None = _field(
        "live", "Of each service, in each exporter; no limit when null.", ge=1, default=None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExporterConfig(Section):
    join_hold_s: float = _field(
        "live",
        "How long a server-side sight waits for its client's before it becomes a span.",
        gt=0,
        default=5.0,
    )
    otlp_out_ca_file: str | None = _field(
        "restart",
        "PEM: the authorities that the endpoint's certificate is checked with; the system's when null.",
        default=None,
    )
    otlp_out_headers_dir: str | None = _field(
        "restart",
        "A directory of files, one request header each: the file's name and its text.",
        default=None,
    )
    otlp_out_skip_verify: bool = _field(
        "restart", "The endpoint's certificate is not checked at all.", default=False
    )
    otlp_out_endpoint: str | None = _field(
        "restart", "Spans are sent here too, OTLP over HTTP.", default=None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveConfig(Section):
    schema_version: Literal[1] = _field(
        "restart", "Of this file; a component refuses another one.", default=1
    )
    name: str = _field("restart", "Of the TracingConfig.")
    generation: int = _field(
        "live", "Of the TracingConfig this was computed from; status shows it per agent.", ge=0
    )
    mode: Mode = _field("restart", "Where this runs.")
    tier: TierName = _field("live", "Hobby or Scale.")
    node: str = _field(
        "restart",
        "Local mode: the host's name. On Kubernetes empty: the pod's environment says it.",
    )
    cluster_cidrs: list[Cidr] = _field("live", "What counts as inside.")
    cluster_cidrs_source: Literal["given", "discovered"] = _field(
        "live", "Where cluster_cidrs came from."
    )
    dns: DnsConfig = _field("live", "Naming by DNS.")
    retention: RetentionConfig = _field("live", "How long and how much is kept.")
    capture: CaptureConfig = _field("live", "What is traced.")
    selection: SelectionConfig = _field(
        "live", "Which spans are stored.", default=SelectionConfig()
    )
    exporter: ExporterConfig = _field("live", "The exporter's own settings.")
    endpoints: Endpoints = _field("restart", "Addresses between the components.")
    secrets_dir: str = _field(
        "restart", "Directory of secret files, mode 0700; names in farcall.secretfiles."
    )
    state_dir: str = _field("restart", "Directory the store keeps its data in.")

    @property
    def revision(self) -> str:
        """Of what it says, whatever the generation: two configs with the same one run alike. A hash, so keep it."""
        said = {k: v for k, v in dump_section(self).items() if k != "generation"}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]


def read_effective(path: Path) -> EffectiveConfig:
    """Reads and checks the file. Raises EffectiveConfigError."""
    try:
        config: EffectiveConfig = parse_section(EffectiveConfig, path.read_bytes())
    except OSError as e:
        raise EffectiveConfigError(f"{path}: cannot be read: {e.strerror or e}") from e
    except MisfitError as e:
        raise EffectiveConfigError(f"{path}: {e}") from e
    return config


def render_effective(config: EffectiveConfig) -> str:
    """Deterministic JSON text, as it is written to the file and to the ConfigMap."""
    return json.dumps(dump_section(config), indent=2, sort_keys=True) + "\n"


def write_effective(config: EffectiveConfig, path: Path) -> None:
    """Replaces the file in one step, so that a watcher never reads half of it."""
    import tempfile  # of those that read a config none needs it

    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(render_effective(config))
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


class EffectiveWatcher:
    """Tells whether the file changed since it was last read. Polls: a ConfigMap's symlink swap defeats inotify on a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp = (
            self._read_stamp()
        )  # before the content: a change in between is seen at the next poll
        self.current = read_effective(path)

    def poll(self) -> EffectiveConfig | None:
        """The new config when the file changed and is valid, else None. Raises EffectiveConfigError when it is not."""
        stamp = self._read_stamp()
        if stamp == self._stamp:
            return None
        self._stamp = stamp  # also when the file is broken: one error per change, not one per poll
        self.current = read_effective(self.path)
        return self.current

    def _read_stamp(self) -> tuple[int, int, int]:
        try:
            status = os.stat(self.path)
        except OSError:
            return (0, 0, 0)
        return (status.st_ino, status.st_mtime_ns, status.st_size)


def read_listen_address(config: EffectiveConfig, endpoint: str) -> tuple[str, int]:
    """(host, port) that whoever serves `endpoint` binds. Raises ValueError when it is no http(s) or redis address.

    On Kubernetes an endpoint's host is a Service's name, and no address of the pod: there it listens on all of them.
    An address (the store's loopback) is meant as it stands.
    """
    parts = urlsplit(endpoint)
    if not parts.hostname or not parts.port:
        raise ValueError(f"{endpoint!r} names no host and port")
    if config.mode == "local" or _is_address(parts.hostname):
        return parts.hostname, parts.port
    return "", parts.port


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True
