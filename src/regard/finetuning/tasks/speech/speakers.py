"""SpeechT5 as synthesis needs it: loaded or made, with what turns texts into tokens and sounds into spectrograms."""

from __future__ import annotations

import io
import tempfile
import warnings
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, PositiveInt

from regard.errors import ConfigError
from regard.finetuning.config import Section
from regard.finetuning.progress import quiet_transformers
from regard.finetuning.tasks import Spec, bases
from regard.finetuning.tasks.speech import transcripts
from regard.looking.sounds import read_sound

FAMILY = "speecht5"
TEXT = 600
"""Tokens of a text that a model from scratch reads."""
FLOOR = 1e-3
"""Magnitude that a spectrogram of a model from scratch has at least: 60 to 70 dB below loud speech, which nobody hears.

The levels of what is softer vary more than those of speech, and would be most of what there is to learn.
"""
SHORTEST_WINDOW = 32
"""Milliseconds; frames follow each other by 16, and have to overlap."""
ALWAYS = "speech_decoder_prenet_dropout"
"""A dropout at all times, without which (at 0) transformers' prenet lets nothing through."""
HEADS = 2
"""Heads of each layer that are guided along the diagonal, in a model from scratch."""
SIGMA = 0.2
"""How wide that diagonal is, the value of Tachibana et al. 2017."""


class Scratch(Section):
    """The sizes of a model that begins at random."""

    layers: PositiveInt = 3
    """Of the encoder, and of the decoder."""
    width: PositiveInt = 256
    """Of the hidden states; a multiple of `heads`."""
    heads: PositiveInt = 4
    """Of each layer's attention."""
    rate: PositiveInt = 16_000
    """Of the speech that it makes, in Hz."""
    mels: PositiveInt = 80
    """Bands of a spectrogram."""
    window: Annotated[int, Field(ge=SHORTEST_WINDOW)] = 64
    """Milliseconds of sound in a frame.

    Long ones show each harmonic of the voice, short ones with fewer bands its vowels and consonants alone, which is
    sooner learned.
    """
    reduction: PositiveInt = 2
    """Frames, of 16 ms, that the decoder says in a step."""


class Known(Spec):
    """What is known of the training data."""

    vocoder: str | None
    longest: float | None
    guide: float
    scheduled_sampling: float = 0.0  # which older runs do not have
    recognizer: str | None
    normalizer: transcripts.Normalizer
    from_scratch: dict[str, int] | None
    tokens: int
    frames_per_token: float


def is_new(source: str, scratch: dict[str, int] | None) -> bool:
    """Tell whether a model is to be made, and `source` is no saved one."""
    return bool(scratch) and not Path(source).is_dir()


def require_family(source: str, scratch: dict[str, int] | None) -> None:
    """Raise ConfigError unless a model can learn to speak here."""
    if not is_new(source, scratch):
        family = bases.require_model(source).model_type
        if family == FAMILY:
            return
        why = ", which transformers has no loss for" if family == "vits" else ""
        raise ConfigError(
            f"model: need a SpeechT5, such as microsoft/speecht5_tts; got one of type '{family}'{why}; name another."
        )
    assert scratch
    if source != FAMILY:
        raise ConfigError(
            f"model: need {FAMILY} with options.from_scratch; got '{source}'; name it, or leave out "
            "options.from_scratch."
        )
    if scratch["width"] % scratch["heads"]:
        raise ConfigError(
            f"options.from_scratch: need width to be a multiple of heads; got {scratch['width']} and "
            f"{scratch['heads']}; change one."
        )


def load_processor(source: str, scratch: dict[str, int] | None, texts: Sequence[str]) -> Any:
    """Load what prepares texts and sounds for a model, or make it by the training texts."""
    from transformers import SpeechT5Processor

    if is_new(source, scratch) and texts:
        assert scratch
        return SpeechT5Processor(_new_extractor(scratch), _tokenizer(texts))
    with quiet_transformers():
        try:
            processor = SpeechT5Processor.from_pretrained(source, trust_remote_code=False)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(
                f"model: need SpeechT5's processor beside the model; got '{source}' without it; copy "
                "preprocessor_config.json and the tokenizer's files of the model it was trained from there."
            ) from error
    processor.tokenizer.model_max_length = min(
        processor.tokenizer.model_max_length, bases.require_model(source).max_text_positions
    )
    return processor


def _new_extractor(scratch: dict[str, int]) -> Any:
    """Make what takes spectrograms, of bands that all have a frequency of their window in them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers says of empty bands what is refused here
        extractor = _extractor(scratch["rate"], scratch["mels"], scratch["window"])
    empty = int((extractor.mel_filters.max(0) == 0).sum())
    if empty:
        raise ConfigError(
            f"options.from_scratch: need bands that are wider than the frequencies of a window of {scratch['window']} "
            f"ms are apart; got {scratch['mels']} mels, {empty} of them empty; ask for fewer, or for a longer window."
        )
    return extractor


def _extractor(rate: int, mels: int, window: int) -> Any:
    from transformers import SpeechT5FeatureExtractor

    return SpeechT5FeatureExtractor(
        sampling_rate=rate, num_mel_bins=mels, win_length=window, fmax=min(7600, rate * 0.475), mel_floor=FLOOR
    )


def _tokenizer(texts: Sequence[str]) -> Any:
    """Make a tokenizer whose tokens are the characters of the texts, in small letters."""
    import sentencepiece
    from transformers import SpeechT5Tokenizer

    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=made, model_type="char", normalization_rule_name="nmt_nfkc_cf",
        vocab_size=4000, hard_vocab_limit=False, character_coverage=1.0, pad_id=1, bos_id=0, eos_id=2, unk_id=3,
        minloglevel=2,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "spm_char.model"
        file.write_bytes(made.getvalue())
        return SpeechT5Tokenizer(str(file), model_max_length=TEXT)


def unknown_characters(tokenizer: Any, texts: Sequence[str]) -> Counter[str]:
    """Count the texts in which each character is that a tokenizer cannot write."""
    found: Counter[str] = Counter()
    for text in texts:
        if tokenizer.unk_token_id in tokenizer(text, verbose=False)["input_ids"]:
            signs = {sign for sign in text if not sign.isspace()}
            found.update(s for s in signs if tokenizer.unk_token_id in tokenizer(s, verbose=False)["input_ids"])
    return found


def load_model(source: str, spec: Known, dropout: float | None) -> tuple[Any, list[str]]:
    """Load a speaker, or make one; also return the names of its newly initialised parameters."""
    import torch

    from regard.finetuning.tasks.speech.synthesizer import SpeechT5ForTextToSpeech

    if is_new(source, spec.from_scratch):
        model: Any = SpeechT5ForTextToSpeech(_config(spec, dropout or 0.0))
        fresh = ["everything"]
    else:
        rates: dict[str, Any] = {name: rate for name, rate in bases.dropouts(source, dropout).items() if name != ALWAYS}
        with quiet_transformers():
            loaded: Any = SpeechT5ForTextToSpeech.from_pretrained(
                source, trust_remote_code=False, dtype=torch.float32, output_loading_info=True, **rates
            )
        model, info = loaded
        fresh = bases.newly_initialised(source, model, info)
    model.config.frames_per_token = spec.frames_per_token
    model.config.use_guided_attention_loss = spec.guide > 0
    model.config.guided_attention_loss_scale = spec.guide
    model.config.scheduled_sampling = spec.scheduled_sampling
    return model, fresh


def _config(spec: Known, dropout: float) -> Any:
    from transformers import SpeechT5Config

    scratch = spec.from_scratch or {}
    layers, width, heads = scratch["layers"], scratch["width"], scratch["heads"]
    names = ("hidden_dropout", "attention_dropout", "activation_dropout", "positional_dropout",
             "speech_decoder_postnet_dropout")  # fmt: skip
    rates: dict[str, Any] = dict.fromkeys(names, dropout)
    return SpeechT5Config(
        vocab_size=spec.tokens, hidden_size=width, encoder_layers=layers, decoder_layers=layers,
        encoder_attention_heads=heads, decoder_attention_heads=heads, encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width, encoder_layerdrop=0.0, decoder_layerdrop=0.0, num_mel_bins=scratch["mels"],
        reduction_factor=scratch["reduction"], speech_decoder_prenet_units=width,
        speech_decoder_postnet_units=width // 2,
        speech_decoder_postnet_layers=3, speaker_embedding_dim=1, max_text_positions=TEXT,
        guided_attention_loss_num_heads=min(HEADS, heads), guided_attention_loss_sigma=SIGMA, **rates,
    )  # fmt: skip


def spectrogram(file: str, extractor: Any) -> np.ndarray:
    """Return the log10 spectrogram `(frames, mels)` of a recording."""
    return extract(read_sound(file, extractor.sampling_rate), extractor)


def extract(sound: np.ndarray, extractor: Any) -> np.ndarray:
    """Return the log10 spectrogram `(frames, mels)` of a sound `(n,)` at the extractor's rate."""
    return extractor(audio_target=sound, sampling_rate=extractor.sampling_rate)["input_values"][0]


@lru_cache(maxsize=8)
def measuring_extractor(rate: int) -> Any:
    """What sounds of this rate are compared by, whatever their model reads: 80 mels, SpeechT5's windows."""
    return _extractor(rate, 80, 64)
