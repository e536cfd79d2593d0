"""For tests of TLS libraries that only fill buffers: both ends of a connection whose sealed bytes the program itself sends."""

import asyncio
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support_probes import OK, receive


@dataclass(frozen=True, slots=True)
class End:
    """One end. `begin` says who it is in the handshake."""

    sock: socket.socket
    tls: ssl.SSLObject
    coming: ssl.MemoryBIO
    going: ssl.MemoryBIO

    def begin(self) -> None:
        """As much of the handshake as can be had."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            pass

    def send(self, *pieces: bytes) -> int:
        """Each piece is a write to the library, all of it one call of the kernel. Returns how many bytes that was of."""
        for piece in pieces:
            assert self.tls.write(piece) == len(piece)
        return self.flush()

    def flush(self) -> int:
        sealed = self.going.read()
        if sealed:
            self.sock.sendall(sealed)
        return len(sealed)

    def take(self, sealed: int) -> list[bytes]:
        """Reads so many bytes in one call; what the library then has, read by read."""
        self.coming.write(receive(self.sock, sealed))
        pieces = []
        while True:
            try:
                pieces.append(self.tls.read(65_536))
            except ssl.SSLWantReadError:
                return pieces


@dataclass(frozen=True, slots=True)
class BioPair:
    """`port`: the client's, which no two connections of a test share."""

    client: End
    server: End
    port: int

    def say(self, *pieces: bytes) -> list[bytes]:
        """The client's, as the server reads them."""
        return self.server.take(self.client.send(*pieces))

    def hear(self, *pieces: bytes) -> list[bytes]:
        return self.client.take(self.server.send(*pieces))


def _open_end(sock: socket.socket, context: ssl.SSLContext, name: str | None) -> End:
    coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(coming, going, server_side=name is None, server_hostname=name)
    return End(sock, tls, coming, going)


def shake_hands(one: End, other: End) -> None:
    """In one thread, by turns, until neither has anything to say."""
    silent = 0
    while silent < 2:
        one.begin()
        sealed = one.flush()
        if sealed:
            other.coming.write(receive(other.sock, sealed))
        silent = 0 if sealed else silent + 1
        one, other = other, one


@contextmanager
def open_pair(certificate: tuple[Path, Path], cipher: str = "") -> Iterator[BioPair]:
    """Before their handshake. `cipher`: of TLS 1.2."""
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(*certificate)
    client_side = ssl.create_default_context(cafile=str(certificate[0]))
    if cipher:
        client_side.maximum_version = ssl.TLSVersion.TLSv1_2
        client_side.set_ciphers(cipher)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        plain = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    with plain, accepted:
        client = _open_end(plain, client_side, "localhost")
        server = _open_end(accepted, server_side, None)
        yield BioPair(client, server, int(plain.getsockname()[1]))


@contextmanager
def bio_pair(certificate: tuple[Path, Path], cipher: str = "") -> Iterator[BioPair]:
    """After their handshake."""
    with open_pair(certificate, cipher) as pair:
        shake_hands(pair.client, pair.server)
        yield pair


def talk_by_asyncio(requests: Sequence[Sequence[bytes]], certificate: tuple[Path, Path]) -> int:
    """Both ends of one connection in asyncio, each request answered before the next; one of several pieces is given to the
    transport as lines. The client's port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for pieces in requests:
            whole = b"".join(pieces)
            assert await reader.readexactly(len(whole)) == whole
            writer.write(OK)
        await writer.drain()

    async def run() -> int:
        server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server_side.load_cert_chain(*certificate)
        client_side = ssl.create_default_context(cafile=str(certificate[0]))
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_side)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("localhost", port, ssl=client_side)
        own_port: int = writer.get_extra_info("sockname")[1]
        for pieces in requests:
            if len(pieces) == 1:
                writer.write(pieces[0])
            else:
                writer.transport.writelines(pieces)
            assert await reader.readexactly(len(OK)) == OK
        writer.close()
        server.close()
        return own_port

    return asyncio.run(run())
