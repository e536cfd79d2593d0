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
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{advertised}
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


@contextmanager
def running_kafka(*, advertised: int | None = None) -> Iterator[int]:
    """The broker's port; `advertised`: the one that clients are sent to, which leads there. Topics are made when they are first written to or asked for."""
    server = find_server("kafka")
    folder = Path(tempfile.mkdtemp(prefix="farcall-kafka-"))
    port, controller = find_free_port(), find_free_port()
    settings = folder / "server.properties"
    settings.write_text(
        _SETTINGS.format(
            broker=port,
            controller=controller,
            advertised=advertised or port,
            data=folder / "data",
        ),
        encoding="ascii",
    )
    try:
        make = java(
            server, "kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", str(settings)
        )
        subprocess.run(make, check=True, capture_output=True, cwd=folder)
        command = java(server, "-Xmx256m", "-Dlog4j2.level=WARN", "kafka.Kafka", str(settings))
        with running_java(command, folder=folder, port=port):
            yield port
    finally:
        shutil.rmtree(folder, ignore_errors=True)
