"""gRPC over TLS of grpcio, from both ends' plaintext to the exporter's join: each call is one span with its server's sight."""

import os
import sys
from pathlib import Path

import pytest

from farcall_probes.elf import ElfFile
from farcall_probes.libraries import find_points
from support_http2_live import free_port, watching
from support_join import Exporter
from support_tlscode import find_in_package
from support_tlslib import make_certificate

pytestmark = pytest.mark.bpf

CHANNELS, EACH = 25, 8
# Both ends; the first calls of a connection leave together with the end of its handshake.
GRPC = """
import sys, grpc
from concurrent.futures import ThreadPoolExecutor
port, channels, each = map(int, sys.argv[1:4])
certificate, key = (open(path, 'rb').read() for path in sys.argv[4:6])
server = grpc.server(ThreadPoolExecutor(8))
echo = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler('tls.Echo', {'Say': echo})])
server.add_secure_port(f'127.0.0.1:{port}', grpc.ssl_server_credentials([(key, certificate)]))
server.start()
credentials = grpc.ssl_channel_credentials(certificate)
def call(number):
    options = [('grpc.use_local_subchannel_pool', 1)]
    with grpc.secure_channel(f'localhost:{port}', credentials, options) as channel:
        say = channel.unary_unary('/tls.Echo/Say')
        for waiting in [say.future(b'%d' % turn) for turn in range(each)]:
            waiting.result()
with ThreadPoolExecutor(channels) as pool:
    list(pool.map(call, range(channels)))
server.stop(0).wait()
"""


def test_each_call_of_grpcio_over_tls_is_one_span_that_both_ends_know(tmp_path: Path) -> None:
    port, total = free_port(), CHANNELS * EACH
    certificate = make_certificate(tmp_path)
    fd = os.open(find_in_package("grpc", "grpc/_cython/cygrpc*.so"), os.O_RDONLY)
    with watching(tmp_path) as live:
        assert live.capture.tls is not None
        found = find_points(ElfFile(fd))
        assert found is not None
        attached = live.capture.tls.attach(fd, found[1])
        os.close(fd)
        try:
            numbers = map(str, (port, CHANNELS, EACH))
            assert live.run(sys.executable, "-c", GRPC, *numbers, *certificate) == []
            client, server = live.take(port, total)
        finally:
            attached.close()

    keys = [
        {(row["isn_client"], row["isn_server"], row["request_seq"]) for row in end}
        for end in (client, server)
    ]
    assert len(client) == len(server) == len(keys[0]) == total
    assert keys[0] == keys[1]
    exporter = Exporter()
    exporter.take(*client, *server)
    exporter.wait(60)
    assert len(exporter.spans) == total
    assert {span["SpanAttributes"]["farcall.join"] for span in exporter.spans} == {"exact"}
