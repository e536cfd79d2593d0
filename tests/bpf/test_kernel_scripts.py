"""HTTPS calls of PHP and Ruby, by each of their usual clients, are read at the system's libssl, which both are linked with."""

import shutil
import subprocess
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from farcall_probes.events import PROTO_HTTP1, Flag
from farcall_probes.probes import KernelCapture
from support_http import running_http
from support_probes import Watch
from support_tlslib import libraries_of, make_certificate

pytestmark = pytest.mark.bpf

COUNT = 23
# Each says that it is there, so that its library is found while it waits, and then calls with a header and a body to send.
PHP_STREAM = """
[, $url, $ca, $count] = $argv;
echo "ready\\n"; fgets(STDIN);
$context = stream_context_create([
  'ssl' => ['cafile' => $ca], 'http' => ['method' => 'POST', 'content' => 'q=1', 'header' => 'Content-Type: text/plain']]);
for ($i = 0; $i < $count; $i++)
  if (file_get_contents("$url/$i?from=script", false, $context) !== 'hi') exit(1);
"""
PHP_CURL = """
[, $url, $ca, $count] = $argv;
$curl = curl_init();
echo "ready\\n"; fgets(STDIN);
curl_setopt_array($curl, [CURLOPT_CAINFO => $ca, CURLOPT_RETURNTRANSFER => true, CURLOPT_POSTFIELDS => 'q=1']);
for ($i = 0; $i < $count; $i++) {
  curl_setopt($curl, CURLOPT_URL, "$url/$i?from=script");
  if (curl_exec($curl) !== 'hi') exit(1);
}
"""
RUBY = """
require 'net/http'; require 'openssl'
url, ca, count = ARGV
puts 'ready'; $stdout.flush; $stdin.gets
uri = URI(url)
Net::HTTP.start(uri.host, uri.port, use_ssl: true, ca_file: ca) do |http|
  count.to_i.times { |i| exit 1 unless http.post("/#{i}?from=script", 'q=1').body == 'hi' }
end
"""
PROGRAMS = {
    "php's streams": ("php", "-r", PHP_STREAM, "--"),
    "php's curl": ("php", "-r", PHP_CURL, "--"),
    "ruby's net/http": ("ruby", "-e", RUBY, "--"),
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"hi")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.parametrize("program", PROGRAMS)
def test_https_calls_of_a_script_are_read(
    capture: KernelCapture, watch: Watch, tmp_path: Path, program: str
) -> None:
    words = PROGRAMS[program]
    assert shutil.which(words[0]), "run `make setup-test`"
    certificate = make_certificate(tmp_path)
    with running_http(_Handler, certificate) as port:
        url = f"https://localhost:{port}"
        client = subprocess.Popen(
            [*words, url, str(certificate[0]), str(COUNT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert client.stdin is not None and client.stdout is not None
            assert client.stdout.readline() == "ready\n"
            with libraries_of(capture, tmp_path, client.pid) as libraries:
                used = libraries.list_libraries()
                assert ["/libssl.so" in x.path for x in used] == [True], libraries.refused
                client.stdin.write("go\n")
                client.stdin.flush()
                watch.drain_until(client)
            assert client.returncode == 0
        finally:
            client.kill()
            client.communicate()
        seen = [s for s in watch.sides(port)[0] if s.tgid == client.pid and s.proto == PROTO_HTTP1]

    paths, made = [s.path for s in seen], [f"/{i}?from=script" for i in range(COUNT)]
    assert seen and paths == [path for path in made if path in paths]
    assert COUNT - len(seen) <= watch.count_lost()
    assert all(s.request.startswith(b"POST ") and s.status == 200 for s in seen)
    assert all(s.flags & Flag.TLS for s in seen)
