"""Secrets that the user made and the TracingConfig names: read anew each time, checked, never written.

What is wrong with one becomes a sentence that names the field, the Secret and the key, and never shows a value.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from farcall import tlsfiles
from farcall.secretfiles import find_flaw
from farcall.tracingconfig import TracingConfig
from farcall_operator import certificates
from farcall_operator.certificates import CertificateError
from farcall_operator.cluster.port import Cluster, Ref
from farcall_operator.layout import CLICKHOUSE_KEYS, REDIS_FILES
from farcall_operator.secretobjects import decode_values
from farcall_operator.transport import SERVERS, find_host, read_mode

# A value → what is wrong with it, None when nothing is.
Check = Callable[[str], str | None]


@dataclass(slots=True, kw_only=True)
class Found:
    """`workloads`: values by workload, for its hash. `tls`: the files of the mode `secret`."""

    workloads: dict[str, dict[str, str]] = field(default_factory=dict)
    redis: dict[str, str] = field(default_factory=dict)  # of dnsCache.existingSecret
    tls: dict[str, str] = field(default_factory=dict)
    expires_at: datetime | None = None  # the certificate of the mode `secret`
    problems: list[str] = field(default_factory=list)


class References:
    def __init__(self, cluster: Cluster, config: TracingConfig, namespace: str) -> None:
        self._cluster = cluster
        self._config = config
        self._namespace = namespace
        self._known: dict[str, dict[str, str] | None] = {}  # within this one look
        self.found = Found()

    async def read(self, now: datetime) -> Found:
        """Raises ClusterError."""
        spec = self._config.spec
        await self._read_redis()
        await self._read_tls(now)
        for index, name in enumerate((spec.images and spec.images.pull_secrets) or ()):
            await self._values(f"spec.images.pullSecrets[{index}]", name)
        exporter = spec.exporter
        if exporter and exporter.clickhouse and exporter.clickhouse.secret_ref:
            where, name = "spec.exporter.clickhouse.secretRef", exporter.clickhouse.secret_ref
            checks = dict.fromkeys(CLICKHOUSE_KEYS, find_unreadable)
            self._see("exporter", "clickhouse", await self._keys(where, name, checks))
        await self._read_otlp()
        return self.found

    async def _read_redis(self) -> None:
        cache = self._config.spec.dns_cache
        if cache and cache.existing_secret:
            checks = dict.fromkeys(sorted(REDIS_FILES), find_flaw)
            where = "spec.dnsCache.existingSecret"
            self.found.redis = await self._keys(where, cache.existing_secret, checks)

    async def _read_tls(self, now: datetime) -> None:
        if read_mode(self._config) != "secret":
            return
        tls = self._config.spec.tls
        where = "spec.tls.secretRef"
        if tls is None or not tls.secret_ref:
            self._tell(f"{where}: is required with the mode secret")
            return
        values = await self._keys(where, tls.secret_ref, dict.fromkeys(tlsfiles.ALL, find_empty))
        if len(values) < len(tlsfiles.ALL):
            return
        hosts = [find_host(self._config.metadata.name, self._namespace, s) for s in SERVERS]
        self.found.tls = values
        try:
            serving = certificates.read_certificates(values[tlsfiles.CERTIFICATE])[0]
            self.found.expires_at = serving.not_valid_after_utc
        except CertificateError:
            pass  # told just below
        for flaw in find_tls_flaws(values, hosts, now):
            self._tell(f"{where}: the Secret {tls.secret_ref}: {flaw}")

    async def _read_otlp(self) -> None:
        """Only looked for: the exporter reads both again for each request, and is not replaced for them."""
        otlp = self._config.spec.exporter.otlp if self._config.spec.exporter else None
        if otlp is None:
            return
        if otlp.headers_secret_ref:
            where = "spec.exporter.otlp.headersSecretRef"
            await self._values(where, otlp.headers_secret_ref)
        if otlp.tls and otlp.tls.ca_secret_ref:
            ref, where = otlp.tls.ca_secret_ref, "spec.exporter.otlp.tls.caSecretRef"
            await self._keys(where, ref.name, {ref.key: find_no_certificate})

    def _see(self, workload: str, part: str, values: Mapping[str, str]) -> None:
        seen = self.found.workloads.setdefault(workload, {})
        seen.update({f"{part}/{key}": value for key, value in values.items()})

    async def _keys(self, where: str, name: str, checks: Mapping[str, Check]) -> dict[str, str]:
        """The values of these keys; what is missing or wrong is told, and left out when missing."""
        values = await self._values(where, name)
        if values is None:
            return {}
        missing = [key for key in checks if key not in values]
        if missing:
            self._tell(f"{where}: the Secret {name} lacks the keys {', '.join(missing)}")
        present = {key: values[key] for key in checks if key in values}
        for key, value in present.items():
            if flaw := checks[key](value):
                self._tell(f"{where}: the Secret {name}, key {key}: {flaw}")
        return present

    async def _values(self, where: str, name: str) -> dict[str, str] | None:
        if name not in self._known:
            found = await self._cluster.get(Ref("v1", "Secret", self._namespace, name))
            self._known[name] = None if found is None else decode_values(found)
        values = self._known[name]
        if values is None:
            self._tell(f"{where}: there is no Secret {name} in the namespace {self._namespace}")
        return values

    def _tell(self, sentence: str) -> None:
        self.found.problems.append(sentence)


def find_empty(value: str) -> str | None:
    return None if value else "is empty"


def find_unreadable(value: str) -> str | None:
    """As farcall.secretfiles.read_given takes what a user made."""
    text = value.rstrip("\r\n")
    return None if text and text.isprintable() else "is empty or holds control characters"


def find_no_certificate(value: str) -> str | None:
    try:
        certificates.read_certificates(value)
    except CertificateError as e:
        return str(e)
    return None


def find_tls_flaws(values: Mapping[str, str], hosts: list[str], now: datetime) -> list[str]:
    """What clients or servers would refuse, told before they do."""
    try:
        authorities = certificates.read_certificates(values[tlsfiles.CA])
    except CertificateError as e:
        return [f"{tlsfiles.CA} {e}"]
    try:
        chain = certificates.read_certificates(values[tlsfiles.CERTIFICATE])
    except CertificateError as e:
        return [f"{tlsfiles.CERTIFICATE} {e}"]
    serving, flaws = chain[0], []
    if not certificates.is_pair(serving, values[tlsfiles.PRIVATE_KEY]):
        flaws.append(f"{tlsfiles.PRIVATE_KEY} is not the key of {tlsfiles.CERTIFICATE}")
    if now >= serving.not_valid_after_utc:
        flaws.append(f"{tlsfiles.CERTIFICATE} expired at {serving.not_valid_after_utc:%FT%TZ}")
    if missing := [host for host in hosts if not certificates.covers(serving, host)]:
        flaws.append(f"{tlsfiles.CERTIFICATE} is not for {' and '.join(missing)}")
    if not any(
        link == authority or certificates.is_issued_by(link, authority)
        for link in chain
        for authority in authorities
    ):
        flaws.append(f"{tlsfiles.CERTIFICATE} is not signed by an authority in {tlsfiles.CA}")
    return flaws
