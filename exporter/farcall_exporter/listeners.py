"""uvicorn inside this process: two listeners on one loop, sockets bound before anything else starts.

An `https` endpoint is served with the certificate beside the secrets, which may be replaced at any time.
"""

import asyncio
import contextlib
import socket
from collections.abc import Generator
from typing import Any
from urllib.parse import urlsplit

import uvicorn

from farcall.effective import EffectiveConfig, read_listen_address
from farcall.tlsfiles import ServerIdentity, TlsFileError
from farcall_exporter.headlimits import LimitedProtocol

MAX_CONNECTIONS = (
    512  # a connection costs at most one body; more agents than this need more exporters
)
GRACE_S = 4
BACKLOG = 256
HANDSHAKE_WITHIN_S = 15.0  # as long as a request's head may take (headlimits)


class ListenError(Exception):
    """The endpoint cannot be listened on; the message says which and why."""


class _Server(uvicorn.Server):
    """Without uvicorn's own signal handling: two servers share the process, and main decides when they stop."""

    def __init__(self, config: uvicorn.Config, *, handshake_within_s: float) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self._handshake_within_s = handshake_within_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn's own gives a peer that never begins its handshake a minute, and knows no setting for it."""
        await self.lifespan.startup()
        config, loop = self.config, asyncio.get_running_loop()

        def make_protocol() -> asyncio.Protocol:
            make: Any = config.http_protocol_class
            protocol: asyncio.Protocol = make(
                config=config, server_state=self.server_state, app_state=self.lifespan.state
            )
            return protocol

        self.servers = [
            await loop.create_server(
                make_protocol,
                sock=listener,
                ssl=config.ssl,
                ssl_handshake_timeout=self._handshake_within_s if config.ssl else None,
                backlog=config.backlog,
            )
            for listener in sockets or ()
        ]
        self.started = True
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def bind(config: EffectiveConfig, endpoint: str, what: str) -> socket.socket:
    """A listening socket for `http(s)://host:port`. Raises ListenError."""
    try:
        if urlsplit(endpoint).scheme not in ("http", "https"):
            raise ValueError(f"{endpoint!r} is not http(s)://host:port")
        host, port = read_listen_address(config, endpoint)
    except ValueError as e:
        raise ListenError(f"{what}: cannot listen: {e}") from e
    try:
        listener = _listen(host, port)
    except OSError as e:
        raise ListenError(f"{what}: cannot listen on {endpoint}: {e.strerror or e}") from e
    listener.setblocking(False)
    return listener


def _listen(host: str, port: int) -> socket.socket:
    """An empty host is every address of both families, where there are both."""
    if not host and socket.has_dualstack_ipv6():
        return socket.create_server(
            ("", port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)


def read_identity(config: EffectiveConfig, endpoint: str, what: str) -> ServerIdentity | None:
    """The certificate that `endpoint` is served with; None for plain HTTP. Raises ListenError."""
    if urlsplit(endpoint).scheme != "https":
        return None
    try:
        return ServerIdentity(config.secrets_dir)
    except TlsFileError as e:
        raise ListenError(f"{what}: {e}") from e


class Listeners:
    def __init__(self, *, handshake_within_s: float = HANDSHAKE_WITHIN_S) -> None:
        self._handshake_within_s = handshake_within_s
        self._servers: list[tuple[_Server, socket.socket]] = []

    def add(
        self, app: Any, listener: socket.socket, identity: ServerIdentity | None = None
    ) -> None:
        """`identity`: its certificate is served by TLS, whichever it holds when a connection begins."""
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
            ssl_context_factory=(lambda *_: identity.context) if identity else None,
        )
        server = _Server(config, handshake_within_s=self._handshake_within_s)
        self._servers.append((server, listener))

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
