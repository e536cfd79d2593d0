"""The demo's checks of the DNS cache, against a real Redis that an agent's writer has written to."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import redis

from farcall.cacheacl import AGENT, EXPORTER, USERS, render_acl_rule
from farcall.cachereader import connect_redis
from farcall.dnscache import Answer, CacheWriter
from farcall.effective import Endpoints, write_effective
from farcall.meaning import build_effective
from farcall.redislink import RedisLink
from farcall.rundir import RunDir
from farcall.secretfiles import read_secret
from farcall.tracingconfig import read_tracingconfig
from farcall_demo.expectations import check_bare_address, check_cache_expiry
from support_demo import make_span, show

pytestmark = pytest.mark.servers
EXAMPLES = Path(__file__).parents[2] / "examples"
ADDRESS = "203.0.113.12"
WITHIN_S = 60


@pytest.fixture(params=["hobby.yaml", "scale.yaml"])
def run_dir(request: pytest.FixtureRequest) -> Iterator[RunDir]:
    """Of an instance of which only Redis runs. A short path: a Unix socket's has at most 107 bytes."""
    with TemporaryDirectory(prefix="fc-", dir="/tmp") as folder:
        made = RunDir(Path(folder) / "main")
        made.make()
        for user in USERS:
            (made.secrets / user.password_file).write_text(user.name.ljust(32, "x"))
        with run_redis(made):
            write_config(made, str(request.param))
            yield made


def run_redis(run_dir: RunDir) -> subprocess.Popen[bytes]:
    rules = [
        render_acl_rule(user, read_secret(run_dir.secrets, user.password_file)) for user in USERS
    ]
    config = run_dir.path / "redis.conf"
    config.write_text(
        "\n".join(["port 0", f"unixsocket {run_dir.redis_socket}", 'save ""', *rules, ""])
    )
    return RedisServer(["redis-server", str(config)], stdout=subprocess.DEVNULL)


class RedisServer(subprocess.Popen[bytes]):
    """Ended with its block."""

    def __exit__(self, *error: object) -> None:
        self.terminate()
        super().__exit__(None, None, None)


def write_config(run_dir: RunDir, example: str) -> None:
    nowhere = "http://127.0.0.1:9"
    config = build_effective(
        read_tracingconfig(EXAMPLES / example),
        mode="local",
        endpoints=Endpoints(
            exporter_ingest=nowhere,
            exporter_otlp_http=nowhere,
            redis=f"unix://{run_dir.redis_socket}",
            store=nowhere,
            console=nowhere,
        ),
        secrets_dir=str(run_dir.secrets),
        state_dir="/nonexistent",
    )
    write_effective(config, run_dir.effective)


def write_answer(run_dir: RunDir, *, ttl_s: int) -> None:
    """As the agent does."""
    password = read_secret(run_dir.secrets, AGENT.password_file)
    now = time.time()
    answer = Answer(
        client_key="p:vm:1:1",
        ip=ADDRESS,
        name="cache.example.com",
        answered_at=now - 5,
        trusted=False,
    )
    with connect_redis(
        f"unix://{run_dir.redis_socket}", username=AGENT.name, password=password
    ) as client:
        wait_for(client)
        link = RedisLink(f"unix://{run_dir.redis_socket}", username=AGENT.name, password=password)
        CacheWriter(link).write([answer], [], ttl_s=ttl_s, now=now)


def wait_for(client: "redis.Redis") -> None:
    deadline = time.monotonic() + WITHIN_S
    while True:
        try:
            client.ping()
            return
        except redis.ConnectionError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_an_expiry_is_right_when_it_is_the_tiers(run_dir: RunDir) -> None:
    view = show(run_dir)
    ttl_s = view.read_config().dns.ttl_s
    write_answer(run_dir, ttl_s=ttl_s)

    finding = check_cache_expiry(view, ADDRESS, "cache.example.com")

    assert finding.held
    assert finding.found == f"1 key, {ttl_s} s from the answer to the expiry"


def test_another_expiry_is_a_failure(run_dir: RunDir) -> None:
    write_answer(run_dir, ttl_s=60)

    finding = check_cache_expiry(show(run_dir), ADDRESS, "cache.example.com")

    assert not finding.held
    assert finding.found.startswith("60 s instead of ")


def test_no_key_is_a_failure(run_dir: RunDir) -> None:
    write_answer(run_dir, ttl_s=60)

    assert not check_cache_expiry(show(run_dir), "203.0.113.99", "cache.example.com").held


def test_a_bare_address_must_be_one_that_others_have_a_name_for(run_dir: RunDir) -> None:
    write_answer(run_dir, ttl_s=60)
    span = make_span("report", destination="Unknown External Service", unknown_reason="no_dns_seen")
    view = show(run_dir, span)

    known = check_bare_address(view, "service:report", ADDRESS)
    unheard = check_bare_address(view, "service:report", "203.0.113.99")

    assert known.held and known.found.endswith("others call it cache.example.com")
    assert not unheard.held and "nobody has looked" in unheard.found


def test_the_exporters_user_is_enough_to_look() -> None:
    assert {"scan", "zrange", "zscore", "pexpiretime"} <= set(EXPORTER.commands)
