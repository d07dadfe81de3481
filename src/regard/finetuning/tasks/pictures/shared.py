"""What the tasks on pictures share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regard.errors import ConfigError, DataError
from regard.finetuning.progress import quiet_transformers
from regard.finetuning.tasks import Encoded, Part, bases, input_files
from regard.finetuning.tasks.targets import classes
from regard.inspection.report.content import Finding
from regard.looking.pictures import PICTURES, open_picture

if TYPE_CHECKING:
    from datasets import Dataset

KEPT = 2**30
"""Bytes of pictures, as a model reads them, that training keeps in memory: small ones are decoded once, not each
epoch."""
HIDDEN = ("data.max_length", "data.too_long", "train.max_tokens", "train.unpad")
COMMENTS = {"data.columns.image": "The file of the picture; where it has no folder, beside the table"}
"""What templates of these tasks say of keys, and which they leave out; see `Template`."""


def in_folders(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the pictures in the folders of their classes, as the columns `image` and `label`."""
    seen = [file for file in sorted(path.rglob("*")) if not input_files.is_hidden(file, path)]
    pictures = [file for file in seen if file.suffix.lower() in PICTURES]
    files = [file for file in pictures if file.parent.parent == path]
    if not files:
        raise DataError(
            f"{path}: need a folder for each class with pictures in it ({', '.join(PICTURES)}); got none; name their "
            "parent, or a table."
        )
    elsewhere = [str(file.relative_to(path)) for file in pictures if file.parent.parent != path]
    if elsewhere:
        raise DataError(
            f"{path}: need each picture in the folder of its class; got {len(elsewhere)} elsewhere, such as "
            f"'{elsewhere[0]}'; move them, or name a table."
        )
    without = {file.parent for file in seen if file.parent.parent == path} - {file.parent for file in files}
    if without:
        raise DataError(
            f"{path}: need pictures ({', '.join(PICTURES)}) in each folder; got other files alone in "
            f"'{min(without).name}'; convert or remove them."
        )
    yield from ({"image": str(file.relative_to(path)), "label": file.parent.name} for file in files)


def own_parts(path: Path) -> dict[str, Part]:
    """Find the folders train, validation and test, each with folders of classes in it."""
    return input_files.own_parts(path, in_folders, "*/*.*")


def require_files(files: Sequence[Any], path: str) -> None:
    """Raise DataError unless each row names a file that is there."""
    for number, file in enumerate(files, start=1):
        input_files.require_file(file, path, number, "picture")


def require_cells(split: Dataset, path: str) -> None:
    """Raise DataError unless each row has a picture and a label."""
    require_files(split["image"], path)
    for number, label in enumerate(split["label"], start=1):
        classes.require_label(label, path, number)


def encode_files(name: str, split: Dataset, processor: Any, spec: classes.Labelled) -> Encoded:
    """Look into every picture once; they are read again when they are trained on, since all of them may not fit."""
    from datasets import Dataset

    number = {label: n for n, label in enumerate(spec.labels)}
    # By the name of what the collator makes of a file: the Trainer drops columns that are no input of the model.
    rows = {"pixel_values": split["image"], "labels": [number[label] for label in classes.names_of(split)]}
    return Encoded(Dataset.from_dict(rows), look_through(name, split["image"], processor))


def collator(processor: Any) -> Any:
    """Read the files of a batch, and keep what was read of as many as fit."""
    import torch

    kept: dict[str, torch.Tensor] = {}

    def collate(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        files = [row["pixel_values"] for row in rows]
        new = [file for file in dict.fromkeys(files) if file not in kept]
        read = dict(zip(new, pixels(processor, new), strict=True)) if new else {}
        batch = torch.stack([kept[file] if file in kept else read[file] for file in files])
        for file, picture in read.items():
            if (len(kept) + 1) * picture.nbytes <= KEPT:
                kept[file] = picture.clone()  # alone: a row of a batch would keep all of it
        return {"pixel_values": batch, "labels": torch.tensor([row["labels"] for row in rows])}

    return collate


def pixels(processor: Any, files: Sequence[str]) -> Any:
    """Return pictures as the model reads them."""
    return processor(images=[open_picture(file)[0] for file in files], return_tensors="pt")["pixel_values"]


def digests(files: Sequence[str]) -> list[bytes]:
    """Return what is equal for equal files."""
    return [input_files.digest(file) for file in files]


def load_processor(source: str) -> Any:
    """Load what a checkpoint prepares pictures with."""
    from transformers import AutoImageProcessor

    bases.require_model(source)
    with quiet_transformers():
        try:
            return AutoImageProcessor.from_pretrained(source, trust_remote_code=False)
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError(
                f"model: need an image processor beside the model; got '{source}' without one; copy "
                "preprocessor_config.json of the model it was trained from there."
            ) from error


FIXED = ("vit", "deit", "vit_msn")
"""Families with a learned position for each patch, which read pictures of one size alone."""


def require_fit(source: str, processor: Any) -> None:
    """Raise ConfigError if a model cannot read pictures of the size that its processor makes."""
    known, size = bases.require_model(source), dict(getattr(processor, "crop_size", None) or processor.size)
    if known.model_type not in FIXED or "height" not in size:
        return
    wanted = known.image_size if isinstance(known.image_size, list | tuple) else (known.image_size,) * 2
    if tuple(wanted) != (size["height"], size["width"]):
        raise ConfigError(
            f"model: need an image processor for {wanted[1]} x {wanted[0]} pixels, which the model reads; got one in "
            f"'{source}' for {size['width']} x {size['height']}; correct preprocessor_config.json."
        )


def require_sizes(family: str, families: Sequence[str], scratch: dict[str, int]) -> None:
    """Raise ConfigError unless a model of a family can begin at random with these sizes."""
    if family not in families:
        raise ConfigError(
            f"model: need one of {', '.join(families)} with options.from_scratch; got '{family}'; name a family, or "
            "leave out options.from_scratch."
        )
    for whole, part in (("width", "heads"), ("image", "patch")):
        if scratch[whole] % scratch[part]:
            raise ConfigError(
                f"options.from_scratch: need {whole} to be a multiple of {part}; got {scratch[whole]} and "
                f"{scratch[part]}; change one."
            )


def look_through(name: str, files: Sequence[str], processor: Any) -> list[Finding]:
    """Decode every picture once, and say what kinds they are."""
    kinds, sizes = zip(*_looked_at(name, files), strict=True)
    return _findings(name, Counter(kinds), sizes, processor)


def _looked_at(name: str, files: Sequence[str]) -> Iterator[tuple[str, tuple[int, int]]]:
    for number, file in enumerate(files, start=1):
        try:
            picture, kind = open_picture(file)
        except DataError as error:
            raise DataError(f"{name}, row {number}: {error}") from None
        yield kind, picture.size


def _findings(name: str, kinds: Counter[str], sizes: Sequence[tuple[int, int]], processor: Any) -> list[Finding]:
    small, large = (f"{width} x {height}" for width, height in (min(sizes), max(sizes)))
    told = f"{name}: {len(sizes)} pictures of {small}{'' if small == large else f' to {large}'} pixels"
    findings = [Finding("ok", f"{told}; the model reads {_size(processor)}, whatever their shape")]
    if kinds["grey"]:
        findings.append(Finding("ok", f"{name}: {kinds['grey']} pictures are grey; repeated in three channels"))
    if kinds["transparent"]:
        findings.append(Finding("warning", f"{name}: {kinds['transparent']} pictures are transparent; laid on white"))
    return findings


def _size(processor: Any) -> str:
    size = dict(getattr(processor, "crop_size", None) or processor.size)
    if "height" in size:
        return f"{size['width']} x {size['height']}"
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in size.items())
