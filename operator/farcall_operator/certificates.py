"""Certificates between the parts: an authority per TracingConfig, and what it signs. Pure; no clock, no file, no cluster.

ECDSA P-256. The authority lives ten years, a serving certificate ninety days; both are replaced after two thirds of
their life, so that a month of a broken operator breaks nothing. An authority is replaced in three steps, each of them
a state that may be stored: the next one is trusted (`next`), then it signs and the old one is still trusted
(`previous`), then the old one is forgotten.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFE = timedelta(days=3650)
SERVING_LIFE = timedelta(days=90)
SKEW = timedelta(minutes=5)  # a node's clock may be behind ours
# Mounted files follow within two minutes; a day also covers a node whose kubelet was away over a night.
OVERLAP = timedelta(days=1)


class CertificateError(Exception):
    """PEM text that is no certificate, no key, or two that do not belong together. Never holds a key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """A certificate and its key; as an authority it signs others."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def __repr__(self) -> str:
        return f"Issuer({self.certificate.subject.rfc4514_string()})"

    @property
    def certificate_pem(self) -> str:
        return render_pem(self.certificate)

    @property
    def key_pem(self) -> str:
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode("ascii")


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """`current` signs; all three are trusted. `since` is when the last step was taken."""

    current: Issuer
    since: datetime
    next: Issuer | None = None
    previous: x509.Certificate | None = None

    @property
    def bundle(self) -> str:
        """What clients trust, as PEM."""
        others = (self.next.certificate if self.next else None, self.previous)
        return "".join(render_pem(c) for c in (self.current.certificate, *others) if c)


def make_authority(name: str, now: datetime) -> Authority:
    return Authority(current=make_issuer(name, now), since=now)


def make_issuer(name: str, now: datetime) -> Issuer:
    """A self-signed authority. The date is in its name: two of them are never mistaken for each other."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _make_name(f"farcall CA {name} {now:%Y%m%d}")
    usage = _make_usage(key_cert_sign=True, crl_sign=True)
    builder = (
        _begin(subject, subject, key.public_key(), now, AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    return Issuer(certificate=builder.sign(key, hashes.SHA256()), key=key)


def issue_certificate(issuer: Issuer, names: tuple[str, ...], now: datetime) -> Issuer:
    """A serving certificate for these DNS names, and its new key."""
    key = ec.generate_private_key(ec.SECP256R1())
    signer = issuer.certificate
    usage = _make_usage(digital_signature=True)
    authority_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    builder = (
        _begin(_make_name(names[0]), signer.subject, key.public_key(), now, SERVING_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), False)
        .add_extension(authority_id, critical=False)
    )
    return Issuer(certificate=builder.sign(issuer.key, hashes.SHA256()), key=key)


def advance(authority: Authority, name: str, now: datetime) -> Authority:
    """The authority as it should be at `now`: one step at most, and the same one when none is due."""
    if now < next_step_at(authority):
        return authority
    if authority.next is not None:
        # What the old one signed is signed anew in the same pass; it stays trusted until that has arrived everywhere.
        return Authority(current=authority.next, previous=authority.current.certificate, since=now)
    if authority.previous is not None:
        return replace(authority, previous=None, since=now)
    return replace(authority, next=make_issuer(name, now), since=now)


def next_step_at(authority: Authority) -> datetime:
    """When `advance` has something to do."""
    if authority.next is not None or authority.previous is not None:
        return authority.since + OVERLAP
    return due_at(authority.current.certificate)


def due_at(certificate: x509.Certificate) -> datetime:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return begin + (end - begin) * 2 / 3


def is_due(certificate: x509.Certificate, now: datetime) -> bool:
    return now >= due_at(certificate)


def must_reissue(
    serving: Issuer, authority: Authority, names: tuple[str, ...], now: datetime
) -> bool:
    """Due, for other names, or signed by somebody who does not sign any more."""
    certificate = serving.certificate
    return (
        is_due(certificate, now)
        or set(read_names(certificate)) != set(names)
        or not is_issued_by(certificate, authority.current.certificate)
    )


def is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def read_names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(found.value.get_values_for_type(x509.DNSName))


def covers(certificate: x509.Certificate, host: str) -> bool:
    """Whether a client that dials `host` takes it; a star stands for the first label alone (RFC 6125)."""
    star = "*." + host.partition(".")[2]
    return any(name.lower() in (host, star) for name in read_names(certificate))


def read_certificates(pem: str) -> tuple[x509.Certificate, ...]:
    """All of a bundle, at least one. Raises CertificateError."""
    try:
        return tuple(x509.load_pem_x509_certificates(pem.encode()))
    except ValueError as e:
        raise CertificateError("holds no certificate in PEM") from e


def read_issuer(certificate_pem: str, key_pem: str) -> Issuer:
    """One of ours. Raises CertificateError when it cannot be used."""
    certificate = read_certificates(certificate_pem)[0]
    try:
        key = serialization.load_pem_private_key(key_pem.encode(), password=None)
    except (ValueError, TypeError):
        raise CertificateError("holds no private key in PEM") from None  # its text may quote it
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError("holds a key of another kind than ECDSA")
    if key.public_key() != certificate.public_key():
        raise CertificateError("holds a key that is not the certificate's")
    return Issuer(certificate=certificate, key=key)


def is_pair(certificate: x509.Certificate, key_pem: str) -> bool:
    """Whether the key, of whatever kind, is the certificate's."""
    try:
        key = serialization.load_pem_private_key(key_pem.encode(), password=None)
        return bool(key.public_key() == certificate.public_key())
    except (ValueError, TypeError):
        return False


def render_pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def _make_name(common_name: str) -> x509.Name:
    # X.520 allows 64 characters; clients look at the alternative names alone.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _begin(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    life: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _make_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
