"""The Redis pod's two scripts, run as the pod runs them: /bin/sh, mounted secrets, the rendered configuration."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from redis import Redis

from farcall.cacheacl import USERS
from farcall.cachereader import CacheReader, connect_redis
from farcall.dnscache import CacheWriter
from farcall.redislink import RedisLink
from farcall.secretfiles import read_secret
from farcall.tlsfiles import CA
from farcall_operator.kubernetes import build_view
from farcall_operator.local.credentials import write_secrets
from support_local import wait_until
from support_ports import find_free_port
from support_render import CONTEXT, make
from support_tls import make_files, move_line, write_files

pytestmark = pytest.mark.servers


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    folder: Path
    port: int
    has_tls: bool

    def link(self, username: str, password: str) -> RedisLink:
        url = f"{'rediss' if self.has_tls else 'redis'}://localhost:{self.port}"
        ca_file = self.folder / "secrets" / CA
        return RedisLink(url, username=username, password=password, ca_file=ca_file)

    def connect(self, username: str | None, password: str | None) -> AbstractContextManager[Redis]:
        url = f"{'rediss' if self.has_tls else 'redis'}://localhost:{self.port}"
        ca_file = self.folder / "secrets" / CA
        return connect_redis(url, username=username, password=password, ca_file=ca_file)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "SECRETS_DIR": str(self.folder / "secrets"),
            "ACL_FILE": str(self.folder / "users.acl"),
            "REDIS_CONF": str(self.folder / "redis.conf"),
            "REDIS_PORT": str(self.port),
        }

    def run(self, script: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["/bin/sh", str(self.folder / script)],
            env=self.environment, capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip


@pytest.fixture(params=["operator", "disabled"])
def pod(request: pytest.FixtureRequest) -> Iterator[Pod]:
    spec = {"tier": "Scale", "clusterCIDRs": ["10.0.0.0/8"], "tls": {"mode": request.param}}
    files = build_view(make(spec), CONTEXT).files
    with TemporaryDirectory(prefix="fc-") as name:
        pod = Pod(folder=Path(name), port=find_free_port(), has_tls=request.param != "disabled")
        (pod.folder / "secrets").mkdir()
        write_secrets(pod.folder / "secrets", pod.folder / "kept")
        write_files(pod.folder / "secrets", make_files())
        # What the pod has at fixed places is here in a folder, and on a port of its own.
        conf = move_line(files["redis.conf"], port=pod.port, secrets_dir=pod.folder / "secrets")
        files["redis.conf"] = conf.replace("/run/redis/users.acl", f"{name}/users.acl").replace(
            '"/data"', f'"{name}"'
        )
        for file, text in files.items():
            (pod.folder / file).write_text(text)
        yield pod


def test_the_pod_serves_its_users_and_nobody_else(pod: Pod) -> None:
    assert pod.run("ready-redis.sh").returncode != 0

    server = subprocess.Popen(
        ["/bin/sh", str(pod.folder / "start-redis.sh")],
        env=pod.environment,
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: pod.run("ready-redis.sh").returncode == 0, what="the pod is ready")
        for user in USERS:
            password = read_secret(pod.folder / "secrets", user.password_file)
            assert not CacheWriter(pod.link(user.name, password)).has_lost_memory()
            with pod.connect(user.name, password) as client:
                assert CacheReader(client).read([]) == []
        with pod.connect(None, None) as client:
            with pytest.raises(Exception, match="Authentication required"):
                client.ping()
        acl = (pod.folder / "users.acl").read_text()
        assert (pod.folder / "users.acl").stat().st_mode & 0o777 == 0o600
        assert not any(read_secret(pod.folder / "secrets", u.password_file) in acl for u in USERS)
    finally:
        server.terminate()
        server.wait()


@pytest.mark.parametrize("how", ["empty", "missing"])
def test_the_pod_refuses_to_start_without_a_password(pod: Pod, how: str) -> None:
    file = pod.folder / "secrets" / USERS[0].password_file
    file.write_text("") if how == "empty" else file.unlink()
    done = pod.run("start-redis.sh")

    assert done.returncode == 2
    assert f"{USERS[0].password_file} is empty or missing" in done.stderr
