"""uvicorn inside this process: two listeners on one loop, sockets bound before anything else starts."""

import asyncio
import contextlib
import socket
from collections.abc import Generator
from typing import Any
from urllib.parse import urlsplit

import uvicorn

from farcall_exporter.headlimits import LimitedProtocol

MAX_CONNECTIONS = (
    512  # a connection costs at most one body; more agents than this need more exporters
)
GRACE_S = 4


class ListenError(Exception):
    """The endpoint cannot be listened on; the message says which and why."""


class _Server(uvicorn.Server):
    """Without uvicorn's own signal handling: two servers share the process, and main decides when they stop."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def bind(endpoint: str, what: str) -> socket.socket:
    """A listening socket for `http://host:port`. Raises ListenError."""
    parts = urlsplit(endpoint)
    if parts.scheme != "http" or parts.hostname is None or parts.port is None:
        raise ListenError(
            f"{what}: cannot listen on {endpoint}; write http://host:port (TLS is not built yet)"
        )
    family = socket.AF_INET6 if ":" in parts.hostname else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((parts.hostname, parts.port))
        listener.listen(256)
        listener.setblocking(False)
    except OSError as e:
        listener.close()
        raise ListenError(f"{what}: cannot listen on {endpoint}: {e.strerror or e}") from e
    return listener


class Listeners:
    def __init__(self) -> None:
        self._servers: list[tuple[_Server, socket.socket]] = []

    def add(self, app: Any, listener: socket.socket) -> None:
        config = uvicorn.Config(
            app,
            http=LimitedProtocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=GRACE_S,
        )
        self._servers.append((_Server(config), listener))

    async def serve(self, stop: asyncio.Event, *, on_started: "asyncio.Event") -> None:
        """Until `stop` is set; open requests get GRACE_S to end."""
        async with asyncio.TaskGroup() as group:
            for server, listener in self._servers:
                group.create_task(server.serve(sockets=[listener]))
            for server, _ in self._servers:
                await server.listening.wait()
            on_started.set()
            await stop.wait()
            for server, _ in self._servers:
                server.should_exit = True
