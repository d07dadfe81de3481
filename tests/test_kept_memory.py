"""The command line keeps what is freed, which a training step would take again page by page."""

import os
import platform
import subprocess
import sys

import pytest

STEPS = """
import resource
import numpy as np
{before}
def step():
    arrays = [np.ones(1 << 21) for _ in range(3)]
step(), step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
KEEP = "from regard.commands.shared import keep_memory\nkeep_memory()"


def faults(before, **environment):
    """Pages that twenty steps of 48 MB take from the system."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    program = [sys.executable, "-c", STEPS.format(before=before)]
    return int(subprocess.run(program, env=known | environment, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators have no such setting")
def test_what_is_freed_is_kept():
    assert faults(KEEP) < 1000 < faults("")
    assert faults(KEEP, MALLOC_TRIM_THRESHOLD_="131072") > 1000  # what the environment says stays


def test_children_keep_it_too(monkeypatch):
    from regard.commands import shared

    for name in shared.MALLOC:
        monkeypatch.setenv(name, "")  # put back, however it was
        monkeypatch.delenv(name)
    monkeypatch.setattr(shared.platform, "libc_ver", lambda: ("glibc", "2.36"))
    called = []

    class Allocator:
        def mallopt(self, number, value):
            called.append((number, value))

    monkeypatch.setattr(shared.ctypes, "CDLL", lambda _: Allocator())
    shared.keep_memory()
    assert called == [(-1, 1 << 30), (-3, 1 << 30)]
    assert [os.environ[name] for name in shared.MALLOC] == [str(1 << 30)] * 2
    shared.keep_memory()
    assert len(called) == 2  # a child, whose environment has it


def test_other_systems_are_left_alone(monkeypatch):
    from regard.commands import shared

    monkeypatch.setattr(shared.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(shared.ctypes, "CDLL", lambda _: pytest.fail("an allocator that is not known"))
    shared.keep_memory()
