"""Whether a model computes its padding, and whether its answers depend on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from regard.errors import DtypeError, UnsupportedError
from regard.finetuning.training.sampler import batches_by_length
from regard.inspection.report.content import Finding
from regard.models.unpad import unpad

ROUNDING = 2e-5
"""How far two computations of one answer in float32 are apart at most, as a share of its largest number."""
PROBE = 2
"""Batches that it costs to find out whether a model reads padding."""
SAMPLE = 8
"""Rows that are read to see whether all are of one size."""


def batches(
    answer: Callable[[list[int]], np.ndarray], lengths: Sequence[int], tokens: int, alike: bool = False
) -> list[list[int]]:
    """Return the numbers of rows in batches of like length; of one length, if the model reads padding.

    Most models with a mask read none. Convolutions, pooling over positions and attention by landmarks do, as in
    ConvBERT, Funnel and Nystromformer; and so does any model that finds its first token or its positions elsewhere
    once it is padded on the left.

    Args:
        answer: gives the numbers that a model answers a batch with, of rows by their numbers.
        lengths: tokens of each row.
        tokens: tokens of a batch at most.
        alike: have batches of one length, and do not ask.
    """
    uniform = batches_by_length(lengths, tokens, mixed=False)
    mixed = batches_by_length(lengths, tokens)
    if alike or len(uniform) <= len(mixed) + PROBE:
        return uniform
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    return uniform if reads_padding(answer, order[0], order[-1]) else mixed


def is_rounded(model: Any) -> bool:
    """Tell whether a model rounds inside, and computes padding, beside which sums are rounded otherwise before."""
    if not getattr(model, "_regard_int8", False):
        return False
    from regard.models.transformers.unpad import is_model, is_unpadded

    return not (is_model(model) and not model.config.is_encoder_decoder and is_unpadded(model))


def runs_side_by_side(model: Any) -> bool:
    """Tell whether threads may call a model at once: one without padding on a CPU, in which no call changes anything.

    Operators that are short beside the wait for each other's threads are faster so, and far faster where another
    program runs beside.
    """
    from regard.models.transformers.unpad import POSITIONS, is_model, is_unpadded

    if not is_model(model) or model.device.type != "cpu" or model.config.model_type not in POSITIONS:
        return False
    return is_unpadded(model)


def reads_padding(answer: Callable[[list[int]], np.ndarray], short: int, long: int) -> bool:
    """Tell whether the answer to a short row is another beside a long one.

    Of answers with a number for each position, those at the short row's own are compared, wherever its padding is.
    """
    alone, beside = answer([short])[0], answer([short, long])[0]
    close = ROUNDING * float(np.abs(alone).max(initial=0.0, where=np.isfinite(alone)))
    own = (beside[: len(alone)], beside[-len(alone) :])
    return not any(np.allclose(alone, each, rtol=0, atol=close, equal_nan=True) for each in own)


def rows_touch(model: Any, collate: Callable[[list[Any]], Any], rows: Any) -> bool:
    """Tell whether the loss of a row depends on what else is in its batch.

    It does where a model reads padding, and where a loss is divided by what is in all rows, as a detector's by their
    objects, or draws for all of them at once, as SpeechT5's.
    """
    import torch

    labels = collate([rows[0]])["labels"]
    if not isinstance(labels, torch.Tensor) or labels.ndim > 2:
        return True

    def answer(numbers: list[int]) -> np.ndarray:
        batch = collate([rows[number] for number in numbers])
        inputs = {name: value.to(model.device) for name, value in batch.items() if name != "length"}
        return as_configured(model)(**inputs)["logits"].float().numpy(force=True)

    lengths = _lengths(collate, rows)
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    return lengths[order[0]] < lengths[order[-1]] and reads_padding(answer, order[0], order[-1])


def _lengths(collate: Callable[[list[Any]], Any], rows: Any) -> list[int]:
    """Return how long each row is; where that is not known, how large a few are as a model reads them."""
    if "length" in rows.column_names:
        return list(rows["length"])
    batches_of_one = [collate([rows[number]]) for number in range(min(len(rows), SAMPLE))]
    return [max(value.numel() for name, value in each.items() if name != "labels") for each in batches_of_one]


def as_configured(model: Any) -> Any:
    """Undo what an input before has left in a model: BigBird attends to everything from its first short text on."""
    for module in model.modules():
        if hasattr(module, "set_attention_type"):
            module.set_attention_type(module.config.attention_type)
    return model


def told_of_full_attention(source: str, lengths: dict[str, list[int]]) -> list[Finding]:
    """Say of how many texts a model of blocks attends to everything, as BigBird does where there are few."""
    from transformers import AutoConfig

    known = AutoConfig.from_pretrained(source, trust_remote_code=False)
    if getattr(known, "attention_type", None) != "block_sparse":
        return []
    most = (5 + 2 * known.num_random_blocks) * known.block_size
    short = {name: sum(length <= most for length in each) for name, each in lengths.items()}
    return [
        Finding(
            "warning",
            f"{name}: {count:,} of {len(lengths[name]):,} texts have at most {most} tokens; batches of such texts "
            "alone are attended to in full, others in blocks: shorter blocks (block_size in the model's config.json), "
            "or a model with full attention, treat all alike",
        )
        for name, count in short.items()
        if count
    ]


def without_padding(model: Any, wanted: Literal["auto"] | bool) -> bool:
    """Unpad a model in place if that is wanted, and say whether it is now; `auto` wants it where its family allows.

    Raises:
        UnsupportedError: it is wanted, and not possible.
        DtypeError: likewise, of something that is no model of transformers.
    """
    if wanted is False:
        return False
    try:
        unpad(model, logits="labelled")  # from labels nothing is made but a loss
    except (UnsupportedError, DtypeError):
        if wanted is True:
            raise
        return False
    from regard.models.transformers.unpad import is_unpadded

    return is_unpadded(model)  # not where the head needs padding
