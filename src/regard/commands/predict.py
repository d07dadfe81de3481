"""Commands that use a run: predict, evaluate, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from regard.commands.shared import RunFolder, print_json, print_table, say, silence, warn_of_cuts


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

    silence()
    opened = Run.load(run)
    if not _is_file(inputs) or not _holds_rows(inputs, opened):
        _print_predictions(opened, drawn(opened, [inputs], opened.predict([inputs]), draw), output or _named(inputs))
        return
    target = output or Path(inputs).with_name(f"{Path(inputs).stem}.predictions.jsonl")
    written = predict_file(opened, inputs, target, draw=draw, progress=True)
    warn_of_cuts(written.cut, written.rows)
    say(f"{written.rows} predictions: {written.path}")


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


def _named(given: str) -> Path:
    """Where a picture or a sound goes that was predicted from one input: here, named as that."""
    return Path("".join(c if c.isalnum() else "-" for c in Path(given[:100]).stem)[:60])


def _print_predictions(run: Any, predictions: list[dict[str, Any]], output: Path) -> None:
    from regard.finetuning.tasks import Made

    for prediction in predictions:
        say(run.task.tell(prediction))
        for made in (value for value in prediction.values() if isinstance(value, Made)):
            say(f"Written: {made.save(output.with_suffix(made.suffix))}")
    warn_of_cuts(sum(prediction.get("tokens_cut", 0) > 0 for prediction in predictions), len(predictions))


def evaluate(
    run: RunFolder,
    file: Annotated[str, typer.Argument(metavar="FILE", help="a table with the truth in it")],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
) -> None:
    """Measure a run on other data."""
    from regard.finetuning.run import Run

    silence()
    scores = Run.load(run).evaluate(file, progress=True)
    if as_json:
        print_json({k: {"value": s.value, "interval_95": s.interval} for k, s in scores.items()})
        return
    rows = [
        [k.replace("_", " "), f"{s.value:.3f}", "{:.3f} to {:.3f}".format(*s.interval) if s.interval else ""]
        for k, s in scores.items()
    ]
    print_table(file, ["measure", "value", "95 % interval"], rows)


def export(
    run: RunFolder,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="the directory to make")],
    format: Annotated[str, typer.Option("--format", help="safetensors, or onnx")] = "safetensors",
) -> None:
    """Write a run's model for use elsewhere, compared with the model."""
    silence()
    from regard.finetuning.export import export as run_it

    done = run_it(run, output, format=format)  # type: ignore[arg-type]
    lengths = f" of {done.lengths[0]} to {done.lengths[-1]} tokens" if done.lengths else ""
    told = f"{done.inputs} inputs{lengths}, logits differ from the model's by {done.difference:.2g} at most"
    say(f"Written: {done.path} ({done.format}; {told})")
