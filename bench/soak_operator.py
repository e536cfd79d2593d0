"""The operator under churn: edits, deletions and new ones without a pause. Fails when its memory grows.

make soak DURATION=3600     seconds; figures go to bench/results/operator.json
"""

import argparse
import random
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from operatorload import Figures, edit, say, started, write_results
from support_apiserver import COLLECTORS
from support_apiserver_configs import CONFIGS
from support_apiserver_load import make_configs, name_of, wait_all_ready

SOAK_CONFIGS = 60
# Beyond what an allocator keeps for itself: the last quarter of a soak against its second.
MAY_GROW_MB = 10.0


def run_soak(duration_s: int) -> int:
    """Edits, deletions and new ones without a pause; the operator's memory is read every few seconds."""
    choose = random.Random(2)
    with started(COLLECTORS) as bench:
        make_configs(bench.api, range(SOAK_CONFIGS), bench.operator.check_alive)
        began = time.monotonic()
        samples: list[tuple[float, float]] = []
        changes = 0
        while (elapsed := time.monotonic() - began) < duration_s:
            bench.operator.check_alive()
            name = name_of(choose.randrange(SOAK_CONFIGS))
            if choose.random() < 0.05:
                bench.api.delete(f"{CONFIGS}/{name}")
            else:
                edit(bench.api, name, choose.randrange(1, 90))
            changes += 1
            if not samples or elapsed - samples[-1][0] >= max(1.0, duration_s / 200):
                samples.append((elapsed, bench.rss_mb()))
            time.sleep(0.02)
        for number in range(SOAK_CONFIGS):
            edit(bench.api, name_of(number), 3)
        wait_all_ready(bench.api, SOAK_CONFIGS, bench.operator.check_alive)
        samples.append((time.monotonic() - began, bench.rss_mb()))
    return report_soak(duration_s, changes, samples)


def report_soak(duration_s: int, changes: int, samples: list[tuple[float, float]]) -> int:
    quarter = max(1, len(samples) // 4)
    early = statistics.median(rss for _, rss in samples[quarter : 2 * quarter])
    late = statistics.median(rss for _, rss in samples[-quarter:])
    figures: Figures = {
        "soak_s": duration_s,
        "soak_changes": changes,
        "soak_rss_mb_early": round(early, 1),
        "soak_rss_mb_late": round(late, 1),
    }
    write_results(figures)
    say(", ".join(f"{name} {value:,}" for name, value in figures.items()))
    if late - early > MAY_GROW_MB:
        print(f"the operator grew by {late - early:.1f} MB between the second and the last quarter")
        return 1
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("seconds", type=int)
    return run_soak(parser.parse_args().seconds)


if __name__ == "__main__":
    raise SystemExit(main())
