"""All benchmarks: one process a framework, one table, ratios against the peer measured in the same run.

make bench                everything (an hour on two cores); writes docs/benchmarks.json, docs/benchmarks.md and a plot
make bench EXTENT=brief   beyond 2048 positions only width 64 in float32 (a quarter of an hour); writes them too
make bench EXTENT=quick   a look, in a few minutes; writes nothing
make bench EXTENT="brief numpy"   one group again of those in GROUPS, or memory; the rest stays
make bench EXTENT="brief beside"  in processor time beside a busy process on each core: questions, or the groups named
"""

from __future__ import annotations

import json
import os
import platform
import sys
from datetime import date
from pathlib import Path
from typing import Any

from attention import describe
from measure import alone, neighbours

ROOT = Path(__file__).parents[1]
GROUPS = ("torch", "jax", "tensorflow", "numpy", "questions", "watch", "edit", "keras", "unpad", "explore", "finetune")
SCRIPTS = {"unpad": "unpad.py", "explore": "explore.py", "finetune": "finetune.py"}  # all others are attention.py's
FRAMEWORKS = GROUPS[:4]
CHANCE = 0.009
"""The standard error of an accuracy of 0.86 on the demo's 1,500 test sentences."""
# (framework, what, n, at least this many times the peer's speed)
TARGETS = [
    ("torch", "forward", None, 0.97),
    ("jax", "forward", 2048, 2.5),
    ("tensorflow", "forward", 2048, 1.1),
    *(("numpy", "forward", n, least) for n, least in ((128, 1.1), (512, 2.0), (2048, 3.0))),
    ("torch", "4 questions", 4096, 3.0),
    ("torch", "4 questions on the way", 4096, 6.0),
    ("torch", "output+questions", 8192, 0.4),
    ("torch", "output+3 on the way", 4096, 1 / 1.35),
    ("torch", "output+4, top and map", 4096, 1 / 1.8),
    ("torch", "window of 256", 16384, 10.0),
    ("torch", "step with entropy", 4096, 1 / 1.5),
    ("torch", "watch, 2 questions", 2048, 2.2),
    ("torch", "watch, recording", None, 0.97),
    ("torch", "edit, one head away", 2048, 1 / 1.1),
    ("torch", "edit, one head's mask", 2048, 1 / 1.1),
    ("torch", "edit, keys away for all", 2048, 1 / 1.3),
    ("torch", "unpad, inference, to padded", None, 3.0),
    ("torch", "unpad, inference, to grouped", None, 1.5),
    ("torch", "unpad, inference, to float32", None, 1.3),
    ("torch", "unpad, training, to padded", None, 3.0),
    ("torch", "unpad, training, to grouped", None, 1.4),
    ("torch", "explore, first picture", 16384, 0.5),
    ("torch", "explore, first picture, causal", 16384, 0.5),
    ("torch", "predict, strings to labels", None, 3.0),
    ("torch", "predict in int8, strings to labels", None, 8.0),
    ("torch", "finetune, to one epoch's accuracy", None, 2.5),
    ("keras", "layer forward", None, 0.95),
    ("keras", "layer fit", None, 0.95),
    *(("keras", f"layer {what}, statistics", n, 0.95) for what in ("forward", "fit") for n in (128, 512)),
    *(("keras", f"layer {what}, statistics", n, 2.0) for what in ("forward", "fit") for n in (2048, 8192)),
]
# What is known of why a row falls short.
WHY = {
    "forward": "tensorflow: the two products alone take four fifths of Keras' time; numpy: products of NumPy's BLAS "
    "are half of ours at 2,048 and two fifths at 512.",
    "predict in int8, strings to labels": "of its processor time products in whole numbers are a quarter, attention "
    "in bfloat16 a fifth, and turning rows into whole numbers and back a fifth.",
    "explore, first picture": "mean and maximum of each cell are a pass over each tile beside its product.",
    "output+3 on the way": "exponential and column sums are a pass over each tile beside its two products.",
    "watch, 2 questions": "half of a question's time is the product of query and key, made once more; answering on the "
    "way would need the questions before the model runs.",
    "watch, recording": "glibc gives memory back and takes it again; without that, recording costs 1.4 % at 2,048.",
}
# Beside a busy process on each core, in processor time.
BESIDE = [("torch", "output+3 on the way", 4096, 1 / 2)]


def main() -> None:
    if "beside" in sys.argv:
        return beside()
    extent = next((name for name in ("brief", "quick") if name in sys.argv), "full")
    chosen = [group for group in (*GROUPS, "memory") if group in sys.argv] or [*GROUPS, "memory"]
    rows = []
    for group in (group for group in chosen if group in GROUPS):
        print(f"measuring {group} ...", flush=True)
        rows += alone(Path(__file__).with_name(SCRIPTS.get(group, "attention.py")), group, extent)
    print("\n".join(describe(row) for row in rows))
    memory = measure_memory(extent) if "memory" in chosen else []
    missed = [row for row in rows if is_short(row)]
    for row in missed:
        print(f"short of {target_of(row):.3g}x:", describe(row))
    if extent != "quick":
        write(*_in_place(rows, memory, chosen), extent, chosen)


def beside() -> None:
    """Measure some groups beside busy processes, and put them beside what is measured on a quiet machine."""
    extent = next((name for name in ("brief", "quick") if name in sys.argv), "full")
    rows = []
    for group in [group for group in GROUPS if group in sys.argv] or ["questions"]:
        print(f"measuring {group} beside busy processes ...", flush=True)
        with neighbours():
            rows += alone(Path(__file__).with_name(SCRIPTS.get(group, "attention.py")), group, extent)
    print("\n".join(describe(row) for row in rows))
    if extent == "quick":
        return
    known = json.loads((ROOT / "docs" / "benchmarks.json").read_text())
    measured = {_group(row) for row in rows}
    kept = [row for row in known.get("beside", []) if _group(row) not in measured]
    known["beside"] = sorted([*kept, *rows], key=lambda row: GROUPS.index(_group(row)))
    known["machine"]["beside"] = date.today().isoformat()
    _save(known)


def _in_place(rows: list[dict], memory: list[dict], chosen: list[str]) -> tuple[list[dict], list[dict]]:
    """Of groups that were not measured now, what was measured last."""
    path = ROOT / "docs" / "benchmarks.json"
    before = json.loads(path.read_text()) if path.is_file() else {"rows": [], "memory": []}
    rows += [row for row in before["rows"] if _group(row) not in chosen]
    rows.sort(key=lambda row: GROUPS.index(_group(row)))
    return rows, memory if "memory" in chosen else before.get("memory", [])


def _group(row: dict) -> str:
    if row["what"].startswith("forward") or row["framework"] == "keras":
        return row["framework"]
    kind = row["what"].partition(",")[0]
    return {"predict": "unpad", "predict in int8": "unpad"}.get(kind, kind if kind in GROUPS else "questions")


def target_of(row: dict) -> float | None:
    for framework, what, length, least in TARGETS:
        if (
            (framework, what) == (row["framework"], row["what"])
            and length in (None, row["n"])
            and (row["dtype"] == "float32" or "unpad" in what or "int8" in what)
        ):
            return least
    return None


def is_short(row: dict) -> bool:
    """Whether a row misses what is asked: the speed, or the accuracy that the peer reached, by more than chance."""
    target = target_of(row)
    less = row.get("peer_accuracy", 0.0) - row.get("accuracy", 0.0)
    return target is not None and (row.get("speed", target) < target or less > CHANCE)


def measure_memory(extent: str) -> list[dict]:
    """Megabytes at the peak, each program in a process of its own; of what is watched, beyond the model alone."""
    steps = [(group, "forward", n) for group in FRAMEWORKS for n in (1024, 2048, 4096, 8192, 16384)]
    steps += [("questions", "4 questions", 4096), *(("watch", "watch, 2 questions", n) for n in (2048, 8192))]
    steps += [("keras", f"layer {what}, statistics", n) for n in (2048, 4096) for what in ("forward", "fit")]
    steps = steps if extent != "quick" else []
    rows = []
    for framework, what, length in steps:
        row = {"framework": framework, "what": what, "n": length}
        beneath = _taken(framework, "watch, recording", length, "peer") if framework == "watch" else 0.0
        for whose in ("regard", "peer"):
            taken = _taken(framework, what, length, whose)
            if taken is not None:
                row[f"{whose}_mb"] = taken - beneath
        print(row, flush=True)
        rows.append(row)
    return rows


def _taken(framework: str, what: str, length: int, whose: str) -> float | None:
    taken = alone(Path(__file__).with_name("memory.py"), framework, what, str(length), whose)
    return None if taken is None else taken / 2**20


def write(rows: list[dict], memory: list[dict], extent: str, chosen: list[str]) -> None:
    where = {
        "groups": chosen,
        "date": date.today().isoformat(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "extent": extent,
    }
    path = ROOT / "docs" / "benchmarks.json"
    before = json.loads(path.read_text()) if path.is_file() else {}
    if before.get("beside"):
        where["beside"] = before["machine"]["beside"]
    _save({"machine": where, "rows": rows, "memory": memory, "beside": before.get("beside", [])})
    plot(rows, memory, ROOT / "docs" / "images" / "benchmarks.png")


def _save(known: dict) -> None:
    (ROOT / "docs" / "benchmarks.json").write_text(json.dumps(known, indent=1) + "\n")
    told = page(known["machine"], known["rows"], known["memory"], known.get("beside", []))
    (ROOT / "docs" / "benchmarks.md").write_text(told)


def page(where: dict, rows: list[dict], memory: list[dict], crowded: list[dict]) -> str:
    """The documentation's page: a plot, and a table with what each target is and whether it was reached."""
    lines = [
        "# Benchmarks",
        "",
        f"Last measured on {where['date']} by `make bench` on {where['cores']} cores ({where['processor']}), no GPU;",
        f"then: {', '.join(where['groups'])}, the others before.",
        f"Extent: {where['extent']}. Each row runs both programs in turn in one process and compares medians; read",
        "the ratios, not the milliseconds. 8 heads, 2 from 16,384 positions on. Memory is what a process of its own",
        "takes at its peak beyond its inputs (watching: beyond the model alone), results included. The numbers are in",
        "`docs/benchmarks.json`.",
        "",
        "unpad, predict: MiniLM, n texts of lognormal (3.6, 0.7) words up to 250, 32 in a step or call, as they come",
        "(the peer *grouped*: sorted); the time is that of all texts, and the pipeline's that of 2,000 for as many as",
        "there are. finetune: `make demo`'s sentences, against one",
        "epoch of a plain script on transformers' Trainer; accuracies are in the numbers.",
        "",
        "![Time and memory over the length](images/benchmarks.png)",
        "",
        "| | n | d | type | Regard ms | peer | peer ms | speed | asked |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        target = target_of(row)
        asked = "" if target is None else f"{target:.3g}x" + (" (short)" if is_short(row) else "")
        what = (f"{row['framework']}, {row['what']}", row["n"], row["d"], row["dtype"])
        beside = ("" if row["peer"] == "none" else "does not fit", "")
        if "speed" in row:
            beside = (f"{row['peer_ms']:.1f}", f"{row['speed']:.2f}x")
        cells = (*what, f"{row['regard_ms']:.1f}", f"`{row['peer']}`", *beside, asked)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += _reasons(rows)
    lines += ["", "| | n | Regard MB | peer MB |", "|---|---|---|---|"]
    for row in memory:
        peer = f"{row['peer_mb']:.0f}" if "peer_mb" in row else "does not fit"
        lines.append(f"| {row['framework']}, {row['what']} | {row['n']} | {row['regard_mb']:.0f} | {peer} |")
    return "\n".join(lines + _beside(where, crowded)) + "\n"


def _reasons(rows: list[dict]) -> list[str]:
    """Why rows fall short, where that is known."""
    short = dict.fromkeys(row["what"] for row in rows if is_short(row))
    known = [f"- {what}: {WHY[what]}" for what in short if what in WHY]
    return ["", "What falls short, and why:", "", *known] if known else []


def _beside(where: dict, rows: list[dict]) -> list[str]:
    """The table of what was measured beside busy processes."""
    if not rows:
        return []
    lines = [
        "",
        f"Beside a busy process on each core, in milliseconds of processor time ({where['beside']}):",
        "",
        "| | n | d | type | Regard ms | peer | peer ms | speed | asked |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    asked = {(framework, what, length): least for framework, what, length, least in BESIDE}
    for row in (row for row in rows if "speed" in row):
        least = asked.get((row["framework"], row["what"], row["n"])) if row["dtype"] == "float32" else None
        told = "" if least is None else f"{least:.3g}x" + (" (short)" if row["speed"] < least else "")
        what = (f"{row['framework']}, {row['what']}", row["n"], row["d"], row["dtype"])
        cells = (*what, f"{row['regard_ms']:.1f}", f"`{row['peer']}`", f"{row['peer_ms']:.1f}", f"{row['speed']:.2f}x")
        lines.append("| " + " | ".join(map(str, (*cells, told))) + " |")
    return lines


def plot(rows: list[dict], memory: list[dict], path: Path) -> None:
    """Time and memory over the length, forward, width 64, float32."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6), layout="constrained")
    chosen = [row for row in rows if (row["what"], row["d"], row["dtype"]) == ("forward", 64, "float32")]
    above, below = figure.subplots(2, len(FRAMEWORKS))
    for framework, time, space in zip(FRAMEWORKS, above, below, strict=True):
        mine = [row for row in chosen if row["framework"] == framework]
        _lines(time, mine, "ms", mine[0]["peer"])
        _lines(space, [row for row in memory if row["framework"] == framework], "mb", mine[0]["peer"])
        time.set_title(framework)
    above[0].set_ylabel("time (ms)")
    below[0].set_ylabel("memory beyond inputs (MB)")
    figure.suptitle("Attention forward, 8 heads (2 at 16,384), width 64, float32", fontsize="medium")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _lines(axis: Any, rows: list[dict], unit: str, peer: str) -> None:
    if not rows:
        return
    lengths = [row["n"] for row in rows]
    axis.plot(lengths, [row[f"regard_{unit}"] for row in rows], "o-", label="regard")
    both = [row for row in rows if f"peer_{unit}" in row]
    axis.plot([row["n"] for row in both], [row[f"peer_{unit}"] for row in both], "s--", label=peer)
    axis.set(xscale="log", yscale="log", xlabel="length n")
    axis.set_xticks(lengths, [str(n) for n in lengths])
    axis.minorticks_off()
    axis.tick_params(axis="x", labelrotation=30)
    axis.grid(alpha=0.3)
    axis.legend(fontsize="x-small")


if __name__ == "__main__":
    main()
