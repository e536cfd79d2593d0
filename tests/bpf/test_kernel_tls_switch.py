"""`spec.capture.tls`: whether TLS libraries are probed, changed while the agent runs."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from farcall_probes.events import PROTO_HTTP1, Flag
from farcall_probes.probes import KernelCapture
from farcall_probes.tlswatch import TlsWatch
from support_probes import OK, Watch, make_request
from support_tlslib import make_certificate, open_tls_pair

pytestmark = pytest.mark.bpf


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_off_lets_go_of_libraries_and_auto_finds_them_again(
    capture: KernelCapture, watch: Watch, tmp_path: Path
) -> None:
    certificate = make_certificate(tmp_path)

    def see_requests() -> int:
        """At both ends of a new connection with one request."""
        pair = open_tls_pair(certificate)
        pair.exchange(make_request("/switch"), OK)
        pair.close()
        seen = [s for s in watch.exchanges(pair.port) if s.proto == PROTO_HTTP1]
        assert all(s.path == "/switch" and s.flags & Flag.TLS for s in seen)
        return len(seen)

    proc = tmp_path / "proc"  # one other process with this one's libssl in it
    proc.mkdir()
    user = subprocess.Popen(
        [sys.executable, "-c", "import ssl, sys; print(flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert user.stdout is not None
    user.stdout.readline()
    (proc / str(user.pid)).symlink_to(f"/proc/{user.pid}")
    tls = TlsWatch(capture.tls, proc=proc, wanted=False)
    tls.start()
    try:
        assert [(c.name, c.on, c.why) for c in tls.capabilities] == [
            ("tls", False, "capture.tls is Off")
        ]
        assert see_requests() == 0
        for _ in range(2):
            tls.set_wanted(True)
            wait(lambda: any("libssl" in c.name and c.on for c in tls.capabilities))
            assert see_requests() == 2
            tls.set_wanted(False)
            wait(lambda: tls.gauges["tls_libraries"] == 0)
            spent_ns = tls.cpu_ns()
            assert see_requests() == 0
    finally:
        tls.stop(60)
        user.communicate()

    assert tls.cpu_ns() >= spent_ns > 0  # it stands when the thread is gone
