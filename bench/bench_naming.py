"""The naming score: calls with a known right answer, and what farcall calls them. bench/naming/README.md says how.

make naming-score              figures go to bench/results/naming.json; QUICK=1 for the rows marked so
python bench/bench_naming.py --only c05,c12-wrong-id     rows whose ID begins so
"""

import argparse
import json
import os
import platform
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from farcall_demo.plan import DemoError
from naming.clients.build import BuildError
from naming.judging import EXPLAINED, RIGHT, UNEXPLAINED, WRONG, Verdict
from naming.product import ProductError
from naming.run import run
from naming.servers import LabError
from naming.table import Expected, read_table

RESULTS = Path(__file__).parent / "results" / "naming.json"


def choose(rows: Sequence[Expected], only: str, quick: bool) -> list[Expected]:
    wanted = [row for row in rows if not row.needs and (row.quick or not quick)]
    begins = tuple(filter(None, only.split(",")))
    return [row for row in wanted if row.id.startswith(begins)] if begins else wanted


def print_table(verdicts: Sequence[Verdict]) -> None:
    wide = max(len(v.row.id) for v in verdicts)
    for v in verdicts:
        mark = " " if v.is_good else "!"
        expected = str(v.row.outcome).replace(v.row.id, "…")
        seen = "as expected" if v.is_good else v.seen.replace(v.row.id, "…")[:160]
        print(f"{mark} {v.row.id:<{wide}}  {expected:<44}  {seen}")
        if not v.is_good:
            print(f"  {'':<{wide}}  by {v.row.rule}")


def build_result(
    verdicts: Sequence[Verdict], strays: Sequence[str], left_out: Sequence[Expected], took_s: float
) -> dict[str, object]:
    kinds = Counter(v.kind for v in verdicts)
    return {
        "cases": len(verdicts),
        "right": kinds[RIGHT],
        "wrong": kinds[WRONG] + len(strays),
        "unknown_right_reason": kinds[EXPLAINED],
        "unexplained": kinds[UNEXPLAINED],
        "left_out": {row.id: row.needs for row in left_out},
        "rows": {v.row.id: {"kind": v.kind, "seen": v.seen} for v in verdicts},
        "strays": list(strays),
        "took_s": round(took_s, 1),
        "quick": bool(os.environ.get("QUICK")),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}",
    }


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="beginnings of IDs, with commas between")
    parser.add_argument("--keep", type=Path, help="a folder to copy what farcall logged to")
    arguments = parser.parse_args()
    rows = read_table()
    chosen = choose(rows, arguments.only, bool(os.environ.get("QUICK")))
    left_out = [row for row in rows if row.needs]
    try:
        verdicts, strays, took_s = run(chosen, arguments.keep)
    except (BuildError, DemoError, LabError, ProductError) as e:
        print(f"the naming score cannot be taken: {e}", file=sys.stderr)
        return 2
    print_table(verdicts)
    result = build_result(verdicts, strays, left_out, took_s)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for stray in strays:
        print(f"! a call that no row judges was named: {stray}")
    for row in left_out:
        print(f"- {row.id}: left out, it needs {row.needs}")
    keys = ("cases", "right", "wrong", "unknown_right_reason", "unexplained")
    print("  ".join(f"{key} {result[key]}" for key in keys), f" in {took_s:.0f} s")
    return 0 if all(v.is_good for v in verdicts) and not strays else 1


if __name__ == "__main__":
    sys.exit(main())
