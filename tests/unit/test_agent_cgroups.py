"""Containers and pods from the paths that runtimes and cgroup drivers really write."""

import os
from pathlib import Path

import pytest

from farcall_probes.cgroups import CgroupTree, Container, PodLogs, parse_membership, parse_path

pytestmark = pytest.mark.unit

ID = "a" * 32 + "0123456789abcdef" * 2
UID = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
IN_POD = Container(container_id=ID, pod_uid=UID)
ALONE = Container(container_id=ID, pod_uid=None)
SLICE = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + UID.replace("-", "_")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"/kubepods/burstable/pod{UID}/{ID}", IN_POD),
        (f"/kubepods/pod{UID}/{ID}", IN_POD),
        (f"{SLICE}.slice/cri-containerd-{ID}.scope", IN_POD),
        (f"{SLICE}.slice/crio-{ID}.scope", IN_POD),
        (f"{SLICE}.slice/docker-{ID}.scope/init", IN_POD),
        (f"/system.slice/containerd.service{SLICE}.slice:cri-containerd:{ID}", IN_POD),
        (f"/docker/{'b' * 64}/kubelet/kubepods/besteffort/pod{UID}/{ID}", IN_POD),
        (f"/kubepods/besteffort/pod{'c' * 32}/{ID}", Container(container_id=ID, pod_uid="c" * 32)),
        (f"/docker/{ID}", ALONE),
        (f"/docker/{ID}/system.slice/nginx.service", ALONE),
        (f"/system.slice/docker-{ID}.scope", ALONE),
        (f"/machine.slice/libpod-{ID}.scope/container", ALONE),
        ("/", None),
        ("/system.slice/nginx.service", None),
        ("/user.slice/user-1000.slice/session-1.scope", None),
        ("/jobs/" + "d" * 32, None),
        (f"/kubepods/burstable/pod{UID}", None),
        (f"/jobs/x{ID}", None),
    ],
)
def test_each_kind_of_path(path: str, expected: Container | None) -> None:
    assert parse_path(path) == expected


def test_membership_on_v2_v1_and_hybrid() -> None:
    path = f"/kubepods/pod{UID}/{ID}"
    assert parse_membership([f"0::{path}"]) == (IN_POD, path)
    assert parse_membership([f"4:memory:{path}", "1:cpu:/"]) == (IN_POD, path)
    assert parse_membership(["0::/", f"5:pids:{path}", "4:memory:/"]) == (IN_POD, path)
    assert parse_membership([f"3:blkio:{path}"]) == (IN_POD, path)
    assert parse_membership(["0::/system.slice/a.service"]) == (None, "/system.slice/a.service")
    assert parse_membership([]) == (None, "/")


def test_an_id_is_the_inode_of_its_directory(tmp_path: Path) -> None:
    group = tmp_path / "unified" / "a" / "b"
    group.mkdir(parents=True)
    now = [0.0]
    tree = CgroupTree(tmp_path, clock=lambda: now[0])

    assert tree.find(os.stat(group).st_ino) == "/a/b"
    later = tmp_path / "unified" / "later"
    later.mkdir()
    assert tree.find(os.stat(later).st_ino) is None  # a walk a second at most
    now[0] += 2
    assert tree.find(os.stat(later).st_ino) == "/later"
    inode = os.stat(later).st_ino
    later.rmdir()
    tree.scan()
    assert tree.find(inode) == "/later"  # its last records are still on their way


def test_ids_below_a_directory_are_found_in_every_hierarchy(tmp_path: Path) -> None:
    made = [tmp_path / h / "farcall" / "x" for h in ("unified", "memory")]
    for directory in made:
        directory.mkdir(parents=True)
    tree = CgroupTree(tmp_path)
    expected = {os.stat(d).st_ino for m in made for d in (m, m.parent)}

    assert tree.ids_below("/farcall") == expected
    assert tree.ids_below(str(made[0].parent)) < expected
    assert tree.ids_below("/absent") == set()


def test_pod_names_come_from_log_folders(tmp_path: Path) -> None:
    folder = tmp_path / "pods" / f"shop_cart-7d9_{UID}"
    (folder / "cart").mkdir(parents=True)
    names = PodLogs(tmp_path).find(IN_POD)
    assert names is not None
    assert (names.namespace, names.pod, names.container) == ("shop", "cart-7d9", "cart")

    (folder / "sidecar").mkdir()
    assert (PodLogs(tmp_path).find(IN_POD) or pytest.fail()).container is None
    (tmp_path / "containers").mkdir()
    (tmp_path / "containers" / f"cart-7d9_shop_sidecar-{ID}.log").touch()
    assert (PodLogs(tmp_path).find(IN_POD) or pytest.fail()).container == "sidecar"


def test_no_log_folder_is_no_name(tmp_path: Path) -> None:
    assert PodLogs(tmp_path).find(IN_POD) is None
    assert PodLogs(tmp_path).find(ALONE) is None
