"""A client as client.c that looks names up where nobody can see it: DNS over TLS (RFC 7858) and over HTTPS (RFC 8484).

Steps beside connect, send, read and close: `dot SERVER PORT NAME`, `doh SERVER PORT NAME`, and `tls ADDRESS PORT` for a
connection whose bytes go through OpenSSL.
"""

import socket
import ssl
import struct
import sys

WAIT_S = 5.0


def build_question(name: str) -> bytes:
    labels = b"".join(bytes([len(x)]) + x for x in name.encode().split(b"."))
    return b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1"


def open_tls(server: str, port: str) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(socket.create_connection((server, int(port)), WAIT_S))


def read_exactly(link: ssl.SSLSocket, size: int) -> bytes:
    have = b""
    while len(have) < size:
        more = link.recv(size - len(have))
        if not more:
            raise OSError("closed")
        have += more
    return have


def ask_over_tls(server: str, port: str, name: str) -> bytes:
    with open_tls(server, port) as link:
        question = build_question(name)
        link.sendall(struct.pack("!H", len(question)) + question)
        (size,) = struct.unpack("!H", read_exactly(link, 2))
        return read_exactly(link, size)


def ask_over_https(server: str, port: str, name: str) -> bytes:
    with open_tls(server, port) as link:
        question = build_question(name)
        head = f"POST /dns-query HTTP/1.1\r\nHost: dns.example.com\r\nContent-Length: {len(question)}\r\n\r\n"
        link.sendall(head.encode() + question)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += link.recv(4096) or b"\r\n\r\n"
        head_, _, body = answer.partition(b"\r\n\r\n")
        size = int(head_.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        return body + read_exactly(link, size - len(body))


def main() -> None:
    found = ""
    links: dict[int, socket.socket] = {}
    for line in sys.stdin:
        said = "ok"
        for step in line.strip().split(";"):
            word, *rest = step.split()
            try:
                if word == "dot":
                    found = socket.inet_ntoa(ask_over_tls(*rest)[-4:])
                elif word == "doh":
                    found = socket.inet_ntoa(ask_over_https(*rest)[-4:])
                elif word == "tls":
                    links[0] = open_tls(*rest)
                elif word == "connect":
                    address = found if rest[0] == "@" else rest[0]
                    links[0] = socket.create_connection((address, int(rest[1])), WAIT_S)
                elif word == "send":
                    links[0].sendall(bytes.fromhex(rest[0]))
                elif word == "read":
                    said = "ok" if links[0].recv(8192) else "failed"
                elif word == "close":
                    links[0].close()
                else:
                    said = "failed"
            except (OSError, ValueError) as e:
                said = f"failed {e}".replace("\n", " ")
                break
        print(said, flush=True)


if __name__ == "__main__":
    main()
