"""What PyTorch does for effects: runs without gradients, and first-order estimates from one backward pass."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from regard._backends import to_numpy
from regard.errors import UnsupportedError
from regard.models.edit import edit
from regard.models.editing import Gated
from regard.models.seen import Seen
from regard.models.watch import watch

quietly = torch.no_grad


def call(model: Any, batch: Any) -> Any:
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*batch) if isinstance(batch, tuple) else model(batch)


def weights_digest(model: Any) -> str:
    """Of every weight and buffer, by name."""
    digest = hashlib.sha256()
    for name, array in model.state_dict().items():
        digest.update(name.encode())
        if isinstance(array, torch.Tensor):
            array = array.detach().cpu().contiguous()
            digest.update(f"{array.dtype} {tuple(array.shape)}".encode())
            digest.update(array.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class _Gates:
    """Gates, one for each example and head of each attention that runs."""

    def __init__(self) -> None:
        self.made: list[torch.Tensor] = []

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        gate = output.new_zeros(*output.shape[:-2], 1, 1).requires_grad_()
        self.made.append(gate)
        return gate


def gates(model: Any, run: Callable[[], Any], numbers: list[int], output: str) -> list[np.ndarray] | None:
    """The gradient of scores by what turns each head's edit on, `(H, B)` for each attention."""
    made = _Gates()
    with torch.enable_grad(), edit(model, numbers, output=Gated(output, made)):
        scores = run()
    gradients = _gradients(scores, made.made)
    return None if gradients is None else [_by_example(each[..., 0, 0], len(scores)) for each in gradients]


def _by_example(gradient: torch.Tensor, examples: int) -> np.ndarray:
    """`(B, H)` or `(B windows, H)` as `(H, B)`."""
    if gradient.ndim != 2 or gradient.shape[0] % examples:
        raise UnsupportedError(
            f"effects: need attentions over each of {examples} examples, (B, H), to estimate; got "
            f"{tuple(gradient.shape)}; leave it out with estimate=False."
        )
    several = gradient.reshape(examples, -1, gradient.shape[1])
    return np.asarray(to_numpy(several.sum(1)), np.float64).T


def of_keys(model: Any, run: Callable[[], Any], numbers: list[int]) -> np.ndarray | None:
    """How scores change, to first order, as each key is hidden from all queries, heads and attentions, `(B, S)`.

    A weight P_ij that is hidden leaves its row to the others, so that the score changes by -P_ij (g_i . v_j - g_i .
    a_i), where g is the gradient of the output a. Its sum over the queries is a product with weights transposed.
    """
    found = _through(model, run, numbers)
    if found is None:
        return None
    total: Any = 0
    with torch.no_grad():
        for weights, value, output, gradient in found:
            own = (gradient * output).sum(-1, keepdim=True)
            passed = weights.T @ torch.cat([gradient, own], -1)
            received = (value * passed[..., :-1]).sum(-1) - passed[..., -1]
            total = total - received.double().sum(1)
    return np.asarray(to_numpy(total), np.float64)


def of_pairs(model: Any, run: Callable[[], Any], numbers: list[int], places: np.ndarray) -> np.ndarray | None:
    """The same for the pairs at some places of each example, `(B, pairs, 2)`: `(pairs, B)`."""
    found = _through(model, run, numbers)
    if found is None:
        return None
    total = np.zeros(places.shape[1::-1])
    with torch.no_grad():
        for weights, value, output, gradient in found:
            for example, (queries, keys) in enumerate(places.swapaxes(1, 2)):
                at = gradient[example][:, queries]
                gained = (at * (value[example][:, keys] - output[example][:, queries])).sum(-1)
                lost = weights[example][:, queries, keys] * gained
                total[:, example] -= to_numpy(lost.double().sum(0))
    return total


def _through(model: Any, run: Callable[[], Any], numbers: list[int]) -> list[tuple] | None:
    """Weights, values, outputs and their gradients of each attention, all `(B, H, ...)`."""
    made = _Gates()  # so that there is a gradient where no parameter has one
    with (
        torch.enable_grad(),
        watch(model, numbers, values=True) as seen,
        edit(model, numbers, output=Gated("zero", made)),
    ):
        scores = run()
    outputs = _outputs(seen)
    gradients = _gradients(scores, outputs)
    if gradients is None:
        return None
    values = [each.values.value for each in seen._attended]  # type: ignore[union-attr]
    repeated = (
        value.repeat_interleave(output.shape[1] // value.shape[1], 1)
        for value, output in zip(values, outputs, strict=True)
    )
    return list(zip(seen, repeated, (output.detach() for output in outputs), gradients, strict=True))


def _outputs(seen: Seen) -> list[torch.Tensor]:
    return seen.outputs


def _gradients(scores: Any, arrays: Sequence[torch.Tensor]) -> list[torch.Tensor] | None:
    """Those of the sum of scores, or None if they have none."""
    if not isinstance(scores, torch.Tensor) or not scores.requires_grad:
        return None
    found = torch.autograd.grad(scores.sum(), list(arrays), allow_unused=True)
    return [torch.zeros_like(array) if each is None else each for array, each in zip(arrays, found, strict=True)]
