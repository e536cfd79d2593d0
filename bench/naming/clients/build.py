"""Builds the clients once per version of their sources, in the user's cache folder."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = ("client.c", "client.go", "Client.java")
TOOLS = {
    "gcc": "the Debian package gcc",
    "musl-gcc": "the Debian package musl-tools",
    "go": "Go 1.22 or newer on the PATH",
    "javac": "the Debian package openjdk-17-jdk-headless",
}
JVM = ("-Xshare:auto", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx32m")
JVM_HTTP = (
    "-Djdk.httpclient.keepalive.timeout=1",
)  # s: what nobody can read is told of at its end


class BuildError(Exception):
    """A tool is missing or refuses; the message says which."""


def build_clients() -> dict[str, tuple[str, ...]]:
    """Resolver → command. Raises BuildError."""
    key = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in SOURCES)).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("FARCALL_CACHE") or cache / "farcall") / "naming" / key
    if not folder.exists():
        _build(folder)
    return {
        "glibc": (str(folder / "glibc"),),
        "musl": (str(folder / "musl"),),
        "go": (str(folder / "go"),),
        "jvm": ("java", *JVM, *JVM_HTTP, "-cp", str(folder), "Client"),
        "secure": (sys.executable, str(HERE / "secure.py")),
        "library": (sys.executable, str(HERE / "library.py")),
    }


def _build(folder: Path) -> None:
    for tool, package in TOOLS.items():
        if shutil.which(tool) is None:
            raise BuildError(f"the naming score's clients need {tool}: install {package}")
    new = folder.with_name(f"{folder.name}.{os.getpid()}")
    new.mkdir(parents=True)
    _run("gcc", "-O1", "-Wall", "-o", new / "glibc", HERE / "client.c")
    _run("musl-gcc", "-static", "-O1", "-Wall", "-o", new / "musl", HERE / "client.c")
    _run("go", "build", "-trimpath", "-o", new / "go", HERE / "client.go")
    _run("javac", "-d", new, HERE / "Client.java")
    new.rename(folder)


def _run(*command: object) -> None:
    environment = {**os.environ, "CGO_ENABLED": "0"}  # Go's own resolver, not the C library's
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if done.returncode:
        raise BuildError(f"{command[0]}: {done.stderr[-500:]}")
