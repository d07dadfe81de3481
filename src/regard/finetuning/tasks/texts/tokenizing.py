"""What the tasks on text share: tokenizers, lengths, and batches in order of length."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from regard.errors import ConfigError
from regard.finetuning.finite import require_finite
from regard.finetuning.progress import Display, quiet_transformers
from regard.finetuning.training.padding import batches
from regard.inspection.report.content import Finding

if TYPE_CHECKING:
    pass
from regard.finetuning.tasks.bases import require_model

BATCH_TOKENS = 2048
"""Tokens in a batch without gradients, padding included."""


LEAST = (8, 16)
"""Tokens to which a text is padded if a model cannot read one as short as it is."""


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


def compute(
    answer: Callable[[Any], np.ndarray],
    tokenizer: Any,
    encodings: Encodings,
    display: Display,
    label: str,
    *,
    alike: bool = False,
    threads: bool = False,
) -> np.ndarray:
    """Answer for each text, in batches of like length, whatever is beside it.

    Args:
        answer: takes a padded batch of PyTorch tensors, returns an array with a row for each text.
        tokenizer: pads the batches.
        encodings: the token numbers of each text.
        display: shows the progress.
        label: what the progress bar is called.
        alike: only texts of one length are in a batch.
        threads: batches are answered side by side, in as many threads as PyTorch has.

    Returns:
        The rows in the order of the texts.

    Raises:
        NotFiniteError: some hold NaN or infinity.
    """
    rows: dict[int, np.ndarray] = {}

    def answer_rows(numbers: list[int]) -> np.ndarray:
        return _answer(answer, tokenizer, [encodings[n] for n in numbers])

    with display.bar(label, len(encodings)) as advance:

        def work(numbers: list[int]) -> None:
            rows.update(zip(numbers, answer_rows(numbers), strict=True))
            advance(len(numbers))

        _each(work, batches(answer_rows, [len(ids) for ids in encodings], BATCH_TOKENS, alike), threads)
    found = np.stack([rows[n] for n in range(len(encodings))]) if rows else np.zeros((0, 0))
    require_finite(found)
    return found


def _each(work: Callable[[list[int]], None], batches: list[list[int]], threads: bool) -> None:
    """Do the work on all batches, side by side if they may be."""
    if not threads:
        for numbers in batches:
            work(numbers)
        return
    import torch

    from regard._backends import torch as backend
    from regard._compiled.threads import each

    with torch.random.fork_rng([]):  # threads would put back each other's
        each(backend, work, batches)


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


def _no_tokenizer(source: str) -> ConfigError:
    return ConfigError(
        f"model: need a tokenizer beside the model; got '{source}' without one; copy tokenizer.json and "
        f"tokenizer_config.json of the model it was trained from there."
    )
