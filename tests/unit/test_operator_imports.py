"""What the operator's process loads: its memory is paid by every cluster, all day."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.unit
# They belong to other images.
HEAVY = (
    "numpy",
    "pyarrow",
    "redis",
    "clickhouse_connect",
    "chdb",
    "uvicorn",
    "litestar",
)
# kopf imports the `kubernetes` client, 19 MB, where it finds it; the exporter's image has it, the operator's does not.
SCRIPT = """
import sys
sys.modules["kubernetes"] = None
import farcall_operator.running.process, farcall_operator.reconcile
print(" ".join(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_nothing_heavy_is_imported():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert sorted(set(HEAVY) & set(done.stdout.split())) == []
