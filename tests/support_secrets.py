"""Secrets that are sent through a traced protocol, everything that leaves the agent, and the search of one in the other."""

import base64
import http.client
import random
import socket
import string
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pyarrow as pa

from farcall.envelope import BATCH_PATH
from farcall_probes.stream import HEADER
from support_agent import rows_of
from support_agent_live import Scene, running_scene, wait
from support_ports import find_free_port

WINDOW = 8  # so many characters of a secret in a row are a leak
_STEP = 4


@dataclass(slots=True)
class Secrets:
    """Each is made for the place that it is put to, and is like nothing else on the machine."""

    made: dict[str, str] = field(default_factory=dict)

    def word(self, place: str) -> str:
        """Letters alone: what SQL takes for a name, and a command line for a word."""
        self.made[place] = "".join(random.choices(string.ascii_letters, k=24))
        return self.made[place]

    def odd(self, place: str) -> str:
        """What URLs and quotes make something else of."""
        letters = self.word(place)
        self.made[place] = f"{letters[:12]} /+&=%{letters[12:]}"
        return self.made[place]

    def find_in(self, left: dict[str, bytes]) -> list[str]:
        """`place → channel`, for each secret of which anything is there, in whatever spelling."""
        lowered = {channel: raw.lower() for channel, raw in left.items()}
        return [
            f"{place} → {channel}"
            for place, secret in self.made.items()
            for channel, raw in lowered.items()
            if any(needle in raw for needle in spellings(secret))
        ]


def spellings(secret: str) -> set[bytes]:
    """Pieces of it, in lower case: as it is, in hexadecimal, in base64 wherever it begins in there, and as URLs have it."""
    raw = secret.encode()
    whole = {raw, quote(secret, safe="").encode(), quote_plus(secret).encode()}
    whole |= {quote(secret).encode(), repr(secret)[1:-1].encode()}
    found = {piece for spelled in whole for piece in _pieces(spelled, WINDOW)}
    found |= set(_pieces(raw.hex().encode(), 2 * WINDOW))
    for before in range(3):  # what stands before it moves it by so many bits
        encoded = base64.b64encode(b"\0" * before + raw)[4:-4]
        found |= set(_pieces(encoded, 12))
        found |= set(_pieces(encoded.translate(bytes.maketrans(b"+/", b"-_")), 12))
    return {piece.lower() for piece in found}


def _pieces(spelled: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, max(len(spelled) - size, 0) + 1, _STEP):
        yield spelled[at : at + size]


class Leavings:
    """Everything that the agent of a scene lets out: batches and status, what it writes to Redis, `farcall tail`, metrics, its log."""

    def __init__(self, scene: Scene, *, log: Path, metrics: tuple[str, int]) -> None:
        self.scene = scene
        self._log, self._metrics = log, metrics
        self._written = bytearray()
        self._tailed = bytearray()

    @contextmanager
    def listening(self) -> Iterator[None]:
        directory = self.scene.directory
        with socket.socket(socket.AF_UNIX) as cache, socket.socket(socket.AF_UNIX) as tail:
            cache.connect(str(directory / "cache.sock"))
            cache.sendall(b"MONITOR\r\n")
            tail.connect(str(directory / "tail.sock"))
            threads = [
                threading.Thread(target=run, args=(sock,))
                for run, sock in ((self._follow_cache, cache), (self._follow_tail, tail))
            ]
            for thread in threads:
                thread.start()
            try:
                yield
            finally:
                for sock in (cache, tail):
                    with suppress(OSError):
                        sock.shutdown(socket.SHUT_RDWR)
                for thread in threads:
                    thread.join()

    def _follow_cache(self, sock: socket.socket) -> None:
        while piece := sock.recv(65_536):
            self._written += piece

    def _follow_tail(self, sock: socket.socket) -> None:
        with sock.makefile("rb") as file:
            while len(header := file.read(HEADER.size)) == HEADER.size:
                self._tailed += _unpack(file.read(HEADER.unpack(header)[0]))

    def read(self) -> dict[str, bytes]:
        """By channel. Batches are unpacked: nothing may hide in a compressed buffer."""
        posted = list(self.scene.exporter.posted)
        return {
            "batches": b"".join(_unpack(p.body) for p in posted if p.path == BATCH_PATH),
            "other posts": b"".join(p.body for p in posted if p.path != BATCH_PATH),
            "cache": bytes(self._written),
            "tail": bytes(self._tailed),
            "metrics": self._get_metrics(),
            "log": self._log.read_bytes(),
        }

    def _get_metrics(self) -> bytes:
        asked = http.client.HTTPConnection(*self._metrics, timeout=30)
        asked.request("GET", "/metrics")
        body = asked.getresponse().read()
        asked.close()
        return body

    def rows(self, wanted: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        return [r for r in rows_of(self.scene.exporter.batches("exchanges")) if wanted(r)]

    def wait_rows(self, protocol: str, port: int, count: int) -> list[dict[str, Any]]:
        """So many exchanges of that protocol at that port, of either end; and `farcall tail` has been told of them as well."""

        def find() -> list[dict[str, Any]]:
            return self.rows(
                lambda r: r["protocol"] == protocol and port in (r["local_port"], r["peer_port"])
            )

        self.scene.exporter.wait_for(lambda _: len(find()) >= count, within_s=60)
        wait(lambda: self._tailed)
        return find()

    def wait_targets(self, port: int, wanted: set[str]) -> None:
        """Until exchanges at that port were told with all these texts."""

        def find() -> set[str]:
            rows = self.rows(lambda r: port in (r["local_port"], r["peer_port"]))
            return {r["target"] for r in rows}

        try:
            wait(lambda: wanted <= find(), within_s=60)
        except AssertionError:
            raise AssertionError(f"{wanted - find()} not among {find()}") from None


@contextmanager
def running_leavings(directory: Path, *, spec: dict[str, Any] | None = None) -> Iterator[Leavings]:
    """An agent as production starts it, and all that comes out of it."""
    log, metrics = directory / "agent.log", ("127.0.0.1", find_free_port())
    url = f"http://{metrics[0]}:{metrics[1]}"
    with running_scene(directory, spec=spec, metrics=url, log=log) as scene:
        leavings = Leavings(scene, log=log, metrics=metrics)
        with leavings.listening():
            yield leavings


def _unpack(body: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.open_stream(body) as reader, pa.ipc.new_stream(sink, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
    return bytes(sink.getvalue())
