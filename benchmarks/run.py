"""All benchmarks: one process a framework, one table, ratios against the peer measured in the same run.

make bench            everything (an hour on two cores); writes docs/benchmarks.json and a plot
make bench QUICK=1    a look, in a few minutes; writes nothing
"""

from __future__ import annotations

import json
import os
import platform
import sys
from datetime import date
from pathlib import Path

from attention import describe
from measure import alone

ROOT = Path(__file__).parents[1]
GROUPS = ("torch", "jax", "tensorflow", "numpy", "questions")
# (framework, what, n, at least this many times the peer's speed)
TARGETS = [
    ("torch", "forward", None, 0.97),
    ("jax", "forward", 2048, 2.5),
    ("tensorflow", "forward", 2048, 1.1),
    ("numpy", "forward", 2048, 1.8),
    ("torch", "4 questions", 4096, 3.0),
    ("torch", "output+questions", 8192, 0.4),
    ("torch", "window of 256", 16384, 10.0),
]


def main() -> None:
    quick = "--quick" in sys.argv
    chosen = [group for group in GROUPS if group in sys.argv] or list(GROUPS)
    rows = []
    for group in chosen:
        print(f"measuring {group} ...", flush=True)
        rows += alone(Path(__file__).with_name("attention.py"), group, *(["--quick"] if quick else []))
    print("\n".join(describe(row) for row in rows))
    missed = [row for row in rows if (target := target_of(row)) and row.get("speed", target) < target]
    for row in missed:
        print(f"short of {target_of(row)}x:", describe(row))
    if not quick and len(chosen) == len(GROUPS):
        write(rows)


def target_of(row: dict) -> float | None:
    for framework, what, length, least in TARGETS:
        if (
            (framework, what) == (row["framework"], row["what"])
            and length in (None, row["n"])
            and row["dtype"] == "float32"
        ):
            return least
    return None


def write(rows: list[dict]) -> None:
    where = {
        "date": date.today().isoformat(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
    }
    (ROOT / "docs" / "benchmarks.json").write_text(json.dumps({"machine": where, "rows": rows}, indent=1))
    plot(rows, ROOT / "docs" / "images" / "benchmarks.png")


def plot(rows: list[dict], path: Path) -> None:
    """Time and memory over the length, forward, width 64, float32."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.5), layout="constrained")
    frameworks = [group for group in GROUPS if group != "questions"]
    axes = figure.subplots(2, len(frameworks), sharex=True)
    for column, framework in enumerate(frameworks):
        mine = [
            r for r in rows if (r["framework"], r["what"], r["d"], r["dtype"]) == (framework, "forward", 64, "float32")
        ]
        for line, (unit, label) in enumerate((("ms", "time (ms)"), ("mb", "memory beyond inputs (MB)"))):
            axis = axes[line, column]
            lengths = [r["n"] for r in mine]
            axis.plot(lengths, [max(r[f"regard_{unit}"], 0.1) for r in mine], "o-", label="regard")
            both = [r for r in mine if "speed" in r]
            axis.plot([r["n"] for r in both], [max(r[f"peer_{unit}"], 0.1) for r in both], "s--", label=mine[0]["peer"])
            axis.set(xscale="log", yscale="log", ylabel=label if column == 0 else None)
            axis.set_xticks(lengths, [str(n) for n in lengths])
            axis.minorticks_off()
            axis.grid(alpha=0.3)
        axes[0, column].set_title(framework)
        axes[0, column].legend(fontsize="x-small")
        axes[1, column].set_xlabel("length n")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
