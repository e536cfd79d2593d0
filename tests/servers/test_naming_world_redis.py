"""The Redis that the model of naming over time stands on (support_naming_world) keeps and gives what a real one does."""

import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farcall import secretfiles
from farcall.cacheacl import EXPORTER
from farcall.cachereader import CacheReader, connect_redis
from farcall.dnscache import Answer, Binding, CacheEntry, CacheQuestion
from farcall.secretfiles import read_secret
from support_exporter_process import RedisProcess
from support_naming_world import TTL_S, FakeRedis

pytestmark = pytest.mark.servers

CLIENTS, IPS = ("c:1", "c:2"), ("203.0.113.1", "2001:db8::1")
ENDPOINTS = ("10.0.0.1:1", "10.0.0.1:2")
MARGIN_S = 60  # of an expiry, so that it is not met while the test runs
AGES = st.integers(MARGIN_S, TTL_S - MARGIN_S)
# Twelve names: more than an address keeps. Whole seconds: two names of one age are given in an order that nobody promised.
ANSWERS = st.builds(
    lambda client, ip, name, age, trusted: (client, ip, f"n{name}.example", age, trusted),
    st.sampled_from(CLIENTS),
    st.sampled_from(IPS),
    st.integers(0, 11),
    AGES,
    st.booleans(),
)
BINDINGS = st.tuples(
    st.sampled_from(CLIENTS),
    st.sampled_from(ENDPOINTS),
    st.sampled_from(("", "a.example", "b.example")),
    AGES,
    st.integers(0, 2**64 - 1),
)
WRITES = st.lists(st.tuples(st.lists(ANSWERS, max_size=12), st.lists(BINDINGS, max_size=4)))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    folder = tmp_path_factory.mktemp("redis")
    (folder / "secrets").mkdir()
    for name in secretfiles.ALL:
        (folder / "secrets" / name).write_text("s" * 40)
    running = RedisProcess(folder, folder / "secrets")
    try:
        yield running.start()
    finally:
        running.kill()


def plain(entry: CacheEntry) -> tuple[object, ...]:
    """Names without their order; ages to the millisecond, which a double of Redis' text keeps."""
    names = [
        {(n.name, round(n.answered_at, 3)) for n in found}
        for found in (entry.client_names, entry.cluster_names, entry.tombstones)
    ]
    bound = entry.binding and (entry.binding.name, round(entry.binding.answered_at, 3))
    return bound, entry.tcp_identity, *names


@settings(max_examples=80, deadline=None)
@given(writes=WRITES)
def test_what_is_written_is_read_alike(
    server: RedisProcess,
    writes: list[
        tuple[list[tuple[str, str, str, int, bool]], list[tuple[str, str, str, int, int]]]
    ],
) -> None:
    # Of its own for each example: keys of another one are nobody's.
    now, own = time.time(), f"{time.monotonic_ns()}"
    fake = FakeRedis(now=now)
    password = read_secret(server.secrets_dir, EXPORTER.password_file)
    reader = CacheReader(connect_redis(server.url, username=EXPORTER.name, password=password))
    net = int(own) % 2**32

    def address(ip: str) -> str:
        return f"2001:db8:{net >> 16:x}:{net & 0xFFFF:x}::{'4' if '.' in ip else '6'}"

    for told, bound in writes:
        answers = [
            Answer(
                client_key=f"{client}:{own}",
                ip=address(ip),
                name=name,
                answered_at=now - age,
                trusted=trusted,
            )
            for client, ip, name, age, trusted in told
        ]
        bindings = [
            Binding(
                client_key=f"{client}:{own}",
                local=local,
                peer="203.0.113.1:6379",
                name=name,
                answered_at=now - age,
                tcp_identity=tcp,
            )
            for client, local, name, age, tcp in bound
        ]
        # A writer of its own for each: what an agent leaves out, because it wrote it a moment ago, is another matter.
        server.writer().write(answers, bindings, ttl_s=TTL_S, now=now)
        fake.write(answers, bindings)

    questions = [
        CacheQuestion(
            client_key=f"{client}:{own}", ip=address(ip), local=local, peer="203.0.113.1:6379"
        )
        for client in CLIENTS
        for ip in IPS
        for local in ENDPOINTS
    ]
    assert list(map(plain, reader.read(questions))) == list(map(plain, fake.read(questions)))
