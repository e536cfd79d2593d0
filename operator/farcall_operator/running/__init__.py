"""The operator as a process: who leads, what is watched, what waits to be reconciled, how it tells of itself."""

import sys

# kopf loads the `kubernetes` client wherever it finds it, for two names that nobody here uses: 35 MB. The operator's image
# has none; where all rooms share one environment (local mode), kopf finds none either.
if "kubernetes" not in sys.modules:
    sys.modules["kubernetes"] = None  # type: ignore[assignment]  # an import of it is refused
    try:
        import kopf  # noqa: F401
    finally:
        del sys.modules["kubernetes"]
