"""TLS between the parts: the three files in `secrets_dir`, and contexts that follow them when they are replaced.

A client trusts the authorities in `ca.crt` and nobody else: no certificate store of the system, no name but the one that
was dialled. The files are looked at again at each connection (stat, 10 µs), so a renewal or a mended file needs no
restart. Nothing here makes a certificate, and no message shows what a key file holds.
"""

import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CA = "ca.crt"  # PEM: all authorities to be trusted, several while one takes over from another
CERTIFICATE = "tls.crt"  # PEM: the server's certificate, then those between it and the authority
PRIVATE_KEY = "tls.key"  # PEM, without a passphrase
SERVER_FILES = (CERTIFICATE, PRIVATE_KEY)
ALL = (CA, *SERVER_FILES)

Cause = Literal["ca", "expired", "name", "files", "handshake"]
_SENTENCES: dict[Cause, str] = {
    "ca": "the server's certificate is not of our certificate authority (ca.crt)",
    "expired": "the server's certificate, or its authority's, has expired or is not valid yet",
    "name": "the server's certificate is for another host name",
    "handshake": "the TLS handshake failed",
}
# X509_V_ERR_… of OpenSSL's x509_vfy.h.
_EXPIRED = frozenset((9, 10, 13, 14))
_WRONG_NAME = frozenset((62, 63, 64))
_MAX_TEXT = 160  # of what OpenSSL says
_MAX_DEPTH = 8  # of exceptions around it
Stamp = tuple[tuple[int, int, int], ...]


class TlsFileError(Exception):
    """A TLS file is missing or unusable; the message names the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFault:
    """Why there is no TLS connection; `sentence` is for logs and people."""

    cause: Cause
    sentence: str


class PinnedAuthority:
    """A client's context. `context()` is built anew when the file was replaced, and refuses while it is unusable."""

    def __init__(self, ca_file: str | Path) -> None:
        self._file = Path(ca_file)
        self._stamp: Stamp | None = None
        self._context: ssl.SSLContext | None = None

    def has_changed(self) -> bool:
        """Since the last `context()`: a connection that was checked against the file before is to be opened anew."""
        return self._stamp is not None and read_stamp(self._file) != self._stamp

    def context(self) -> ssl.SSLContext:
        """Raises TlsFileError."""
        stamp = read_stamp(self._file)
        if self._context is None or stamp != self._stamp:
            # Before the content: a change in between is seen the next time.
            self._stamp, self._context = stamp, None
            self._context = make_client_context(self._file)
        return self._context


def make_client_context(ca_file: Path) -> ssl.SSLContext:
    """Raises TlsFileError."""
    context = _make_pinned_context()
    _load(ca_file, lambda: context.load_verify_locations(cafile=str(ca_file)))
    return context


def make_client_context_of(ca_pem: str) -> ssl.SSLContext:
    """The same for whoever holds the authorities as text. Raises TlsFileError."""
    context = _make_pinned_context()
    _load(Path(CA), lambda: context.load_verify_locations(cadata=ca_pem))
    return context


def _make_pinned_context() -> ssl.SSLContext:
    """Trusts nobody yet, so that what is loaded into it is all that it trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks chain and host name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # An authority that is named is trusted itself, though it be signed by another that is not named.
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    return context


class ServerIdentity:
    """A server's context whose certificate is replaced while it listens; open connections keep theirs."""

    def __init__(self, secrets_dir: str | Path) -> None:
        """Raises TlsFileError."""
        folder = Path(secrets_dir)
        self._files = tuple(folder / name for name in SERVER_FILES)
        self._stamp = read_stamp(*self._files)
        self._current = make_server_context(*self._files)
        self.context = make_server_context(*self._files)
        # OpenSSL asks for each new connection. Loading into the listening context instead would leave it without a
        # key when the two files are read on either side of a replacement.
        self.context.sni_callback = self._choose

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: object) -> None:
        connection.context = self._current

    def poll(self) -> bool:
        """Whether a new certificate is in force. Raises TlsFileError, once per change: the one before stays in force."""
        stamp = read_stamp(*self._files)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        self._current = make_server_context(*self._files)
        return True


def make_server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Raises TlsFileError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # An empty passphrase instead of a question on the terminal.
    _load(certificate, lambda: context.load_cert_chain(certificate, key, password=""))
    return context


def _load(file: Path, load: Callable[[], None]) -> None:
    try:
        load()
    except FileNotFoundError as e:
        raise TlsFileError(f"{file} or the file beside it is missing") from e
    except ssl.SSLError as e:
        raise TlsFileError(f"{file} cannot be used: {_quote(e)}") from e
    except OSError as e:
        raise TlsFileError(f"{file} cannot be read: {e.strerror or e}") from e
    except ValueError as e:  # of text that is empty
        raise TlsFileError(f"{file} cannot be used: {e}") from e


def read_stamp(*files: Path) -> Stamp:
    """Which files these are; another stamp means other content. A missing file has one as well."""
    return tuple(_read_stamp(file) for file in files)


def _read_stamp(file: Path) -> tuple[int, int, int]:
    try:
        status = os.stat(file)  # follows links: a mounted Secret is replaced by another target
    except OSError:
        return (0, 0, 0)
    return (status.st_ino, status.st_mtime_ns, status.st_size)


def find_tls_fault(error: BaseException | None) -> TlsFault | None:
    """What of TLS went wrong, in `error` or in what it came of; None when it was something else."""
    for _ in range(_MAX_DEPTH):
        if isinstance(error, TlsFileError):
            return TlsFault(cause="files", sentence=str(error))
        if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
            cause = _find_cause(error)
            return TlsFault(cause=cause, sentence=f"{_SENTENCES[cause]}: {_quote(error)}")
        if error is None:
            break
        error = error.__cause__ or error.__context__
    return None


def _quote(error: ssl.SSLError) -> str:
    """What OpenSSL says. Errors that Python itself makes have not all of these."""
    said = getattr(error, "verify_message", None) or getattr(error, "reason", None) or str(error)
    return str(said)[:_MAX_TEXT]


def _find_cause(error: ssl.SSLError) -> Cause:
    if not isinstance(error, ssl.SSLCertVerificationError):
        return "handshake"
    if error.verify_code in _EXPIRED:
        return "expired"
    return "name" if error.verify_code in _WRONG_NAME else "ca"
