"""Certificates over the years: renewed in time, an authority replaced with an overlap, damage mended."""

import asyncio
from datetime import datetime

import pytest
from cryptography import x509

from farcall import tlsfiles
from farcall_operator import certificates
from farcall_operator.context import Credentials
from support_credentials import DAY, NOW, OURS, SecretsOnly, ensure

pytestmark = pytest.mark.unit
SERVED = ("main-exporter-tls", "main-redis-tls")


def look(cluster: SecretsOnly, now: datetime) -> Credentials:
    return asyncio.run(ensure(cluster, now))


def read_certificate(cluster: SecretsOnly, name: str) -> x509.Certificate:
    return certificates.read_certificates(cluster.values(name)[tlsfiles.CERTIFICATE])[0]


def trusted(cluster: SecretsOnly, name: str) -> tuple[x509.Certificate, ...]:
    return certificates.read_certificates(cluster.values(name)[tlsfiles.CA])


def assert_is_trusted(cluster: SecretsOnly) -> None:
    for name in SERVED:
        served = read_certificate(cluster, name)
        assert any(certificates.is_issued_by(served, a) for a in trusted(cluster, name))


def test_certificates_are_for_the_services_alone() -> None:
    cluster = SecretsOnly()
    look(cluster, NOW)
    certificate = read_certificate(cluster, "main-exporter-tls")

    assert certificates.read_names(certificate) == (
        "main-exporter.tracing.svc",
        "main-exporter-headless.tracing.svc",
        "main-exporter.tracing.svc.cluster.local",
        "main-exporter-headless.tracing.svc.cluster.local",
    )
    usage = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert usage.ca is False
    assert certificate.not_valid_after_utc == NOW + 90 * DAY
    assert certificates.covers(certificate, "main-exporter.tracing.svc")
    assert not certificates.covers(certificate, "main-redis.tracing.svc")


@pytest.mark.parametrize(("age", "renewed"), [(59 * DAY, False), (60 * DAY, True)])
def test_a_certificate_is_renewed_after_two_thirds_of_its_life(age: object, renewed: bool) -> None:
    cluster = SecretsOnly()
    first = look(cluster, NOW)
    before = {name: read_certificate(cluster, name) for name in SERVED}
    after = look(cluster, NOW + age)  # type: ignore[operator]

    for name in SERVED:
        assert (read_certificate(cluster, name) != before[name]) is renewed
    assert_is_trusted(cluster)
    # Redis reads its certificate at start alone; nobody else is replaced for a renewal.
    changed = {name for name in first.hashes if first.hashes[name] != after.hashes[name]}
    assert changed == ({"redis"} if renewed else set())


def test_an_authority_is_trusted_by_all_before_it_signs_and_after_it_has_signed() -> None:
    cluster = SecretsOnly()
    look(cluster, NOW)
    (old,) = trusted(cluster, SERVED[0])
    due = certificates.due_at(old)

    announced = look(cluster, due)
    old_again, new = trusted(cluster, SERVED[0])
    assert old_again == old
    assert certificates.is_issued_by(read_certificate(cluster, SERVED[0]), old)
    assert announced.renew_at == due + certificates.OVERLAP
    assert look(cluster, due + DAY / 2).writes == 0

    look(cluster, due + DAY)
    assert set(trusted(cluster, SERVED[0])) == {old, new}
    for name in SERVED:
        assert certificates.is_issued_by(read_certificate(cluster, name), new)

    look(cluster, due + 2 * DAY)
    assert trusted(cluster, SERVED[0]) == (new,)
    assert sorted(cluster.values("main-ca")) == ["ca.crt", "ca.key", "since"]
    assert look(cluster, due + 3 * DAY).writes == 0


def test_an_operator_that_was_away_still_leaves_a_day_between_the_steps() -> None:
    cluster = SecretsOnly()
    look(cluster, NOW)
    (old,) = trusted(cluster, SERVED[0])
    late = certificates.due_at(old) + 400 * DAY
    look(cluster, late)
    look(cluster, late + 100 * DAY)
    assert len(trusted(cluster, SERVED[0])) == 2

    look(cluster, late + 100 * DAY + DAY / 2)
    assert len(trusted(cluster, SERVED[0])) == 2


def test_ten_years_pass_a_week_at_a_time_and_every_certificate_is_trusted() -> None:
    cluster = SecretsOnly()
    now, before = NOW, None
    authorities = set()
    while now < NOW + 3650 * DAY:
        now = now + 7 * DAY
        look(cluster, now)
        assert_is_trusted(cluster)
        for name in SERVED:
            served = read_certificate(cluster, name)
            assert served.not_valid_after_utc > now + 7 * DAY
            # Whoever still trusts what was trusted a week ago trusts this one too.
            assert before is None or any(certificates.is_issued_by(served, a) for a in before)
        before = trusted(cluster, SERVED[0])
        authorities.update(before)

    assert len(authorities) == 2


def test_an_authority_that_has_expired_is_replaced_at_once() -> None:
    cluster = SecretsOnly()
    look(cluster, NOW)
    look(cluster, NOW + 4000 * DAY)

    assert_is_trusted(cluster)
    assert all(a.not_valid_after_utc > NOW + 4000 * DAY for a in trusted(cluster, SERVED[0]))


@pytest.mark.parametrize("key", ["ca.crt", "ca.key", "since"])
def test_a_damaged_authority_is_made_anew_and_signs_everything(key: str) -> None:
    cluster = SecretsOnly()
    look(cluster, NOW)
    cluster.put("main-ca", {**cluster.values("main-ca"), key: "damaged"}, OURS)
    look(cluster, NOW)

    assert_is_trusted(cluster)
    assert look(cluster, NOW).writes == 0


@pytest.mark.parametrize("key", tlsfiles.ALL)
def test_a_damaged_certificate_is_made_anew(key: str) -> None:
    cluster = SecretsOnly()
    look(cluster, NOW)
    cluster.put(SERVED[1], {**cluster.values(SERVED[1]), key: "damaged"}, OURS)
    look(cluster, NOW)

    assert_is_trusted(cluster)
    assert look(cluster, NOW).writes == 0


def test_keys_of_two_certificates_do_not_pass_for_a_pair() -> None:
    authority = certificates.make_authority("main", NOW)
    one, other = (certificates.issue_certificate(authority.current, ("a.b",), NOW) for _ in "ab")

    assert certificates.is_pair(one.certificate, one.key_pem)
    assert not certificates.is_pair(one.certificate, other.key_pem)
    assert not certificates.is_pair(one.certificate, "nonsense")
    with pytest.raises(certificates.CertificateError, match="not the certificate's"):
        certificates.read_issuer(one.certificate_pem, other.key_pem)
    assert "PRIVATE" not in f"{one!r}{authority!r}"
