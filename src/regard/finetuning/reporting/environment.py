"""On what a run ran: the machine, and the versions of what it stands on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

from regard.finetuning.config import Config
from regard.finetuning.frameworks import get_framework

PACKAGES = ("regard", "torch", "transformers", "datasets", "scikit-learn", "numpy")


def versions(config: Config) -> dict[str, str]:
    """Return the packages that a run stands on -> their versions."""
    packages = dict.fromkeys((*get_framework(config.framework).PACKAGES, *PACKAGES))
    return {package: version(package) for package in packages}


def hardware() -> dict[str, str]:
    """Return what the machine is made of, as far as it says so."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = {"Processor": f"{_processor()}, {cores} of {os.cpu_count()} cores"}
    memory = _memory()
    if memory:
        found["Memory"] = f"{memory / 2**30:.1f} GiB"
    return found | {"Accelerator": _accelerators(), "System": platform.platform(terse=True)}


def _processor() -> str:
    known = Path("/proc/cpuinfo")
    lines = known.read_text(encoding="utf-8", errors="replace").splitlines() if known.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # there are systems without
        return None


def _accelerators() -> str:
    import torch

    if not torch.cuda.is_available():
        kind = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return str(kind.type) if kind else "none"
    devices = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return ", ".join(f"{each.name}, {each.total_memory / 2**30:.0f} GiB" for each in devices)
