"""A real RabbitMQ for tests, Debian's, with files and an epmd (Erlang's register of nodes) of its own, all on loopback."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pika

from support_databases import running
from support_ports import find_free_port

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


@contextmanager
def running_rabbitmq(options: Mapping[str, str] | None = None) -> Iterator[int]:
    """Its port; user `guest` has the password `guest`. Takes ten seconds to start."""
    folder = Path(tempfile.mkdtemp(prefix="farcall-rabbitmq-"))
    port, register = find_free_port(), find_free_port()
    config = folder / "rabbitmq.conf"
    config.write_text("".join(f"{name} = {value}\n" for name, value in (options or {}).items()))
    own = {
        "HOME": folder,  # for the cookie
        "RABBITMQ_NODENAME": f"farcall-{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": port,
        "RABBITMQ_DIST_PORT": find_free_port(),
        "RABBITMQ_CONFIG_FILE": config,
        "RABBITMQ_CONF_ENV_FILE": folder / "none",
        "RABBITMQ_ENABLED_PLUGINS_FILE": folder / "plugins",
        "RABBITMQ_MNESIA_BASE": folder / "data",
        "RABBITMQ_LOG_BASE": folder / "log",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "ERL_EPMD_PORT": register,
        "ERL_EPMD_ADDRESS": "127.0.0.1",
    }
    env = {**os.environ, **{name: str(value) for name, value in own.items()}}
    try:
        # Else Erlang starts one that outlives it.
        with running(register, "epmd", "-address", "127.0.0.1", "-port", str(register)):
            with running(port, SERVER, env=env):
                yield port
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def connect(port: int, *, password: str = "guest") -> pika.BlockingConnection:
    login = pika.PlainCredentials("guest", password)
    return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port, credentials=login))
