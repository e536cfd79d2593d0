"""TLS files: contexts that follow a mounted Secret, and faults told by their cause."""

import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from farcall import tlsfiles
from farcall.tlsfiles import PinnedAuthority, ServerIdentity, TlsFileError, find_tls_fault
from farcall_operator import certificates
from support_tls import Files, make_files, write_files

pytestmark = pytest.mark.unit


class Mount:
    """A folder as the kubelet makes it: files are links through `..data`, which is replaced as a whole."""

    def __init__(self, folder: Path, files: Files) -> None:
        self.folder = folder
        self._count = 0
        folder.mkdir()
        self.replace(files)
        for name in tlsfiles.ALL:
            (folder / name).symlink_to(f"..data/{name}")

    def replace(self, files: Files) -> None:
        self._count += 1
        write_files(self.folder / f"..{self._count}", files)
        new = self.folder / "..data_tmp"
        new.symlink_to(f"..{self._count}")
        os.replace(new, self.folder / "..data")


def read_authorities(context: ssl.SSLContext) -> list[bytes]:
    return context.get_ca_certs(binary_form=True)


def test_a_client_trusts_what_is_in_the_file_alone_and_follows_it(tmp_path: Path) -> None:
    mount = Mount(tmp_path / "m", make_files())
    authority = PinnedAuthority(mount.folder / tlsfiles.CA)
    assert not authority.has_changed()
    first = authority.context()

    assert authority.context() is first
    assert len(read_authorities(first)) == 1
    assert (first.check_hostname, first.verify_mode) == (True, ssl.CERT_REQUIRED)
    assert first.minimum_version == ssl.TLSVersion.TLSv1_2
    mount.replace(make_files())
    assert authority.has_changed()
    second = authority.context()
    assert read_authorities(second) != read_authorities(first)
    assert not authority.has_changed()


@pytest.mark.parametrize("text", ["", "nonsense", None])
def test_an_unusable_authority_is_refused_each_time_until_it_is_mended(
    tmp_path: Path, text: str | None
) -> None:
    file = tmp_path / tlsfiles.CA
    if text is not None:
        file.write_text(text)
    authority = PinnedAuthority(file)
    for _ in range(2):
        with pytest.raises(TlsFileError, match=str(file)):
            authority.context()

    write_files(tmp_path, make_files())
    assert authority.context()


def test_a_broken_authority_is_not_covered_up_by_the_one_before(tmp_path: Path) -> None:
    write_files(tmp_path, make_files())
    authority = PinnedAuthority(tmp_path / tlsfiles.CA)
    authority.context()
    write_files(tmp_path, {tlsfiles.CA: "nonsense"})

    with pytest.raises(TlsFileError):
        authority.context()


@pytest.mark.parametrize("text", ["", "nonsense"])
def test_text_that_names_no_authority_trusts_nobody(text: str) -> None:
    with pytest.raises(TlsFileError, match=r"ca\.crt cannot be used"):
        tlsfiles.make_client_context_of(text)

    context = tlsfiles.make_client_context_of(make_files()[tlsfiles.CA])
    assert len(read_authorities(context)) == 1


def test_a_server_follows_its_mounted_certificate(tmp_path: Path) -> None:
    mount = Mount(tmp_path / "m", make_files())
    identity = ServerIdentity(mount.folder)

    assert not identity.poll()
    mount.replace(make_files())
    assert identity.poll()
    assert not identity.poll()
    mount.replace({**make_files(), tlsfiles.PRIVATE_KEY: make_files()[tlsfiles.PRIVATE_KEY]})
    with pytest.raises(TlsFileError, match=r"tls\.crt"):
        identity.poll()
    assert not identity.poll()  # told once


@pytest.mark.parametrize("name", tlsfiles.SERVER_FILES)
@pytest.mark.parametrize("text", ["", "nonsense", None])
def test_a_server_without_usable_files_does_not_begin(
    tmp_path: Path, name: str, text: str | None
) -> None:
    write_files(tmp_path, make_files())
    (tmp_path / name).unlink()
    if text is not None:
        (tmp_path / name).write_text(text)

    with pytest.raises(TlsFileError, match=str(tmp_path)) as raised:
        ServerIdentity(tmp_path)
    assert "PRIVATE" not in str(raised.value)


def test_a_key_with_a_passphrase_is_refused_and_asks_nobody(tmp_path: Path) -> None:
    files = make_files()
    pair = certificates.read_issuer(files[tlsfiles.CERTIFICATE], files[tlsfiles.PRIVATE_KEY])
    locked = pair.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    write_files(tmp_path, {**files, tlsfiles.PRIVATE_KEY: locked.decode()})
    code = (
        "import sys; from farcall.tlsfiles import *\n"
        "try: ServerIdentity(sys.argv[1])\n"
        "except TlsFileError: print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True, text=True, timeout=30, check=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip

    assert done.stdout == "refused\n"
    assert "pass phrase" not in done.stderr


def make_verification_error(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code = code
    error.verify_message = "as OpenSSL says it"
    return error


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (make_verification_error(10), "expired"),
        (make_verification_error(9), "expired"),
        (make_verification_error(62), "name"),
        (make_verification_error(20), "ca"),
        (make_verification_error(18), "ca"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "handshake"),
        (TlsFileError("x"), "files"),
    ],
)
def test_a_fault_is_found_however_deep_it_lies(error: Exception, cause: str) -> None:
    fault = find_tls_fault(error)
    assert fault is not None
    assert fault.cause == cause
    assert len(fault.sentence) < 300
    try:
        try:
            raise error
        except Exception:
            raise ConnectionError("outer")  # noqa: B904 — as a library does that chains by accident
    except ConnectionError as outer:
        assert find_tls_fault(outer) == fault


@pytest.mark.parametrize(
    "error", [ConnectionRefusedError(), TimeoutError(), ssl.SSLEOFError(8, "EOF"), None]
)
def test_what_is_no_fault_of_tls_is_not_called_one(error: Exception | None) -> None:
    assert find_tls_fault(error) is None
