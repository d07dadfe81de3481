"""How near speech that was made comes to recordings of the same words, and how well it is understood."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from regard.finetuning.tasks import Prediction, Score
from regard.finetuning.tasks.speech import recognizers, speakers, transcripts
from regard.finetuning.tasks.targets import intervals
from regard.looking.sounds import open_sound, read_sound
from regard.models.alignment import time_warping

COEFFICIENTS = 13
HEARD = 8
"""Sounds that the recogniser hears at once."""


def cepstra(sound: np.ndarray, rate: int) -> np.ndarray:
    """Return the mel cepstrum of each frame of a sound `(n,)`, without the loudness: `(frames, COEFFICIENTS)`.

    They are those c of ln|H| = sum_n c_n cos(n w) on the mels' scale of frequencies.
    """
    from scipy.fft import dct

    spectrogram = speakers.extract(sound, speakers.measuring_extractor(rate)) * np.log(10)
    return dct(spectrogram, axis=1)[:, 1 : COEFFICIENTS + 1] / spectrogram.shape[1]


def distortion(one: np.ndarray, other: np.ndarray) -> float:
    """Return the mel cepstral distortion of two sequences of cepstra, in dB, after both are warped in time.

    The mean of 10 / ln 10 sqrt(2 sum_n (c_n - c'_n)^2) along the path where it is least.

    Source: Kubichek 1993, "Mel-cepstral distance measure for objective speech quality assessment".
    """
    from scipy.spatial.distance import cdist

    cost = cdist(one, other) * np.sqrt(2) * 10 / np.log(10)
    rows, columns = time_warping(cost)
    return float(cost[rows, columns].mean())


def measure(
    files: Sequence[str], texts: Sequence[str], predictions: Sequence[Prediction], spec: speakers.Known
) -> dict[str, Score]:
    """Return the measures: distortion always, diagonality where a model spoke, errors where one listens."""
    sounds = [open_sound(io.BytesIO(p["sound"].content)) for p in predictions]
    apart = [
        distortion(cepstra(read_sound(file, rate), rate), cepstra(sound, rate))
        for file, (sound, rate) in zip(files, sounds, strict=True)
    ]
    scores = {"mel_cepstral_distortion": _mean(apart, higher_is_better=False)}
    if spec.recognizer:
        scores |= transcripts.error_rates(texts, heard(spec.recognizer, predictions), spec.normalizer)
    if all("diagonality" in p for p in predictions):
        scores["diagonality"] = _mean([p["diagonality"] for p in predictions])
    return scores


def _mean(values: Sequence[float], higher_is_better: bool = True) -> Score:
    rows = np.array(values)[:, None]
    draws = intervals.resampled_sums(rows)[:, 0] / len(rows)
    return intervals.drawn(float(rows.mean()), draws, higher_is_better)


@lru_cache(maxsize=1)
def _recognizer(source: str) -> tuple[Any, Any]:
    from regard.finetuning.config import find_model

    where = find_model(source)
    kind = recognizers.kind_of(where, None)
    spec = recognizers.Known(kind=kind, characters=None, window=None, language=None, from_scratch=None)
    model, _ = recognizers.load_model(where, spec, None)
    return model.eval(), recognizers.load_processor(where, {"from_scratch": None, "window": None}, [])


def require_recognizer(source: str) -> None:
    """Raise ConfigError unless a recogniser is there."""
    _recognizer(source)


def heard(source: str, predictions: Sequence[Prediction]) -> list[str]:
    """Return what a recogniser hears in what was said."""
    return list(_heard(source, tuple(p["sound"].content for p in predictions)))


@lru_cache(maxsize=1)
def _heard(source: str, files: tuple[bytes, ...]) -> tuple[str, ...]:
    model, processor = _recognizer(source)
    rate, found = processor.feature_extractor.sampling_rate, []
    for start in range(0, len(files), HEARD):
        sounds = [read_sound(io.BytesIO(file), rate) for file in files[start : start + HEARD]]
        found += recognizers.transcribe(model, processor, sounds)
    return tuple(found)
