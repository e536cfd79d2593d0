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
# Clients and the broker itself log in, by a user and a password in plain text.
_LOGIN = """\
security.inter.broker.protocol=SASL_PLAINTEXT
sasl.mechanism.inter.broker.protocol=PLAIN
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
 username="broker" password="broker" user_broker="broker" user_{user}="{password}";
"""
_CLUSTER = "ZmFyY2FsbC10ZXN0cy0wMQ"  # 16 bytes in base64, as the format demands


def render_kafka(
    *,
    address: str,
    port: int,
    controller: int,
    advertised: str,
    data: Path,
    login: tuple[str, str] | None = None,
) -> str:
    """Its server.properties. `advertised`: host and port that clients are sent to; `login`: who may, and the password."""
    said = _SETTINGS.format(
        address=address, broker=port, controller=controller, advertised=advertised, data=data
    )
    if login is not None:
        said = said.replace("PLAINTEXT://", "SASL_PLAINTEXT://")
        said += (
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT\n"
        )
        said += _LOGIN.format(user=login[0], password=login[1])
    return said


def kafka_commands(server: Path, settings: Path) -> tuple[list[str], list[str]]:
    """The one that formats its storage, and the one that is the broker. `server`: where its jars are."""
    format_words = ("format", "-t", _CLUSTER, "-c", str(settings))
    make = java(server, "kafka.tools.StorageTool", *format_words)
    return make, java(server, "-Xmx256m", "-Dlog4j2.level=WARN", "kafka.Kafka", str(settings))


def prepare_kafka(
    folder: Path,
    *,
    address: str,
    port: int,
    advertised: str,
    login: tuple[str, str] | None = None,
) -> tuple[list[str], list[str]]:
    """Its settings are written; the commands of kafka_commands."""
    settings = folder / "server.properties"
    said = render_kafka(
        address=address,
        port=port,
        controller=find_free_port(),
        advertised=advertised,
        data=folder / "data",
        login=login,
    )
    settings.write_text(said, encoding="ascii")
    return kafka_commands(find_server("kafka"), settings)


@contextmanager
def running_kafka(
    *, advertised: int | None = None, login: tuple[str, str] | None = None
) -> Iterator[int]:
    """The broker's port; `advertised`: the one that clients are sent to, which leads there; `login`: who may, and the password.
    Topics are made when they are first written to or asked for."""
    folder = Path(tempfile.mkdtemp(prefix="farcall-kafka-"))
    port = find_free_port()
    where = f"127.0.0.1:{advertised or port}"
    make, command = prepare_kafka(
        folder, address="127.0.0.1", port=port, advertised=where, login=login
    )
    try:
        subprocess.run(make, check=True, capture_output=True, cwd=folder)
        with running_java(command, folder=folder, port=port):
            yield port
    finally:
        shutil.rmtree(folder, ignore_errors=True)
