"""Predictions with a run, as it was trained or quantised."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from regard.finetuning.int8 import MOST
from regard.finetuning.int8.loss import quantized
from regard.finetuning.runs.run import Run
from regard.finetuning.tasks import Prediction


def predict(
    run: Run | str | Path,
    inputs: Sequence[Any] | str,
    *,
    progress: bool = False,
    quantize: str | None = None,
    max_loss: float = MOST,
) -> list[Prediction]:
    """Predict with a run.

    Args:
        run: a run, or its directory.
        inputs: one input or several, such as texts.
        progress: show a progress bar.
        quantize: `int8` has the linear layers compute in whole numbers of eight bits, with a scale for each row of
            their input, so that an answer does not depend on what is beside it.
        max_loss: how much worse the run's first measure may become by that on its validation rows, as a share of what
            it is; inf measures nothing. It is measured once, and kept in the run's `int8.json`.

    Returns:
        A prediction for each input, in order, also when there is but one. For text classification: `label`,
        `probability`, `probabilities` of all labels, and `tokens_cut`, the number of tokens too many for the model.

    Raises:
        DataError: there is no such run, or an input is empty or none that the task reads; or the validation rows are
            not there to measure on.
        UnsupportedError: the run cannot be quantised.
        RegardError: quantising costs more than `max_loss`.
    """
    run = Run.load(run)
    if quantize is not None:
        run, _ = quantized(run, quantize, max_loss=max_loss, progress=progress)
    return run.predict(inputs, progress=progress)
