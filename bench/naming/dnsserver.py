"""A DNS server that does what a zone says, faults included: over UDP, TCP, TLS and HTTPS, on real sockets.

    python dnsserver.py CERTIFICATE ADDRESS…       port 53 of each; 853 and 443 with TLS where there is a certificate (or `-`)

One line of JSON on standard input sets a name, `{"name": …, …}`, and is answered with `ok`. What a name may have:

    a, aaaa    addresses            alias      aliases between the name and the addresses, in order
    rcode      2 SERVFAIL, 3 …      truncated  over UDP only the TC bit
    forged     {"how": "id" | "question" | "owner", "a": address}: before the right answer (`owner`: in it) comes one that lies

A name that was not set does not exist. A datagram `unasked` is answered with the name `unasked` of the zone.
"""

import json
import selectors
import socket
import socketserver
import ssl
import struct
import sys
import threading
from dataclasses import dataclass, field
from typing import Any

A, CNAME, AAAA = 1, 5, 28
NXDOMAIN = 3
TTL_S = 60
MAX_PLAIN = 512  # RFC 1035, 4.2.1
OPT = 41


@dataclass(slots=True)
class Question:
    id: bytes
    raw: bytes  # name, type and class as they came: the case of letters is given back
    name: str
    type: int
    room: int  # bytes that the client takes over UDP


@dataclass(slots=True)
class Zone:
    names: dict[str, dict[str, Any]] = field(default_factory=dict)


def parse_question(message: bytes) -> Question | None:
    """None for what is no query of one question."""
    if len(message) < 17 or message[2] & 0x80 or message[4:6] != b"\0\1":
        return None
    labels, at = [], 12
    while at < len(message) and message[at]:
        labels.append(message[at + 1 : at + 1 + message[at]])
        at += message[at] + 1
    raw = message[12 : at + 5]
    if len(raw) < at - 7:
        return None
    room, rest = MAX_PLAIN, message[at + 5 :]
    if len(rest) >= 11 and rest[0] == 0 and rest[1:3] == struct.pack("!H", OPT):
        room = max(MAX_PLAIN, struct.unpack("!H", rest[3:5])[0])
    name = b".".join(labels).decode("latin-1").lower()
    return Question(message[:2], raw, name, struct.unpack("!H", raw[-4:-2])[0], room)


def pack_name(name: str) -> bytes:
    return b"".join(bytes([len(x)]) + x for x in name.encode("latin-1").split(b".")) + b"\0"


def pack_record(owner: bytes, kind: int, data: bytes) -> bytes:
    return owner + struct.pack("!HHIH", kind, 1, TTL_S, len(data)) + data


def pack_message(id_: bytes, question: bytes, records: list[bytes], flags: int = 0) -> bytes:
    counts = struct.pack("!HHHH", 1, len(records), 0, 0)
    return id_ + struct.pack("!H", 0x8180 | flags) + counts + question + b"".join(records)


def list_records(question: Question, known: dict[str, Any]) -> list[bytes]:
    owner, records = b"\xc0\x0c", []
    for alias in known.get("alias", []):
        records.append(pack_record(owner, CNAME, pack_name(alias)))
        owner = pack_name(alias)
    family, key = {A: (socket.AF_INET, "a"), AAAA: (socket.AF_INET6, "aaaa")}.get(
        question.type, (0, "")
    )
    packed = [socket.inet_pton(family, text) for text in known.get(key, [])] if family else []
    records += [pack_record(owner, question.type, data) for data in packed]
    forged = known.get("forged", {})
    if forged.get("how") == "owner" and question.type == A:
        other = pack_name("not-asked.example.com")
        records.append(pack_record(other, A, socket.inet_aton(forged["a"])))
    return records


def answer(zone: Zone, question: Question, *, stream: bool) -> list[bytes]:
    """The messages to send, in order."""
    known = zone.names.get(question.name)
    if known is None or known.get("rcode"):
        rcode = NXDOMAIN if known is None else known["rcode"]
        right = pack_message(question.id, question.raw, [], rcode)
    else:
        right = pack_message(question.id, question.raw, list_records(question, known))
        too_long = not stream and len(right) > question.room
        if too_long or (known.get("truncated") and not stream):
            right = pack_message(question.id, question.raw, [], 0x200)
    return [*forge(question, (known or {}).get("forged", {})), right]


def forge(question: Question, forged: dict[str, str]) -> list[bytes]:
    if question.type != A or forged.get("how") not in ("id", "question"):
        return []
    record = pack_record(b"\xc0\x0c", A, socket.inet_aton(forged["a"]))
    if forged["how"] == "id":
        wrong = bytes([question.id[0] ^ 0x5A, question.id[1]])
        return [pack_message(wrong, question.raw, [record])]
    other = pack_name("not-asked.example.com") + question.raw[-4:]
    return [pack_message(question.id, other, [record])]


def serve_datagrams(zone: Zone, addresses: list[str]) -> None:
    wait = selectors.DefaultSelector()
    for address in addresses:
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind((address, 53))
        wait.register(server, selectors.EVENT_READ)
    while True:
        for key, _ in wait.select():
            server = key.fileobj  # type: ignore[assignment]
            message, client = server.recvfrom(4096)
            question = parse_question(message)
            if message == b"unasked":
                raw = pack_name("unasked") + struct.pack("!HH", A, 1)
                question = Question(b"\x12\x34", raw, "unasked", A, 4096)
            if question is not None:
                for one in answer(zone, question, stream=False):
                    server.sendto(one, client)


class Stream(socketserver.StreamRequestHandler):
    """DNS over TCP (RFC 1035, 4.2.2): each message behind its length. The length is sent apart, as some servers do."""

    def handle(self) -> None:
        while len(prefix := self.rfile.read(2)) == 2:
            question = parse_question(self.rfile.read(struct.unpack("!H", prefix)[0]))
            if question is None:
                return
            for one in answer(self.server.zone, question, stream=True):  # type: ignore[attr-defined]
                self.wfile.write(struct.pack("!H", len(one)) + one)
                self.wfile.flush()


class Https(socketserver.StreamRequestHandler):
    """DNS over HTTPS (RFC 8484), POST only."""

    def handle(self) -> None:
        size = 0
        while (line := self.rfile.readline()) not in (b"\r\n", b""):
            if line.lower().startswith(b"content-length:"):
                size = int(line.partition(b":")[2])
        question = parse_question(self.rfile.read(size))
        if question is not None:
            body = answer(self.server.zone, question, stream=True)[-1]  # type: ignore[attr-defined]
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/dns-message\r\nContent-Length: {len(body)}\r\n\r\n"
            self.wfile.write(head.encode() + body)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(
        self, address: str, port: int, handler: Any, zone: Zone, tls: ssl.SSLContext | None
    ) -> None:
        super().__init__((address, port), handler)
        self.zone, self.tls = zone, tls

    def get_request(self) -> Any:
        link, client = super().get_request()
        if self.tls is not None:
            link.settimeout(5)
            link = self.tls.wrap_socket(link, server_side=True)
        return link, client


def start(server: Server) -> None:
    threading.Thread(target=server.serve_forever, daemon=True).start()


def main() -> None:
    certificate, *addresses = sys.argv[1:]
    zone = Zone()
    threading.Thread(target=serve_datagrams, args=(zone, addresses), daemon=True).start()
    for address in addresses:
        start(Server(address, 53, Stream, zone, None))
    if certificate != "-":
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
        start(Server(addresses[0], 853, Stream, zone, tls))
        start(Server(addresses[0], 443, Https, zone, tls))
    print("ready", flush=True)
    for line in sys.stdin:
        values = json.loads(line)
        zone.names[values.pop("name").lower()] = values
        print("ok", flush=True)


if __name__ == "__main__":
    main()
