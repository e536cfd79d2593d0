"""What a real API server makes of our manifests is recognised as what was desired, whatever it fills in or writes in its way.

A difference that is none would be one apply too many after each start; one that is not seen would be drift for ever.
"""

import asyncio

import pytest

from farcall.tracingconfig import read_tracingconfig
from farcall_operator.cluster.client import connect
from farcall_operator.cluster.port import Applied, Manifest
from farcall_operator.comparing import list_differences
from farcall_operator.context import Context, Credentials
from farcall_operator.kubernetes import build_manifests
from farcall_operator.layout import SECRET_FILES
from support_apiserver_operator import NAMESPACE, OperatorProcess
from support_ground import ROOT

pytestmark = pytest.mark.apiserver

GOLDEN = ROOT / "tests/golden/render"
FILES = {
    "hobby": ROOT / "examples/hobby.yaml",
    "scale": ROOT / "examples/scale.yaml",
    "everything": GOLDEN / "everything.yaml",
    "kept": GOLDEN / "kept.yaml",
    "scaling": GOLDEN / "scaling.yaml",
}
CONTEXT = Context(
    namespace=NAMESPACE,
    credentials=Credentials(hashes=dict.fromkeys(SECRET_FILES, "0123456789abcdef")),
)


def apply_dry(operator: OperatorProcess, manifests: list[Manifest]) -> list[Applied]:
    async def run() -> list[Applied]:
        async with connect(operator.kubeconfig) as cluster:
            return [await cluster.apply(manifest, dry_run=True) for manifest in manifests]

    return asyncio.run(run())


@pytest.mark.parametrize("name", FILES)
def test_what_was_just_applied_is_as_desired(
    configs: object, operator: OperatorProcess, name: str
) -> None:
    manifests = build_manifests(read_tracingconfig(FILES[name]), CONTEXT)
    applied = apply_dry(operator, manifests)

    for manifest, answer in zip(manifests, applied, strict=True):
        what = (manifest["kind"], manifest["metadata"]["name"])
        assert list_differences(manifest, answer.live) == frozenset(), what
        assert [w for w in answer.warnings if "deprecated" in w or "unknown field" in w] == [], what
