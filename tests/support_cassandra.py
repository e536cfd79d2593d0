"""A real Apache Cassandra for tests: one node, native protocol 3 to 5, on free ports of loopback."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support_jvm import find_server, java, running_java
from support_ports import find_free_port

# What the server does not start without, and small sizes; everything else is its default.
_SETTINGS = """\
cluster_name: farcall tests
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
endpoint_snitch: SimpleSnitch
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters: [{{seeds: "127.0.0.1:{storage}"}}]
num_tokens: 1
auto_bootstrap: false
listen_address: 127.0.0.1
{listens}
storage_port: {storage}
native_transport_port: {port}
start_native_transport: true
data_file_directories: [{folder}/data]
commitlog_directory: {folder}/commitlog
saved_caches_directory: {folder}/caches
hints_directory: {folder}/hints
cdc_raw_directory: {folder}/cdc
commitlog_sync: periodic
commitlog_sync_period: 10s
commitlog_segment_size: 4MiB
commitlog_total_space: 64MiB
commitlog_disk_access_mode: legacy
memtable_heap_space: 32MiB
memtable_offheap_space: 32MiB
key_cache_size: 1MiB
networking_cache_size: 8MiB
file_cache_size: 16MiB
concurrent_reads: 2
concurrent_writes: 2
concurrent_counter_writes: 2
concurrent_materialized_view_writes: 1
native_transport_max_threads: 8
auto_snapshot: false
authenticator: {authenticator}
"""
_LOGGING = """\
<configuration>
  <appender name="STDOUT" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%level %logger{0} %msg%n</pattern></encoder>
  </appender>
  <root level="WARN"><appender-ref ref="STDOUT"/></root>
</configuration>
"""
# Of conf/jvm17-server.options, which its jars do not hold: what it reaches into since modules hide it.
_OPENED = (
    *(
        f"java.base/{name}"
        for name in ("java.io", "java.lang", "java.lang.module", "java.lang.reflect")
    ),
    *(
        f"java.base/{name}"
        for name in ("java.net", "java.nio", "java.util", "java.util.concurrent")
    ),
    *(f"java.base/{name}" for name in ("java.util.concurrent.atomic", "java.math", "sun.nio.ch")),
    *(f"java.base/jdk.internal.{name}" for name in ("loader", "math", "misc", "module", "ref")),
    *(f"java.base/jdk.internal.{name}" for name in ("reflect", "util.jar", "vm")),
    "java.management/com.sun.jmx.remote.security",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.rmi/sun.rmi.transport",
    "java.rmi/sun.rmi.transport.tcp",
    "java.sql/java.sql",
    "java.logging/java.util.logging",
    "jdk.management/com.sun.management.internal",
    "jdk.management.jfr/jdk.management.jfr",
)
_DEFINED = {
    "cassandra-foreground": "yes",
    "cassandra.superuser_setup_delay_ms": "0",
    "cassandra.skip_wait_for_gossip_to_settle": "0",
    "cassandra.ring_delay_ms": "0",
    "cassandra.initial_token": "0",
    "cassandra.size_recorder_interval": "0",
    "cassandra.disable_auth_caches_remote_configuration": "true",
    "org.apache.cassandra.disable_mbean_registration": "true",
    "java.security.manager": "allow",  # unknown before Java 17, wanted after it
    "jdk.attach.allowAttachSelf": "true",
    "io.netty.tryReflectionSetAccessible": "true",
}


def prepare_cassandra(
    folder: Path,
    *,
    port: int,
    storage: int,
    listens: str = "rpc_address: 127.0.0.1",
    authenticator: str = "AllowAllAuthenticator",
) -> tuple[dict[str, str], list[str]]:
    """Texts of the files that have to be in `folder`, by their names, and the command.

    `listens`: the line that says where clients are listened for.
    """
    server = find_server("cassandra")
    settings = _SETTINGS.format(
        port=port, storage=storage, folder=folder, listens=listens, authenticator=authenticator
    )
    defined = {
        **_DEFINED,
        "cassandra.config": (folder / "cassandra.yaml").as_uri(),
        "cassandra.storagedir": folder,
        "cassandra.logdir": folder,
        "logback.configurationFile": folder / "logback.xml",
    }
    words = [f"-D{name}={value}" for name, value in defined.items()]
    for name in _OPENED:
        words += ["--add-opens", f"{name}=ALL-UNNAMED", "--add-exports", f"{name}=ALL-UNNAMED"]
    agent = next((server / "jars").glob("jamm-*.jar"))
    heap = ["-Xms256m", "-Xmx256m", "-Xmn64m", "-XX:MaxDirectMemorySize=64m", f"-javaagent:{agent}"]
    command = java(server, *heap, *words, "org.apache.cassandra.service.CassandraDaemon")
    return {"cassandra.yaml": settings, "logback.xml": _LOGGING}, command


@contextmanager
def running_cassandra(*, authenticator: str = "AllowAllAuthenticator") -> Iterator[int]:
    """The native protocol's port. With `PasswordAuthenticator` the user is cassandra, the password cassandra."""
    folder = Path(tempfile.mkdtemp(prefix="farcall-cassandra-"))
    port, storage = find_free_port(), find_free_port()
    files, command = prepare_cassandra(
        folder, port=port, storage=storage, authenticator=authenticator
    )
    for name, text in files.items():
        (folder / name).write_text(text, encoding="ascii")
    try:
        with running_java(command, folder=folder, port=port):
            yield port
    finally:
        shutil.rmtree(folder, ignore_errors=True)
