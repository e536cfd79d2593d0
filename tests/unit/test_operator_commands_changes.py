"""Two versions of a child as a diff: what people changed, nothing that the server writes, and no secret."""

import base64

import pytest

from farcall_operator.cluster.port import DESIRED_HASH, Manifest, Ref
from farcall_operator.commands.changes import build_change, count_lines

pytestmark = pytest.mark.unit

REF = Ref("v1", "ConfigMap", "farcall", "main-config")


def make(**metadata: object) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "main-config", "namespace": "farcall", **metadata},
        "data": {"redis.conf": "maxmemory 1\nsave ''\n"},
    }


def test_what_the_server_writes_is_no_difference() -> None:
    before = make(uid="1", resourceVersion="7", managedFields=[{}], annotations={DESIRED_HASH: "a"})
    after = make(uid="2", generation=4, annotations={DESIRED_HASH: "b"})
    after["status"] = {"replicas": 1}

    change = build_change(REF, "change", before=before, after=after)

    assert (change.action, change.diff) == ("none", [])


def test_a_changed_line_of_a_file_is_a_changed_line() -> None:
    after = make()
    after["data"] = {"redis.conf": "maxmemory 2\nsave ''\n"}

    change = build_change(REF, "change", before=make(), after=after)

    assert change.diff[:2] == [
        "--- live/ConfigMap/main-config",
        "+++ desired/ConfigMap/main-config",
    ]
    assert "-    maxmemory 1" in change.diff
    assert "+    maxmemory 2" in change.diff
    assert count_lines(change.diff) == "+1 -1"


def test_annotations_of_others_stay_visible() -> None:
    change = build_change(
        REF, "change", before=make(annotations={DESIRED_HASH: "a", "note": "x"}), after=make()
    )

    assert "-    note: x" in change.diff
    assert DESIRED_HASH not in "\n".join(change.diff)


def test_of_a_secret_only_keys_are_shown_and_whether_they_differ() -> None:
    def secret(**data: str) -> Manifest:
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        return {"kind": "Secret", "metadata": {"name": "s"}, "data": encoded}

    ref = Ref("v1", "Secret", "farcall", "s")
    before, after = secret(same="hush", other="old", gone="x"), secret(same="hush", other="new")
    text = "\n".join(build_change(ref, "change", before=before, after=after).diff)

    for data in (before["data"], after["data"]):
        assert not [value for value in data.values() if value in text]
    assert "+  other: (hidden, another one)" in text
    assert "-  gone: (hidden)" in text
    assert "   same: (hidden)" in text

    created = build_change(ref, "create", after={**after, "stringData": {"plain": "open"}})
    assert "open" not in "\n".join(created.diff)


def test_a_creation_and_a_deletion_are_whole() -> None:
    created = build_change(REF, "create", after=make())
    deleted = build_change(REF, "delete", before=make())

    assert (count_lines(created.diff), count_lines(deleted.diff)) == ("+9 -0", "+0 -9")
    assert all(line.startswith(("---", "+++", "@@", "+")) for line in created.diff)
    assert all(line.startswith(("---", "+++", "@@", "-")) for line in deleted.diff)
