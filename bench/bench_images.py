"""The images: how large each is (unpacked, and packed as a registry would hold it), and how long `farcall --help` takes in it.

`make bench-images` builds them first. Layers that several images share are counted once in the sum. Figures go to
bench/results/images.json.
"""

import gzip
import hashlib
import json
import os
import platform
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench/results/images.json"
IMAGES = ("probes", "exporter", "console", "operator")
ROUNDS = 1 if os.environ.get("QUICK") == "1" else 3
MB = 1_000_000
# In none of them: what compiles, and what a compiler reads.
FORBIDDEN = ("gcc", "cc", "clang", "make", "bpftool")


def main() -> None:
    docker_host = subprocess.run(
        [ROOT / "tests/cluster/docker.sh", "up"], capture_output=True, text=True, check=True
    ).stdout.strip()
    os.environ["DOCKER_HOST"] = docker_host
    version = next(
        line.split('"')[1]
        for line in (ROOT / "pyproject.toml").read_text().splitlines()
        if line.startswith('version = "')
    )
    layers: dict[str, int] = {}
    rows = {name: measure(f"farcall/{name}:{version}", layers) for name in IMAGES}
    for name, row in rows.items():
        print(f"{name:10} {row['unpacked_mb']:6.0f} MB unpacked {row['packed_mb']:6.0f} MB packed   --help {row['help_s']:.2f} s")  # fmt: skip
    total_mb = round(sum(layers.values()) / MB, 1)
    print(f"all four, shared layers once: {total_mb:.0f} MB packed")
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    figures = {"machine": platform.platform(), "images": rows, "all_packed_mb": total_mb}
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n")


def measure(image: str, layers: dict[str, int]) -> dict[str, float]:
    unpacked = int(run("docker", "image", "inspect", "--format", "{{.Size}}", image))
    found = pack_layers(image)
    layers.update(found)
    check_nothing_compiles(image)
    help_s = min(time_help(image) for _ in range(ROUNDS))
    packed_mb = round(sum(found.values()) / MB, 1)
    return {"unpacked_mb": round(unpacked / MB, 1), "packed_mb": packed_mb, "help_s": help_s}


def pack_layers(image: str) -> dict[str, int]:
    """Digest of each layer → bytes after gzip, as registries store them."""
    with tempfile.NamedTemporaryFile(suffix=".tar") as file:
        run("docker", "save", "--output", file.name, image)
        found = {}
        with tarfile.open(file.name) as archive:
            for member in archive:
                if member.name.endswith("layer.tar") and member.isfile():
                    content = archive.extractfile(member)
                    assert content is not None
                    digest, size = pack(content)
                    found[digest] = size
    return found


def pack(content: IO[bytes]) -> tuple[str, int]:
    digest = hashlib.sha256()
    with tempfile.TemporaryFile() as out, gzip.GzipFile(fileobj=out, mode="wb", compresslevel=6, mtime=0) as packer:  # fmt: skip
        while chunk := content.read(1 << 20):
            digest.update(chunk)
            packer.write(chunk)
        packer.close()
        return digest.hexdigest(), out.tell()


def check_nothing_compiles(image: str) -> None:
    script = f"for name in {' '.join(FORBIDDEN)}; do command -v $name; done; find /usr/src /lib/modules -mindepth 1 2>/dev/null; true"  # fmt: skip
    found = run("docker", "run", "--rm", "--network", "none", "--entrypoint", "sh", image, "-c", script)  # fmt: skip
    assert not found.strip(), f"{image} holds {found}"


def time_help(image: str) -> float:
    start = time.monotonic()
    run("docker", "run", "--rm", "--network", "none", "--read-only", image, "--help")
    return round(time.monotonic() - start, 2)


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()
