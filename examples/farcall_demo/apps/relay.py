"""Carries connections from an address inside the demo's network to a port on this machine's loopback.

It stands where a node's host port would: applications in pods send OTLP to their node. A socket belongs to the network
namespace it was made in, so this process makes its listening socket in one and its outgoing ones in the other.
Arguments: path of the network namespace, address:port to listen on, address:port to connect to.
"""

import ctypes
import os
import socket
import sys
import threading

CLONE_NEWNET = 0x40000000
CHUNK_BYTES = 64 * 1024
CONNECT_TIMEOUT_S = 5.0
BACKLOG = 64
_libc = ctypes.CDLL(None, use_errno=True)


def main(namespace: str, listen: str, connect: str) -> None:
    listener = listen_in(namespace, parse_address(listen))
    target = parse_address(connect)
    while True:
        client, _ = listener.accept()
        threading.Thread(target=carry, args=(client, target), daemon=True).start()


def parse_address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def listen_in(namespace: str, address: tuple[str, int]) -> socket.socket:
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    away = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(away)
        return socket.create_server(address, backlog=BACKLOG)
    finally:
        enter(home)
        os.close(away)
        os.close(home)


def enter(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "cannot enter the network namespace")


def carry(client: socket.socket, target: tuple[str, int]) -> None:
    with client:
        try:
            server = socket.create_connection(target, timeout=CONNECT_TIMEOUT_S)
        except OSError:
            return  # the exporter is away; the sender sees a closed connection and tries again
        with server:
            server.settimeout(None)
            threading.Thread(target=pour, args=(server, client), daemon=True).start()
            pour(client, server)


def pour(source: socket.socket, sink: socket.socket) -> None:
    try:
        while chunk := source.recv(CHUNK_BYTES):
            sink.sendall(chunk)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # one side is gone; the other notices by itself


if __name__ == "__main__":
    main(*sys.argv[1:])
