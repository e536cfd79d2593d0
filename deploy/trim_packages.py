"""Removes from installed packages what no image of ours runs: `trim_packages.py FOLDER…`, then compiles the rest.

Tests, headers, the second (asynchronous) copy of Kubernetes' client, and the parts of pyarrow that talk to clouds or over
Flight, each with the extension that alone loads it. The byte code is checked against nothing at start: a root file system
that is read only could not renew it, and without it each start of a pod would compile everything anew.
"""

import compileall
import py_compile
import shutil
import sys
from pathlib import Path

FOLDERS = (
    "pyarrow/include",
    "pyarrow/includes",
    "pyarrow/src",
    "pyarrow/tests",
    "numpy/_core/include",
    "numpy/_core/tests",
    "kubernetes/aio",
    "pandas/tests",
    "bin",
    "__pycache__",
)
PATTERNS = (
    "pyarrow/*flight*.so*",
    "pyarrow/*_s3*.so*",
    "pyarrow/*.pyx",
    "pyarrow/*.pxd",
    "pyarrow/*.pxi",
    "numpy/**/tests",
    "**/*.pyi",
)
# Extensions that are linked with what goes.
EXTENSIONS = ("pyarrow/_flight*.so", "pyarrow/_s3fs*.so")


def main() -> None:
    for folder in (Path(text) for text in sys.argv[1:]):
        trim(folder)
        compileall.compile_dir(
            folder, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
        )


def trim(folder: Path) -> None:
    doomed = [folder / name for name in FOLDERS]
    for pattern in (*PATTERNS, *EXTENSIONS):
        doomed += folder.glob(pattern)
    for path in doomed:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
