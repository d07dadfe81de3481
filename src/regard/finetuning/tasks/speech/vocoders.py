"""From spectrograms to sounds: a vocoder that was trained for it, or Griffin and Lim's method."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np

from regard.errors import ConfigError
from regard.finetuning.progress import quiet_transformers

ROUNDS, MOMENTUM = 60, 0.99


@lru_cache(maxsize=2)
def load_vocoder(source: str) -> Any:
    """Load a HiFi-GAN of SpeechT5.

    Raises:
        ConfigError: there is none.
    """
    from transformers import SpeechT5HifiGan

    with quiet_transformers():
        try:
            return SpeechT5HifiGan.from_pretrained(source, trust_remote_code=False).eval()
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"options.vocoder: need a SpeechT5HifiGan as a directory or a name on the hub that can be reached; got "
                f"'{source}'; correct it, or leave it out."
            ) from error


def require_fit(source: str, extractor: Any) -> None:
    """Raise ConfigError unless a vocoder reads what an extractor makes."""
    known = load_vocoder(source).config
    need, got = (known.sampling_rate, known.model_in_dim), (extractor.sampling_rate, extractor.num_mel_bins)
    if need != got:
        raise ConfigError(
            f"options.vocoder: need a vocoder for {got[0]:,} Hz and {got[1]} mels, as the model has them; got one for "
            f"{need[0]:,} Hz and {need[1]}; name another, or leave it out."
        )


def to_sound(spectrogram: np.ndarray, extractor: Any, vocoder: str | None) -> np.ndarray:
    """Return the sound `(n,)` of a spectrogram `(frames, mels)` of log10 magnitudes."""
    import torch

    with torch.inference_mode():
        if vocoder:
            return load_vocoder(vocoder)(torch.from_numpy(spectrogram)).numpy()
        magnitudes = np.maximum(_inverse(extractor) @ 10 ** spectrogram.T.astype(np.float64), 0)
        return griffin_lim(
            torch.from_numpy(magnitudes.astype(np.float32)), extractor.sample_size, extractor.sample_stride,
            extractor.n_fft,
        ).numpy()  # fmt: skip


def _inverse(extractor: Any) -> np.ndarray:
    """What makes magnitudes of all frequencies of those of the mels, `(frequencies, mels)`."""
    return np.linalg.pinv(extractor.mel_filters.T)


def griffin_lim(magnitudes: Any, window: int, hop: int, size: int) -> Any:
    """Return a sound whose spectrogram has nearly these magnitudes `(frequencies, frames)`; the same each time.

    Source: Griffin and Lim 1984; with the momentum of Perraudin, Balazs and Søndergaard 2013, algorithm 2.
    """
    import torch

    rng = torch.Generator().manual_seed(0)
    angles = torch.polar(torch.ones_like(magnitudes), 2 * torch.pi * torch.rand(magnitudes.shape, generator=rng))
    shape: dict[str, Any] = {
        "n_fft": size, "hop_length": hop, "win_length": window, "window": torch.hann_window(window),
    }  # fmt: skip
    length, before = (magnitudes.shape[1] - 1) * hop, torch.zeros_like(angles)
    if length <= size // 2:  # too short for the reflected edges
        return torch.zeros(max(length, 1))
    for _ in range(ROUNDS):
        sound = torch.istft(magnitudes * angles, length=length, **shape)
        rebuilt = torch.stft(sound, return_complex=True, **shape)
        angles = rebuilt - MOMENTUM / (1 + MOMENTUM) * before
        angles, before = angles / angles.abs().clamp_min(1e-8), rebuilt
    return torch.istft(magnitudes * angles, length=length, **shape)


def as_wav(sound: np.ndarray, rate: int) -> bytes:
    """Return a sound `(n,)` as a file; what is louder than can be is made less loud as a whole."""
    from scipy.io import wavfile

    file = io.BytesIO()
    loudest = max(1.0, float(np.abs(sound).max(initial=0)))
    wavfile.write(file, rate, (sound / loudest * 32767).astype(np.int16))
    return file.getvalue()
