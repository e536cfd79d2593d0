"""The TLS listener inside this process: a peer that begins no handshake is sent away, and does not disturb the others."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest

from farcall import tlsfiles
from farcall_exporter.asgi import Answer, send_answer
from farcall_exporter.listeners import Listeners, bind, read_identity
from support_ports import find_free_port
from support_store import build_config
from support_tls import HOST, make_files, write_files

pytestmark = pytest.mark.servers


async def greet(_scope: Any, _receive: Any, send: Any) -> None:
    await send_answer(send, Answer(status=200, body=b"{}"))


def test_a_peer_that_says_nothing_is_sent_away(tmp_path: Path) -> None:
    config = build_config(tmp_path, 1)
    endpoint = f"https://{HOST}:{find_free_port()}"
    write_files(tmp_path / "secrets", make_files())
    listeners = Listeners(handshake_within_s=0.3)
    listeners.add(greet, bind(config, endpoint, "it"), read_identity(config, endpoint, "it"))
    port = int(endpoint.rpartition(":")[2])
    context = tlsfiles.make_client_context(tmp_path / "secrets" / tlsfiles.CA)

    async def run() -> None:
        stop, started = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(listeners.serve(stop, on_started=started))
            await started.wait()
            silent, silent_out = await asyncio.open_connection(HOST, port)
            assert b"200 OK" in await ask(port, context)
            try:
                assert await asyncio.wait_for(silent.read(), 20) == b""
            except ConnectionError:
                pass  # a reset says the same
            silent_out.close()
            assert b"200 OK" in await ask(port, context)
            stop.set()

    asyncio.run(run())


async def ask(port: int, context: ssl.SSLContext) -> bytes:
    reader, writer = await asyncio.open_connection(HOST, port, ssl=context)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    return answer
