"""Known secrets go through every protocol between real programs, and nothing of them leaves the agent: not in batches, status,
cache, `farcall tail`, metrics or log; not as they are, nor in base64, hexadecimal or as URLs spell them."""

import http.server
import json
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dns.edns
import dns.exception
import dns.message
import dns.query
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from farcall.exchange import ExchangeFlag
from support_agent_live import child, wait
from support_databases import running_memcached
from support_http import running_http
from support_http2_live import python_peer, running_nginx, serving
from support_secrets import Leavings, Secrets, running_leavings
from support_tlslib import make_certificate

pytestmark = pytest.mark.bpf


# Five requests with the same headers, one after the other on one connection.
NODE_CLIENT = """
const [url, headers] = process.argv.slice(1);
const session = require("http2").connect(url);
const ask = (left) => left ? session.request(JSON.parse(headers)).on("close", () => ask(left - 1)).resume().end()
                           : session.close();
ask(5);
"""


@contextmanager
def web_server(secrets: Secrets, tls: tuple[Path, Path] | None = None) -> Iterator[int]:
    """Answers everything, with secrets in its head and its body."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = secrets.word("body of a response").encode()
            self.send_response(200)
            self.send_header("Set-Cookie", f"session={secrets.word('Set-Cookie')}; Path=/")
            self.send_header("Location", f"/?token={secrets.word('Location')}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with running_http(Handler, tls) as port:
        yield port


def curl(*words: str) -> None:
    subprocess.run(
        ["curl", "-sf", "--noproxy", "", *words], check=True, capture_output=True, timeout=60
    )


def secret_words(secrets: Secrets) -> list[str]:
    """Of curl: all the places of a request that a secret is put to."""
    return [
        *("-u", f"me:{secrets.odd('basic authorization')}"),
        *("-H", f"Cookie: session={secrets.word('Cookie')}; theme=dark"),
        *("-H", f"X-Api-Key: {secrets.word('X-Api-Key')}"),
        *("-H", f"Referer: http://x/?token={secrets.word('Referer')}"),
    ]


def secret_query(secrets: Secrets) -> str:
    bare, named = secrets.word("a query that is a token"), secrets.word("value in a query")
    return f"?page=2&token={named}&{bare}&{bare}=&{bare}=="


def test_http_requests(left: Leavings, secrets: Secrets) -> None:
    with web_server(secrets) as port:
        where = f"127.0.0.1:{port}"
        curl(*secret_words(secrets), f"http://{where}/a{secret_query(secrets)}")
        curl("-d", f"password={secrets.word('form')}", f"http://{where}/form")
        curl("-H", f"Authorization: Bearer {secrets.word('bearer')}", f"http://{where}/bearer")
        curl(f"http://me:{secrets.word('user of a URL')}@{where}/url")
        curl(
            *("-x", f"http://me:{secrets.word('user of a proxy')}@{where}"),
            f"http://me:{secrets.word('user at a proxy')}@example.test/?t={secrets.word('query at a proxy')}",
        )
        # A head longer than a record, which goes another way; secrets at both of its ends.
        curl(
            *("-H", f"Authorization: Bearer {secrets.word('long head')}{'x' * 3000}"),
            *("-H", f"Cookie: a={secrets.word('end of a long head')}"),
            f"http://{where}/long?q={'y' * 900}{secrets.word('long query')}",
        )
        head = f"GET / HTTP/1.1\r\nHost: me:{secrets.word('user of a Host')}@{where}\r\n\r\n"
        proxy = f"GET http://me:{secrets.word('user of a target')}@x.test/ HTTP/1.1\r\n\r\n"
        for asked in (head, proxy):
            with socket.create_connection(("127.0.0.1", port)) as link:
                link.sendall(asked.encode())
                assert link.recv(4096)
        rows = left.wait_rows("http", port, 16)

    assert {"/a", "/form", "/bearer", "/url", "/long", "/"} == {r["target"] for r in rows}
    assert "page=?&token=?&?&?&?" in {r["query"] for r in rows}
    assert not secrets.find_in(left.read())


def test_https_requests_that_are_read_at_the_library(
    left: Leavings, secrets: Secrets, tmp_path: Path
) -> None:
    certificate = make_certificate(tmp_path)
    with web_server(secrets, certificate) as port:
        where = f"https://localhost:{port}"

        def is_read() -> bool:
            curl("--cacert", str(certificate[0]), *secret_words(secrets), f"{where}/tls")
            return bool(left.rows(lambda r: r["local_port"] == port and r["target"] == "/tls"))

        wait(is_read, within_s=90)
        words = ["--cacert", str(certificate[0]), *secret_words(secrets)]
        curl(*words, f"{where}/last{secret_query(secrets)}")
        wait(lambda: left.rows(lambda r: r["target"] == "/last"))
        (row, *_) = left.rows(lambda r: r["target"] == "/last")

    assert row["flags"] & ExchangeFlag.TLS and row["query"] == "page=?&token=?&?&?&?"
    assert not secrets.find_in(left.read())


def test_http2_requests_whose_headers_are_indexed(
    left: Leavings, secrets: Secrets, tmp_path: Path
) -> None:
    """The second request of a connection names the first one's headers by their numbers."""
    with running_nginx(tmp_path) as port:
        headers = {
            ":path": f"/ok/{secret_query(secrets)}",
            ":authority": f"me:{secrets.word('user of an authority')}@127.0.0.1",
            "authorization": f"Bearer {secrets.word('authorization')}",
            "cookie": f"session={secrets.word('cookie')}; theme=dark",
            "x-api-key": secrets.word("x-api-key"),
        }
        words = [f"http://127.0.0.1:{port}", json.dumps(headers)]
        subprocess.run(["node", "-e", NODE_CLIENT, *words], check=True, timeout=60)
        rows = left.wait_rows("http2", port, 10)

    assert {(r["target"], r["query"]) for r in rows} == {("/ok/", "page=?&token=?&?&?&?")}
    assert not secrets.find_in(left.read())


def test_grpc_calls(left: Leavings, secrets: Secrets) -> None:
    with serving(*python_peer("serve")) as (port,):
        code = f"""
import grpc
metadata = [
    ("authorization", "Bearer {secrets.word("grpc authorization")}"),
    ("cookie", "a={secrets.word("grpc cookie")}"),
    ("x-key-bin", b"{secrets.word("binary metadata")}"),
]
with grpc.insecure_channel("127.0.0.1:{port}") as channel:
    one = channel.unary_unary("/farcall.test.Echo/Fail")
    for _ in range(5):
        try: one(b"{secrets.word("grpc message")}", metadata=metadata, timeout=30)
        except grpc.RpcError as e: assert e.code() is grpc.StatusCode.NOT_FOUND
"""
        left.scene.run(code, name="grpc-secrets")
        rows = left.wait_rows("grpc", port, 10)

    assert {r["target"] for r in rows} == {"/farcall.test.Echo/Fail"}
    assert not secrets.find_in(left.read())


def test_redis_commands(left: Leavings, secrets: Secrets) -> None:
    scene = left.scene
    once = Retry(NoBackoff(), 0)
    with redis.Redis(host=scene.address, port=scene.port, protocol=2, retry=once) as client:
        for words in (
            ("SET", secrets.word("key"), secrets.odd("value")),
            ("GET", "k"),
            ("AUTH", secrets.word("AUTH")),
            ("AUTH", "me", secrets.word("AUTH of a user")),
            ("HELLO", "2", "AUTH", "me", secrets.word("HELLO")),
            ("CONFIG", "SET", "masterauth", secrets.word("CONFIG SET")),
            ("ACL", "SETUSER", "bob", f">{secrets.word('ACL')}"),
            ("EVAL", f"return redis.error_reply('{secrets.word('error')} no')", "0"),
            ("MIGRATE", "127.0.0.1", "9", "k", "0", "1", "AUTH", secrets.word("MIGRATE")),
            ("SET", "large", secrets.word("large value") + "x" * 100_000),
            ("CLIENT", "SETNAME", secrets.word("CLIENT SETNAME")),
            ("PUBLISH", "news", secrets.word("PUBLISH")),
        ):
            try:
                client.execute_command(*words)
            except redis.RedisError:
                pass
        with client.pipeline(transaction=True) as pipe:
            for _ in range(40):
                pipe.set("k", secrets.word("MULTI"))
            pipe.execute()
    with socket.create_connection((scene.address, scene.port)) as link:
        link.sendall(f"AUTH {secrets.word('inline AUTH')}\r\n".encode())
        assert link.recv(4096)
    shown = {"SET ? ?", "AUTH ?", "AUTH ? ?", "HELLO ? ? ? ?", "CONFIG SET ? ?", "ACL SETUSER ? ?"}
    shown |= {"EVAL ? ?", "MIGRATE ? ? ? ? ? ? ?", "CLIENT SETNAME ?", "PUBLISH ? ?", "MULTI"}
    left.wait_targets(scene.port, shown)

    assert not secrets.find_in(left.read())


def test_memcached_commands(left: Leavings, secrets: Secrets) -> None:
    key, value = secrets.word("key"), secrets.word("value")
    binary = struct.pack(">BBHBBHIIQ", 0x80, 1, 24, 8, 0, 0, 56, 0, 0) + bytes(8)
    asked = [
        f"set {key} 0 0 24\r\n{value}\r\n".encode(),
        f"get {key} {secrets.word('second key')}\r\n".encode(),
        f"ms {key} 24\r\n{secrets.word('value of meta')}\r\n".encode(),
        f"cas {key} 0 0 24 1\r\n{secrets.word('value of cas')}\r\n".encode(),
        f"incr {key} 1\r\n".encode(),
        f"set user 0 0 {len(key) + len(value) + 1}\r\n{key} {value}\r\n".encode(),  # how it logs in
    ]
    with running_memcached() as port:
        for requests in (asked, [binary + f"{key}{secrets.word('binary value')}".encode()]):
            with socket.create_connection(("127.0.0.1", port)) as link:
                for request in requests:
                    link.sendall(request)
                    assert link.recv(4096)
        rows = left.wait_rows("memcached", port, 14)

    assert {"set ?", "get ? ?", "ms ?", "cas ?"} <= {r["target"] for r in rows}
    assert not secrets.find_in(left.read())


def test_dns_answers_beside_the_name_and_its_addresses(left: Leavings, secrets: Secrets) -> None:
    """What a TXT record says, and an option of EDNS."""
    address = left.scene.resolver.removesuffix(".53") + ".54"
    words = [f"--listen-address={address}", "--bind-interfaces", "--no-resolv", "--no-hosts"]
    words += [f"--txt-record=leaky.live.test,{secrets.word('TXT record')}"]
    with child("dnsmasq", "-k", "-p53", *words, "--host-record=leaky.live.test,203.0.113.77"):
        option = dns.edns.GenericOption(65_001, secrets.word("EDNS option").encode())

        def ask(kind: str) -> bool:
            asked = dns.message.make_query("leaky.live.test", kind, use_edns=0, options=[option])
            try:
                return bool(dns.query.udp(asked, address, timeout=1).answer)
            except (OSError, dns.exception.Timeout):
                return False

        wait(lambda: ask("A"))
        assert ask("TXT") and ask("A")
    left.scene.exporter.wait_for(
        lambda _: any(
            row["question"] == "leaky.live.test"
            for table in left.scene.exporter.batches("dns")
            for row in table.to_pylist()
        )
    )

    assert b"leaky.live.test" in left.read()["cache"]
    assert not secrets.find_in(left.read())


def test_protocols_that_nobody_reads(left: Leavings, secrets: Secrets) -> None:
    said = [f"USER bob\r\nPASS {secrets.word('PASS')}\r\n".encode()]
    said += [struct.pack("<I", 3_000_000) + secrets.word("binary").encode()]
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for asked in said:
            with socket.create_connection(("127.0.0.1", port)) as client:
                taken, _ = server.accept()
                with taken:
                    taken.sendall(f"220 {secrets.word('greeting')}\r\n".encode())
                    assert client.recv(4096)
                    client.sendall(asked)
                    assert taken.recv(4096)
                    taken.sendall(f"535 {secrets.word('refusal')}\r\n".encode())
                    assert client.recv(4096)
        rows = left.wait_rows("tcp", port, 4)

    assert {r["target"] for r in rows} == {None}
    assert not secrets.find_in(left.read())


def test_what_processes_are_started_with(left: Leavings, secrets: Secrets, tmp_path: Path) -> None:
    script = tmp_path / "inventory.py"
    script.write_text(
        "import socket, sys\n"
        "link = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "link.sendall(b'*1\\r\\n$4\\r\\nPING\\r\\n'); link.recv(99); sys.stdin.read()\n"
    )
    environment = {
        "API_TOKEN": secrets.word("environment"),
        "OTEL_RESOURCE_ATTRIBUTES": f"token={secrets.word('resource attribute')}",
    }
    words = [f"--password={secrets.word('option')}", secrets.word("argument")]
    where = (left.scene.address, str(left.scene.port))
    argv = (sys.executable, str(script), *where, *words)
    with child(*argv, env=environment, stdin=subprocess.PIPE):
        wait(lambda: left.rows(lambda r: r["service"] == "inventory"))

    assert not secrets.find_in(left.read())


def test_what_masking_hides_is_there_without_it_and_passwords_are_not(tmp_path: Path) -> None:
    """So that the search above is known to find something."""
    shown, hidden = Secrets(), Secrets()
    with running_leavings(tmp_path, spec={"capture": {"masking": {"enabled": False}}}) as left:
        with web_server(hidden) as port, redis.Redis(left.scene.address, left.scene.port) as client:
            curl(*secret_words(hidden), f"http://127.0.0.1:{port}/?token={shown.word('query')}")
            client.set("k", shown.word("Redis value"))
            with pytest.raises(redis.RedisError):
                client.execute_command("AUTH", hidden.word("AUTH"))
            left.wait_rows("http", port, 2)
            left.wait_rows("redis", left.scene.port, 4)
        found = shown.find_in(left.read())

        assert {"query → batches", "Redis value → batches", "Redis value → tail"} <= set(found)
        assert not hidden.find_in(left.read())
