"""Predictions for files of any size: rows come, are predicted some thousands at a time, and go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from regard._files import as_path, whole
from regard.errors import ConfigError, DataError
from regard.finetuning.data.columns import FILES, locate, require_column
from regard.finetuning.data.tables import stream
from regard.finetuning.data.writing import TableWriter
from regard.finetuning.finite import NotFiniteError
from regard.finetuning.progress import Advance, Display
from regard.finetuning.runs.run import Run
from regard.finetuning.tasks import Made, Prediction

ROWS = 4096
"""Rows that are in memory at a time; sorted by length within them, batches waste little."""


@dataclass(frozen=True)
class Written:
    """What became of a file.

    Attributes:
        path: the file of predictions.
        rows: how many it holds.
        cut: how many inputs were longer than the model reads.
    """

    path: Path
    rows: int
    cut: int


def predict_file(
    run: Run | str | Path,
    source: str | Path,
    target: str | Path,
    *,
    column: str | None = None,
    sheet: str | None = None,
    draw: bool = False,
    progress: bool = False,
) -> Written:
    """Predict for each row of a file and write the rows in their order, with the predictions beside them.

    The file is read once before the first prediction: a fault in its last line is told at once.

    Args:
        run: a run, or its directory.
        source: a table that `regard.finetuning` reads, with the run's column, or `.txt`, one input a line.
        target: the `.csv`, `.tsv`, `.jsonl` or `.parquet` file to write; it has its name once it is whole. Pictures
            and sounds that are predicted are files in a folder of the same name beside it, and are named in it.
        column: the column to predict from, if it is not called as in the run's own data.
        sheet: of a workbook, if it is not that of the run's own data.
        draw: also write each picture with what was found in it.
        progress: show a progress bar.

    Raises:
        DataError: a file cannot be read or written.
        ConfigError: the task has nothing to draw.

    Cost:
        Memory for some thousands of rows, whatever the size of the file.
    """
    run, display = Run.load(run), Display(quiet=not progress)
    sheet = run.config.data.sheet if sheet is None else sheet
    column = str(run.config.data.columns[run.input]) if column is None else column
    if not isinstance(column, str):
        raise ConfigError(f"column: need the name of a column; got {type(column).__name__}; give a str.")
    target = as_path(target, "predict", "a file to write")
    with TableWriter(target) as writer, _Folder(target.with_suffix("")) as folder:
        total = _count(source, column, sheet, run)
        rows = cut = 0
        with display.bar("predict", total) as advance:
            coming = stream(source, column, run.task.FORMATS, sheet)
            while given := list(islice(coming, ROWS)):
                inputs = [_input(row[column], run, source) for row in given]
                predictions = drawn(run, inputs, _responded(run, inputs, advance, rows, total), draw)
                kept = [folder.keep(p, rows + number) for number, p in enumerate(predictions, start=1)]
                writer.write([_merge(row, p) for row, p in zip(given, kept, strict=True)])
                rows, cut = rows + len(given), cut + sum(p.get("tokens_cut", 0) > 0 for p in predictions)
    return Written(target, rows, cut)


def _responded(run: Run, inputs: Sequence[Any], advance: Advance, before: int, total: int) -> list[Prediction]:
    """Predict for some rows; what goes wrong names them by their place among all."""
    try:
        return run.respond(inputs, _Inside(advance))
    except NotFiniteError as error:
        raise NotFiniteError([before + row for row in error.rows], total) from None


def drawn(run: Run, inputs: Sequence[Any], predictions: Sequence[Prediction], wanted: bool) -> list[Prediction]:
    """Add to each prediction its input with what was found in it, if that is wanted.

    Raises:
        ConfigError: the task has nothing to draw.
    """
    draw = getattr(run.task, "draw", None)
    if not wanted:
        return list(predictions)
    if draw is None:
        raise ConfigError(f"predict: need a task with something to draw; got {run.config.task}; leave out --draw.")
    return [p | {"drawing": draw(given, p)} for given, p in zip(inputs, predictions, strict=True)]


class _Inside(Display):
    """Advances a bar that is already there."""

    def __init__(self, advance: Advance) -> None:
        super().__init__(quiet=True)
        self.advance = advance

    @contextmanager
    def bar(self, label: str, total: int, done: int = 0) -> Iterator[Advance]:
        yield self.advance


def _count(source: str | Path, column: str, sheet: str | None, run: Run) -> int:
    """Count the rows, each of which must have an input."""
    role, number = run.input, 0
    for number, row in enumerate(stream(source, column, run.task.FORMATS, sheet), start=1):
        require_column(list(row), column, source, f"data.columns.{role}")
        if row[column] is None or (role not in FILES and not isinstance(row[column], str)):
            kind = "none" if row[column] is None else type(row[column]).__name__
            raise DataError(
                f"{source}: need a {role} in each row; got {kind} in row {number}; correct or drop the row."
            )
    return number


def _input(cell: Any, run: Run, source: str | Path) -> Any:
    """Return what a cell holds, or the file that it names."""
    return locate(cell, source) if run.input in FILES else cell


class _Folder:
    """The folder of the files that predictions hold; it has its name once all are written, if there are any."""

    def __init__(self, path: Path) -> None:
        self.path, self._stack = path, ExitStack()
        self._aside: Path | None = None

    def __enter__(self) -> _Folder:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def keep(self, prediction: Prediction, number: int) -> Prediction:
        """Write the files that a prediction holds, and put their names, from the table's place, where they were."""
        return {
            key: self._write(value, f"{number:06}{value.suffix}") if isinstance(value, Made) else value
            for key, value in prediction.items()
        }

    def _write(self, made: Made, name: str) -> str:
        if self._aside is None:
            if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
                raise DataError(f"{self.path}: need a new or empty folder to write; got one with files; name another.")
            self._aside = self._stack.enter_context(whole(self.path))
        made.save(self._aside / name)
        return f"{self.path.name}/{name}"


def _merge(row: dict[str, Any], prediction: Prediction) -> dict[str, Any]:
    """Put a prediction beside its row, under names that the row does not have."""
    merged = dict(row)
    for key, value in prediction.items():
        while any(name in row for name in _names(key, value)):
            key = f"predicted_{key}"
        merged[key] = value
    return merged


def _names(key: str, value: Any) -> list[str]:
    """Return what a value is called, and in CSV what is in it."""
    return [key, *(f"{key}_{inner}" for inner in value)] if isinstance(value, dict) else [key]
