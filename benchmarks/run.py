"""All benchmarks: one process a framework, one table, ratios against the peer measured in the same run.

make bench                everything (an hour on two cores); writes docs/benchmarks.json, docs/benchmarks.md and a plot
make bench EXTENT=brief   beyond 2048 positions only width 64 in float32 (a quarter of an hour); writes them too
make bench EXTENT=quick   a look, in a few minutes; writes nothing
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
    extent = next((name for name in ("brief", "quick") if name in sys.argv), "full")
    chosen = [group for group in GROUPS if group in sys.argv] or list(GROUPS)
    rows = []
    for group in chosen:
        print(f"measuring {group} ...", flush=True)
        rows += alone(Path(__file__).with_name("attention.py"), group, extent)
    print("\n".join(describe(row) for row in rows))
    missed = [row for row in rows if (target := target_of(row)) and row.get("speed", target) < target]
    for row in missed:
        print(f"short of {target_of(row)}x:", describe(row))
    if extent != "quick" and len(chosen) == len(GROUPS):
        write(rows, extent)


def target_of(row: dict) -> float | None:
    for framework, what, length, least in TARGETS:
        if (
            (framework, what) == (row["framework"], row["what"])
            and length in (None, row["n"])
            and row["dtype"] == "float32"
        ):
            return least
    return None


def write(rows: list[dict], extent: str) -> None:
    where = {
        "date": date.today().isoformat(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "extent": extent,
    }
    (ROOT / "docs" / "benchmarks.json").write_text(json.dumps({"machine": where, "rows": rows}, indent=1) + "\n")
    (ROOT / "docs" / "benchmarks.md").write_text(page(where, rows))
    plot(rows, ROOT / "docs" / "images" / "benchmarks.png")


def page(where: dict, rows: list[dict]) -> str:
    """The documentation's page: a plot, and a table with what each target is and whether it was reached."""
    lines = [
        "# Benchmarks",
        "",
        f"Measured on {where['date']} by the programs of `make bench` on {where['cores']} cores ({where['processor']}), no GPU.",
        "Each row runs both programs in turn in one process and compares medians; read the ratios, not the milliseconds.",
        "8 heads, 2 from 16,384 positions on. Memory is measured in processes of its own by `tests/test_memory.py`:",
        "every question, forward and backward at 16,384 positions within 64 MB beyond inputs and results. The numbers",
        f"are in `docs/benchmarks.json`; extent: {where['extent']}.",
        "",
        "![Time over the length](images/benchmarks.png)",
        "",
        "| | n | d | type | Regard ms | peer | peer ms | speed | asked |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        target = target_of(row)
        asked = "" if target is None else f"{target:g}x" + (" (short)" if row.get("speed", target) < target else "")
        what = (f"{row['framework']}, {row['what']}", row["n"], row["d"], row["dtype"])
        beside = ("does not fit", "")
        if "speed" in row:
            beside = (f"{row['peer_ms']:.1f}", f"{row['speed']:.2f}x")
        cells = (*what, f"{row['regard_ms']:.1f}", f"`{row['peer']}`", *beside, asked)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def plot(rows: list[dict], path: Path) -> None:
    """Time over the length, forward, width 64, float32."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.5), layout="constrained")
    frameworks = [group for group in GROUPS if group != "questions"]
    for axis, framework in zip(figure.subplots(1, len(frameworks)), frameworks, strict=True):
        mine = [
            r for r in rows if (r["framework"], r["what"], r["d"], r["dtype"]) == (framework, "forward", 64, "float32")
        ]
        lengths = [row["n"] for row in mine]
        axis.plot(lengths, [row["regard_ms"] for row in mine], "o-", label="regard")
        both = [row for row in mine if "speed" in row]
        axis.plot([row["n"] for row in both], [row["peer_ms"] for row in both], "s--", label=mine[0]["peer"])
        axis.set(xscale="log", yscale="log", xlabel="length n", title=framework)
        axis.set_xticks(lengths, [str(n) for n in lengths])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.legend(fontsize="x-small")
        if framework == frameworks[0]:
            axis.set_ylabel("time (ms)")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
