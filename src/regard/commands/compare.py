"""The command that puts runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regard._spoken import tell
from regard.commands.shared import print_json, print_table, say, silence
from regard.errors import ConfigError


def compare(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN RUN...", help="run directories; all are set beside the first")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of tables")] = False,
    html: Annotated[bool, typer.Option("--html", help="also write a page, comparison.html")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="the page to write, .html")] = None,
) -> None:
    """Put runs side by side: settings, measures with paired intervals, labels, and rows that one has right."""
    if output and output.suffix != ".html":
        raise ConfigError(f"{output}: need a file ending in .html; got '{output.suffix}'; rename it.")
    silence()
    from regard.finetuning.reporting.compare import compare as run_it
    from regard.inspection.report import write_report

    found = run_it(*runs)
    if html or output:
        page = write_report(found.report(), output or Path("comparison.html"))
    if as_json:
        print_json(found.to_dict())
        return
    for verdict in found.verdicts:
        say(tell(verdict.sentence, word=True))
    for table in found.tables():
        if table.rows:
            say("")
            print_table(tell(table.title, word=True), table.columns, table.rows)
    if found.changes is None:
        say("\nNo row is right or wrong by itself in this task: rows are not listed.")
    if html or output:
        say(f"\nWritten: {page}")
