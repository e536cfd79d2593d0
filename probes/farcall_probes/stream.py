"""Live exchanges for `farcall tail`: the agent's end of a local socket. What is shown is what leaves the node, masked as that is.

A frame is 8 bytes, the length of what follows and how many rows this listener was not sent so far (both u32, little
endian), then one Arrow IPC stream of farcall.exchange.EXCHANGES. Nobody waits for a listener: its queue is bounded, what does
not fit is counted, and one that takes nothing for a while is left.
"""

import contextlib
import os
import socket
import struct
import threading
from collections import deque
from pathlib import Path

from farcall_probes.arrowstream import Batch, render_stream

MAX_LISTENERS = 4
MAX_QUEUED = 16  # batches a listener
SEND_WITHIN_S = 5.0
HEADER = struct.Struct("<II")
SOCKET_NAME = "tail.sock"


class _Listener:
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._queue: deque[Batch] = deque()
        self._changed = threading.Condition()
        self._dropped = 0
        self.is_gone = False
        threading.Thread(target=self._run, name="tail", daemon=True).start()

    def put(self, batch: Batch) -> int:
        """How many rows it will not be sent."""
        with self._changed:
            if len(self._queue) >= MAX_QUEUED:
                self._dropped += batch.rows
                return batch.rows
            self._queue.append(batch)
            self._changed.notify()
        return 0

    def close(self) -> None:
        with self._changed:
            self.is_gone = True
            self._changed.notify()

    def _run(self) -> None:
        self._sock.settimeout(SEND_WITHIN_S)
        with self._sock, contextlib.suppress(OSError):
            while not self.is_gone:
                frame = self._next()
                if frame:
                    self._sock.sendall(frame)
                else:
                    # Nothing to send: has it hung up? It never sends anything else.
                    self._sock.setblocking(False)
                    with contextlib.suppress(BlockingIOError):
                        if not self._sock.recv(1):
                            break
                    self._sock.settimeout(SEND_WITHIN_S)
        self.is_gone = True

    def _next(self) -> bytes:
        with self._changed:
            if not self._queue:
                self._changed.wait(1.0)
            if not self._queue:
                return b""
            batch, dropped = self._queue.popleft(), self._dropped
        payload = render_stream(batch, compressed=False)
        return HEADER.pack(len(payload), dropped & 0xFFFFFFFF) + payload


class ExchangeStream:
    """Raises OSError where it cannot listen at `path`. Whoever may open the socket is root, or who its folder lets in."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._path = path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            before = os.umask(0o177)
            try:
                self._listener.bind(str(path))
            finally:
                os.umask(before)
            self._listener.listen(MAX_LISTENERS)
        except BaseException:
            self._listener.close()
            raise
        self._listeners: list[_Listener] = []
        self.dropped = 0
        self._thread = threading.Thread(target=self._accept, name="tail-accept", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            living = [one for one in self._listeners if not one.is_gone]
            if len(living) >= MAX_LISTENERS:
                sock.close()
            else:
                self._listeners = [*living, _Listener(sock)]

    def show(self, batch: Batch) -> None:
        """To everybody who listens; costs nothing when nobody does."""
        for listener in self._listeners:
            if not listener.is_gone:
                self.dropped += listener.put(batch)

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._path.unlink(missing_ok=True)
        for listener in self._listeners:
            listener.close()
