"""For tests of TLS libraries that only fill buffers: both ends of a connection whose sealed bytes the program itself sends."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support_probes import receive


@dataclass(frozen=True, slots=True)
class End:
    """One end. `begin` says who it is in the handshake."""

    sock: socket.socket
    tls: ssl.SSLObject
    coming: ssl.MemoryBIO
    going: ssl.MemoryBIO

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


def _shake_hands(one: End, other: End) -> None:
    """In one thread, by turns, until neither has anything to say."""
    silent = 0
    while silent < 2:
        try:
            one.tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        sealed = one.flush()
        if sealed:
            other.coming.write(receive(other.sock, sealed))
        silent = 0 if sealed else silent + 1
        one, other = other, one


@contextmanager
def bio_pair(certificate: tuple[Path, Path]) -> Iterator[BioPair]:
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(*certificate)
    client_side = ssl.create_default_context(cafile=str(certificate[0]))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        plain = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    with plain, accepted:
        client = _open_end(plain, client_side, "localhost")
        server = _open_end(accepted, server_side, None)
        _shake_hands(client, server)
        yield BioPair(client, server, int(plain.getsockname()[1]))
