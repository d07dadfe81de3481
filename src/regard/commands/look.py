"""The command that shows what a model attends to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from regard._digits import digits, per_cent
from regard._spoken import tell
from regard.commands.shared import compile_once, print_table, say, silence, warn_of_cuts
from regard.errors import ConfigError, DataError


def look(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="a run directory, a checkpoint's directory, package:NAME/PATH or a name on the hub"
        ),
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
    hide_special: Annotated[
        bool, typer.Option("--hide-special", help="leave out special tokens such as [CLS], and say what they get")
    ] = False,
    text: Annotated[bool, typer.Option("--text", help="the input is a text, whatever it looks like")] = False,
    html: Annotated[bool, typer.Option("--html", help="also write an interactive page")] = False,
    png: Annotated[bool, typer.Option("--png", help="also write a picture")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="the page or picture to write, .html or .png")
    ] = None,
) -> None:
    """Show what a model attends to in a text, a picture or a sound."""
    from regard.finetuning.frameworks import framework_of
    from regard.inspection.look import METHODS, Look, position

    silence()
    compile_once()
    given = _given(given, text)
    paths = _outputs(Path(model) if Path(model).is_dir() else Path(), html, png, output)
    if method not in (None, *METHODS):
        raise ConfigError(f"look: need a method, one of {', '.join(METHODS)}; got '{method}'.")
    opened, processor = load_model(model)
    looked = framework_of(opened).look(opened, processor, given, gradients=method == "relevance")
    chosen = None if start is None else position(looked.labels, start)
    mapped = method is None and not (layer is head is None) and chosen is None
    usual = (
        "alignment" if looked.written and not looked.words and chosen is None else "weights" if mapped else "received"
    )
    seen = Look(looked, method or usual, layer, head, chosen, given, hide_special)
    _print_look(seen)
    if seen.hidden:
        say(seen.hidden)
    warn_of_cuts(int(looked.cut > 0), 1)
    if looked.unheard:
        told = f"regard: the last {looked.unheard:.1f} seconds of the sound are beyond what the model hears at once"
        say(f"{told}; they are left out: cut the sound to see them", err=True)
    measured = faithful or (faithful is None and len(looked.labels) <= 64)
    found = seen.faithfulness() if measured else None
    if found is not None:
        measures = "; ".join(tell(line, word=True) for line in str(found).split("\n"))
        say(f"As an explanation: {measures}.")
    for path in paths:
        seen.write(path, found)
        say(f"Written: {path}")


def _given(given: str, as_text: bool) -> str:
    """Return the text or the name of the file to look at; - is a text on standard input."""
    from regard.commands.inputs import PIPE, single
    from regard.looking.pictures import PICTURES
    from regard.looking.sounds import OTHER_SOUNDS, SOUNDS

    found = single("look", "a text, or the file of a picture or a sound", given, as_text)
    if isinstance(found, str):
        return found.strip() if given == PIPE else found
    if found.suffix.lower() not in (*PICTURES, *SOUNDS, *OTHER_SOUNDS):
        kind = "folder" if found.is_dir() else "file"
        raise DataError(
            f"{given}: need a text, or the file of a picture or a sound; got a {kind} of another kind; give a text as "
            "it is, through '-', or say --text."
        )
    return str(found)


def _print_look(seen: Any) -> None:
    """Print words and their seconds, objects and their boxes, an alignment, or the shares of tokens and patches."""
    looked = seen.looked
    title = f"{looked.answer} ({tell(seen.which, word=True)})".strip()
    if looked.words:
        times = [[word, f"{first:.2f}", f"{last:.2f}"] for word, first, last in looked.words]
        print_table(looked.answer, ["word", "from (s)", "to (s)"], times)
    elif looked.found is not None:
        parts = [[each.label, digits(each.score), *(f"{part:.1%}" for part in each.box)] for each in looked.found]
        print_table(Path(seen.given).name, ["object", "score", "left", "top", "width", "height"], parts)
    elif seen.method == "alignment":
        print_table(title, ["writes", "attends most to"], [list(row) for row in seen.alignment()])
    else:
        rows = [[label, _shade(share), per_cent(share), targets] for label, share, targets in seen.table()]
        header = [{"text": "token", "image": "patch", "audio": "at"}[looked.kind], "", seen.method, "attends most to"]
        print_table(title, header if any(row[3] for row in rows) else header[:3], rows)
        say(tell(f"Shares {tell(seen.scale, word=True)}.", word=True))


def load_model(name: str) -> tuple[Any, Any]:
    """Model and processor of a run, a checkpoint, a name on the hub or `package:NAME/PATH`."""
    from regard.finetuning.config import find_model
    from regard.finetuning.runs.run import STATE, Run
    from regard.looking.transformers import loading

    if (Path(name) / STATE).is_file():
        run = Run.load(name)
        return run.model, run.processor
    return loading.load(find_model(name))


def _shade(share: float, width: int = 20) -> str:
    return "█" * max(round(share * width), 0) or "·"


def _outputs(run: Path, html: bool, png: bool, output: Path | None) -> list[Path]:
    if output and output.suffix not in (".html", ".png"):
        raise ConfigError(f"{output}: need a file ending in .html or .png; got '{output.suffix}'; rename it.")
    chosen = [run / "look.html"] * html + [run / "look.png"] * png
    return [output] if output else chosen
