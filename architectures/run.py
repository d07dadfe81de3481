"""All architectures of transformers, on small models: what `regard.watch` and `"regard"` give beside eager attention.

make architectures                       all of them, about ten minutes; what is in build/architectures.jsonl is kept
make architectures CHOSEN="bert llama"   these again; the rest stays
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import table
from catalogue import architectures

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "build" / "architectures.jsonl"
SECONDS = 120
APART = Path(sys.prefix) / "timm"  # where the Makefile installs it


def main(chosen: list[str]) -> None:
    rows = kept()
    for model_type in chosen:
        rows.pop(model_type, None)
    wanted = [each for each in chosen or architectures() if each not in rows]
    RESULTS.parent.mkdir(exist_ok=True)
    while wanted:
        for row in compared(wanted):
            rows[row["type"]] = row
            wanted.remove(row["type"])
            RESULTS.write_text("".join(json.dumps(each) + "\n" for each in rows.values()))
            print(f"{len(wanted):4} left, {row['type']}: {table.verdicts(row)}", flush=True)
    (ROOT / "docs" / "architectures.md").write_text(table.page(list(rows.values())))


def kept() -> dict[str, Any]:
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    return {row["type"]: row for row in map(json.loads, lines)}


def compared(wanted: list[str]) -> Any:
    """A row for each, from a process of its own; one that crashes or takes too long ends it, and is said so."""
    command = [sys.executable, str(Path(__file__).with_name("compare.py")), *wanted]
    found = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(APART)]))
    environment = os.environ | {"PYTHONPATH": found}
    left = list(wanted)
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        while left:
            timer = threading.Timer(SECONDS, process.kill)
            timer.start()
            line = process.stdout.readline()
            timer.cancel()
            if not line:
                yield {"type": left[0], "made": f"the process ended or took more than {SECONDS} s"}
                return
            yield json.loads(line)
            left.pop(0)


if __name__ == "__main__":
    main(sys.argv[1:])
