"""Pictures from files, as every model here gets them: three channels of eight bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from regard.errors import DataError
from regard.looking.files import require_regular

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")


def open_picture(path: str | Path | BinaryIO) -> tuple[Any, str]:
    """Reads a picture as RGB, turned as its camera says; grey is repeated, what is transparent is laid on white.

    Returns:
        The picture of PIL, and what it was: "colour", "grey" or "transparent".

    Raises:
        DataError: It is not there, does not decode, or has more than eight bits a channel.
    """
    from PIL import Image, ImageOps

    require_regular(path)
    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened)
            picture.load()
    except Exception as error:  # whatever a decoder raises for bytes that it does not expect
        raise _undecodable(path, error) from None
    if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
        raise DataError(
            f"{path}: need a picture of eight bits a channel; got more (mode {picture.mode}); convert it, for its "
            "range cannot be guessed."
        )
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB"), "transparent"
    return picture.convert("RGB"), "grey" if picture.mode in ("1", "L") else "colour"


def picture_size(path: str | Path) -> tuple[int, int]:
    """Width and height of a picture, turned as its camera says, from the head of its file.

    Raises:
        DataError: It is not there or does not decode.
    """
    from PIL import Image

    require_regular(path)
    try:
        with Image.open(path) as opened:
            turned = opened.getexif().get(_ORIENTATION, 1) > 4  # by a quarter
            return opened.size[::-1] if turned else opened.size
    except Exception as error:  # whatever a decoder raises for bytes that it does not expect
        raise _undecodable(path, error) from None


_ORIENTATION = 0x0112


def _undecodable(path: str | Path | BinaryIO, error: Exception) -> DataError:
    return DataError(f"{path}: need a picture; got a file that does not decode ({error}); check it.")


def place_labels(rows: int, columns: int, prefix: int) -> list[str]:
    """A name for each position: special ones by number, then the patches by row and column."""
    patches = [f"row {row}, column {column}" for row in range(rows) for column in range(columns)]
    return [f"[{place}]" for place in range(prefix)] + patches


def in_unit_range(pixels: np.ndarray, processor: Any) -> np.ndarray:
    """Pixels as a model reads them, `(height, width, channels)`, in their own colours from 0 to 1, to be drawn."""
    shown = np.asarray(pixels, np.float64)
    if getattr(processor, "do_normalize", None):
        shown = shown * np.asarray(processor.image_std) + np.asarray(processor.image_mean)
    scale = getattr(processor, "rescale_factor", 1 / 255) if getattr(processor, "do_rescale", True) else 1
    shown = shown / (255 * scale)
    return np.clip(shown[..., :3], 0, 1)
