"""Agents and the exporter by TLS, real processes and real files: pinned, renewed while it runs, and honest about faults."""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from farcall import secretfiles, tlsfiles
from farcall.effective import render_effective
from farcall_operator import certificates
from farcall_operator.agents import fetch_agents
from farcall_probes.sender import Batch, Sender
from support_exporter import batch, exchange
from support_exporter_process import ExporterProcess
from support_local import wait_until
from support_status import make_agent_status
from support_tls import (
    HOST,
    Files,
    make_files,
    now,
    read_serial,
    renew,
    running_tls_exporter,
    serial_of,
    write_files,
)

pytestmark = pytest.mark.servers
LONG_AGO = timedelta(days=400)


@pytest.fixture(scope="module")
def authority() -> certificates.Authority:
    return certificates.make_authority("test", now())


@pytest.fixture(scope="module")
def exporter(authority: certificates.Authority) -> Iterator[ExporterProcess]:
    with TemporaryDirectory(prefix="fc-", dir="/tmp") as name:
        with running_tls_exporter(Path(name), renew(authority)) as exporter:
            yield exporter


@pytest.fixture
def good(exporter: ExporterProcess, authority: certificates.Authority) -> Files:
    """The exporter serves a fresh certificate of the authority, whatever a test before did to it."""
    files = renew(authority)
    serve(exporter, files)
    return files


def serve(exporter: ExporterProcess, files: Files) -> None:
    write_files(exporter.folder / "secrets", files)
    own = exporter.folder / "own-ca.crt"
    write_files(exporter.folder, {own.name: files[tlsfiles.CA]})
    wanted = serial_of(files)

    def is_served() -> bool:
        try:
            return read_serial(exporter.ingest_port, own) == wanted
        except ssl.SSLCertVerificationError:  # expired or for another name on purpose, or not yet
            return read_unchecked(exporter.ingest_port) == wanted

    wait_until(is_served, what="the exporter serves the certificate")


def read_unchecked(port: int) -> int:
    pem = ssl.get_server_certificate((HOST, port), timeout=10)
    return certificates.read_certificates(pem)[0].serial_number


@contextmanager
def sending(exporter: ExporterProcess, folder: Path, ca: str) -> Iterator[Sender]:
    """An agent's sender with a secrets folder of its own, and a boot of its own."""
    write_files(folder, {tlsfiles.CA: ca, secretfiles.INGEST_TOKEN: exporter.token})
    sender = Sender(
        url=exporter.config.endpoints.exporter_ingest,
        secrets_dir=str(folder),
        make_status=lambda: make_agent_status(boot_id=BOOT),
        status_every_s=3600,
    )
    sender.start()
    try:
        yield sender
    finally:
        sender.stop(1.0)


BOOT = os.urandom(16).hex()


def put(sender: Sender) -> int:
    put.number += 1  # type: ignore[attr-defined]
    number: int = put.number  # type: ignore[attr-defined]
    payload = batch([exchange(connection_id=number)], number=number, boot=BOOT)
    sender.put(Batch(kind="exchanges", number=number, rows=1, payload=payload))
    return number


put.number = 0  # type: ignore[attr-defined]


def wait_sent(sender: Sender, rows: int) -> None:
    wait_until(
        lambda: sender.counters().get("sent_exchanges", 0) >= rows, what=f"{rows} rows are sent"
    )


def test_batches_go_on_while_the_certificate_is_renewed(
    exporter: ExporterProcess, authority: certificates.Authority, good: Files, tmp_path: Path
) -> None:
    with sending(exporter, tmp_path / "s", good[tlsfiles.CA]) as sender:
        put(sender)
        wait_sent(sender, 1)
        for _ in range(3):
            files = renew(authority)
            serve(exporter, files)  # new connections are shown the new one …
            assert read_serial(exporter.ingest_port, tmp_path / "s" / tlsfiles.CA) == serial_of(
                files
            )
            put(sender)  # … and the open one goes on
        wait_sent(sender, 4)

        assert sender.counters().get("send_failures", 0) == 0
        assert sender.counters().get("send_tls_failures", 0) == 0
    assert exporter.process is not None
    assert exporter.process.poll() is None
    assert "the new certificate is in force" in exporter.read_log()


def test_an_authority_is_replaced_without_one_refused_batch(
    exporter: ExporterProcess, authority: certificates.Authority, good: Files, tmp_path: Path
) -> None:
    """Announced, taken over, forgotten: at each step the agent's file may be one step ahead or behind."""
    due = certificates.due_at(authority.current.certificate)
    steps = [authority]
    for day in range(3):
        steps.append(certificates.advance(steps[-1], "test", due + timedelta(days=day)))
    # `advance` gave the next authority a life that begins then; here it must be valid today.
    fresh = certificates.make_issuer("test", now())
    announced = certificates.Authority(current=authority.current, next=fresh, since=now())
    taken = certificates.Authority(
        current=fresh, previous=authority.current.certificate, since=now()
    )
    alone = certificates.Authority(current=fresh, since=now())
    assert [bool(s.next) for s in steps] == [False, True, False, False]
    assert [bool(s.previous) for s in steps] == [False, False, True, False]

    folder = tmp_path / "s"
    with sending(exporter, folder, good[tlsfiles.CA]) as sender:
        for rows, (served, trusted) in enumerate(
            [(authority, announced), (taken, announced), (taken, taken), (taken, alone)], 1
        ):
            write_files(folder, {tlsfiles.CA: trusted.bundle})
            serve(exporter, renew(served))
            put(sender)
            wait_sent(sender, rows)
        assert sender.counters().get("send_tls_failures", 0) == 0


FAULTS: dict[str, tuple[Callable[[certificates.Authority], Files] | None, str | None, str]] = {
    # cause → what the exporter serves, what the agent trusts (None: as it should be), what the log says
    "ca": (None, make_files()[tlsfiles.CA], "is not of our certificate authority"),
    "expired": (lambda a: renew(a, age=LONG_AGO), None, "has expired"),
    "name": (lambda a: renew(a, name="elsewhere.svc"), None, "is for another host name"),
    "files": (None, "no certificate at all", "cannot be used"),
}


@pytest.mark.parametrize("cause", FAULTS)
def test_a_fault_keeps_the_batches_says_which_and_ends_when_it_is_mended(
    exporter: ExporterProcess,
    authority: certificates.Authority,
    good: Files,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    cause: str,
) -> None:
    served, trusted, said = FAULTS[cause]
    if served:
        serve(exporter, served(authority))
    with sending(exporter, tmp_path / "s", trusted or good[tlsfiles.CA]) as sender:
        put(sender)
        put(sender)
        wait_until(
            lambda: sender.counters().get("send_tls_failures", 0) >= 2,
            what="two faults are counted",
        )
        assert sender.gauges()["queue_batches"] == 2
        assert sender.counters().get("sent_exchanges", 0) == 0
        told = capfd.readouterr()
        assert said in told.out + told.err

        write_files(tmp_path / "s", {tlsfiles.CA: good[tlsfiles.CA]})
        serve(exporter, renew(authority))
        wait_sent(sender, 2)
        assert sender.gauges()["queue_batches"] == 0
    told = capfd.readouterr()
    assert "accepted again" in told.out + told.err


def test_a_connection_is_opened_anew_when_other_authorities_are_trusted(
    exporter: ExporterProcess, good: Files, tmp_path: Path
) -> None:
    with sending(exporter, tmp_path / "s", good[tlsfiles.CA]) as sender:
        put(sender)
        wait_sent(sender, 1)
        write_files(tmp_path / "s", {tlsfiles.CA: make_files()[tlsfiles.CA]})
        put(sender)
        wait_until(lambda: sender.counters().get("send_tls_failures"), what="a fault is counted")

        assert sender.counters()["sent_exchanges"] == 1


def test_two_files_that_do_not_belong_together_leave_the_old_certificate_in_force(
    exporter: ExporterProcess, authority: certificates.Authority, good: Files
) -> None:
    other = renew(authority)
    write_files(exporter.folder / "secrets", {tlsfiles.PRIVATE_KEY: other[tlsfiles.PRIVATE_KEY]})
    wait_until(lambda: "the new certificate is unusable" in exporter.read_log(), what="it is told")
    ca_file = exporter.folder / "secrets" / tlsfiles.CA

    assert read_serial(exporter.ingest_port, ca_file) == serial_of(good)
    write_files(exporter.folder / "secrets", other)
    wait_until(
        lambda: read_serial(exporter.ingest_port, ca_file) == serial_of(other),
        what="the pair is served",
    )


def test_old_versions_and_plain_text_are_refused(exporter: ExporterProcess, good: Files) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.deprecated_call():  # which is why the exporter must refuse it
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection((HOST, exporter.ingest_port), timeout=10) as plain:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            context.wrap_socket(plain, server_hostname=HOST)
    with socket.create_connection((HOST, exporter.ingest_port), timeout=10) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            answer = plain.recv(100)
        except ConnectionError:
            answer = b""
        assert not answer.startswith(b"HTTP/")


def test_the_exporter_does_not_start_without_its_certificate(
    exporter: ExporterProcess, good: Files
) -> None:
    with TemporaryDirectory(prefix="fc-", dir="/tmp") as name:
        folder = Path(name)
        secrets = folder / "secrets"
        write_files(secrets, {n: "x" * 40 for n in secretfiles.ALL})
        config = exporter.config.model_copy(update={"secrets_dir": str(secrets)})
        other = ExporterProcess(exporter.store, exporter.redis, config)
        path = folder / "effective.json"
        path.write_text(render_effective(config))
        process = other.spawn(path, folder / "log")

        assert process.wait(60) == 2
        assert f"{secrets}/tls.crt" in (folder / "log").read_text()


def test_the_exporter_says_why_the_cache_cannot_be_asked_and_when_it_can_again(
    exporter: ExporterProcess, good: Files, tmp_path: Path
) -> None:
    exporter.redis.kill()
    exporter.redis.start()  # what was connected is not any more
    secrets = exporter.folder / "secrets"
    with sending(exporter, tmp_path / "s", good[tlsfiles.CA]) as sender:
        write_files(secrets, {tlsfiles.CA: make_files()[tlsfiles.CA]})

        def is_told(what: str) -> bool:
            put(sender)
            return what in exporter.read_log()

        wait_until(lambda: is_told("is not of our certificate authority"), what="it is told")
        write_files(secrets, {tlsfiles.CA: good[tlsfiles.CA]})
        wait_until(lambda: is_told("the DNS cache is back"), what="it is back")


def test_the_operator_asks_the_exporter_with_the_same_authority(
    exporter: ExporterProcess, good: Files
) -> None:
    url, token = exporter.config.endpoints.exporter_ingest, exporter.token

    assert asyncio.run(fetch_agents(url, token, good[tlsfiles.CA])).problem == ""
    refused = asyncio.run(fetch_agents(url, token, make_files()[tlsfiles.CA])).problem
    assert "certificate" in refused
    assert token not in refused


def test_no_secret_is_in_any_log(exporter: ExporterProcess) -> None:
    """Last in this file: every fault above has been logged by then."""
    secrets = exporter.folder / "secrets"
    logs = "".join(
        (exporter.folder / name).read_text(errors="replace")
        for name in ("exporter.log", "store.log", "redis.log")
    )

    assert "the new certificate is unusable" in logs
    assert "PRIVATE KEY" not in logs
    for name in secretfiles.ALL:
        assert (secrets / name).read_text().strip() not in logs, name
    for line in (secrets / tlsfiles.PRIVATE_KEY).read_text().splitlines()[1:-1]:
        assert line not in logs
