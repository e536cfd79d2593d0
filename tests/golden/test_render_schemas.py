"""Rendered objects against Kubernetes' own schemas, of the oldest release that is supported.

The tests of the installation do the same with the plain ones and with newer releases.
"""

import kubernetes_validate
import pytest

from farcall.tracingconfig import read_tracingconfig
from farcall_operator.kubernetes import build_manifests
from support_ground import ROOT
from support_render import CONTEXT
from support_tracingconfigs import Case, list_cases, name_case, read_case

pytestmark = pytest.mark.golden

OLDEST = "1.31"
NAMES = ("placement", "resources", "clickhouse-autoscaling", "clickhouse-autoscaling-fixed", "ingress", "store-without-a-volume")  # fmt: skip
CASES = [
    *(case for case in list_cases("good") if case.path.stem in NAMES),
    *(read_case(ROOT / f"examples/{name}.yaml") for name in ("production", "canary")),
    *(read_case(ROOT / f"tests/golden/render/{name}.yaml") for name in ("kept", "scaling")),
]


@pytest.mark.parametrize("case", CASES, ids=name_case)
def test_every_object_fits_its_schema_with_no_field_too_many(case: Case) -> None:
    for manifest in build_manifests(read_tracingconfig(case.path), CONTEXT):
        kubernetes_validate.validate(manifest, OLDEST, strict=True)
