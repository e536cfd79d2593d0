"""Secrets of one TracingConfig: made once, renewed in time, never shown. What the cluster must hold before pods start.

| Secret | keys | mounted by |
|---|---|---|
| `<name>-secrets` | farcall.secretfiles.ALL | each workload its own (layout.SECRET_FILES) |
| `<name>-ca` | the authority, its key, and where a change of authority stands | nobody |
| `<name>-exporter-tls`, `<name>-redis-tls` | farcall.tlsfiles.ALL | transport.TLS_FILES |

They go with the TracingConfig, by their owner references. Changed values roll the pods that mount them by way of
`hashes`; renewed certificates do not, where a program reads its files again. Redis cannot without a user that may set
its configuration, which is more than a certificate is worth: its pod is replaced once in sixty days instead.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from farcall import journal, secretfiles, tlsfiles
from farcall.tracingconfig import TracingConfig
from farcall_operator import certificates
from farcall_operator.certificates import Authority, CertificateError, Issuer
from farcall_operator.cluster.port import Cluster
from farcall_operator.context import Credentials
from farcall_operator.layout import SECRET_FILES
from farcall_operator.secretobjects import OwnSecrets, Values
from farcall_operator.secretreferences import Found, References
from farcall_operator.transport import SERVERS, list_names, read_mode

log = journal.get_log("operator")
RANDOM_BYTES = 32  # 43 url-safe characters
_NEXT_CERTIFICATE, _NEXT_KEY = "next.crt", "next.key"
_AUTHORITY_KEY = "ca.key"
_PREVIOUS = "previous.crt"
_SINCE = "since"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tls:
    ca_pem: str = ""
    redis: tuple[str, ...] = ()  # what Redis reads at start only
    renew_at: datetime | None = None


async def ensure_credentials(
    cluster: Cluster,
    config: TracingConfig,
    namespace: str,
    owner_references: list[dict[str, Any]],
    now: datetime,
) -> Credentials:
    """Raises ClusterError. A problem of one Secret keeps nobody from making the others."""
    name = config.metadata.name
    own = OwnSecrets(cluster, name, namespace, owner_references)
    found = await References(cluster, config, namespace).read(now)
    values = await own.ensure("secrets", complete_secrets) or {}
    for key in secretfiles.ALL:
        if key in values and (flaw := secretfiles.find_flaw(values[key])):
            own.problems.append(f"the Secret {name}-secrets, key {key}: {flaw}")
    tls = await _ensure_tls(own, config, namespace, now, found)
    return Credentials(
        hashes=hash_workloads(values, found, tls.redis),
        ca_pem=tls.ca_pem,
        ingest_token=values.get(secretfiles.INGEST_TOKEN, ""),
        renew_at=tls.renew_at,
        problems=(*own.problems, *found.problems),
        writes=own.writes,
    )


def complete_secrets(present: Values) -> dict[str, str | None]:
    """What is missing; an empty value is."""
    return {
        key: secrets.token_urlsafe(RANDOM_BYTES) for key in secretfiles.ALL if not present.get(key)
    }


def hash_workloads(values: Values, found: Found, redis_tls: tuple[str, ...]) -> dict[str, str]:
    """By workload. Keyed, because a user's password may be short enough to be guessed from a plain digest."""
    key = values.get(secretfiles.COOKIE_KEY)
    if not key:
        return {}
    merged = {**values, **found.redis}
    seen = {
        workload: {name: merged.get(name, "") for name in files}
        | found.workloads.get(workload, {})
        | ({"tls": "".join(redis_tls)} if workload == "redis" else {})
        for workload, files in SECRET_FILES.items()
    }
    return {workload: hash_values(key, values) for workload, values in seen.items()}


def hash_values(key: str, values: Mapping[str, str]) -> str:
    digest = hmac.new(key.encode("utf-8", "surrogateescape"), digestmod=hashlib.sha256)
    for part in (part for item in sorted(values.items()) for part in item):
        raw = part.encode("utf-8", "surrogateescape")
        digest.update(b"%d:%b" % (len(raw), raw))
    return digest.hexdigest()[:16]


async def _ensure_tls(
    own: OwnSecrets, config: TracingConfig, namespace: str, now: datetime, found: Found
) -> _Tls:
    mode = read_mode(config)
    if mode == "disabled":
        return _Tls()
    if mode == "secret":
        given = tuple(found.tls.get(key, "") for key in tlsfiles.SERVER_FILES)
        ca_pem = found.tls.get(tlsfiles.CA, "")
        return _Tls(ca_pem=ca_pem, redis=given, renew_at=found.expires_at)
    name = config.metadata.name
    stored = await own.ensure("ca", lambda present: complete_authority(present, name, now))
    if stored is None:
        return _Tls()
    authority = read_authority(stored)
    renew_at = certificates.next_step_at(authority)
    redis: tuple[str, ...] = ()
    for server in SERVERS:
        complete = partial(
            complete_serving,
            authority=authority,
            names=list_names(name, namespace, server),
            now=now,
        )
        files = await own.ensure(f"{server}-tls", complete, type_="kubernetes.io/tls")
        if files is None:
            continue
        serving = read_pair(files)
        renew_at = min(renew_at, certificates.due_at(serving.certificate))
        if server == "redis":
            redis = tuple(files[key] for key in tlsfiles.SERVER_FILES)
    return _Tls(ca_pem=authority.bundle, redis=redis, renew_at=renew_at)


def complete_authority(present: Values, name: str, now: datetime) -> dict[str, str | None]:
    try:
        authority = read_authority(present)
    except CertificateError as e:
        if present:
            log.warning("the certificate authority is made anew", tracingconfig=name, why=str(e))
        return render_authority(certificates.make_authority(name, now))
    if now >= authority.current.certificate.not_valid_after_utc:
        return render_authority(certificates.make_authority(name, now))
    return render_authority(certificates.advance(authority, name, now))


def complete_serving(
    present: Values, *, authority: Authority, names: tuple[str, ...], now: datetime
) -> dict[str, str | None]:
    """The authorities as they are trusted now, and a certificate unless the one there is good."""
    trusted: dict[str, str | None] = {tlsfiles.CA: authority.bundle}
    try:
        serving = read_pair(present)
    except CertificateError:
        pass
    else:
        if not certificates.must_reissue(serving, authority, names, now):
            return trusted
    fresh = certificates.issue_certificate(authority.current, names, now)
    return {
        **trusted,
        tlsfiles.CERTIFICATE: fresh.certificate_pem,
        tlsfiles.PRIVATE_KEY: fresh.key_pem,
    }


def read_pair(values: Values) -> Issuer:
    """Raises CertificateError."""
    certificate, key = (values.get(name, "") for name in tlsfiles.SERVER_FILES)
    return certificates.read_issuer(certificate, key)


def render_authority(authority: Authority) -> dict[str, str | None]:
    following, previous = authority.next, authority.previous
    return {
        tlsfiles.CA: authority.current.certificate_pem,
        _AUTHORITY_KEY: authority.current.key_pem,
        _NEXT_CERTIFICATE: following.certificate_pem if following else None,
        _NEXT_KEY: following.key_pem if following else None,
        _PREVIOUS: certificates.render_pem(previous) if previous else None,
        _SINCE: authority.since.isoformat(),
    }


def read_authority(values: Values) -> Authority:
    """Raises CertificateError when it cannot sign."""
    following, previous = values.get(_NEXT_CERTIFICATE), values.get(_PREVIOUS)
    try:
        since = datetime.fromisoformat(values.get(_SINCE, ""))
    except ValueError:
        raise CertificateError("holds no time of its last step") from None
    return Authority(
        current=certificates.read_issuer(
            values.get(tlsfiles.CA, ""), values.get(_AUTHORITY_KEY, "")
        ),
        next=certificates.read_issuer(following, values.get(_NEXT_KEY, "")) if following else None,
        previous=certificates.read_certificates(previous)[0] if previous else None,
        since=since if since.tzinfo else since.replace(tzinfo=UTC),
    )
