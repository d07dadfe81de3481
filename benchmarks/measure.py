"""How the benchmarks measure: two programs in turn in one process."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Program = Callable[[], Any]
LONG = 30.0  # seconds
BESIDE = "REGARD_BENCHMARKS_BESIDE"
"""The variable of the environment that has processor time measured: beside others, wall time is theirs as well."""
clock = time.process_time if os.environ.get(BESIDE) else time.perf_counter


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
    start = clock()
    program()
    return clock() - start


@contextmanager
def neighbours() -> Iterator[None]:
    """A process on each core that reads and writes more memory than its cache holds, as long as the block runs."""
    program = "import numpy as np\nx = np.ones(1 << 23)\nwhile True: x *= 1.0000001"
    started = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(os.cpu_count() or 1)]
    os.environ[BESIDE] = "1"
    try:
        yield
    finally:
        del os.environ[BESIDE]
        for each in started:
            each.kill()
            each.wait()


def alone(script: Path, *arguments: str) -> Any:
    """What a script prints as JSON in its last line, run in a process of its own; its rows are shown as they come."""
    done = subprocess.run([sys.executable, str(script), *arguments], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{script.name} {' '.join(arguments)} failed; see above.")
    return json.loads(done.stdout.strip().splitlines()[-1])
