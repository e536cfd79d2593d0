"""Protocols with many requests at once inside TLS: the plaintext that a library writes and reads goes the way of any bytes."""

from pathlib import Path

import numpy as np
import pytest

from farcall_probes import events
from farcall_probes.events import PROTO_HTTP2, Flag
from farcall_probes.pairing import Pairer
from farcall_probes.probes import KernelCapture
from farcall_probes.wire import http2
from support_http2 import Talk, frame, get_headers
from support_probes import CLIENT, SERVER, Watch
from support_segments import (
    CLOSED,
    REQUEST,
    RESPONSE,
    Make,
    cassandra_request,
    each_protocol,
    list_segments,
    texts,
)
from support_tlslib import find_own_libssl, make_certificate, open_tls_pair, probed

pytestmark = pytest.mark.bpf

SETTINGS = frame(http2.SETTINGS, 0, 0, b"")


def test_frames_inside_of_tls_are_segments_at_both_ends(
    watch: Watch, capture: KernelCapture, tmp_path: Path
) -> None:
    talk = Talk()

    def headers(direction: int, stream: int, names: list[tuple[str, str]]) -> bytes:
        (record,) = talk.headers(direction, stream, names)
        return bytes(record["req"][0])[: int(record["req_cap"][0])]

    asked, answered = [], []
    capture.enable(only_own=True)
    try:
        with probed(capture, find_own_libssl().path):
            pair = open_tls_pair(make_certificate(tmp_path))
            pair.exchange(http2.PREFACE + SETTINGS, SETTINGS)
            for n in range(20):
                stream = 2 * n + 1
                asked.append(headers(0, stream, list(get_headers(f"/{n}", ("x-n", str(n))))))
                answered.append(headers(1, stream, [(":status", "200"), ("x-n", str(n))]))
                data = frame(http2.DATA, 1, stream, b"d" * 300)
                pair.exchange(asked[-1] + data, answered[-1] + data)
            pair.close()
    finally:
        capture.enable()

    for role in (CLIENT, SERVER):
        segments = list_segments(watch, pair.port, role=role)
        assert texts(segments, REQUEST) == asked
        assert texts(segments, RESPONSE) == answered
        assert {s.proto for s in segments} == {PROTO_HTTP2}
        assert all(s.flags & Flag.TLS for s in segments if s.kind != CLOSED)
        assert not any(s.flags & (Flag.LATE | Flag.CUT) for s in segments)
        bodies = {(int(s.record["ended"]), int(s.record["ts_resp_ns"])) for s in segments[:-1]}
        assert bodies == {(events.ENDED_STREAM, 309)}
    places = {
        role: [
            (int(s.record["isn_client"]), int(s.record["isn_server"]), s.request_seq)
            for s in list_segments(watch, pair.port, role=role)
            if s.kind == REQUEST and s.flags & Flag.IDENTITY
        ]
        for role in (CLIENT, SERVER)
    }
    assert len(places[CLIENT]) >= 19 and places[CLIENT] == places[SERVER]


@each_protocol
def test_requests_of_one_record_have_a_place_each_and_the_same_at_both_ends(
    watch: Watch,
    capture: KernelCapture,
    tmp_path: Path,
    ask: Make,
    answer: Make,
) -> None:
    """Cassandra's numbers come again in every round."""
    is_reused = ask is cassandra_request
    capture.enable(only_own=True)
    try:
        with probed(capture, find_own_libssl().path):
            pair = open_tls_pair(make_certificate(tmp_path))
            for n in range(5):
                numbers = range(3) if is_reused else range(3 * n + 1, 3 * n + 4)
                pair.exchange(b"".join(map(ask, numbers)), b"".join(map(answer, numbers)))
            pair.close()
    finally:
        capture.enable()

    keys = []
    for role in (CLIENT, SERVER):
        records = [s.record for s in list_segments(watch, pair.port, role=role)]
        found = Pairer().take(np.array(records, dtype=events.LARGE))
        assert found is not None and len(found) == 15
        names = ["isn_client", "isn_server", "request_seq"]
        keys.append(found[names][found["flags"] & events.FLAG_IDENTITY != 0].tolist())
    assert len(set(keys[0])) == len(keys[0]) >= 12 and keys[0] == keys[1]
