"""What a run is made of: the files of its data, the model that it begins with, and what its options name.

All of their bytes are described when it begins, and compared when it is resumed: in full, for sizes and times,
which are cheaper, tell nothing of files that were copied, or written by programs that restore times.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regard.errors import ConfigError
from regard.finetuning.config import Config, find_model
from regard.finetuning.data.columns import FILES
from regard.finetuning.runs.seals import describe, fault

if TYPE_CHECKING:
    from datasets import Dataset

DATA = ("data.train", "data.validation", "data.test", "options.downstream.train", "options.downstream.test")
MODELS = ("options.vocoder", "options.recognizer")
"""Keys of the configuration that may name files or folders, beside `model`."""
NAMED = "files that the tables name"

Inputs = dict[str, dict[str, Any]]
"""A key of the configuration -> `folder`, `files` in it, and whether these are `all` that there are."""


def describe_data(config: Config) -> Inputs:
    """Describe the files that a configuration names, but for its model."""
    named = {key: value for key, value in config.flat().items() if isinstance(value, str)}
    sources = {key: Path(named[key]) for key in DATA if key in named}
    sources |= {key: folder for key in MODELS if key in named and (folder := _folder_of(named[key]))}
    return {key: _describe(path) for key, path in sources.items() if path.exists()}


def describe_model(config: Config) -> Inputs:
    """Describe the files of the model that a run begins with; none if it begins from scratch."""
    folder = None if config.options.get("from_scratch") else _folder_of(config.model)
    return {"model": _describe(folder)} if folder else {}


def describe_named(splits: Iterable[Dataset], known: Inputs) -> Inputs:
    """Describe the pictures and sounds that tables name, but for those that are described already."""
    folders = [Path(each["folder"]).absolute() for each in known.values() if each["all"]]
    cells = {cell for split in splits for role in FILES.intersection(split.column_names) for cell in split[role]}
    paths = sorted(path for path in map(Path, filter(_is_name, cells)) if path.is_file())
    rest = [path for path in paths if not any(path.absolute().is_relative_to(folder) for folder in folders)]
    if not rest:
        return {}
    return {NAMED: {"folder": "/", "files": describe(Path("/"), (path.absolute() for path in rest)), "all": False}}


def fingerprint(path: Path, known: Inputs) -> str:
    """Return the SHA-256 of a file, or of the names and digests of all files in a folder; none if not described."""
    path = path.absolute()
    digests = {
        Path(each["folder"]).absolute() / name: file["sha256"]
        for each in known.values()
        for name, file in each["files"].items()
    }
    inside = {file.relative_to(path).as_posix(): digest for file, digest in digests.items() if path in file.parents}
    whole = hashlib.sha256("".join(f"{name} {inside[name]}\n" for name in sorted(inside)).encode())
    return digests.get(path) or (whole.hexdigest() if inside else "")


def describe_rows(splits: Mapping[str, Dataset]) -> dict[str, str]:
    """Return the SHA-256 of each part's rows as they were read, from wherever: files that others name, or a hub."""
    found = {}
    for name, split in splits.items():
        digest = hashlib.sha256()
        for table in split.with_format("arrow").iter(1000):
            digest.update(repr(table.to_pylist()).encode("utf-8", "surrogatepass"))
        found[name] = digest.hexdigest()
    return found


def require_same_rows(path: Path, rows: Mapping[str, str], splits: Mapping[str, Dataset]) -> None:
    """Compare the rows of the run in a directory with those that it began with.

    Raises:
        ConfigError: a part has others.
    """
    if not rows:
        return  # it began before rows were described
    now = describe_rows(splits)
    for name in rows:
        if rows[name] != now.get(name):
            raise ConfigError(
                f"{path}: need the rows of {name} that the run began with; got others; put back what data.{name} "
                "reads, or start again with --overwrite."
            )


def require_same_inputs(path: Path, inputs: Inputs) -> None:
    """Compare what the run in a directory is made of with what it was when it began.

    Raises:
        ConfigError: something is not as it was; says which file.
    """
    for key, began in inputs.items():
        folder, files = Path(began["folder"]), began["files"]
        found = fault(folder, files)
        if not found and began["all"]:
            more = sorted({file.relative_to(folder).as_posix() for file in _files(folder)} - files.keys())
            found = f"'{more[0]}' besides" if more else None
        if found:
            raise ConfigError(
                f"{path}: need {key} as it was when the run began, in {folder}; got {found}; put it back, or start "
                "again with --overwrite."
            )


def _is_name(cell: Any) -> bool:
    return isinstance(cell, str)


def _folder_of(model: str) -> Path | None:
    """Return where the files of a model lie: a directory, or the cache of the hub."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    source = find_model(model)
    if Path(source).is_dir():
        return Path(source)
    try:
        cached = (try_to_load_from_cache(source, name) for name in ("config.json", "model_index.json"))
        return next((Path(path).parent for path in cached if isinstance(path, str)), None)
    except HFValidationError:
        return None


def _describe(path: Path) -> dict[str, Any]:
    folder = path if path.is_dir() else path.parent
    files = _files(path) if path.is_dir() else [path]
    return {"folder": str(folder), "files": describe(folder, files), "all": path.is_dir()}


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder and those below, but for hidden ones and notes, which nothing reads."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden and path.suffix != ".md":
            yield path
