"""HTTPS between programs that know nothing of farcall is read as HTTP is, with the agent that `farcall up` starts."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support_e2e import Up, farcall_up, run_farcall, wait_until

pytestmark = pytest.mark.e2e

HOST = "secure.e2e.test"
CALLS = 5
SERVER = """
import http.server, ssl, sys

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with farcall_up(tmp_path_factory.mktemp("https"), "hobby.yaml") as started:
        yield started


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("certificate")
    certificate, key = folder / "tls.crt", folder / "tls.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key


def test_every_https_call_of_curl_to_python_is_one_span_joined_at_both_ends(
    up: Up, certificate: tuple[Path, Path]
) -> None:
    command = ["/usr/bin/python3", "-c", SERVER, *map(str, certificate)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            wait_until(lambda: is_read(up, port, certificate[0]), 30, lambda: "nothing was read")
            for number in range(CALLS):
                call(port, certificate[0], f"/pay/{number}?card=4111")
            wait_until(
                lambda: len(list_paid(up, port)) == CALLS,
                30,
                lambda: f"{len(list_paid(up, port))} of {CALLS}",
            )
        finally:
            server.terminate()

    for span in list_paid(up, port):
        attributes = span["attributes"]
        assert (span["kind"], span["service"], span["name"]) == ("Client", "curl", "GET /pay/{id}")
        assert (attributes["url.scheme"], attributes["url.query"]) == ("https", "card=?")
        assert attributes["http.response.status_code"] == "200"
        assert attributes["farcall.join"] == "exact"


def call(port: int, certificate: Path, path: str) -> None:
    command = ["curl", "--silent", "--fail", "--cacert", certificate]
    command += ["--resolve", f"{HOST}:{port}:127.0.0.1", f"https://{HOST}:{port}{path}"]
    assert subprocess.run(command, check=True, capture_output=True).stdout == b"ok"


def is_read(up: Up, port: int, certificate: Path) -> bool:
    """New libraries are found within a second: what came before is a connection of sealed bytes."""
    call(port, certificate, "/warm")
    time.sleep(0.5)
    return any(span["name"] == "GET /warm" for span in list_spans(up, port))


def list_paid(up: Up, port: int) -> list[dict[str, Any]]:
    """The last of the calls before may come late."""
    return [span for span in list_spans(up, port) if span["name"] != "GET /warm"]


def list_spans(up: Up, port: int) -> list[dict[str, Any]]:
    """Spans of calls to the port that were read, the newest first."""
    where = ["--run-root", str(up.run_root), "-o", "ndjson", "--limit", "1000"]
    done = run_farcall("spans", "-q", f"server.port:{port} http.request.method:GET", *where)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
