"""What the tasks on text share: tokenizers, lengths, and batches in order of length."""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from regard.errors import ConfigError, DataError
from regard.finetuning.data import normalize
from regard.finetuning.finite import require_finite
from regard.finetuning.padding import batches
from regard.finetuning.progress import Display, quiet_transformers
from regard.inspection.report.content import Finding

if TYPE_CHECKING:
    from datasets import Dataset

BATCH_TOKENS = 2048
"""Tokens in a batch without gradients, padding included."""
LEAST = (8, 16)
"""Tokens to which a text is padded if a model cannot read one as short as it is."""

NOT_WORDS = re.compile(r"[^\w]+|_+")

Encodings = list[list[int]]


def load_tokenizer(source: str, max_length: int | None, **options: Any) -> Any:
    """Load the tokenizer that belongs to a model.

    Args:
        source: where the model lies.
        max_length: tokens to read of a text at most, if fewer than the model can read.
        options: of the tokenizer, such as the languages that it marks.

    Returns:
        The tokenizer; its `model_max_length` says how many tokens of a text the model shall read.

    Raises:
        ConfigError: there is no model, or no tokenizer beside it.
    """
    from transformers import AutoTokenizer

    require_model(source)
    with quiet_transformers():
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **options)
        except Exception as error:
            raise _no_tokenizer(source) from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise _no_tokenizer(source)
    _set_padding_token(tokenizer, source)
    tokenizer.model_max_length = reading_limit(source, tokenizer, max_length)
    return tokenizer


ENDS = ("eos_token", "sep_token", "bos_token", "unk_token")
"""Tokens that may stand for padding where a tokenizer has none for it: no model attends to it."""


def _set_padding_token(tokenizer: Any, source: str) -> None:
    if tokenizer.pad_token_id is None:
        known = tokenizer.special_tokens_map
        end = next((known[name] for name in ENDS if known.get(name)), None)
        if end is None:
            raise ConfigError(
                f"model: need a tokenizer with a padding or an end token; got '{source}' with neither; name another, "
                "or set pad_token in its tokenizer_config.json."
            )
        tokenizer.pad_token = end


def padding_findings(name: str, tokenizer: Any) -> list[Finding]:
    """Say of the training rows, once, which token stands for padding where there is none for it."""
    if name != "train" or tokenizer.pad_token not in [tokenizer.special_tokens_map.get(end) for end in ENDS]:
        return []
    told = f"the tokenizer has no padding token; '{tokenizer.pad_token}' takes its place, in the saved model too"
    return [Finding("ok", told)]


def set_padding(model: Any, source: str) -> None:
    """Tell a model which token is padding, as its tokenizer has it: one that writes answers at the last other."""
    known = model.config.get_text_config()
    if known.pad_token_id is None or hasattr(model, "score"):
        try:
            known.pad_token_id = load_tokenizer(source, None).pad_token_id
        except ConfigError:  # a model that is saved alone, and knows it already
            return


def reads_from_the_left(source: str) -> bool:
    """Tell whether each token of a model sees those before it alone, as in models that write."""
    from transformers.models.auto import modeling_auto as known

    family = require_model(source).model_type
    masked, causal = known.MODEL_FOR_MASKED_LM_MAPPING_NAMES, known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return family in causal and family not in masked and family != "xlnet"


def require_embeddings(tokenizer: Any, encodings: Sequence[Sequence[int]], source: str) -> None:
    """Raise ConfigError if texts have tokens that a model lacks."""
    size = getattr(require_model(source).get_text_config(), "vocab_size", None)
    most = max((max(ids, default=0) for ids in encodings), default=0)
    if size is not None and max(most, tokenizer.pad_token_id or 0) >= size:
        raise ConfigError(
            f"model: need an embedding for each token; got {size}, and token {max(most, tokenizer.pad_token_id)} of "
            f"the tokenizer in '{source}'; put the tokenizer there that the model was trained with."
        )


def require_no_code(source: str) -> None:
    """Refuse a model that brings code of its own, which would run with all that whoever starts it may do.

    Raises:
        ConfigError: it does, and transformers has no code for it.
    """
    from transformers import AutoConfig

    with quiet_transformers():
        try:
            AutoConfig.from_pretrained(source, trust_remote_code=False)
        except Exception as error:
            if "trust_remote_code" in str(error):  # all else is told by those who need it
                raise ConfigError(
                    f"model: need a model whose code is part of transformers; got '{source}', which brings code of its "
                    "own, and that is not run; choose another model."
                ) from None


def require_model(source: str) -> Any:
    """Return the configuration of a model that must be there.

    Raises:
        ConfigError: it is not.
    """
    from transformers import AutoConfig

    with quiet_transformers():
        try:
            return AutoConfig.from_pretrained(source, trust_remote_code=False)
        except Exception as error:
            raise ConfigError(
                f"model: need a directory with a config.json, package:NAME/PATH, or a name on the hub that can be "
                f"reached; got '{source}'; correct the name or the path."
            ) from error


def head_options(labels: Sequence[str], problem: str = "single_label_classification") -> dict[str, Any]:
    """Return what transformers must know of the labels to make a head for them."""
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: number for number, label in enumerate(labels)},
        "problem_type": problem,
    }


def newly_initialised(source: str, model: Any, info: dict[str, Any]) -> list[str]:
    """Return the names of parameters that a checkpoint did not have, or not in that shape.

    Raises:
        ConfigError: It has less than half of them, so that it would be a model of random numbers that begins to learn.
    """
    lacking, there = len(info["missing_keys"]), sum(1 for _ in model.parameters())
    if lacking > there // 2:
        raise ConfigError(
            f"model: need a checkpoint with the model's weights; got '{source}' without {lacking} of its {there}; "
            "save or fetch it again, or name the family alone to begin at random, where the task can."
        )
    return sorted({*info["missing_keys"], *(entry[0] for entry in info["mismatched_keys"])})


def dropouts(source: str, wanted: float | None) -> dict[str, float]:
    """Return the dropouts in a model's configuration, all of them set to one probability."""
    if wanted is None:
        return {}
    values = require_model(source).to_dict().items()
    return {name: wanted for name, value in values if "dropout" in name and isinstance(value, float | int)}


def reading_limit(source: str, tokenizer: Any, wanted: int | None) -> int:
    """Return how many tokens of a text the model reads: what it can, or `wanted` if that is less.

    Raises:
        ConfigError: `wanted` is more than the model can.
    """
    limit = min(tokenizer.model_max_length, _positions(require_model(source)))
    if wanted is not None and wanted > limit:
        raise ConfigError(
            f"data.max_length: need at most {limit}, the tokens that this model can read; got {wanted}; lower it or "
            f"leave it out."
        )
    return wanted or limit


def _positions(config: Any) -> int:
    """Return the number of positions that a model has learned, those reserved for padding left out."""
    positions = getattr(config, "max_position_embeddings", None) or int(1e9)
    reserved = any(name in config.model_type for name in ("roberta", "camembert", "esm", "longformer"))
    return positions - (config.pad_token_id + 1 if reserved else 0)


def tokenize(tokenizer: Any, texts: Sequence[str], limit: int, as_target: bool = False) -> tuple[Encodings, list[int]]:
    """Turn texts into token numbers, at most `limit` of each; `as_target` as the model shall write them.

    Returns:
        The token numbers, and the length of each text before it was cut.
    """
    lengths: list[int] = []
    encodings: Encodings = []
    for start in range(0, len(texts), 1000):
        batch = list(texts[start : start + 1000])
        for text, ids in zip(batch, _ids(tokenizer, batch, as_target, truncation=False), strict=True):
            ids = ids or ([] if as_target else [tokenizer.pad_token_id])  # a text without any could not be read
            lengths.append(len(ids))
            encodings.append(
                ids if len(ids) <= limit else _ids(tokenizer, [text], as_target, truncation=True, max_length=limit)[0]
            )
    return encodings, lengths


def _ids(tokenizer: Any, texts: list[str], as_target: bool, **options: Any) -> Encodings:
    given = {"text_target" if as_target else "text": texts}
    return tokenizer(**given, padding=False, return_attention_mask=False, verbose=False, **options)["input_ids"]


def length_findings(name: str, lengths: Sequence[int], limit: int, refuse: bool) -> list[Finding]:
    """Say how many texts are longer than the model reads.

    Raises:
        DataError: there are some, and the configuration refuses them.
    """
    long = [length for length in lengths if length > limit]
    if not long:
        longest = max(lengths, default=0)
        return [Finding("ok", f"{name}: every text fits; the longest has {longest} tokens, the model reads {limit}")]
    told = f"{len(long)} of {len(lengths)} texts are longer than the {limit} tokens read (the longest has {max(long)})"
    if refuse:
        raise DataError(
            f"{name}: need texts of at most {limit} tokens; got {told}; split them, or set data.too_long to cut."
        )
    lost = sum(long) - limit * len(long)
    share = f"{lost:,} of {sum(lengths):,} tokens ({lost / sum(lengths):.1%})"
    return [Finding("warning", f"{name}: {told}; their ends are cut off, {share}")]


SPOILED = re.compile("\ufffd|\x00|[\xc2\xc3][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|â€|[\x01-\x08\x0b\x0c\x0e-\x1f]")
"""What a text holds that was decoded in another encoding than it was written in, or is no text."""


def reading_findings(name: str, texts: Sequence[str], encodings: Encodings, tokenizer: Any) -> list[Finding]:
    """Say how many texts were spoiled by an earlier program, and whether the tokenizer knows their words."""
    findings = []
    spoiled = [(number, found[0]) for number, text in enumerate(texts, start=1) if (found := SPOILED.search(text))]
    if spoiled:
        number, sign = spoiled[0]
        told = f"{name}: {len(spoiled)} texts hold signs of a wrong encoding (first {sign!a} in row {number})"
        findings.append(Finding("warning", f"{told}; read the original again, in the encoding that it was written in"))
    tokens = sum(map(len, encodings))
    unknown = sum(ids.count(tokenizer.unk_token_id) for ids in encodings) if tokenizer.unk_token_id is not None else 0
    if unknown > 0.05 * tokens:
        told = f"{name}: {unknown:,} of {tokens:,} tokens are unknown to the tokenizer ({unknown / tokens:.0%})"
        findings.append(Finding("warning", f"{told}; choose a model of this language and script"))
    return findings


def compute(
    answer: Callable[[Any], np.ndarray], tokenizer: Any, encodings: Encodings, display: Display, label: str
) -> np.ndarray:
    """Answer for each text, in batches of like length, whatever is beside it.

    Args:
        answer: takes a padded batch of PyTorch tensors, returns an array with a row for each text.
        tokenizer: pads the batches.
        encodings: the token numbers of each text.
        display: shows the progress.
        label: what the progress bar is called.

    Returns:
        The rows in the order of the texts.

    Raises:
        NotFiniteError: some hold NaN or infinity.
    """
    rows: dict[int, np.ndarray] = {}

    def answer_rows(numbers: list[int]) -> np.ndarray:
        return _answer(answer, tokenizer, [encodings[n] for n in numbers])

    with display.bar(label, len(encodings)) as advance:
        for numbers in batches(answer_rows, [len(ids) for ids in encodings], BATCH_TOKENS):
            rows |= dict(zip(numbers, answer_rows(numbers), strict=True))
            advance(len(numbers))
    found = np.stack([rows[n] for n in range(len(encodings))]) if rows else np.zeros((0, 0))
    require_finite(found)
    return found


def _answer(answer: Callable[[Any], np.ndarray], tokenizer: Any, encodings: Encodings) -> np.ndarray:
    """Answer a batch; texts so short that a model cannot read them, such as Funnel, are padded until it can."""

    def padded(length: int) -> Any:
        return tokenizer.pad({"input_ids": encodings}, padding="max_length", max_length=length, return_tensors="pt")

    longest = max(1, *map(len, encodings))
    *lengths, last = [longest, *(least for least in LEAST if least > longest)]
    for length in lengths:
        with contextlib.suppress(IndexError, RuntimeError):
            return answer(padded(length))
    return answer(padded(last))


def require_texts(split: Dataset, path: str) -> None:
    """Raise DataError unless each row has a text."""
    for number, text in enumerate(split["text"], start=1):
        if not isinstance(text, str):
            raise DataError(
                f"{path}: need a text in each row; got {_kind(text)} in row {number}; fill it in or drop the row."
            )


def _kind(value: Any) -> str:
    return "none" if value is None else f"a value of type {type(value).__name__}"


def likeness(text: Any) -> Any:
    """Return what texts share that differ in case, spaces and punctuation alone."""
    if not isinstance(text, str):
        return text
    words = " ".join(NOT_WORDS.sub(" ", unicodedata.normalize("NFKC", text).casefold()).split())
    return words or text.strip() or None


def likenesses(splits: dict[str, Dataset]) -> dict[str, list[Any]]:
    """Return what the texts of each split are alike in."""
    return {name: [likeness(text) for text in split["text"]] for name, split in splits.items()}


def keys(split: Dataset) -> list[str | None]:
    """Return what is alike for texts that differ in case or spaces alone, None for those without any."""
    return [normalize(text) if text.strip() else None for text in split["text"]]


def empty_findings(name: str, split: Dataset) -> list[Finding]:
    """Say how many texts are empty."""
    empty = [number for number, text in enumerate(split["text"], start=1) if not text.strip()]
    if not empty:
        return []
    return [Finding("warning", f"{name}: {len(empty)} texts are empty (first in row {empty[0]}); they teach nothing")]


def text_of(value: Any, where: str) -> str:
    """Return a cell that must be a text."""
    if not isinstance(value, str):
        raise DataError(f"{where}: need a text; got {type(value).__name__}; correct the column or name another.")
    return value


def _no_tokenizer(source: str) -> ConfigError:
    return ConfigError(
        f"model: need a tokenizer beside the model; got '{source}' without one; copy tokenizer.json and "
        f"tokenizer_config.json of the model it was trained from there."
    )
