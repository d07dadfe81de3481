"""What one program takes at its peak beyond its inputs, in a process of its own; prints bytes as JSON.

python benchmarks/memory.py torch forward 4096 regard|peer

The program first runs at a small length, so that what is loaded and compiled once is not counted; then what is free
goes back to Linux, which is told to forget the largest size that the process ever had. Results are counted: they are
the same for both.
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path

from attention import programs

import regard

SMALL = 512


def main() -> None:
    framework, what, length, whose = sys.argv[1:]
    regard.compile()
    program(framework, what, SMALL, whose)()
    run = program(framework, what, int(length), whose)
    if run is None:
        print("null")  # the peer does not fit
        return
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    results = run()
    print(json.dumps(status("VmHWM") - before))
    del results


def program(framework: str, what: str, length: int, whose: str):
    for name, ours, peer, _ in programs(framework, length, 64, "float32"):
        if name == what:
            return ours if whose == "regard" else peer
    raise SystemExit(f"{framework} has no {what}.")


def status(field: str) -> int:
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


if __name__ == "__main__":
    main()
