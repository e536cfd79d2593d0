"""Node.js has its own OpenSSL in the program and makes its system calls outside of it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from farcall_probes.events import PROTO_HTTP1, PROTO_HTTP2, Flag
from farcall_probes.probes import KernelCapture
from farcall_probes.wire.http2 import HEADERS
from support_probes import CLIENT, SERVER, Watch
from support_segments import REQUEST, RESPONSE, list_segments
from support_tlslib import make_certificate, probed

pytestmark = pytest.mark.bpf

COUNT = 23
HTTPS_SERVER = """
const https = require('https'), fs = require('fs'), [cert, key, maxVersion] = process.argv.slice(2);
const options = {cert: fs.readFileSync(cert), key: fs.readFileSync(key), maxVersion};
const s = https.createServer(options, (q, r) => q.resume().on('end', () => r.end('hi')));
s.listen(0, '127.0.0.1', () => console.log(s.address().port));
"""
HTTP2_SERVER = """
const http2 = require('http2'), fs = require('fs'), [cert, key] = process.argv.slice(2);
const s = http2.createSecureServer({cert: fs.readFileSync(cert), key: fs.readFileSync(key)});
s.on('stream', t => { t.respond({':status': 200}); t.end('hi'); });
s.listen(0, '127.0.0.1', () => console.log(s.address().port));
"""
# One connection, one request after another.
KEPT_CLIENT = """
const https = require('https'), fs = require('fs'), [cert, port, count] = process.argv.slice(2);
const agent = new https.Agent({keepAlive: true, maxSockets: 1}), ca = fs.readFileSync(cert);
const ask = i => i == count ? agent.destroy() : https.get(
  {host: 'localhost', port, path: '/' + i, agent, ca}, r => r.resume().on('end', () => ask(i + 1)));
ask(0);
"""
# A connection of its own for each, all at once; each longer than a record holds.
FRESH_CLIENT = """
const https = require('https'), fs = require('fs'), [cert, port, count] = process.argv.slice(2);
const ca = fs.readFileSync(cert), headers = {'x-token': 't'.repeat(900), 'content-length': 3000};
for (let i = 0; i < count; i++)
  https.request({host: 'localhost', port, path: '/' + i, method: 'POST', agent: false, ca, headers},
    r => r.resume()).end('b'.repeat(3000));
"""
FETCH_CLIENT = """
const [cert, port, count] = process.argv.slice(2);
const ask = async () => { for (let i = 0; i < count; i++) await (await fetch(`https://localhost:${port}/${i}`)).text(); };
ask();
"""
HTTP2_CLIENT = """
const http2 = require('http2'), fs = require('fs'), [cert, port, count] = process.argv.slice(2);
const c = http2.connect(`https://localhost:${port}`, {ca: fs.readFileSync(cert)});
const ask = i => i == count ? c.close()
  : c.request({':path': '/' + i}).resume().on('end', () => ask(i + 1));
ask(0);
"""


@contextmanager
def serving(directory: Path, script: str, *more: str) -> Iterator[tuple[str, str, int]]:
    """(node, certificate, port)"""
    node = os.path.realpath(shutil.which("node") or "node")
    (directory / "server.js").write_text(script)
    certificate, key = make_certificate(directory)
    server = subprocess.Popen(
        [node, directory / "server.js", certificate, key, *more], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        yield node, str(certificate), int(server.stdout.readline())
    finally:
        server.kill()
        server.communicate()


def ask(watch: Watch, node: str, directory: Path, script: str, certificate: str, port: int) -> None:
    (directory / "client.js").write_text(script)
    words = [node, directory / "client.js", certificate, str(port), str(COUNT)]
    watch.run(words, {**os.environ, "NODE_EXTRA_CA_CERTS": certificate})


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize("client", [KEPT_CLIENT, FETCH_CLIENT], ids=["https", "fetch"])
def test_every_request_of_a_connection_is_read_at_both_ends(
    capture: KernelCapture, watch: Watch, tmp_path: Path, client: str, version: str
) -> None:
    """The first one too, whose bytes the client gives back before they leave."""
    with serving(tmp_path, HTTPS_SERVER, version) as (node, certificate, port):
        with probed(capture, node):
            ask(watch, node, tmp_path, client, certificate, port)
    assert watch.count("large_lost") == 0
    clients, servers = ([s for s in side if s.proto == PROTO_HTTP1] for side in watch.sides(port))

    assert [s.path for s in servers] == [f"/{i}" for i in range(COUNT)]
    assert [s.path for s in clients] == [f"/{i}" for i in range(COUNT)]
    assert all(s.status == 200 and s.flags & Flag.TLS for s in clients + servers)
    assert [s.key for s in clients] == [s.key for s in servers]
    for side in clients, servers:
        assert len({s.request_bytes - len(s.path) for s in side}) == 1
    assert watch.count("tls_unowned") == 0


def test_connections_with_one_request_each_are_read_at_both_ends(
    capture: KernelCapture, watch: Watch, tmp_path: Path
) -> None:
    with serving(tmp_path, HTTPS_SERVER) as (node, certificate, port):
        with probed(capture, node):
            ask(watch, node, tmp_path, FRESH_CLIENT, certificate, port)
    assert watch.count("large_lost") == 0
    clients, servers = ([s for s in side if s.proto == PROTO_HTTP1] for side in watch.sides(port))

    for side in clients, servers:
        assert sorted(s.path for s in side) == sorted(f"/{i}" for i in range(COUNT))
        assert len({s.request_bytes - len(s.path) for s in side}) == 1
        assert all(s.status == 200 and s.flags & Flag.TLS for s in side)
    assert clients[0].request_bytes > 3900
    assert {s.key for s in clients} == {s.key for s in servers}
    # What the client writes before its handshakes end is not taken by the library, and no loss.
    assert watch.count("tls_unowned") == 0
    heads = watch.heads(clients[0].conn_id)
    assert b"".join(bytes(h["data"])[: int(h["cap"])] for h in heads).count(b"t" * 900) == 1


def test_http2_streams_are_read_at_both_ends(
    capture: KernelCapture, watch: Watch, tmp_path: Path
) -> None:
    with serving(tmp_path, HTTP2_SERVER) as (node, certificate, port):
        with probed(capture, node):
            ask(watch, node, tmp_path, HTTP2_CLIENT, certificate, port)

    for role in (CLIENT, SERVER):
        segments = [s for s in list_segments(watch, port, role=role) if s.proto == PROTO_HTTP2]
        for kind in (REQUEST, RESPONSE):
            frames = [s.data for s in segments if s.kind == kind and s.data[3] == HEADERS]
            streams = [int.from_bytes(frame[5:9]) for frame in frames]
            assert streams == [2 * i + 1 for i in range(COUNT)]
