"""docs/conventions.md, from what the attention of other libraries gives: `make conventions`.

Each library is asked in a process of its own. One that is not in this environment is installed, pinned, into another
that is laid over this one, in build/conventions; what it answers stands in docs/conventions.json, as does the rest.

make conventions                      all of them, a few minutes
make conventions CHOSEN="jax mlx"     these again; the rest stays
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import page

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "conventions.json"
OVER = ROOT / "build" / "conventions"
# A library -> the module that asks it, and its environment.
KERAS = {f"keras-{backend}": backend for backend in ("tensorflow", "jax", "torch")}
LIBRARIES = [
    "torch", "jax", "flax", "haiku", "equinox", *KERAS, "onnx", "openvino", "mlx", "paddle", "transformers",
    "x_transformers", "diffusers", "timm", "pyg",
]  # fmt: skip
APART = {
    "flax": "flax==0.12.8",
    "haiku": "dm-haiku==0.0.17",
    "equinox": "equinox==0.13.8",
    "mlx": "mlx[cpu]==0.32.4",
    "paddle": "paddlepaddle==3.3.1",
    "x_transformers": "x-transformers==2.31.10",
    "pyg": "torch-geometric==2.8.1",
}
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "HF_HUB_OFFLINE": "1", "GLOG_minloglevel": "3"}


def main(chosen: list[str]) -> None:
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for library in chosen or LIBRARIES:
        results[library] = asked(library)
        print(f"{library}: {sum(map(len, results[library]['answers'].values()))} answers", flush=True)
        in_order = {each: results[each] for each in LIBRARIES if each in results}
        RESULTS.write_text(json.dumps(in_order, indent=1) + "\n")
    (ROOT / "docs" / "conventions.md").write_text(page.page(json.loads(RESULTS.read_text())))


def asked(library: str) -> dict[str, Any]:
    """What a library answers, in a process of its own."""
    beside = str(Path(sys.prefix) / "timm") if library == "timm" else ""  # where the Makefile installs it
    paths = [str(ROOT / "src"), beside, os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, **QUIET, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    if library in KERAS:
        environment["KERAS_BACKEND"] = KERAS[library]
    module = "keras" if library in KERAS else library
    command = [interpreter(library), "-W", "ignore", str(Path(__file__).with_name("asking.py")), module]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def interpreter(library: str) -> str:
    """This Python, or that of an environment over it, which has a library that this one has not."""
    if library not in APART:
        return sys.executable
    folder = OVER / library
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        venv.create(folder, with_pip=True)
        code = "import sysconfig; print(sysconfig.get_path('purelib'))"
        here = subprocess.check_output([python, "-c", code], text=True).strip()
        (Path(here) / "below.pth").write_text(sysconfig.get_path("purelib"))
        install(python, APART[library])
        (folder / "installed").touch()
    return str(python)


def install(python: Path, package: str) -> None:
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
