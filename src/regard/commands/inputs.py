"""What a command is given: a text, a file, a folder, or what comes through a pipe; what looks like a file is one."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from regard._escapes import half
from regard.errors import DataError
from regard.finetuning.data.columns import FILES
from regard.finetuning.data.lines import kind_of
from regard.finetuning.data.tables import TABLES, neighbours, stream
from regard.finetuning.runs.run import empty_input
from regard.looking.files import require_regular
from regard.looking.pictures import PICTURES
from regard.looking.sounds import OTHER_SOUNDS, SOUNDS

PIPE = "-"
LINES = (".txt", ".txt.gz")
OTHERS = (
    ".ndjson .json .xls .xlsm .ods .numbers .feather .arrow .orc .avro .dat .data .log .md .rst .html .htm .xml "
    ".yaml .yml .toml .ini .pdf .doc .docx .odt .rtf .tex .epub .srt .vtt .tmx .eml .heic .avif .svg .gz .bz2 .xz .zst "
    ".zip .tar .tgz .7z .rar .npy .npz .pickle .pkl .pt .h5 .hdf5 .db .sqlite .sql .py .ipynb .aac .aiff .wma .mp4 .mkv"
)
"""What names of files end in that are read by other programs."""
ENDINGS = {*TABLES, *PICTURES, *SOUNDS, *OTHER_SOUNDS, *LINES, *OTHERS.split()}
ENDING = re.compile(r"[\w-]{2,}(\.[\w-]+)*\.([a-z][a-z0-9]{1,3}|[A-Z][A-Z0-9]{1,3})")
"""A name with an ending that nobody here knows; not U.S.A., 3.5 or e.g."""
ROOTS = ("./", "../", "~/", ".\\", "..\\")
DRIVE = re.compile(r"[A-Za-z]:[\\/]")
ADDRESS = re.compile(r"[a-z][a-z0-9+]+://\S+")


def looks_like_a_path(text: str) -> bool:
    """Tell whether somebody meant a file, where there may be none.

    Words with a slash between them are a text (`and/or`), unless their folder is there; a text of several words that
    ends in the name of a file is a text.
    """
    if not text.strip() or "\n" in text or len(text) > 4096:
        return False
    ending = Path(text).suffix.lower()
    rooted = text.startswith((*ROOTS, "/")) or bool(DRIVE.match(text))
    if re.search(r"\s", text):
        return rooted and ending in ENDINGS
    return (
        (rooted and len(text) > 1)
        or text == "~"
        or ending in ENDINGS
        or bool(ADDRESS.fullmatch(text))
        or bool(ENDING.fullmatch(re.split(r"[/\\]", text)[-1]))
        or _in_a_folder(text)
    )


def _in_a_folder(text: str) -> bool:
    """Tell whether there is the folder of a name without an ending, or it is written as one."""
    folder, slash, name = text.rpartition("/")
    return bool(slash) and ((not name and folder[-1:].isalnum()) or "_" in text or Path(folder).is_dir())


def is_there(text: str) -> bool:
    """Tell whether a text names something on this disk."""
    try:
        return bool(text.strip()) and len(text) < 4096 and Path(text).expanduser().exists()
    except (OSError, ValueError):
        return False


def single(who: str, needs: str, given: str, as_text: bool) -> str | Path:
    """Return the one input of a command: a text, as it is or on standard input for `-`, or a file that is there.

    Raises:
        DataError: the text is empty or none, or the file is not there or a device.
    """
    is_piped = given == PIPE and not as_text
    if is_piped or as_text or not (is_there(given) or looks_like_a_path(given)):
        text = sys.stdin.read() if is_piped else given
        if not text.strip():
            raise DataError(f"{who}: need {needs}; got an empty text; write one.")
        if lone := half(text):
            raise DataError(f"{who}: need text in UTF-8; got half of a surrogate pair ({lone}); correct it.")
        return text
    if not is_there(given):
        raise missing(given)
    path = Path(given).expanduser()
    require_regular(path)
    return path


def sort(given: Sequence[str], run: Any, as_text: bool) -> tuple[list[str], list[Path]]:
    """Part what was given into what a run answers one by one, and tables with rows of it.

    Args:
        given: texts, files, folders, or `-` for standard input, one input a line.
        run: the run, whose task says what an input is.
        as_text: take all for texts.

    Raises:
        DataError: a file is not there, or is none that can be read; an input is empty.
    """
    items: list[str] = []
    tables: list[Path] = []
    for number, each in enumerate(given, start=1):
        if as_text or (each != PIPE and not is_there(each) and not _must_be_there(each, run)):
            items.append(_text(each, number, run))
        elif each == PIPE:
            items += _lines()
        elif not is_there(each):
            raise missing(each)
        else:
            path = Path(each).expanduser()
            path = path if path.name else path.resolve()
            require_regular(path)
            inside, table = _from_disk(path, run)
            items += inside
            tables += table
    return items, tables


def _must_be_there(text: str, run: Any) -> bool:
    return bool(text.strip()) and (run.input in FILES or looks_like_a_path(text))


def _text(text: str, number: int, run: Any) -> str:
    if not text.strip():
        raise empty_input(run.input, number)
    if lone := half(text):
        raise DataError(
            f"predict: need text in UTF-8; got half of a surrogate pair ({lone}) in input {number}; correct it."
        )
    if run.input in FILES:
        raise DataError(f"predict: need files for this run; got --text; leave it out, and name the {run.input}'s file.")
    return text


def missing(text: str) -> DataError:
    """Say that there is no file where one was looked for."""
    if ADDRESS.fullmatch(text):
        return DataError(f"{text}: need a file on this disk; got an address; fetch it, or say --text if it is a text.")
    told = neighbours(Path(text).expanduser()).rstrip(".")
    return DataError(f"{text}: need a file to read; got nothing there; {told}; say --text if it is a text.")


def _lines() -> list[str]:
    """Read standard input, an input a line."""
    content = sys.stdin.buffer.read()
    try:
        lines = re.split(r"\r\n|\r|\n", content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(
            f"-: need text in UTF-8 on standard input; got byte 0x{content[error.start]:02x} at line "
            f"{content[: error.start].count(10) + 1}; convert it, for example with 'iconv -f latin1 -t utf-8'."
        ) from None
    found = [line for line in lines if line.strip()]
    if not found:
        raise DataError("-: need an input a line on standard input; got none; write some.")
    return found


def _from_disk(path: Path, run: Any) -> tuple[list[str], list[Path]]:
    """Tell a file that is an input, such as a picture, from one that holds some; take a folder's files one by one."""
    kind = kind_of(path)
    endings = {"image": PICTURES, "audio": (*SOUNDS, *OTHER_SOUNDS)}.get(run.input)
    if path.is_dir() and endings is None and "" not in run.task.FORMATS:
        raise DataError(f"{path}: need texts or tables for this run; got a folder; name the files in it.")
    if endings is None or (kind in (*TABLES, *LINES, *filter(None, run.task.FORMATS)) and not path.is_dir()):
        return [], [path]
    if not path.is_dir():
        return [str(path)], []
    found = sorted(str(file) for file in path.rglob("*") if file.suffix.lower() in endings and file.is_file())
    if not found:
        raise DataError(f"{path}: need a folder with files of type {', '.join(endings)}; got none; name another.")
    return found, []


def empty_rows(path: Path, column: str, sheet: str | None, run: Any) -> Iterator[int]:
    """Yield the numbers of the rows of a table without anything in their text."""
    if run.input not in FILES:
        for number, row in enumerate(stream(path, column, run.task.FORMATS, sheet), start=1):
            if not str(row.get(column) or "").strip():
                yield number
