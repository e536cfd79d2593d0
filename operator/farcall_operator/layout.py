"""Where things are inside the pods: paths, ports, users, and which secret files each workload sees."""

from dataclasses import dataclass
from typing import Any

from farcall import secretfiles
from farcall.cacheacl import AGENT, EXPORTER, USERS

CONFIG_DIR = "/etc/farcall"
SECRETS_DIR = "/run/secrets/farcall"
READY_DIR = "/run/farcall"
STORE_MOUNT = "/var/lib/farcall"
STORE_DIR = (
    f"{STORE_MOUNT}/store"  # not the volume's root: a new file system has a folder of its own there
)
DATA_DIR = "/data"  # Redis'
REDIS_PORT = 6379
PORTS = {
    "ingest": 8440,
    "otlp": 4318,
    "otlp-grpc": 4317,
    "console": 8430,
    "store": 8640,
    "redis": REDIS_PORT,
    "metrics": 9464,  # where OpenTelemetry's Prometheus exporters are found
}
# As the images are built (Dockerfile); root only for the probe, whose capabilities need it.
USER_ID = 10_001
REDIS_USER_ID = 999  # of the official Redis and Valkey images
IMAGE_PREFIX = "farcall"
# The operator's own pods, as the installation labels them; no TracingConfig's instance label is among them.
OPERATOR_SELECTOR = {"app.kubernetes.io/name": "farcall", "app.kubernetes.io/component": "operator"}
# Part of the installation, which binds it to what the exporter may read of the cluster; one for all TracingConfigs, so that
# the operator needs no right to bind anything.
EXPORTER_ACCOUNT = "farcall-exporter"
REDIS_IMAGE = "redis:7.2-bookworm"
# Which secret files each workload sees, and no more.
SECRET_FILES = {
    "probe": (secretfiles.INGEST_TOKEN, AGENT.password_file),
    "redis": (AGENT.password_file, EXPORTER.password_file),
    "exporter": (
        secretfiles.INGEST_TOKEN,
        EXPORTER.password_file,
        secretfiles.STORE_WRITER_PASSWORD,
        secretfiles.STORE_READER_PASSWORD,
        secretfiles.STORE_ADMIN_PASSWORD,
        secretfiles.API_TOKEN,
        secretfiles.COOKIE_KEY,
        secretfiles.ADMIN_SECRET,
    ),
}
# Key of the user's Secret (`exporter.clickhouse.secretRef`) → file; both clients of the store are in one pod.
CLICKHOUSE_KEYS = {
    "username": secretfiles.CLICKHOUSE_USERNAME,
    "password": secretfiles.CLICKHOUSE_PASSWORD,
}
REDIS_FILES = {user.password_file for user in USERS}
PROBE_CAPABILITIES = ("BPF", "PERFMON", "SYS_PTRACE", "DAC_READ_SEARCH", "CHECKPOINT_RESTORE")


@dataclass(frozen=True, slots=True, kw_only=True)
class PodContainer:
    """One container of the exporter's pod. `ports` as in a pod's spec; the store listens on loopback and has none."""

    name: str
    image: str
    ports: tuple[dict[str, Any], ...]
    has_data: bool = False


def _port(name: str) -> dict[str, Any]:
    return {"name": name, "containerPort": PORTS[name], "protocol": "TCP"}


POD_CONTAINERS = (
    PodContainer(name="store", image="exporter", ports=(), has_data=True),
    PodContainer(
        name="exporter",
        image="exporter",
        ports=(_port("ingest"), _port("otlp"), _port("otlp-grpc")),
    ),
    PodContainer(name="console", image="console", ports=(_port("console"),)),
)
