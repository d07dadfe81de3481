"""The command line: one command is one public call and a print."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from regard.errors import ConfigError, RegardError

app = typer.Typer(
    help="Fine-tune attention encoders on your own files, trust the result, and look at what it attends to.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigFile = Annotated[str, typer.Argument(metavar="CONFIG.yaml", help="what to do; 'regard init TASK' writes one")]
RunFolder = Annotated[str, typer.Argument(metavar="RUN", help="a run directory")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="put another value in the configuration")
]
INTERRUPTED = 130


def main() -> None:
    """Run the command line.

    Idle threads shall spin shortly, then sleep: next to other programs on few cores, long spinning makes PyTorch
    several times slower, and sleeping at once costs a third of the speed on an idle machine.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    app()


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Turn our own errors into one sentence and exit code 2, and Ctrl-C into exit code 130."""

    @functools.wraps(command)
    def run(*args: Any, **options: Any) -> None:
        try:
            command(*args, **options)
        except RegardError as error:
            _tell(f"regard: {error}")
            raise typer.Exit(2) from None
        except KeyboardInterrupt as interrupt:
            _tell(f"regard: {str(interrupt) or 'interrupted'}")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None

    return run


def _tell(error: str) -> None:
    """Print an error, once where several processes have the same one."""
    from regard.finetuning.processes import is_first

    if is_first():
        typer.echo(error, err=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        from regard import __version__

        typer.echo(f"regard {__version__}")
        raise typer.Exit


@app.callback()
def regard(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Fine-tune attention encoders on your own files, trust the result, and look at what it attends to."""


@app.command()
@guarded
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
    loaded = _load(config, overrides)
    _silence()
    from regard.finetuning.processes import is_first
    from regard.finetuning.train import finetune as run_it

    try:
        run = run_it(loaded, resume=resume, overwrite=overwrite, quiet=quiet)
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(_how_to_resume(loaded.output, interrupt)) from None
    if not quiet and is_first():
        typer.echo(_what_next(run))


@app.command()
@guarded
def search(
    config: ConfigFile,
    overrides: Overrides = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="print nothing but errors")] = False,
) -> None:
    """Search for hyperparameters: train with many, and write the configuration that validates best."""
    loaded = _load(config, overrides)
    _silence()
    from regard.finetuning.search import search as run_it

    found = run_it(loaded, quiet=quiet)
    if not quiet:
        values = ", ".join(f"{key} {value}" for key, value in found.values.items())
        typer.echo(f"\nBest of {found.trials} trials: {found.score:.4f} with {values}")
        typer.echo(f"Train with it: regard finetune {found.path}")


def _load(config: str, overrides: list[str] | None) -> Any:
    from regard.finetuning.config import Config, parse_override

    return Config.load(config, dict(map(parse_override, overrides or [])))


def _silence() -> None:
    """Keep libraries from filling the terminal; errors still come through as exceptions."""
    import logging
    import warnings

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    warnings.simplefilter("ignore")
    for name in ("transformers", "datasets", "accelerate", "torch", "tensorflow"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _how_to_resume(output: str, interrupt: KeyboardInterrupt) -> str:
    if not (Path(output) / "config.yaml").is_file():
        return "interrupted before anything was written"
    told = str(interrupt) or f"{output}: interrupted"
    return f"{told}; go on with: regard finetune {output}/config.yaml --resume"


def _what_next(run: Any) -> str:
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


@app.command()
@guarded
def check(
    config: ConfigFile,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
) -> None:
    """Look at configuration and data without training."""
    loaded = _load(config, overrides)
    _silence()
    from regard.finetuning.check import check as run_it

    found = run_it(loaded)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
        return
    speed = [["ok", str(found.speed)]] if found.speed else []
    _print_table(
        f"{config}: {len(found.warnings) or 'no'} warning{'' if len(found.warnings) == 1 else 's'}, ready to train",
        ["", "what was found"],
        [["ok" if f.level == "ok" else "warning", f.message] for f in found.findings] + speed,
        styles={"warning": "yellow"},
    )


def _print_table(title: str, header: list[str], rows: list[list[str]], styles: dict[str, str] | None = None) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row), style=(styles or {}).get(row[0]))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 10_000
    console.print(Text(title), table)


@app.command()
@guarded
def predict(
    run: RunFolder,
    inputs: Annotated[
        str,
        typer.Argument(metavar="TEXT|FILE", help="a text or a picture, or a .csv, .tsv, .jsonl, .parquet or .txt file"),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="where to write the predictions of a file, or what is made of one input"),
    ] = None,
    draw: Annotated[bool, typer.Option("--draw", help="also write each picture with the objects found in it")] = False,
) -> None:
    """Predict for a text, or for every row of a file in its order."""
    from regard.finetuning.run import Run
    from regard.finetuning.stream import drawn, predict_file

    _silence()
    opened = Run.load(run)
    if not _is_file(inputs) or not _holds_rows(inputs, opened):
        _print_predictions(opened, drawn(opened, [inputs], opened.predict([inputs]), draw), output or _named(inputs))
        return
    target = output or Path(inputs).with_name(f"{Path(inputs).stem}.predictions.jsonl")
    written = predict_file(opened, inputs, target, draw=draw, progress=True)
    _warn_of_cuts(written.cut, written.rows)
    typer.echo(f"{written.rows} predictions: {written.path}")


def _is_file(text: str) -> bool:
    """Tell a file from a text; what looks like a file and is none is reported, not classified."""
    from regard.finetuning.data import SUFFIXES

    suffix = Path(text).suffix.lower() if len(text) < 1000 else ""
    return (suffix in (*SUFFIXES, ".txt") and " " not in text.strip()) or (len(text) < 200 and Path(text).is_file())


def _holds_rows(file: str, run: Any) -> bool:
    """Tell a file of inputs from a file that is one, such as a picture."""
    from regard.finetuning.data import FILES, SUFFIXES

    kind = "" if Path(file).is_dir() else Path(file).suffix.lower()
    return run.input not in FILES or kind in (*SUFFIXES, ".txt", *run.task.FORMATS)


def _warn_of_cuts(cut: int, rows: int) -> None:
    if cut:
        typer.echo(f"regard: {cut} of {rows} texts are longer than the model reads; their ends were cut", err=True)


def _named(given: str) -> Path:
    """Where a picture or a sound goes that was predicted from one input: here, named as that."""
    return Path("".join(c if c.isalnum() else "-" for c in Path(given[:100]).stem)[:60])


def _print_predictions(run: Any, predictions: list[dict[str, Any]], output: Path) -> None:
    from regard.finetuning.tasks import Made

    for prediction in predictions:
        typer.echo(run.task.tell(prediction))
        for made in (value for value in prediction.values() if isinstance(value, Made)):
            typer.echo(f"Written: {made.save(output.with_suffix(made.suffix))}")
    _warn_of_cuts(sum(prediction.get("tokens_cut", 0) > 0 for prediction in predictions), len(predictions))


@app.command()
@guarded
def evaluate(
    run: RunFolder,
    file: Annotated[str, typer.Argument(metavar="FILE", help="a table with the truth in it")],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
) -> None:
    """Measure a run on other data."""
    from regard.finetuning.run import Run

    _silence()
    scores = Run.load(run).evaluate(file, progress=True)
    if as_json:
        typer.echo(json.dumps({k: {"value": s.value, "interval_95": s.interval} for k, s in scores.items()}, indent=2))
        return
    rows = [
        [k.replace("_", " "), f"{s.value:.3f}", "{:.3f} to {:.3f}".format(*s.interval) if s.interval else ""]
        for k, s in scores.items()
    ]
    _print_table(file, ["measure", "value", "95 % interval"], rows)


@app.command()
@guarded
def export(
    run: RunFolder,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="the directory to make")],
    format: Annotated[str, typer.Option("--format", help="safetensors, or onnx")] = "safetensors",
) -> None:
    """Write a run's model for use elsewhere, compared with the model."""
    _silence()
    from regard.finetuning.export import export as run_it

    done = run_it(run, output, format=format)  # type: ignore[arg-type]
    lengths = f" of {done.lengths[0]} to {done.lengths[-1]} tokens" if done.lengths else ""
    told = f"{done.inputs} inputs{lengths}, logits differ from the model's by {done.difference:.2g} at most"
    typer.echo(f"Written: {done.path} ({done.format}; {told})")


@app.command()
@guarded
def look(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="a run directory, a checkpoint's directory or a name on the hub")
    ],
    given: Annotated[str, typer.Argument(metavar="INPUT", help="a text, or the file of a picture or a sound (.wav)")],
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="weights, received (default), rollout or relevance, through all layers, or alignment (default of "
            "models that write)",
        ),
    ] = None,
    layer: Annotated[int | None, typer.Option("--layer", help="one layer, from 0; the mean of all if left out")] = None,
    head: Annotated[int | None, typer.Option("--head", help="one head, from 0; the mean of all if left out")] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="TOKEN", help="what this token, or its number, attends to")
    ] = None,
    faithful: Annotated[
        bool | None,
        typer.Option(help="measure how far this explains the decision (on for up to 64 positions, then slow)"),
    ] = None,
    html: Annotated[bool, typer.Option("--html", help="also write an interactive page")] = False,
    png: Annotated[bool, typer.Option("--png", help="also write a picture")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="the page or picture to write, .html or .png")
    ] = None,
) -> None:
    """Show what a model attends to in a text, a picture or a sound."""
    from regard.finetuning.frameworks import framework_of
    from regard.inspection.look import METHODS, Look, position

    _silence()
    paths = _outputs(Path(model) if Path(model).is_dir() else Path(), html, png, output)
    if method not in (None, *METHODS):
        raise ConfigError(f"look: need a method, one of {', '.join(METHODS)}; got '{method}'.")
    opened, processor = _model(model)
    looked = framework_of(opened).look(opened, processor, given, gradients=method == "relevance")
    chosen = None if start is None else position(looked.labels, start)
    mapped = method is None and not (layer is head is None) and chosen is None
    usual = "alignment" if looked.written and chosen is None else "weights" if mapped else "received"
    seen = Look(looked, method or usual, layer, head, chosen, given)
    _print_look(seen)
    _warn_of_cuts(int(looked.cut > 0), 1)
    measured = faithful or (faithful is None and len(looked.labels) <= 64)
    found = seen.faithfulness() if measured else None
    if found is not None:
        typer.echo(f"As an explanation: {str(found).replace(chr(10), '; ')}.")
    for path in paths:
        seen.write(path, found)
        typer.echo(f"Written: {path}")


def _print_look(seen: Any) -> None:
    """Print words and their seconds, objects and their boxes, an alignment, or the shares of tokens and patches."""
    looked = seen.looked
    title = f"{looked.answer} ({seen.which})".strip()
    if looked.words:
        times = [[word, f"{first:.2f}", f"{last:.2f}"] for word, first, last in looked.words]
        _print_table(looked.answer, ["word", "from (s)", "to (s)"], times)
    elif looked.found is not None:
        parts = [[each.label, f"{each.score:.3f}", *(f"{part:.1%}" for part in each.box)] for each in looked.found]
        _print_table(Path(seen.given).name, ["object", "score", "left", "top", "width", "height"], parts)
    elif seen.method == "alignment":
        _print_table(title, ["writes", "attends most to"], [list(row) for row in seen.alignment()])
    else:
        rows = [[label, _shade(share), f"{share:.1%}", targets] for label, share, targets in seen.table()]
        header = [{"text": "token", "image": "patch", "audio": "at"}[looked.kind], "", seen.method, "attends most to"]
        _print_table(title, header if any(row[3] for row in rows) else header[:3], rows)
        typer.echo(f"Shares {seen.scale}.")


def _model(name: str) -> tuple[Any, Any]:
    """Model and processor of a run, a checkpoint or a name."""
    from regard.finetuning.run import STATE, Run
    from regard.models import transformers_look

    if (Path(name) / STATE).is_file():
        run = Run.load(name)
        return run.model, run.processor
    return transformers_look.load(name)


def _shade(share: float, width: int = 20) -> str:
    return "█" * max(round(share * width), 0) or "·"


def _outputs(run: Path, html: bool, png: bool, output: Path | None) -> list[Path]:
    if output and output.suffix not in (".html", ".png"):
        raise ConfigError(f"{output}: need a file ending in .html or .png; got '{output.suffix}'; rename it.")
    chosen = [run / "look.html"] * html + [run / "look.png"] * png
    return [output] if output else chosen


@app.command()
@guarded
def init(
    task: Annotated[str, typer.Argument(metavar="TASK", help="what to learn, such as text-classification")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="the file to write; TASK.yaml if left out")
    ] = None,
) -> None:
    """Write a commented configuration to start from."""
    from regard.finetuning.tasks import get_task

    path = output or Path(f"{task}.yaml")
    template = get_task(task).TEMPLATE
    if path.exists():
        raise ConfigError(f"{path}: need a new file to write; got one that exists; name another with --output.")
    path.write_text(template, encoding="utf-8")
    typer.echo(f"Written: {path}. Fill in your files and columns, then: regard check {path}")


if __name__ == "__main__":
    main()
