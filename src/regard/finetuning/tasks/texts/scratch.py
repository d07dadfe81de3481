"""Models of texts that begin at random, and tokenizers made of the training rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import PositiveInt

from regard.errors import ConfigError, DataError
from regard.finetuning.config import Config, Section
from regard.finetuning.progress import quiet_transformers

SEQUENCES = ("marian", "bart", "t5")
"""Families with an encoder and a decoder."""
ENCODERS = ("bert", "modernbert")
SPECIAL = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
"""In the order of their numbers, from 0."""
MASKED = {
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "unk_token": "[UNK]",
    "mask_token": "[MASK]",
}
POSITIONS = 512
"""Tokens that such a model can read."""


class Sizes(Section):
    """The sizes of a model that begins at random, of the family that `model` names."""

    layers: PositiveInt = 3
    """Of the encoder, and of the decoder."""
    width: PositiveInt = 256
    """Of the hidden states; a multiple of `heads`."""
    heads: PositiveInt = 4
    """Of each layer's attention."""
    vocabulary: PositiveInt = 8000
    """Tokens that the tokenizer knows at most."""


def wanted(source: str, sizes: dict[str, int] | None) -> dict[str, int] | None:
    """Return the sizes of the model to be made, if any is and `source` is no saved one."""
    return None if Path(source).is_dir() else sizes


def make_tokenizer(family: str, config: Config, columns: Sequence[Iterable[str]], families: Sequence[str]) -> Any:
    """Learn byte pairs of the training rows (Sennrich et al. 2016, arXiv 1508.07909), the same for equal rows.

    Args:
        family: of the model.
        config: of the run.
        columns: the texts.
        families: those that can begin at random.

    Raises:
        ConfigError: it is none of these, or the sizes cannot be.
        DataError: the texts do not have so many different pieces.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    sizes = config.options["from_scratch"]
    _require_sizes(family, sizes, families)
    special = MASKED if families == ENCODERS else SPECIAL
    tokenizer = Tokenizer(models.BPE(unk_token=special["unk_token"]))
    tokenizer.normalizer = normalizers.NFC()
    words = pre_tokenizers.Metaspace(prepend_scheme="first")  # no space is put between a hidden word and a comma
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.Punctuation()])
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=sizes["vocabulary"], special_tokens=list(special.values()), show_progress=False
    )
    tokenizer.train_from_iterator(chain.from_iterable(columns), trainer)
    _require_vocabulary(tokenizer.get_vocab_size(), sizes["vocabulary"])
    number = tokenizer.token_to_id
    pattern = "[CLS] $A [SEP]" if families == ENCODERS else "$A </s>"
    marks = [mark for mark in pattern.split() if mark != "$A"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=pattern, special_tokens=[(mark, number(mark)) for mark in marks]
    )
    limit = min(config.data.max_length or POSITIONS, POSITIONS)
    with quiet_transformers():
        made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=limit, **special)
    if made.mask_token is not None:  # it takes the place of a word with its space
        made.add_special_tokens({"mask_token": AddedToken(made.mask_token, lstrip=True, special=True)})
    return made


def _require_sizes(family: str, sizes: dict[str, int], families: Sequence[str]) -> None:
    if family not in families:
        raise ConfigError(
            f"model: need one of {', '.join(families)} with options.from_scratch; got '{family}'; name a family, or "
            "leave out options.from_scratch."
        )
    if sizes["width"] % sizes["heads"]:
        raise ConfigError(
            f"options.from_scratch: need width to be a multiple of heads; got {sizes['width']} and {sizes['heads']}; "
            "change one."
        )


def _require_vocabulary(found: int, wanted: int) -> None:
    if found != wanted:
        raise DataError(
            f"options.from_scratch.vocabulary: need training texts with {wanted} different pieces; got {found}; set it "
            f"to {found}."
        )


def make_model(family: str, sizes: dict[str, int], dropout: float | None) -> Any:
    """Return a random model."""
    from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

    rate = 0.1 if dropout is None else dropout
    kind = AutoModelForMaskedLM if family in ENCODERS else AutoModelForSeq2SeqLM
    return kind.from_config(AutoConfig.for_model(family, **_DESCRIBED[family](sizes, rate)), trust_remote_code=False)


def _common(sizes: dict[str, int]) -> dict[str, Any]:
    return {"vocab_size": sizes["vocabulary"], "pad_token_id": 0}


def _bart(sizes: dict[str, int], dropout: float) -> dict[str, Any]:
    """Return the sizes under the names of BART and Marian; both sides share their embeddings, the scores too."""
    sides = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in (
            ("layers", sizes["layers"]),
            ("attention_heads", sizes["heads"]),
            ("ffn_dim", 4 * sizes["width"]),
        )
    }
    return _common(sizes) | sides | {
        "d_model": sizes["width"],
        "max_position_embeddings": POSITIONS,
        "dropout": dropout,
        "scale_embedding": True,
        "bos_token_id": None,
        "eos_token_id": 1,
        "forced_eos_token_id": None,
        "decoder_start_token_id": 0,
    }  # fmt: skip


def _t5(sizes: dict[str, int], dropout: float) -> dict[str, Any]:
    return _common(sizes) | {
        "d_model": sizes["width"],
        "d_kv": sizes["width"] // sizes["heads"],
        "d_ff": 4 * sizes["width"],
        "num_layers": sizes["layers"],
        "num_heads": sizes["heads"],
        "dropout_rate": dropout,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
    }


def _bert(sizes: dict[str, int], dropout: float) -> dict[str, Any]:
    return _common(sizes) | {
        "hidden_size": sizes["width"],
        "num_hidden_layers": sizes["layers"],
        "num_attention_heads": sizes["heads"],
        "intermediate_size": 4 * sizes["width"],
        "max_position_embeddings": POSITIONS,
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout,
    }


def _modernbert(sizes: dict[str, int], dropout: float) -> dict[str, Any]:
    rates = dict.fromkeys(("attention_dropout", "embedding_dropout", "mlp_dropout"), dropout)
    marks = {"cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
    known = {key: value for key, value in _bert(sizes, dropout).items() if not key.endswith("dropout_prob")}
    return known | marks | rates | {"intermediate_size": 2 * sizes["width"]}


_DESCRIBED = {"marian": _bart, "bart": _bart, "t5": _t5, "bert": _bert, "modernbert": _modernbert}
