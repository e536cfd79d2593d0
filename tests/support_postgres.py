"""A real PostgreSQL for tests, of Debian's package, as its own user and on a free port of loopback."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support_ports import find_free_port

USER = "postgres"


def find_binaries() -> Path | None:
    """The newest installed version's programs; Debian keeps them out of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: p.parts[4])
    return found[-1].parent if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    port: int
    binaries: Path
    password: str | None = None

    def run(self, program: str, *words: str, text: str = "") -> str:
        """psql, pgbench: as a client of this server over TCP. Raises CalledProcessError."""
        done = subprocess.run(
            [self.binaries / program, "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, *words],
            input=text,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
            env={
                **os.environ,
                "PGSSLMODE": "disable",
                "PGDATABASE": USER,
                "PGPASSWORD": self.password or "",
            },
        )
        return done.stdout


@contextmanager
def running_postgres(
    certificate: tuple[Path, Path] | None = None,
    *,
    password: str | None = None,
    within: Sequence[str] = (),
) -> Iterator[Postgres]:
    """With `certificate` (and its key) it speaks TLS to who asks for it. With a password it is asked for, in plain text.

    `within`: begins the command that starts it, to enter a network namespace, of which it then listens to every address.
    """
    binaries = find_binaries()
    assert binaries is not None, "needs postgresql: run `make setup-test`"
    folder = Path(tempfile.mkdtemp(prefix="farcall-postgres-"))
    port = find_free_port()
    try:
        shutil.chown(folder, USER)
        data = folder / "data"
        as_user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups", "--"]
        make = [binaries / "initdb", "-D", data, "-A", "trust", "-N", "--no-instructions"]
        if password is not None:
            kept = folder / "password"
            kept.write_text(password)
            shutil.chown(kept, USER)
            make[4:5] = ["password", f"--pwfile={kept}"]
        subprocess.run([*as_user, *make], check=True, capture_output=True, cwd="/")
        address = "127.0.0.1"
        if within:
            address = "0.0.0.0"
            with (data / "pg_hba.conf").open("a") as access:
                access.write("host all all 0.0.0.0/0 trust\n")
        control = [*as_user, binaries / "pg_ctl", "-D", data, "-w", "-t", "60"]
        settings = (
            f"-p {port} -c listen_addresses={address} -c unix_socket_directories= -c fsync=off"
        )
        if certificate is not None:
            for name, path in zip(("cert", "key"), certificate, strict=True):
                shutil.copy(path, folder / name)
                shutil.chown(folder / name, USER)
                (folder / name).chmod(0o600)
            files = f"-c ssl_cert_file={folder}/cert -c ssl_key_file={folder}/key"
            settings += f" -c ssl=on {files}"
        log = folder / "log"
        subprocess.run(
            [*within, *control, "-l", log, "-o", settings, "start"],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd="/",
        )
        try:
            yield Postgres(port=port, binaries=binaries, password=password)
        finally:
            subprocess.run(
                [*control, "-m", "immediate", "stop"],
                check=True,
                stdout=subprocess.DEVNULL,
                cwd="/",
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
