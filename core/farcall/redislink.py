"""One connection to Redis: commands out, replies in, pipelined. RESP2 and no more; redis-py is 12 MB of an agent's memory.

https://redis.io/docs/latest/develop/reference/protocol-spec/. Time limits, no hidden retries: a fault closes the connection, and
the next call opens another one. What comes back is bounded before it is believed.
"""

import select
import socket
from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path
from urllib.parse import unquote, urlsplit

from farcall.tlsfiles import PinnedAuthority

TIMEOUT_S = 2.0
MAX_LINE_BYTES = 64 * 1024
MAX_BULK_BYTES = 16 * 1024 * 1024
MAX_ITEMS = 1 << 20
MAX_DEPTH = 8

Argument = str | int | float
Command = tuple[Argument, ...]


class LinkError(Exception):
    """There is no connection, or what answers is no Redis. TLS faults and OSErrors are its `__cause__`."""


class Refusal(Exception):
    """An error that Redis answered with; as an item of the replies, never raised by `run`."""


Reply = str | int | None | Refusal | list["Reply"]


class RedisLink:
    """`unix:///path`, `redis://host:port` or `rediss://host:port`; the last needs `ca_file`, which is followed when it is replaced."""

    def __init__(
        self, url: str, *, username: str | None, password: str | None, ca_file: Path | None = None
    ) -> None:
        self._socket: socket.socket | None = None
        self._replies: BufferedReader | None = None
        self._url = urlsplit(url)
        self._login: Command | None = None
        if password is not None:
            self._login = ("AUTH", username or "default", password)
        self._authority = PinnedAuthority(ca_file) if ca_file is not None else None

    def run(self, commands: Sequence[Command]) -> list[Reply]:
        """One reply per command, in one round trip. Raises LinkError, and TlsFileError where the authority's file is unusable."""
        if not commands:
            return []
        try:
            if self._socket is not None and _is_closed(self._socket):
                self.close()  # while nobody used it: no fault, and nothing was under way
            if self._socket is None:
                self._open()
            return self._exchange(commands)
        except BaseException as e:
            self.close()  # half of an answer may be under way
            if isinstance(e, OSError):
                raise LinkError(f"{type(e).__name__}: {e}") from e
            raise

    def __del__(self) -> None:  # as a file is closed that nobody holds any more
        self.close()

    def close(self) -> None:
        for one in (self._replies, self._socket):
            if one is not None:
                one.close()
        self._socket = self._replies = None

    def _open(self) -> None:
        self._socket = self._connect()
        self._replies = self._socket.makefile("rb")
        if self._login is not None:
            (reply,) = self._exchange([self._login])
            if isinstance(reply, Refusal):
                raise LinkError(str(reply))

    def _connect(self) -> socket.socket:
        if self._url.scheme == "unix":
            local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                local.settimeout(TIMEOUT_S)
                local.connect(unquote(self._url.path))
            except BaseException:
                local.close()
                raise
            return local
        host, port = self._url.hostname or "127.0.0.1", self._url.port or 6379
        plain = socket.create_connection((host, port), TIMEOUT_S)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._url.scheme != "rediss":
                return plain
            if self._authority is None:
                raise LinkError(f"{self._url.geturl()} needs a certificate authority")
            return self._authority.context().wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise

    def _exchange(self, commands: Sequence[Command]) -> list[Reply]:
        assert self._socket is not None and self._replies is not None
        self._socket.sendall(b"".join(map(render_command, commands)))
        return [read_reply(self._replies) for _ in commands]


def _is_closed(connection: socket.socket) -> bool:
    """By the other end."""
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return bool(poll.poll(0))


def render_command(command: Command) -> bytes:
    """As an array of bulk strings. What is not Unicode is replaced: names are whatever a resolver said."""
    parts = [b"*%d\r\n" % len(command)]
    for argument in command:
        text = argument if isinstance(argument, str) else repr(argument)
        data = text.encode("utf-8", "replace")
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


def read_reply(stream: BufferedReader, depth: int = 0) -> Reply:
    """Raises LinkError where the bytes are no reply, or end."""
    line = stream.readline(MAX_LINE_BYTES)
    if not line.endswith(b"\r\n"):
        raise LinkError("Redis closed the connection" if not line else "not an answer of Redis")
    kind, text = line[:1], line[1:-2]
    if kind == b"+":
        return text.decode("utf-8", "replace")
    if kind == b"-":
        return Refusal(text.decode("utf-8", "replace"))
    number = _parse_number(text)
    if kind == b":":
        return number
    if number == -1 and kind in (b"$", b"*"):
        return None
    if kind == b"$" and 0 <= number <= MAX_BULK_BYTES:
        data = stream.read(number + 2)
        if len(data) != number + 2 or not data.endswith(b"\r\n"):
            raise LinkError("an answer of Redis was cut short")
        return data[:-2].decode("utf-8", "replace")
    if kind == b"*" and 0 <= number <= MAX_ITEMS and depth < MAX_DEPTH:
        return [read_reply(stream, depth + 1) for _ in range(number)]
    raise LinkError("not an answer of Redis")


def _parse_number(text: bytes) -> int:
    if len(text) > 20 or not text.removeprefix(b"-").isdigit():
        raise LinkError("not an answer of Redis")
    return int(text)
