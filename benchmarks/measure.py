"""How the benchmarks measure: two programs in turn in one process."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Program = Callable[[], Any]
LONG = 30.0  # seconds


def in_turn(programs: dict[str, Program], seconds: float = 2.0, least: int = 3) -> dict[str, float]:
    """The median seconds of each program, run in turn A B A B ..., so that the machine's drift hits all alike.

    The first run of each, which compiles and allocates, counts only where it takes half a minute.
    """
    first = {name: _timed(program) for name, program in programs.items()}
    if max(first.values()) > LONG:
        return first
    times: dict[str, list[float]] = {name: [] for name in programs}
    end = time.perf_counter() + seconds * len(programs)
    while time.perf_counter() < end or min(map(len, times.values())) < least:
        for name, program in programs.items():
            times[name].append(_timed(program))
    return {name: statistics.median(found) for name, found in times.items()}


def _timed(program: Program) -> float:
    start = time.perf_counter()
    program()
    return time.perf_counter() - start


def alone(script: Path, *arguments: str) -> Any:
    """What a script prints as JSON in its last line, run in a process of its own; its rows are shown as they come."""
    done = subprocess.run([sys.executable, str(script), *arguments], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{script.name} {' '.join(arguments)} failed; see above.")
    return json.loads(done.stdout.strip().splitlines()[-1])
