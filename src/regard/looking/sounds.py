"""Sounds from files, as models read them: one channel of floats at the model's own rate."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np

from regard.errors import DataError
from regard.looking.files import require_regular

SOUNDS = (".wav",)
RATES = (100, 1_000_000)
"""Values a second, in Hz, at least and at most."""
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
    require_regular(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # of chunks that hold no sound, such as a title
            rate, sound = wavfile.read(path)
    except Exception as error:  # whatever a decoder raises for bytes that it does not expect
        raise DataError(f"{path}: need a sound; got a file that does not decode ({error}); check it.") from None
    if not sound.size:
        raise DataError(f"{path}: need a sound; got a file with none in it; record it again or drop it.")
    if not RATES[0] <= rate <= RATES[1]:
        raise DataError(f"{path}: need a sound of {RATES[0]} to {RATES[1]:,} Hz; got {rate:,} Hz; write it again.")
    if sound.dtype.kind == "u":  # eight bits, around 128
        sound = sound.astype(np.float32) / 128 - 1
    elif sound.dtype.kind == "i":
        sound = sound.astype(np.float32) / -float(np.iinfo(sound.dtype).min)
    with np.errstate(over="ignore", invalid="ignore"):
        sound = (sound.mean(-1) if sound.ndim == 2 else sound).astype(np.float32)
    wrong = int((~np.isfinite(sound)).sum())
    if wrong:
        raise DataError(f"{path}: need finite values; got NaN or infinity in {wrong} of {len(sound)}; write it again.")
    return sound, int(rate)


def resample(sound: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Return a sound `(n,)` at another rate, in Hz.

    Both ends are mirrored, so that a sound that is cut out of a longer one does not fade there as beside silence.
    """
    from scipy.signal import resample_poly

    common = int(np.gcd(rate, wanted))
    return resample_poly(sound, wanted // common, rate // common, padtype="symmetric").astype(np.float32)


def read_sound(path: str | Path | BinaryIO, rate: int) -> np.ndarray:
    """Read a WAV file as one channel at this rate, in -1..1; see `open_sound`."""
    return resample(*open_sound(path), rate)
