"""Node.js has its own OpenSSL in the program and makes its system calls outside of it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from farcall_probes.events import PROTO_HTTP1, Flag
from farcall_probes.probes import KernelCapture
from support_probes import Watch
from support_tlslib import make_certificate, probed

pytestmark = pytest.mark.bpf

COUNT = 23
SERVER = """
const https = require('https'), fs = require('fs'), [cert, key] = process.argv.slice(2);
const s = https.createServer({cert: fs.readFileSync(cert), key: fs.readFileSync(key)}, (q, r) => r.end('hi'));
s.listen(0, '127.0.0.1', () => console.log(s.address().port));
"""
CLIENT = """
const https = require('https'), fs = require('fs'), [cert, port, count] = process.argv.slice(2);
const agent = new https.Agent({keepAlive: true, maxSockets: 1}), ca = fs.readFileSync(cert);
const ask = i => i == count ? agent.destroy() : https.get(
  {host: 'localhost', port, path: '/' + i, agent, ca}, r => r.resume().on('end', () => ask(i + 1)));
ask(0);
"""


def test_node_is_read_at_both_ends(capture: KernelCapture, watch: Watch, tmp_path: Path) -> None:
    node = os.path.realpath(shutil.which("node") or "node")
    (tmp_path / "server.js").write_text(SERVER)
    (tmp_path / "client.js").write_text(CLIENT)
    certificate = make_certificate(tmp_path)
    with probed(capture, node):
        server = subprocess.Popen(
            [node, tmp_path / "server.js", *certificate], stdout=subprocess.PIPE, text=True
        )
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            ask = [node, tmp_path / "client.js", certificate[0], str(port), str(COUNT)]
            subprocess.run(ask, check=True, timeout=60)
        finally:
            server.kill()
            server.communicate()
    assert watch.count("large_lost") == 0
    client, at_server = ([s for s in side if s.proto == PROTO_HTTP1] for side in watch.sides(port))

    assert [s.path for s in at_server] == [f"/{i}" for i in range(COUNT)]
    # The client gives the bytes of a connection's first request back before they leave: that one is not read.
    assert [s.path for s in client] == [f"/{i}" for i in range(1, COUNT)]
    assert all(s.status == 200 and s.flags & Flag.TLS for s in client + at_server)
    assert [s.key for s in client] == [s.key for s in at_server[1:]]
