"""Fuzzes an entrance for some time, guided by coverage (atheris, libFuzzer): python tests/run_fuzz.py TARGET SECONDS

Begins at tests/corpus/fuzz/TARGET. An input that breaks something is kept there, as `found-…`, so that the unit tests take it
from then on; the exit code is not 0 then. Inputs that reach more code are kept in the user's cache folder for the next time.
"""

import os
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["farcall", "farcall_probes", "farcall_exporter"]):
    from support_fuzz import CORPUS, MAX_BYTES, TARGETS

CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "farcall/fuzz"
MAX_RSS_MB = 2048


def main(target: str, seconds: str) -> None:
    grown, seeds = CACHE / target, CORPUS / target
    grown.mkdir(parents=True, exist_ok=True)
    words = [sys.argv[0], str(grown), str(seeds), f"-max_total_time={seconds}"]
    words += [f"-max_len={MAX_BYTES}", f"-rss_limit_mb={MAX_RSS_MB}", "-timeout=10"]
    words += [f"-artifact_prefix={seeds}/found-", "-print_final_stats=1", "-verbosity=0"]
    atheris.Setup(words, TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
