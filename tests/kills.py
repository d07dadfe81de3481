"""Kill runs of the command line at random moments, go on, and compare what they end in with runs that never stopped.

    python tests/kills.py --kills 100 --folder /tmp/kills

One process at a time, on models that train in seconds. Each chain is a run of one kind that is killed up to six
times, anywhere from its first write to its last, goes on by `--resume` (`--overwrite` where the run before is still
there), and ends by itself. Then its weights, measures, predictions, history of attention and report must be those of
the whole run, bit for bit. What was done is kept in the folder: the program goes on there when it is started again.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parent / "finetuning"))

REGARD = [sys.executable, "-m", "regard.cli", "finetune", "c.yaml", "--quiet"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
KINDS = {
    "torch": {},
    "adapter": {"adapter": {"kind": "lora"}, "report": {"baselines": False, "attention": 1}},
    "repeats": {"repeats": 2, "report": {"baselines": False, "attention": 1}},
    "keras": {"framework": "tensorflow", "report": {"baselines": False, "attention": 1}},
    "overwrite": {"report": {"baselines": False, "attention": 1}},
}
TIMES = re.compile(r"(runtime|per_second|seconds|_flos)$")
TOLD = re.compile(rb">Time</th><td>[^<]*")
SIGNS = (
    ".lock", ".before.moving", ".before", "run.json", "config.yaml", "checkpoint.tmp", "checkpoints/checkpoint-4",
    "checkpoints/checkpoint-16", "checkpoints/.checkpoint-12*", "checkpoints/checkpoint-24", ".adapter*", "adapter",
    ".model*", "model", "repeats/*/run.json", "repeats/*/checkpoints", "repeats/*/.model*", "repeats/*/metrics.json",
    "predictions.jsonl", "training-curves.png", ".report*", "report.html", "metrics.json",
)  # fmt: skip
"""What appears in a run directory while a run goes on; of those that do not appear in a kind, the end is waited for."""
MOST = 6
"""Kills of one chain."""


def make_inputs(folder):
    """A random model of two layers, and reviews."""
    from conftest import make_tiny, sentences, write_csv

    if not (folder / "tiny").is_dir():
        make_tiny(folder / "tiny")
    rows = sentences(160, seed=1)
    for name, part in {"train": rows[:100], "validation": rows[100:130], "test": rows[130:]}.items():
        if not (folder / f"{name}.csv").is_file():
            write_csv(folder / f"{name}.csv", part)


def write_config(place, kind, **changes):
    from conftest import make_values

    values = make_values("../../tiny", Path("../.."), "run") | KINDS[kind] | changes
    values["train"] |= {"max_steps": 24, "evaluate_every": 4}
    (place / "c.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")


def begin(place, *options):
    place.mkdir(parents=True, exist_ok=True)
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*REGARD, *options], cwd=place, env=ENVIRONMENT, start_new_session=True, **pipes)


def complete(place, *options):
    process = begin(place, *options)
    _, told = process.communicate()
    assert process.returncode == 0, f"{place}: {options}: {told}"


def first_write(run, process):
    """Wait for the first sign of a process in its run directory."""
    while not (run / ".lock").exists() and process.poll() is None:
        time.sleep(0.02)
    return time.monotonic()


def wait_for(rng, run, process, seconds):
    """Wait until a random moment, or a moment after a random sign of one of the phases, which last very unlike."""
    until = first_write(run, process) + seconds
    if rng.random() < 0.3:
        process.wait(rng.uniform(0, seconds))
    sign = rng.choice(SIGNS)
    while process.poll() is None and time.monotonic() < until and not any(run.glob(sign)):
        time.sleep(0.005)
    process.wait(rng.choice([0, rng.uniform(0, 0.05), rng.uniform(0, 1)]))


def make_whole(folder, kind):
    """The run that nobody stops, and how long it takes from its first write."""
    place = folder / "whole" / kind
    kept = place / "seconds.json"
    if not kept.is_file():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        write_config(place, kind)
        process = begin(place)
        since = first_write(place / "run", process)
        _, told = process.communicate()
        assert process.returncode == 0, told
        kept.write_text(json.dumps(time.monotonic() - since))
    return place / "run", json.loads(kept.read_text())


def how_to_go_on(run, kind):
    """The option for what a kill left; None where the run is finished."""
    state = run / "run.json"
    if not run.is_dir() or not any(e.name != ".lock" for e in run.iterdir()):
        return []
    known = json.loads(state.read_text()) if state.is_file() else {}
    former = kind == "overwrite" and (
        not known or not (run / "config.yaml").is_file() or "seed: 43\n" in (run / "config.yaml").read_text()
    )
    if former:
        return ["--overwrite"]
    return None if known.get("finished") else ["--resume"]


def phase(run):
    """Where a run was when it was killed, by what it left."""
    state = json.loads((run / "run.json").read_text()) if (run / "run.json").is_file() else {}
    if not state or state.get("finished"):
        return "check"
    if (run / "repeats").is_dir():
        return "repeats" if not (run / "predictions.jsonl").is_file() else "report"
    if (run / "model").is_dir():
        return "measure" if not (run / "predictions.jsonl").is_file() else "report"
    return "save" if any(run.glob(".model.*")) or any(run.glob(".adapter.*")) else "train"


def plain(values):
    """Values without what tells time."""
    if isinstance(values, dict):
        return {key: plain(value) for key, value in values.items() if not TIMES.search(key)}
    return [plain(value) for value in values] if isinstance(values, list) else values


def content(path):
    """What a file holds; of Keras' archives, what they hold but for the time when they were written."""
    if path.suffix != ".keras":
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name != "metadata.json"}


def require_same(run, whole):
    """Compare two runs, but for what tells time, and the identity of each."""
    for name in sorted(path.relative_to(whole) for path in (whole / "model").rglob("*") if path.name != "README.md"):
        assert content(run / name) == content(whole / name), f"{run}: other bytes in {name}"
    for name in ("predictions.jsonl", "attention.json", "training-curves.png"):
        if (whole / name).is_file():
            assert (run / name).read_bytes() == (whole / name).read_bytes(), f"{run}: other bytes in {name}"
    one, other = (plain(json.loads((each / "metrics.json").read_text())) for each in (run, whole))
    assert one == other, f"{run}: other measures"
    one, other = (plain(json.loads((each / "run.json").read_text())) for each in (run, whole))
    moving = ("id", "ended", "files")  # of which Keras' hold the time
    assert {k: v for k, v in one.items() if k not in moving} == {k: v for k, v in other.items() if k not in moving}
    one, other = (TOLD.sub(b"", (each / "report.html").read_bytes()) for each in (run, whole))
    assert one == other, f"{run}: another report"
    left = {path.name for path in run.rglob(".*")} | {path.name for path in run.rglob("*.tmp")}
    assert not left, f"{run}: left behind: {left}"


def chain(folder, kind, number, rng, done):
    """Kill a run up to `MOST` times, and let it end."""
    whole, seconds = make_whole(folder, kind)
    place = folder / "chains" / f"{number}-{kind}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    options = []
    if kind == "overwrite":
        write_config(place, kind, seed=43)
        complete(place)
        options = ["--overwrite"]
    write_config(place, kind)
    run = place / "run"
    for _ in range(MOST):
        process = begin(place, *options)
        try:
            wait_for(rng, run, process, seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            done["kills"] += 1
            done["at"][phase(run)] = done["at"].get(phase(run), 0) + 1
        else:
            assert process.returncode == 0, f"{place}: {process.stderr.read()}"
        options = how_to_go_on(run, kind)
        if options is None:
            break
    if options is not None:
        complete(place, *options)
    require_same(run, whole)
    done["chains"][kind] = done["chains"].get(kind, 0) + 1
    shutil.rmtree(place)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    asked = parser.parse_args()
    folder = asked.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    make_inputs(folder)
    kept = folder / "done.json"
    done = json.loads(kept.read_text()) if kept.is_file() else {"kills": 0, "at": {}, "chains": {}, "number": 0}
    while done["kills"] < asked.kills:
        kind = asked.kinds[done["number"] % len(asked.kinds)]
        chain(folder, kind, done["number"], random.Random(f"{asked.seed} {done['number']}"), done)
        done["number"] += 1
        kept.write_text(json.dumps(done))
        at = ", ".join(f"{count} in {where}" for where, count in Counter(done["at"]).most_common())
        print(f"{done['kills']} kills ({at}); chains that ended alike: {done['chains']}", flush=True)


if __name__ == "__main__":
    main()
