"""Packs the images that kubeadm wants into one OCI layout: `pack_images.py KUBE COREDNS PAUSE ROOT OUT`.

KUBE, COREDNS and PAUSE are binaries, ROOT is the node's file system (kube-proxy takes its iptables from there). The
names are those that kubeadm asks for, whatever is inside: these images live in a test's nodes and are never pushed.
"""

import gzip
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

VERSION = "v1.34.4"
KUBE_PROGRAMS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "etcd",
)
# `kubeadm config images list --kubernetes-version v1.34.4`
NAMES = {
    **{name: f"registry.k8s.io/{name}:{VERSION}" for name in KUBE_PROGRAMS},
    "etcd": "registry.k8s.io/etcd:3.6.5-0",
    "coredns": "registry.k8s.io/coredns/coredns:v1.12.1",
    "pause": "registry.k8s.io/pause:3.10.1",
}
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
IPTABLES = ("iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore")  # fmt: skip


class Layout:
    """The blobs of one OCI image layout, written into a tar as they come."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self._known: set[str] = set()
        self.manifests: list[dict[str, object]] = []

    def add_blob(self, data: bytes, media_type: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self._known:
            self._known.add(digest)
            add_file(self._archive, f"blobs/sha256/{digest}", data, 0o644)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def add_image(self, name: str, layers: list[bytes], config: dict[str, object]) -> None:
        """`layers` are plain tars, the lowest first."""
        kind = "application/vnd.oci.image"
        described = [self.add_blob(zip_once(one), f"{kind}.layer.v1.tar+gzip") for one in layers]
        diffs = [f"sha256:{hashlib.sha256(one).hexdigest()}" for one in layers]
        whole = {"architecture": "amd64", "os": "linux", "config": config,
                 "rootfs": {"type": "layers", "diff_ids": diffs}}  # fmt: skip
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{kind}.manifest.v1+json",
            "config": self.add_blob(json.dumps(whole).encode(), f"{kind}.config.v1+json"),
            "layers": described,
        }
        entry = self.add_blob(json.dumps(manifest).encode(), f"{kind}.manifest.v1+json")
        self.manifests.append({**entry, "annotations": {"io.containerd.image.name": name}})

    def close(self) -> None:
        index = {"schemaVersion": 2, "manifests": self.manifests}
        add_file(self._archive, "index.json", json.dumps(index).encode(), 0o644)
        add_file(self._archive, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}', 0o644)


_ZIPPED: dict[int, bytes] = {}


def zip_once(layer: bytes) -> bytes:
    """The same layer object is under several images; level 1 is three times as fast for a sixth more bytes."""
    if id(layer) not in _ZIPPED:
        _ZIPPED[id(layer)] = gzip.compress(layer, compresslevel=1, mtime=0)
    return _ZIPPED[id(layer)]


def add_file(archive: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), mode
    archive.addfile(member, io.BytesIO(data))


def build_layer(files: dict[str, bytes], links: dict[str, str]) -> bytes:
    """A tar with a world-writable /tmp, `files` (all executable) by path, and symbolic `links`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        folder = tarfile.TarInfo("tmp")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
        archive.addfile(folder)
        for name, data in files.items():
            add_file(archive, name, data, 0o755)
        for name, target in links.items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
    return buffer.getvalue()


def read_iptables(root: Path) -> dict[str, bytes]:
    """iptables, its extensions, and every library that any of them is linked with: without libm, which one extension
    needs, Services with two endpoints break in silence."""
    binaries = [root / "usr/sbin/xtables-nft-multi", *(root / "usr/lib/x86_64-linux-gnu/xtables").glob("*.so")]  # fmt: skip
    wanted = {binary.relative_to(root) for binary in binaries}
    for binary in binaries:
        wanted |= set(list_libraries(root, binary.relative_to(root)))
    return {str(path): (root / path).read_bytes() for path in sorted(wanted)}


def list_libraries(root: Path, binary: Path) -> Iterator[Path]:
    told = subprocess.run(
        ["chroot", str(root), "/usr/bin/ldd", f"/{binary}"],
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    for path in re.findall(r"(/\S+) \(0x", told):
        # Debian's /lib is a link to /usr/lib; the image has no such link, and gets the path that is asked for.
        yield Path(path.lstrip("/"))


def main() -> None:
    kube, coredns, pause, root, out = (Path(text) for text in sys.argv[1:])
    links = {f"usr/local/bin/{name}": "kube" for name in KUBE_PROGRAMS}
    kube_layer = build_layer({"usr/local/bin/kube": kube.read_bytes()}, links)
    proxy_layer = build_layer(
        read_iptables(root), {f"usr/sbin/{name}": "xtables-nft-multi" for name in IPTABLES}
    )
    with tarfile.open(out, "w") as archive:
        layout = Layout(archive)
        for name in KUBE_PROGRAMS:
            layers = [kube_layer, proxy_layer] if name == "kube-proxy" else [kube_layer]
            config = {"Env": [PATH], "Entrypoint": [f"/usr/local/bin/{name}"]}
            layout.add_image(NAMES[name], layers, config)
        for name, binary, user in (("coredns", coredns, ""), ("pause", pause, "65535:65535")):
            layer = build_layer({name: binary.read_bytes()}, {})
            config = {"Env": [PATH], "Entrypoint": [f"/{name}"], **({"User": user} if user else {})}
            layout.add_image(NAMES[name], [layer], config)
        layout.close()


if __name__ == "__main__":
    main()
