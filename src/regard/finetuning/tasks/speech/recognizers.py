"""Recognisers of speech in transformers: encoders whose frames are spelled out (CTC), and decoders that write."""

from __future__ import annotations

import json
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import PositiveInt

from regard.errors import ConfigError
from regard.finetuning.config import Section
from regard.finetuning.finite import Witness, require_all
from regard.finetuning.progress import quiet_transformers
from regard.finetuning.tasks import Spec, bases
from regard.finetuning.tasks.speech import transcripts
from regard.finetuning.training.padding import is_rounded

Kind = Literal["ctc", "writer"]
SCRATCH = {"wav2vec2": "ctc", "whisper": "writer"}
"""Families of models that can begin from scratch."""
RATE, WINDOW = 16_000, 30
"""Hz, and seconds that are read at once, where a model does not say."""
PLACES = 50
"""Positions of Whisper's encoder, and of wav2vec2's, a second."""
MULTILINGUAL = 51_865
"""Tokens of Whisper's vocabulary from which on it knows several languages."""
BLANK, UNKNOWN, SPACE = "<pad>", "<unk>", "|"
END, START, PLAIN = "<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"


class Scratch(Section):
    """The sizes of a model that begins at random, of the family that `model` names."""

    layers: PositiveInt = 4
    """Of the encoder, and of the decoder if there is one."""
    width: PositiveInt = 144
    """Of the hidden states; a multiple of `heads`."""
    heads: PositiveInt = 4
    """Of each layer's attention."""


class Known(Spec):
    """What is known of the training data."""

    kind: Kind
    characters: list[str] | None
    window: int | None
    language: str | None
    normalizer: transcripts.Normalizer = "basic"
    from_scratch: dict[str, int] | None


def kind_of(source: str, scratch: dict[str, int] | None) -> Kind:
    """Tell how a model's words come about.

    Raises:
        ConfigError: it does not recognise speech.
    """
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CTC_MAPPING_NAMES,
        MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES,
    )

    if scratch and not Path(source).is_dir():
        return _scratch_kind(source, scratch)
    family = bases.require_model(source).model_type
    if family in MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES:
        return "writer"
    if family in MODEL_FOR_CTC_MAPPING_NAMES:
        return "ctc"
    raise ConfigError(
        f"model: need one that recognises speech, such as openai/whisper-tiny, usefulsensors/moonshine-tiny or "
        f"facebook/wav2vec2-base; got one of type '{family}'; name another."
    )


def _scratch_kind(family: str, scratch: dict[str, int]) -> Any:
    if family not in SCRATCH:
        raise ConfigError(
            f"model: need one of {', '.join(SCRATCH)} with options.from_scratch; got '{family}'; name a family, or "
            "leave out options.from_scratch."
        )
    if scratch["width"] % scratch["heads"]:
        raise ConfigError(
            f"options.from_scratch: need width to be a multiple of heads; got {scratch['width']} and "
            f"{scratch['heads']}; change one."
        )
    return SCRATCH[family]


def characters(texts: Sequence[str]) -> list[str]:
    """List the characters of texts in lower case, the signs left out that nobody hears."""
    plain = transcripts.get_normalizer("basic")
    return sorted(set("".join(map(plain, texts))) - {" "})


def load_processor(source: str, options: dict[str, Any], texts: Sequence[str]) -> Any:
    """Load what prepares sounds and texts for a model; what spells is made of the texts where there is none."""
    from transformers import AutoProcessor

    scratch = options["from_scratch"]
    kind = kind_of(source, scratch)
    if scratch and not Path(source).is_dir():
        return _new_processor(kind, options["window"] or WINDOW, texts)
    with quiet_transformers():
        if kind == "ctc" and texts and not has_tokenizer(source):
            return _spelling_processor(_extractor(source), texts)
        try:
            processor = AutoProcessor.from_pretrained(source, trust_remote_code=False)
        except Exception as error:
            raise ConfigError(
                f"model: need a feature extractor and a tokenizer beside the model; got '{source}' without them; copy "
                "preprocessor_config.json and the tokenizer's files of the model it was trained from there."
            ) from error
        return _set_up(processor, source, options)


def _set_up(processor: Any, source: str, options: dict[str, Any]) -> Any:
    """Set the window and the language of a Whisper."""
    extractor, window = processor.feature_extractor, options["window"]
    if window and hasattr(extractor, "chunk_length"):
        if window > extractor.chunk_length:
            raise ConfigError(
                f"options.window: need at most {extractor.chunk_length} seconds, which this model reads; got {window}; "
                "lower it or leave it out."
            )
        extractor.chunk_length, extractor.n_samples = window, window * extractor.sampling_rate
        extractor.nb_max_frames = extractor.n_samples // extractor.hop_length
    described = bases.require_model(source)
    bands, made = getattr(described, "num_mel_bins", None), getattr(extractor, "feature_size", None)
    if bands is not None and described.is_encoder_decoder and bands != made:
        raise ConfigError(
            f"model: need a feature extractor of {bands} bands, as the model reads; got one of {made} in '{source}'; "
            "correct preprocessor_config.json."
        )
    if described.model_type == "whisper" and described.vocab_size >= MULTILINGUAL:
        _speak(processor.tokenizer, options["language"])
    return processor


def _speak(tokenizer: Any, language: str | None) -> None:
    try:
        if language is None:
            raise ValueError("none")
        tokenizer.set_prefix_tokens(language=language, task="transcribe")
    except ValueError:
        raise ConfigError(
            f"options.language: need the language of the recordings for a model of many, such as de; got "
            f"{language or 'none'}; set it."
        ) from None


def _extractor(source: str) -> Any:
    from transformers import AutoFeatureExtractor

    try:
        return AutoFeatureExtractor.from_pretrained(source, trust_remote_code=False)
    except Exception as error:
        raise ConfigError(
            f"model: need a feature extractor beside the model; got '{source}' without one; copy "
            "preprocessor_config.json of the model it was trained from there."
        ) from error


def has_tokenizer(source: str) -> bool:
    """Tell whether a model comes with what spells its words."""
    from transformers import AutoTokenizer

    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except Exception:  # whatever a library raises where a file is missing
        return False
    return len(tokenizer) > len(tokenizer.all_special_tokens)


def _new_processor(kind: Kind, window: int, texts: Sequence[str]) -> Any:
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Wav2Vec2FeatureExtractor, WhisperFeatureExtractor, WhisperProcessor, WhisperTokenizer

    if kind == "ctc":
        return _spelling_processor(Wav2Vec2FeatureExtractor(return_attention_mask=True), texts)
    names = [*sorted(ByteLevel.alphabet()), END, START, PLAIN]  # bytes, so that no character is unknown
    special = {"pad_token": END, "additional_special_tokens": [START, PLAIN]}
    tokenizer = WhisperTokenizer(vocab={name: number for number, name in enumerate(names)}, merges=[], **special)
    return WhisperProcessor(WhisperFeatureExtractor(chunk_length=window), tokenizer)


def _spelling_processor(extractor: Any, texts: Sequence[str]) -> Any:
    """Return a processor whose tokens are the characters of the texts."""
    from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2Processor

    names = [BLANK, UNKNOWN, SPACE, *characters(texts)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vocab.json"
        file.write_text(json.dumps({name: number for number, name in enumerate(names)}), encoding="utf-8")
        special = {"bos_token": None, "eos_token": None, "pad_token": BLANK, "unk_token": UNKNOWN}
        tokenizer = Wav2Vec2CTCTokenizer(str(file), word_delimiter_token=SPACE, **special)
    return Wav2Vec2Processor(extractor, tokenizer)


def is_spelling(processor: Any) -> bool:
    """Tell whether a processor's tokens are characters without a begin and an end, as CTC needs them."""
    return type(processor.tokenizer).__name__.endswith("CTCTokenizer")


def encode_texts(processor: Any, texts: Sequence[str]) -> list[list[int]]:
    """Turn texts into tokens: as CTC spells them, or from the token that starts a decoder to the one that ends it."""
    tokenizer = processor.tokenizer
    if is_spelling(processor):
        return [tokenizer(spelled(tokenizer, text)).input_ids for text in texts]
    found = []
    for text in texts:
        ids = tokenizer(text).input_ids
        start = [] if ids[0] in tokenizer.all_special_ids else [tokenizer.bos_token_id]
        found.append([*start, *ids, *([] if ids[-1] == tokenizer.eos_token_id else [tokenizer.eos_token_id])])
    return found


def spelled(tokenizer: Any, text: str) -> str:
    """Write a text in the capitals or small letters that a tokenizer has, and leave out signs that nobody hears."""
    known = set(tokenizer.get_vocab())
    letters = {sign for sign in known if len(sign) == 1}
    if not any(map(str.islower, letters)):
        text = text.upper()
    elif not any(map(str.isupper, letters)):
        text = text.lower()
    return "".join(sign for sign in text if sign in known or sign.isspace() or unicodedata.category(sign)[0] in "LNM")


def unknown_characters(processor: Any, texts: Sequence[str]) -> Counter[str]:
    """Count the texts in which each character is that a tokenizer cannot write."""
    if not is_spelling(processor):
        return Counter()
    known = {*processor.tokenizer.get_vocab()}
    spelt = (set(spelled(processor.tokenizer, text)) for text in texts)
    return Counter(sign for signs in spelt for sign in signs if sign not in known and not sign.isspace())


def load_model(source: str, spec: Known, dropout: float | None) -> tuple[Any, list[str]]:
    """Load a recogniser, or make one; also return the names of its newly initialised parameters."""
    import torch
    from transformers import AutoModelForCTC, AutoModelForSpeechSeq2Seq

    scratch = spec.from_scratch
    if scratch and not Path(source).is_dir():
        return _new_model(spec, dropout), ["everything"]
    options: dict[str, Any] = {"dtype": torch.float32, "output_loading_info": True, **bases.dropouts(source, dropout)}
    if spec.kind == "ctc":
        options |= {"ctc_loss_reduction": "mean", "ctc_zero_infinity": True, "apply_spec_augment": False}
        if spec.characters:
            options |= {"vocab_size": 3 + len(spec.characters), "pad_token_id": 0, "ignore_mismatched_sizes": True}
    with quiet_transformers():
        kind = AutoModelForCTC if spec.kind == "ctc" else AutoModelForSpeechSeq2Seq
        model, info = kind.from_pretrained(source, trust_remote_code=False, **options)
    _shorten(model, spec.window)
    if spec.language:
        model.generation_config.language, model.generation_config.task = spec.language, "transcribe"
    return model, bases.newly_initialised(source, model, info)


def _shorten(model: Any, window: int | None) -> None:
    """Make a Whisper read fewer seconds: its positions are sines, so the first ones alone are as they were."""
    import torch

    if not window or model.config.model_type != "whisper":
        return
    encoder, places = model.get_encoder(), window * PLACES
    encoder.embed_positions = torch.nn.Embedding.from_pretrained(encoder.embed_positions.weight[:places].clone())
    model.config.max_source_positions = encoder.config.max_source_positions = encoder.max_source_positions = places


def _new_model(spec: Known, dropout: float | None) -> Any:
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC, WhisperConfig, WhisperForConditionalGeneration

    scratch, dropout = spec.from_scratch or {}, dropout or 0.0
    layers, width, heads = scratch["layers"], scratch["width"], scratch["heads"]
    if spec.kind == "ctc":
        names = ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "final_dropout")
        dropouts: dict[str, Any] = dict.fromkeys(names, dropout)
        return Wav2Vec2ForCTC(
            Wav2Vec2Config(
                vocab_size=3 + len(spec.characters or []), num_hidden_layers=layers, hidden_size=width,
                num_attention_heads=heads, intermediate_size=4 * width, conv_dim=(width,) * 7,
                num_conv_pos_embedding_groups=heads, num_conv_pos_embeddings=32, layerdrop=0.0, pad_token_id=0,
                ctc_loss_reduction="mean", ctc_zero_infinity=True, apply_spec_augment=False, feat_extract_norm="layer",
                **dropouts,
            )
        )  # fmt: skip
    end, start, plain = 256, 257, 258
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=259, d_model=width, encoder_layers=layers, decoder_layers=layers, encoder_attention_heads=heads,
            decoder_attention_heads=heads, encoder_ffn_dim=4 * width, decoder_ffn_dim=4 * width, dropout=dropout,
            max_source_positions=(spec.window or WINDOW) * PLACES, decoder_start_token_id=start, bos_token_id=end,
            eos_token_id=end, pad_token_id=end, begin_suppress_tokens=None, suppress_tokens=None,
        )
    )  # fmt: skip
    generation: Any = model.generation_config
    generation._from_model_config = False  # or loading makes it anew, without what follows
    generation.is_multilingual, generation.no_timestamps_token_id = False, plain
    generation.max_length = model.config.max_target_positions
    return model


def transcribe(model: Any, processor: Any, sounds: Sequence[Any]) -> list[str]:
    """Write down what is said in a few sounds `(n,)` at the processor's rate.

    Raises:
        NotFiniteError: the model gives no numbers for some.
    """
    heard = hear(model, processor, sounds)
    require_all([text is not None for text in heard])
    return [text or "" for text in heard]


def hear(model: Any, processor: Any, sounds: Sequence[Any]) -> list[str | None]:
    """Write down what is said in a few sounds, None for those for which the model gives no numbers."""
    import torch

    from regard.looking.transformers.writing import write_down

    model.eval()  # as for predictions, whatever it is in the middle of
    alone = sees_padding(model) or (is_rounded(model) and is_spelling(processor))
    if alone and len({len(sound) for sound in sounds}) > 1:
        return [text for sound in sounds for text in hear(model, processor, [sound])]
    batch = prepare(processor, sounds).to(model.device)
    with torch.inference_mode(), quiet_transformers():
        if is_spelling(processor):
            return _spell(model, processor, batch)
        seconds = [len(sound) / processor.feature_extractor.sampling_rate for sound in sounds]
        witness = Witness(len(sounds))
        written = write_down(model, batch, seconds, logits_processor=[witness])
    texts = processor.batch_decode(written, skip_special_tokens=True)
    return [text.strip() if finite else None for text, finite in zip(texts, witness.finite, strict=True)]


def sees_padding(model: Any) -> bool:
    """Tell whether a model normalises over all of a sound, the padding of a batch included.

    wav2vec2-base does, and Moonshine.
    """
    import torch

    return any(isinstance(module, torch.nn.GroupNorm) for module in model.modules())


def _spell(model: Any, processor: Any, batch: Any) -> list[str | None]:
    """Spell each sound of a batch by its own frames, not by those of the padding."""
    import torch

    logits = model(**batch).logits
    found, finite = logits.argmax(-1), logits.isfinite()
    mask = batch.get("attention_mask")
    if mask is not None:
        lengths = model._get_feat_extract_output_lengths(mask.sum(-1))
        beyond = torch.arange(found.shape[1], device=found.device) >= lengths[:, None]
        found = found.masked_fill(beyond, processor.tokenizer.pad_token_id)  # the blank, which writes nothing
        finite = finite | beyond[..., None]
    texts = processor.batch_decode(found)
    return [text if fine else None for text, fine in zip(texts, finite.all(-1).all(-1).tolist(), strict=True)]


def prepare(processor: Any, sounds: Sequence[Any]) -> Any:
    """Return a batch of sounds as a model reads them."""
    extractor = processor.feature_extractor
    padded = {} if hasattr(extractor, "chunk_length") else {"padding": True}  # Whisper's are all of one length
    return extractor(list(sounds), sampling_rate=extractor.sampling_rate, return_tensors="pt", **padded)
