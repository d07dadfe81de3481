"""The command that opens maps of attention to be zoomed into."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from regard._spoken import tell
from regard.commands.look import load_model
from regard.commands.shared import compile_once, say, silence
from regard.errors import ConfigError, DataError

_MOST_BYTES = 16 << 20  # of a file: 100,000 tokens are less than 10 MB
_LONG = 1000
"""More tokens than this are worth a line while they are read."""
_USUAL = re.compile(r"model|checkpoint([-_]\d+)?|best|last|final")
"""Names of directories that many models have."""


def explore(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="a run directory, a checkpoint's directory, package:NAME/PATH or a name on the hub"
        ),
    ],
    given: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="a text, or the file of a text, of a conversation (.json), a picture or a sound (.wav)",
        ),
    ],
    against: Annotated[
        str | None, typer.Option("--against", metavar="OTHER", help="another model to lay beside it, such as its base")
    ] = None,
    generate: Annotated[
        int, typer.Option("--generate", metavar="N", min=0, help="let the model write N tokens behind the text")
    ] = 0,
    window: Annotated[
        int | None, typer.Option("--window", metavar="N", help="read a longer text in pieces of N tokens")
    ] = None,
    words: Annotated[
        bool, typer.Option("--words", help="begin with words instead of their tokens; with -o, a page of words")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="write one page that needs no server, up to 2,048 tokens")
    ] = None,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="of the page; one that is free if left out")
    ] = 0,
    browser: Annotated[
        bool | None, typer.Option(help="open the page in a browser (default: where there is a display)")
    ] = None,
    text: Annotated[bool, typer.Option("--text", help="the input is a text, whatever it looks like")] = False,
) -> None:
    """Open every head of a model as a map that can be zoomed into, up to each weight."""
    from regard.exploring.explore import Explorer, show
    from regard.exploring.sources import alike

    silence()
    compile_once()
    if output is not None and output.suffix != ".html":
        raise ConfigError(f"{output}: need a file ending in .html; got '{output.suffix}'; rename it.")
    read, is_file = _given(given, text)
    chat = None if is_file or text else _conversation(given, read)
    views = [_view(name, chat or read, is_file, window, generate) for name in (source, *([against] if against else []))]
    if against:
        alike(*views)
    if output is not None:
        from regard.exploring.offline import write_page
        from regard.exploring.wording import in_words

        write_page(in_words(views) or views if words else views, output)
        say(f"Written: {output}")
        return
    with Explorer(views, port, words) as explorer:
        say(f"The page, until Ctrl-C: {explorer.address}")
        sys.stdout.flush()
        show(explorer.address, browser)
        explorer.wait()


_NEEDS = "a text, or the file of a text, a picture or a sound"


def _given(given: str, as_text: bool) -> tuple[str, bool]:
    """The text, or the file of a picture or a sound, and which of both."""
    from regard.commands.inputs import single
    from regard.looking.pictures import PICTURES
    from regard.looking.sounds import OTHER_SOUNDS, SOUNDS

    found = single("explore", _NEEDS, given, as_text)
    if isinstance(found, str):
        return found, False
    if found.is_dir():
        raise DataError(f"{given}: need {_NEEDS}; got a folder; name a file.")
    if found.suffix.lower() in (*PICTURES, *SOUNDS, *OTHER_SOUNDS):
        return str(found), True
    return str(single("explore", _NEEDS, _decoded(found), True)), False


def _decoded(path: Path) -> str:
    """What stands in a file, whose size is looked at first."""
    if path.stat().st_size > _MOST_BYTES:
        raise DataError(f"{path}: need a text of at most {_MOST_BYTES // 2**20} MB; got a larger file; cut it.")
    content = path.read_bytes()
    try:
        found = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: need text in UTF-8, a picture or a sound; got byte 0x{content[error.start]:02x} at "
            f"{error.start}; convert it, for example with 'iconv -f latin1 -t utf-8'."
        ) from None
    if "\0" in found:
        raise DataError(f"{path}: need a text, a picture or a sound; got a file of another kind; name another.")
    return found


def _reads_once(model: Any) -> bool:
    """Whether it is a model of transformers that reads a text, and writes, if it does, behind it."""
    config = getattr(model, "config", None)
    apart = hasattr(model, "look") or getattr(config, "is_encoder_decoder", True)
    return not apart and type(model).__module__.startswith("transformers.")


def _conversation(name: str, read: str) -> list[dict[str, str]] | None:
    """The messages of a file of JSON, None where there are none: then it is a text."""
    from regard.looking.transformers.chats import messages_in

    return messages_in(read) if Path(name).suffix.lower() == ".json" else None


def _view(name: str, given: Any, is_file: bool, window: int | None, generate: int) -> Any:
    from regard.exploring.sources import of_looked, of_text
    from regard.finetuning.frameworks import framework_of

    model, processor = load_model(name)
    framework, title = framework_of(model), _title(name)
    if not is_file and _reads_once(model):
        return of_text(model, processor, given, title, window, generate, told=_tell)
    if window is not None or generate:
        raise ConfigError(
            "explore: need a text and a model of transformers for --window and --generate; leave them out."
        )
    if not isinstance(given, str):
        raise ConfigError(f"{name}: need a model of transformers that reads texts for a conversation; got another.")
    return of_looked(framework.look(model, processor, given), title, given if is_file else "")


def _title(name: str) -> str:
    """What a model is called: its directory, and the one that this lies in where many models have such a name."""
    path = Path(name.removeprefix("package:")).expanduser().resolve()
    known = path.parent.name and _USUAL.fullmatch(path.name)
    return f"{path.parent.name}/{path.name}" if known else path.name or name


def _tell(doing: str, count: int) -> None:
    """Say what takes a while."""
    if count > _LONG:
        say(tell(f"{doing} {count:,} tokens", word=True), err=True)
