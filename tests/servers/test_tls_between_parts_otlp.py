"""Spans out by OTLP over HTTPS to a real server: whose certificate is trusted, and headers from a mounted Secret."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from farcall import tlsfiles
from farcall.effective import ExporterConfig
from farcall_exporter.otlpout import HttpPost
from support_tls import HOST, Files, make_files, write_files

pytestmark = pytest.mark.servers
FILES = make_files()


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.seen.append(dict(self.headers.items()))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def receiving(folder: Path, files: Files) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """The endpoint, and the headers that it has been sent."""
    write_files(folder, files)
    server = http.server.ThreadingHTTPServer((HOST, 0), Receiver)
    context = tlsfiles.make_server_context(folder / "tls.crt", folder / "tls.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # refused handshakes are what is tested
    seen: list[dict[str, str]] = []
    server.seen = seen  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"https://{HOST}:{server.server_port}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_given_authority_is_trusted_and_followed(tmp_path: Path) -> None:
    ca_file = tmp_path / "otlp-ca.crt"
    ca_file.write_text(make_files()[tlsfiles.CA])
    with receiving(tmp_path / "server", FILES) as (endpoint, seen):
        post = HttpPost(ExporterConfig(otlp_out_endpoint=endpoint, otlp_out_ca_file=str(ca_file)))
        refused = post(b"x")
        assert (refused.status, seen) == (0, [])
        assert "is not of our certificate authority" in refused.why

        ca_file.write_text(FILES[tlsfiles.CA])
        assert post(b"x").status == 200


def test_without_one_the_systems_authorities_are_asked(tmp_path: Path) -> None:
    with receiving(tmp_path / "server", FILES) as (endpoint, seen):
        reply = HttpPost(ExporterConfig(otlp_out_endpoint=endpoint))(b"x")

        assert (reply.status, seen) == (0, [])
        assert reply.why


@pytest.mark.parametrize("files", [make_files(age=timedelta(days=400)), make_files(name="b.c")])
def test_only_who_asks_for_it_skips_the_check(tmp_path: Path, files: Files) -> None:
    with receiving(tmp_path / "server", files) as (endpoint, _):
        ca_file = str(tmp_path / "server" / tlsfiles.CA)
        pinned = ExporterConfig(otlp_out_endpoint=endpoint, otlp_out_ca_file=ca_file)
        assert HttpPost(pinned)(b"x").status == 0
        skipped = ExporterConfig(otlp_out_endpoint=endpoint, otlp_out_skip_verify=True)
        assert HttpPost(skipped)(b"x").status == 200


def test_headers_come_from_the_mounted_files_as_they_are_now(tmp_path: Path) -> None:
    folder = tmp_path / "headers"
    data = folder / "..data"  # as the kubelet lays a Secret out
    data.mkdir(parents=True)
    (data / "Authorization").write_text("Bearer one\n")
    (folder / "Authorization").symlink_to("..data/Authorization")
    with receiving(tmp_path / "server", FILES) as (endpoint, seen):
        post = HttpPost(
            ExporterConfig(
                otlp_out_endpoint=endpoint,
                otlp_out_ca_file=str(tmp_path / "server" / tlsfiles.CA),
                otlp_out_headers_dir=str(folder),
            )
        )
        assert post(b"x").status == 200
        (data / "Authorization").write_text("Bearer two")
        assert post(b"x").status == 200

    assert [h["authorization"] for h in seen] == ["Bearer one", "Bearer two"]
    assert {h["content-type"] for h in seen} == {"application/x-protobuf"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-key", b"hunter2\r\nx-other: injected"),
        ("x-key", "hunter2 with ümlaut".encode()),
        ("x..", b"hunter2\x00"),
    ],
)
def test_an_unusable_header_is_told_without_what_it_holds(
    tmp_path: Path, name: str, value: bytes
) -> None:
    folder = tmp_path / "headers"
    folder.mkdir()
    (folder / name).write_bytes(value)
    with receiving(tmp_path / "server", FILES) as (endpoint, seen):
        reply = HttpPost(
            ExporterConfig(
                otlp_out_endpoint=endpoint,
                otlp_out_ca_file=str(tmp_path / "server" / tlsfiles.CA),
                otlp_out_headers_dir=str(folder),
            )
        )(b"x")

        assert (reply.status, seen) == (0, [])
    assert name in reply.why
    assert "hunter2" not in reply.why
