"""Commands that use a run: predict, evaluate, export."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from regard._digits import digits
from regard._escapes import printable
from regard._spoken import phrase
from regard.commands.shared import (
    RunFolder,
    Sheet,
    compile_once,
    print_json,
    print_table,
    require_workbook,
    say,
    silence,
    warn_of_cuts,
    warn_of_empty,
    warn_of_sheets,
)
from regard.errors import ConfigError
from regard.finetuning.int8 import MOST

Quantize = Annotated[
    str | None, typer.Option("--quantize", metavar="KIND", help="int8: linear layers in whole numbers, faster on CPUs")
]
MaxLoss = Annotated[
    float,
    typer.Option("--max-loss", metavar="SHARE", help="refuse what makes the first measure worse by more; inf: any"),
]
MANY = 8
"""More inputs than this are worth a progress bar."""


def predict(
    run: RunFolder,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="texts, pictures or sounds; tables (.csv, .jsonl, .parquet, .xlsx, ...), .txt with one text a line; "
            "folders of pictures or sounds; or - for lines of standard input",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="where to write predictions: a table, or what is made of one input"),
    ] = None,
    column: Annotated[
        str | None, typer.Option("--column", metavar="NAME", help="the column of a table to predict from")
    ] = None,
    sheet: Sheet = None,
    text: Annotated[bool, typer.Option("--text", help="each input is a text, whatever it looks like")] = False,
    draw: Annotated[bool, typer.Option("--draw", help="also write each picture with the objects found in it")] = False,
    quantize: Quantize = None,
    max_loss: MaxLoss = MOST,
) -> None:
    """Predict for texts, pictures or sounds, or for every row of a file in its order."""
    from regard.commands.inputs import sort
    from regard.finetuning.data.tables import SUFFIXES
    from regard.finetuning.runs.run import Run

    silence()
    opened = Run.load(run)
    items, tables = sort(inputs, opened, text)
    targets = _targets(tables, output, alone=not items)
    if quantize is not None:
        opened = _quantized(opened, quantize, max_loss, "predict")
    for table, target in targets.items():
        _predict_table(opened, table, target, (column, sheet), draw)
    if items and output and output.suffix.lower() in SUFFIXES:
        _predict_into(opened, items, output, draw)
    elif items:
        _predict_items(opened, items, output, draw)


def _quantized(run: Any, kind: str, most: float, who: str) -> Any:
    """Quantise a run's model, and say what that costs."""
    from regard.finetuning.int8.loss import quantized

    compile_once(kind)
    made, loss = quantized(run, kind, max_loss=most, who=who, progress=True)
    say(f"{kind}: {loss or 'not measured'}", err=True)
    return made


def _targets(tables: list[Path], output: Path | None, alone: bool) -> dict[Path, Path]:
    """Say where the predictions of each table go: beside it, or into one file or a folder that is named."""
    if output and tables and not (len(tables) == 1 and alone) and not output.is_dir():
        raise ConfigError(
            f"--output: need a folder for the predictions of several files; got '{output}'; make it, or leave it out."
        )
    names = [f"{_stem(table)}.predictions.jsonl" for table in tables]
    if output is None or not tables:
        return {table: table.with_name(name) for table, name in zip(tables, names, strict=True)}
    if output.is_dir():
        return {table: output / name for table, name in zip(tables, names, strict=True)}
    return {tables[0]: output}


def _stem(table: Path) -> str:
    return Path(table.stem).stem if table.suffix.lower() == ".gz" else table.stem


def _predict_table(run: Any, table: Path, target: Path, named: tuple[str | None, str | None], draw: bool) -> None:
    from regard.commands.inputs import empty_rows
    from regard.finetuning.runs.stream import predict_file

    column, sheet = named
    require_workbook(table, sheet)
    column = run.config.data.columns[run.input] if column is None else column
    sheet = run.config.data.sheet if sheet is None else sheet
    warn_of_sheets(table, sheet)
    written = predict_file(run, table, target, column=column, sheet=sheet, draw=draw, progress=True)
    warn_of_cuts(written.cut, written.rows)
    warn_of_empty(str(table), list(empty_rows(table, column, sheet, run)))
    say(f"{written.rows} predictions: {written.path}")


def _predict_into(run: Any, items: list[str], output: Path, draw: bool) -> None:
    """Predict for inputs as for the rows of a table that holds them."""
    from regard.finetuning.data.columns import FILES
    from regard.finetuning.data.writing import write_jsonl
    from regard.finetuning.runs.stream import predict_file

    column = run.config.data.columns[run.input]
    values = [str(Path(item).absolute()) for item in items] if run.input in FILES else items
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "inputs.jsonl"
        write_jsonl(table, [{column: value} for value in values])
        written = predict_file(run, table, output, draw=draw, progress=True)
    warn_of_cuts(written.cut, written.rows)
    say(f"{written.rows} predictions: {written.path}")


def _predict_items(run: Any, items: list[str], output: Path | None, draw: bool) -> None:
    """Predict for inputs, and print a line for each; of several files, with the name of each before it."""
    from regard.finetuning.data.columns import FILES
    from regard.finetuning.data.tables import SUFFIXES
    from regard.finetuning.runs.stream import drawn
    from regard.finetuning.tasks import Made

    predictions = drawn(run, items, run.predict(items, progress=len(items) > MANY), draw)
    if output and not any(isinstance(value, Made) for each in predictions for value in each.values()):
        raise ConfigError(f"--output: need a file of type {', '.join(SUFFIXES)}; got '{output}'; rename it.")
    named = run.input in FILES and len(items) > 1
    for number, (item, prediction) in enumerate(zip(items, predictions, strict=True), start=1):
        say(f"{printable(item)}: " * named + run.task.tell(_plain(prediction)))
        where = output or _named(item)
        _save(prediction, where if len(items) == 1 else where.with_name(f"{where.stem}-{number}"))
    warn_of_cuts(sum(prediction.get("tokens_cut", 0) > 0 for prediction in predictions), len(predictions))


def _plain(value: Any, key: str = "") -> Any:
    """Write out what steers a terminal in a prediction; a text that a model wrote keeps its lines."""
    if isinstance(value, str):
        return printable(value, keep="\n" if key in ("output", "text") else "")
    if isinstance(value, dict):
        return {printable(name): _plain(each, name) for name, each in value.items()}
    return [_plain(each, key) for each in value] if isinstance(value, list) else value


def _save(prediction: dict[str, Any], output: Path) -> None:
    from regard.finetuning.tasks import Made

    for made in (value for value in prediction.values() if isinstance(value, Made)):
        say(f"Written: {made.save(output.with_suffix(made.suffix))}")


def _named(given: str) -> Path:
    """Where a picture or a sound goes that was predicted from one input: here, named as that."""
    return Path("".join(c if c.isalnum() else "-" for c in Path(given[:100]).stem)[:60])


def evaluate(
    run: RunFolder,
    file: Annotated[str, typer.Argument(metavar="FILE", help="a table with the truth in it")],
    column: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="[ROLE=]NAME", help="the table's name of a column, such as label=sentiment"),
    ] = None,
    sheet: Sheet = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
) -> None:
    """Measure a run on other data."""
    from regard.commands.inputs import empty_rows
    from regard.finetuning.runs.run import Run

    silence()
    opened = Run.load(run)
    require_workbook(Path(file), sheet)
    columns, sheet = _columns(column or [], opened), opened.config.data.sheet if sheet is None else sheet
    warn_of_sheets(Path(file), sheet)
    scores = opened.evaluate(file, columns=columns, sheet=sheet, progress=True)
    warn_of_empty(file, list(empty_rows(Path(file), str(columns[opened.input]), sheet, opened)))
    if as_json:
        print_json({k: {"value": s.value, "interval_95": s.interval} for k, s in scores.items()})
        return
    rows = [
        [k.replace("_", " "), digits(s.value), phrase(" to ").join(map(digits, s.interval or ()))]
        for k, s in scores.items()
    ]
    print_table(file, ["measure", "value", "95 % interval"], rows)


def _columns(given: list[str], run: Any) -> dict[str, str | list[str]]:
    """Read `--column`: the name of the input's column, or that of another after what the task calls it."""
    columns = dict(run.config.data.columns)
    for each in given:
        role, equals, name = each.partition("=")
        if equals and role not in columns:
            raise ConfigError(f"--column: need one of {', '.join(columns)} before the '='; got '{role}'; correct it.")
        columns |= {role: name} if equals else {run.input: each}
    return columns


def export(
    run: RunFolder,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="the directory to make")],
    format: Annotated[str, typer.Option("--format", help="safetensors, onnx or openvino")] = "safetensors",
    quantize: Quantize = None,
    max_loss: MaxLoss = MOST,
) -> None:
    """Write a run's model for use elsewhere, compared with the model."""
    silence()
    from regard.finetuning.export import export as run_it

    if quantize is not None:
        compile_once(quantize)
    done = run_it(run, output, format=format, quantize=quantize, max_loss=max_loss)  # type: ignore[arg-type]
    if done.loss:
        say(f"{quantize}: {done.loss}", err=True)
    lengths = f" of {done.lengths[0]} to {done.lengths[-1]} tokens" if done.lengths else ""
    told = f"{done.inputs} inputs{lengths}, logits differ from the model's by {done.difference:.2g} at most"
    say(f"Written: {done.path} ({done.format}; {told})")
