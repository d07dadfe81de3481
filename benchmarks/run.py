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
        f"Measured on {where['date']} with `make bench` on {where['cores']} cores ({where['processor']}), no GPU. Each",
        "row runs both programs in turn in one process and compares medians; read the ratios, not the milliseconds.",
        "8 heads, 2 from 16,384 positions on. Memory is the resident set's growth while the program runs, results",
        "included. The numbers are in `docs/benchmarks.json`.",
        "",
        "![Time and memory over the length](images/benchmarks.png)",
        "",
        "| | n | d | type | Regard ms | peer | peer ms | speed | asked | Regard MB | peer MB |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        target = target_of(row)
        asked = "" if target is None else f"{target:g}x" + (" (short)" if row.get("speed", target) < target else "")
        what = (f"{row['framework']}, {row['what']}", row["n"], row["d"], row["dtype"])
        beside = ("does not fit", "")
        if "speed" in row:
            beside = (f"{row['peer_ms']:.1f}", f"{row['speed']:.2f}x")
        memory = (f"{row['regard_mb']:.0f}", f"{row['peer_mb']:.0f}" if "peer_mb" in row else "")
        cells = (*what, f"{row['regard_ms']:.1f}", f"`{row['peer']}`", *beside, asked, *memory)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


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
