"""Sounds from files, as models read them: one channel of floats at the model's own rate."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np

from regard.errors import DataError

SOUNDS = (".wav",)
OTHER_SOUNDS = (".mp3", ".flac", ".ogg", ".m4a", ".opus", ".g722")


def open_sound(path: str | Path | BinaryIO) -> tuple[np.ndarray, int]:
    """Read a WAV file, by name or open, as one channel in -1..1, and its rate in Hz.

    Raises:
        DataError: it is not there, of another kind, does not decode, or has no sound in it.
    """
    from scipy.io import wavfile

    ending = Path(path).suffix.lower() if isinstance(path, str | Path) else ""
    if ending in OTHER_SOUNDS:
        raise DataError(f"{path}: need a sound as a .wav file; got {ending}; convert it, say with ffmpeg.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # of chunks that hold no sound, such as a title
            rate, sound = wavfile.read(path)
    except (OSError, ValueError, struct.error) as error:
        raise DataError(f"{path}: need a sound; got a file that does not decode ({error}); check it.") from None
    if not len(sound):
        raise DataError(f"{path}: need a sound; got a file with none in it; record it again or drop it.")
    if sound.dtype.kind == "u":  # eight bits, around 128
        sound = sound.astype(np.float32) / 128 - 1
    elif sound.dtype.kind == "i":
        sound = sound.astype(np.float32) / -float(np.iinfo(sound.dtype).min)
    return (sound.mean(-1) if sound.ndim == 2 else sound).astype(np.float32), int(rate)


def resample(sound: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Return a sound `(n,)` at another rate, in Hz."""
    from scipy.signal import resample_poly

    common = int(np.gcd(rate, wanted))
    return resample_poly(sound, wanted // common, rate // common).astype(np.float32)


def read_sound(path: str | Path | BinaryIO, rate: int) -> np.ndarray:
    """Read a WAV file as one channel at this rate, in -1..1; see `open_sound`."""
    return resample(*open_sound(path), rate)
