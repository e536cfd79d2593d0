"""What the operator's process loads: its memory is paid by every cluster, all day."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.unit
# The `kubernetes` client alone is 19 MB when kopf finds it; the others belong to other images.
HEAVY = (
    "kubernetes",
    "numpy",
    "pyarrow",
    "redis",
    "clickhouse_connect",
    "chdb",
    "uvicorn",
    "litestar",
)
SCRIPT = """
import sys
import farcall_operator.running.process, farcall_operator.reconcile
print(" ".join(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_nothing_heavy_is_imported():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert sorted(set(HEAVY) & set(done.stdout.split())) == []
