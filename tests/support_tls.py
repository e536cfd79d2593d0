"""Certificates as the operator makes them, in folders as the kubelet fills them, and servers that use them."""

import os
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import redis

from farcall import tlsfiles
from farcall.cacheacl import AGENT, NO_DEFAULT_USER, USERS, render_acl_rule
from farcall.cachereader import connect_redis
from farcall.secretfiles import read_secret
from farcall_operator import certificates
from farcall_operator.layout import REDIS_PORT, SECRETS_DIR
from farcall_operator.transport import REDIS_TLS
from support_exporter_process import START_WITHIN_S, ExporterProcess, RedisProcess
from support_ports import find_free_port
from support_store import StoreProcess

HOST = "localhost"
Files = dict[str, str]


def now() -> datetime:
    return datetime.now(UTC)


def make_files(*, name: str = HOST, age: timedelta = timedelta()) -> Files:
    """An authority of its own and a certificate of it, made `age` ago."""
    authority = certificates.make_authority("test", now() - age)
    return renew(authority, name=name, age=age)


def renew(
    authority: certificates.Authority, *, name: str = HOST, age: timedelta = timedelta()
) -> Files:
    serving = certificates.issue_certificate(authority.current, (name,), now() - age)
    return {
        tlsfiles.CA: authority.bundle,
        tlsfiles.CERTIFICATE: serving.certificate_pem,
        tlsfiles.PRIVATE_KEY: serving.key_pem,
    }


def write_files(folder: Path, files: Files) -> None:
    """Both at once as far as a folder of plain files can: each is replaced as a whole."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        temporary = folder / f".{name}.new"
        temporary.write_text(text)
        os.replace(temporary, folder / name)


def read_serial(port: int, ca_file: Path) -> int:
    """Of the certificate that a new connection is shown."""
    context = tlsfiles.make_client_context(ca_file)
    with socket.create_connection((HOST, port), timeout=60) as plain:
        with context.wrap_socket(plain, server_hostname=HOST) as connection:
            shown = connection.getpeercert(binary_form=True)
            assert shown is not None
            pem = ssl.DER_cert_to_PEM_cert(shown)
            return certificates.read_certificates(pem)[0].serial_number


def serial_of(files: Files) -> int:
    return certificates.read_certificates(files[tlsfiles.CERTIFICATE])[0].serial_number


@dataclass
class TlsRedis(RedisProcess):
    """With the lines that the operator gives it, on a port of its own."""

    port: int = 0

    def __post_init__(self) -> None:
        self.port = find_free_port()

    @property
    def url(self) -> str:
        return f"rediss://{HOST}:{self.port}"

    @property
    def ca_file(self) -> Path:
        return self.secrets_dir / tlsfiles.CA

    def start(self, within_s: float = START_WITHIN_S) -> "TlsRedis":
        conf = self.folder / "redis-tls.conf"
        lines = [
            move_line(line, port=self.port, secrets_dir=self.secrets_dir) for line in REDIS_TLS
        ]
        rules = [
            render_acl_rule(user, read_secret(self.secrets_dir, user.password_file))
            for user in USERS
        ]
        lines += ['save ""', f'dir "{self.folder}"', NO_DEFAULT_USER, *rules]
        conf.write_text("\n".join(lines) + "\n")
        with (self.folder / "redis.log").open("ab") as log:
            self.process = subprocess.Popen(["redis-server", str(conf)], stdout=log, stderr=log)
        self._wait(within_s)
        return self

    def connect(self) -> "redis.Redis":
        password = read_secret(self.secrets_dir, AGENT.password_file)
        return connect_redis(self.url, username=AGENT.name, password=password, ca_file=self.ca_file)


def move_line(text: str, *, port: int, secrets_dir: Path) -> str:
    """From the pod's fixed places to those of a test."""
    return (
        text.replace(f"port {REDIS_PORT}", f"port {port}")
        .replace("bind * -::*", "bind 127.0.0.1")
        .replace(SECRETS_DIR, str(secrets_dir))
    )


@contextmanager
def running_tls_exporter(folder: Path, files: Files) -> Iterator[ExporterProcess]:
    """Store, Redis and exporter; agents and Redis are spoken to by TLS, with `files` from the start."""
    store = StoreProcess(folder)
    write_files(folder / "secrets", files)
    cache = TlsRedis(folder, folder / "secrets")
    endpoints = store.config.endpoints.model_copy(
        update={
            "exporter_ingest": f"https://{HOST}:{find_free_port()}",
            "exporter_otlp_http": f"http://127.0.0.1:{find_free_port()}",
            "redis": cache.url,
        }
    )
    config = store.config.model_copy(
        update={"endpoints": endpoints, "cluster_cidrs": ["10.244.0.0/16"]}
    )
    exporter = ExporterProcess(store, cache, config)
    store.write_config(config)
    try:
        store.start()
        cache.start()
        yield exporter.start()
    finally:
        exporter.kill()
        cache.kill()
        store.kill()
