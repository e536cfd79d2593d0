"""HTTP/1.1 as far as the agent speaks it: one POST at a time over one connection, short answers. Python's own client reads headers
as those of e-mails, and 1 MB of modules with it.

RFC 9112. A fault closes the connection, and the next post opens another one. What comes back is bounded before it is believed.
"""

import re
import socket
import ssl
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from farcall.tlsfiles import PinnedAuthority, TlsFault, TlsFileError, find_tls_fault

TIMEOUT_S = 10.0
MAX_RETRY_AFTER_S = 60.0
MAX_ANSWER_BYTES = 4096
MAX_LINE_BYTES = 8192
MAX_HEADERS = 100
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: .*)?")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")
_WITHOUT_BODY = frozenset((204, 304))
# What a connection that the server has closed looks like when it is used once more.
_CLOSED = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)


class AnswerError(Exception):
    """What came back is no answer of HTTP/1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int  # 0: no answer
    retry_after_s: float | None
    detail: str
    tls: TlsFault | None = None
    may_have_arrived: bool = True


class PostLink:
    """One kept-alive connection. With an address, that is dialled, and the certificate is still to be for the URL's host."""

    def __init__(self, url: str, address: str | None, ca_file: Path) -> None:
        parts = urlsplit(url)
        is_tls = parts.scheme == "https"
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or (443 if is_tls else 80)
        host = f"[{self._host}]" if ":" in self._host else self._host
        self._host_header = f"{host}:{parts.port}" if parts.port else host
        self._address = address
        self._authority = PinnedAuthority(ca_file) if is_tls else None
        self._socket: socket.socket | None = None
        self._answers: BufferedReader | None = None

    def post(self, path: str, content_type: str, body: bytes, token: str) -> Answer:
        if self._authority is not None and self._authority.has_changed():
            self.close()  # whom we trusted then may not be trusted any more
        is_fresh = self._socket is None
        try:
            if is_fresh:
                self._open()
        except (OSError, TlsFileError) as e:
            self.close()
            return _fault(e, may_have_arrived=False)
        try:
            return self._exchange(path, content_type, body, token)
        except (OSError, AnswerError) as e:
            self.close()
            # The server may close an idle connection at any time; that is no fault of the exporter's.
            if not is_fresh and isinstance(e, _CLOSED):
                return self.post(path, content_type, body, token)
            return _fault(e, may_have_arrived=True)

    def _open(self) -> None:
        self._socket = socket.create_connection(
            (self._address or self._host, self._port), TIMEOUT_S
        )
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._authority is not None:
            context = self._authority.context()
            self._socket = context.wrap_socket(self._socket, server_hostname=self._host)
        self._answers = self._socket.makefile("rb")

    def _exchange(self, path: str, content_type: str, body: bytes, token: str) -> Answer:
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self._host_header}\r\nContent-Type: {content_type}\r\n"
            f"Content-Length: {len(body)}\r\nAuthorization: Bearer {token}\r\n\r\n"
        )
        assert self._socket is not None and self._answers is not None
        self._socket.sendall(head.encode("latin-1"))
        self._socket.sendall(body)
        read = read_answer(self._answers)
        if not read.is_last_word:
            self.close()
        return Answer(
            status=read.status,
            retry_after_s=_retry_after(read.headers.get("retry-after")),
            detail=read.body[:256].decode("utf-8", "backslashreplace"),
        )

    def close(self) -> None:
        for one in (self._answers, self._socket):
            if one is not None:
                one.close()
        self._answers = self._socket = None


class Read(NamedTuple):
    """An answer. `is_last_word`: it was read to its end, and the connection can be used once more."""

    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes  # no more than MAX_ANSWER_BYTES
    is_last_word: bool


def read_answer(stream: BufferedReader) -> Read:
    """Raises AnswerError, and ConnectionResetError where nothing comes at all."""
    status, is_old, headers = _read_head(stream)
    while status < 200:
        status, is_old, headers = _read_head(stream)
    body, is_whole = _read_body(stream, status, headers)
    said = headers.get("connection", "").lower()
    goes_on = "keep-alive" in said if is_old else "close" not in said
    return Read(status, headers, body, is_whole and goes_on)


def _read_head(stream: BufferedReader) -> tuple[int, bool, dict[str, str]]:
    line = _read_line(stream, closed=ConnectionResetError("closed without an answer"))
    match = _STATUS.fullmatch(line)
    if match is None:
        raise AnswerError("not an answer of HTTP/1")
    return int(match[2]), match[1] == b"0", _read_headers(stream)


def _read_headers(stream: BufferedReader) -> dict[str, str]:
    headers: dict[str, str] = {}
    for _ in range(MAX_HEADERS):
        line = _read_line(stream)
        if not line:
            return headers
        match = _HEADER.fullmatch(line)
        if match is None:
            raise AnswerError("a line that is no header")
        headers[match[1].decode("ascii").lower()] = match[2].decode("latin-1")
    raise AnswerError(f"more than {MAX_HEADERS} headers")


def _read_line(stream: BufferedReader, closed: Exception | None = None) -> bytes:
    line = stream.readline(MAX_LINE_BYTES)
    if not line and closed is not None:
        raise closed
    if not line.endswith(b"\n"):
        raise AnswerError("an answer that ends within its head, or has a line without end")
    return line.removesuffix(b"\n").removesuffix(b"\r")


def _read_body(stream: BufferedReader, status: int, headers: dict[str, str]) -> tuple[bytes, bool]:
    """(as much as is wanted of it, whether that is all). What was said before an end that comes too soon is said."""
    if status in _WITHOUT_BODY:
        return b"", True
    if "transfer-encoding" in headers:
        return _read_chunks(stream)
    length = headers.get("content-length", "")
    if not (length.isascii() and length.isdigit() and len(length) < 16):
        return stream.read(MAX_ANSWER_BYTES), False
    body = stream.read(min(int(length), MAX_ANSWER_BYTES))
    return body, len(body) == int(length)


def _read_chunks(stream: BufferedReader) -> tuple[bytes, bool]:
    body = b""
    while len(body) < MAX_ANSWER_BYTES:
        size = _read_line(stream).split(b";")[0].strip()
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,8}", size):
            raise AnswerError("a chunk without a size")
        if not int(size, 16):
            _read_headers(stream)  # trailers, and the empty line behind them
            return body, True
        wanted = min(int(size, 16), MAX_ANSWER_BYTES - len(body))
        part = stream.read(wanted)
        body += part
        if len(part) < int(size, 16) or _read_line(stream):
            break
    return body, False


def _fault(error: Exception, *, may_have_arrived: bool) -> Answer:
    tls = find_tls_fault(error)
    detail = tls.sentence if tls else f"{type(error).__name__}: {error}"
    return Answer(
        status=0,
        retry_after_s=None,
        detail=detail[:256],
        tls=tls,
        may_have_arrived=may_have_arrived,
    )


def _retry_after(value: str | None) -> float | None:
    if value is None or not value.isdigit() or len(value) > 6:
        return None
    return min(float(value), MAX_RETRY_AFTER_S)
