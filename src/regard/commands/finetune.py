"""Commands that make a run: init, check, finetune, search."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from regard._files import write_text
from regard._spoken import language, tell
from regard.commands.shared import (
    ConfigFile,
    Overrides,
    compile_once,
    load,
    print_json,
    print_table,
    say,
    silence,
)
from regard.errors import ConfigError


def finetune(
    config: ConfigFile,
    overrides: Overrides = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on with the interrupted run in the output directory")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the run in the output directory")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="print nothing but errors")] = False,
) -> None:
    """Check the data, fine-tune, measure beside baselines, and write a report."""
    loaded = load(config, overrides)
    silence()
    compile_once(quiet=quiet)
    from regard.finetuning.conduct import finetune as run_it
    from regard.finetuning.runs.processes import is_first

    try:
        run = run_it(loaded, resume=resume, overwrite=overwrite, quiet=quiet)
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(_how_to_resume(loaded.output, interrupt)) from None
    if not quiet and is_first():
        say(what_next(run))


def search(
    config: ConfigFile,
    overrides: Overrides = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="print nothing but errors")] = False,
) -> None:
    """Search for hyperparameters: train with many, and write the configuration that validates best."""
    loaded = load(config, overrides)
    silence()
    compile_once(quiet=quiet)
    from regard._digits import digits
    from regard.finetuning.search import search as run_it
    from regard.finetuning.words import setting

    found = run_it(loaded, quiet=quiet)
    if not quiet:
        values = ", ".join(f"{key} {setting(value)}" for key, value in found.values.items())
        say(f"\nBest of {found.trials} trials: {digits(found.score, 4)} with {values}")
        say(f"Train with it: regard finetune {found.path}")


def _how_to_resume(output: str, interrupt: KeyboardInterrupt) -> str:
    from regard.finetuning.runs.beginning import is_unfinished

    if not is_unfinished(Path(output)):
        return "interrupted before anything was written"
    told = str(interrupt) or f"{output}: interrupted"
    return f"{told}; go on with: regard finetune {output}/config.yaml --resume"


def what_next(run: Any) -> str:
    path = run.path
    examples = {"image": "picture.png", "audio": "sound.wav", "label": f'"{run.state["spec"].get("labels", [""])[0]}"'}
    example = examples.get(run.input, '"a text of your own"')
    return "\n".join(
        [
            f"\nThe report: {path / 'report.html'}",
            f"The model:  {path / 'model'}{_loader(run)}",
            "\nTry:",
            f"  regard predict {path} {example}",
            f"  regard look {path} {example}",
            f"  regard evaluate {path} {run.config.data.test if isinstance(run.config.data.test, str) else 'FILE'}",
        ]
    )


def _loader(run: Any) -> str:
    """Say how the model is loaded without us."""
    if run.config.framework != "torch":
        return "/model.keras (keras.saving.load_model(..., compile=False) loads it, after import keras_hub)"
    known = run.path / "model" / "config.json"
    made = json.loads(known.read_text(encoding="utf-8")).get("architectures") if known.is_file() else None
    return f" (transformers.{made[0]}.from_pretrained loads it)" if made else ""


def check(
    config: ConfigFile,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
) -> None:
    """Look at configuration and data without training."""
    loaded = load(config, overrides)
    silence()
    from regard.finetuning.check import check as run_it

    found = run_it(loaded)
    if as_json:
        print_json(found.to_dict())
        return
    speed = [["ok", str(found.speed)]] if found.speed else []
    print_table(
        f"{config}: {len(found.warnings) or 'no'} warning{'' if len(found.warnings) == 1 else 's'}, ready to train",
        ["", "what was found"],
        [["ok" if f.level == "ok" else "warning", f.message] for f in found.findings] + speed,
        styles={"warning": "yellow"},
    )


def init(
    task: Annotated[
        str | None,
        typer.Argument(metavar="[TASK]", help="what to learn, such as text-classification; lists all without"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="the file to write; TASK.yaml if left out")
    ] = None,
    spoken: Annotated[
        str | None, typer.Option("--language", help="of the comments: en or zh; the language of all else if left out")
    ] = None,
) -> None:
    """Write a commented configuration to start from; without a task, list the tasks."""
    from regard.finetuning.tasks import TASKS, get_task
    from regard.finetuning.template import write_template

    if task is None:
        said = {name: (get_task(name).__doc__ or "").partition(": ")[2].splitlines()[0] for name in TASKS}
        told = {name: tell(learned, word=True) for name, learned in said.items()}
        print_table("Tasks, for regard init TASK:", ["task", "what is learned"], [list(row) for row in told.items()])
        return
    path = output or Path(f"{task}.yaml")
    template = write_template(task, spoken or language())
    if path.exists():
        raise ConfigError(f"{path}: need a new file to write; got one that exists; name another with --output.")
    write_text(path, template)
    say(f"Written: {path}. Fill in your files and columns, then: regard check {path}")
