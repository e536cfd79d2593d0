"""A real Apache Kafka for tests: one process, broker and controller (KRaft), on free ports of loopback."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support_jvm import find_server, java, running_java
from support_ports import find_free_port

# One of everything, nothing waited for that only a cluster needs.
_SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://{address}:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://{advertised}
controller.listener.names=CONTROLLER
log.dirs={data}
num.partitions=1
num.network.threads=2
num.io.threads=2
background.threads=1
log.cleaner.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
"""
_CLUSTER = "ZmFyY2FsbC10ZXN0cy0wMQ"  # 16 bytes in base64, as the format demands


def prepare_kafka(
    folder: Path, *, address: str, port: int, advertised: str
) -> tuple[list[str], list[str]]:
    """The command that formats its storage, and the one that is the broker. `advertised`: host and port that clients are sent to."""
    server = find_server("kafka")
    settings = folder / "server.properties"
    settings.write_text(
        _SETTINGS.format(
            address=address,
            broker=port,
            controller=find_free_port(),
            advertised=advertised,
            data=folder / "data",
        ),
        encoding="ascii",
    )
    make = java(server, "kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", str(settings))
    return make, java(server, "-Xmx256m", "-Dlog4j2.level=WARN", "kafka.Kafka", str(settings))


@contextmanager
def running_kafka(*, advertised: int | None = None) -> Iterator[int]:
    """The broker's port; `advertised`: the one that clients are sent to, which leads there. Topics are made when they are first written to or asked for."""
    folder = Path(tempfile.mkdtemp(prefix="farcall-kafka-"))
    port = find_free_port()
    make, command = prepare_kafka(
        folder, address="127.0.0.1", port=port, advertised=f"127.0.0.1:{advertised or port}"
    )
    try:
        subprocess.run(make, check=True, capture_output=True, cwd=folder)
        with running_java(command, folder=folder, port=port):
            yield port
    finally:
        shutil.rmtree(folder, ignore_errors=True)
