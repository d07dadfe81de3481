"""Attention among texts that are packed into one sequence: each sees itself alone.

On a CPU the fused kernel is called once for all texts of one length, which lie one behind the other, so nothing is
copied on the way in. On a GPU `regard.attention` has a kernel for documents of any lengths.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from regard._backends._torch_fused import LOSSLESS
from regard.masks import Mask, Segments, Window
from regard.models.transformers import attend, rule_of

NAME = "regard_packed"


@dataclass(frozen=True)
class Packing:
    """Where the real tokens of a batch `(B, T)` are as one sequence of N, text after text, the shortest first."""

    places: torch.Tensor  # (N,), into B x T
    lengths: tuple[int, ...]
    shape: tuple[int, int]

    @classmethod
    @torch.compiler.disable
    def of(cls, mask: torch.Tensor) -> Packing:
        """The packing of a batch whose mask is not 0 for real tokens."""
        real = mask != 0
        order = real.sum(1).argsort(stable=True)
        texts, columns = real[order].nonzero(as_tuple=True)
        lengths = tuple(length for length in real.sum(1)[order].tolist() if length)
        return cls(order[texts] * mask.shape[1] + columns, lengths, (mask.shape[0], mask.shape[1]))

    def pack(self, array: torch.Tensor) -> torch.Tensor:
        """`(B, T, ...)` to `(1, N, ...)`."""
        return array.reshape(-1, *array.shape[2:])[self.places][None]

    def unpack(self, array: torch.Tensor) -> torch.Tensor:
        """`(1, N, ...)` to `(B, T, ...)`, zero where there was padding."""
        whole = array.new_zeros(self.shape[0] * self.shape[1], *array.shape[2:])
        return whole.index_copy(0, self.places, array[0]).reshape(*self.shape, *array.shape[2:])


@dataclass(frozen=True, eq=False, repr=False)
class Packed(Mask):
    """The mask of a packed sequence: who sees whom inside a text (`rule`, everybody if None), and nobody beyond.

    It passes for a mask of `shape` (1, 1, N, N) where transformers hands masks on, and is no tensor: each layer's
    mask function is asked about it. `wanted` numbers the tokens whose last hidden states are asked for; all if None.
    """

    shape: tuple[int, int, int, int] = (1, 1, 1, 1)
    ndim = 4
    lengths: tuple[int, ...] = ()
    rule: Mask | None = None
    wanted: torch.Tensor | None = None

    @classmethod
    def of(cls, packing: Packing) -> Packed:
        tokens = len(packing.places)
        lengths = torch.tensor(packing.lengths, device=packing.places.device)
        texts = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)[None]
        return cls(Segments(), (texts, texts), (1, 1, tokens, tokens), packing.lengths)

    def contiguous(self) -> Packed:
        return self

    def to(self, *_: Any, **__: Any) -> Packed:
        return self

    def inside(self, length: int) -> Mask | None:
        """The rule for a text of this length, None where it lets everybody see everybody."""
        form = None if self.rule is None else self.rule.form
        if isinstance(form, Window) and all(side is None or side >= length - 1 for side in (form.left, form.right)):
            return None
        return self.rule


def attend_packed(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Packed | torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    position_bias: torch.Tensor | None = None,
    **options: Any,
) -> tuple[torch.Tensor, Any]:
    """transformers' signature. What is not packed runs on PyTorch's kernel, or on ours if its weights are asked for."""
    options |= {"scaling": scaling, "dropout": dropout}
    if not isinstance(attention_mask, Packed):
        whole = attend if options.get("output_attentions") else sdpa_attention_forward
        options.setdefault("is_causal", getattr(module, "is_causal", True))  # no mask is one of PyTorch's kernel here
        bias = _by_place(position_bias, query)
        return whole(module, query, key, value, attention_mask, position_bias=bias, **options)
    if query.is_cuda and not dropout and position_bias is None:
        seen = attention_mask if attention_mask.rule is None else attention_mask & attention_mask.rule
        return attend(module, query, key, value, seen, **options)[0], None
    return _by_length(module, query, key, value, attention_mask, position_bias, options), None


@torch.compiler.disable  # the lengths of a batch are no shapes to compile for
def _by_length(
    module: Any, query: Any, key: Any, value: Any, mask: Packed, bias: torch.Tensor | None, options: dict[str, Any]
) -> torch.Tensor:
    """Output `(1, N, H, D)` of `(1, H, N, D)`: one call for the texts of one length."""
    groups = [(length, len(list(texts))) for length, texts in itertools.groupby(mask.lengths)]
    tokens = [length * count for length, count in groups]
    pieces = zip(*(array[0].transpose(0, 1).split(tokens) for array in (query, key, value)), strict=True)
    outputs = []
    for (length, count), piece in zip(groups, pieces, strict=True):
        texts = [array.unflatten(0, (count, length)).transpose(1, 2) for array in piece]
        outputs.append(_alike(module, texts, mask.inside(length), bias, options).flatten(0, 1))
    return torch.cat(outputs)[None]


def _alike(
    module: Any, texts: list[torch.Tensor], rule: Mask | None, bias: torch.Tensor | None, options: dict[str, Any]
) -> torch.Tensor:
    """Output `(B, T, H, D)` of texts of one length, each `(B, H, T, D)`."""
    query, key, value = texts
    length = query.shape[2]
    near = _by_place(bias, query)
    if rule is not None:
        return attend(module, query, key, value, rule, position_bias=near, **{**options, "is_causal": False})[0]
    if near is None and length < LOSSLESS and query.device.type == "cpu":
        near = query.new_ones(1, dtype=torch.bool).expand(1, 1, length, length)  # with a mask no NaN is lost
    output = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=near, dropout_p=options["dropout"], scale=options["scaling"],
        enable_gqa=query.shape[1] != key.shape[1],
    )  # fmt: skip
    return output.transpose(1, 2)


def _by_place(bias: torch.Tensor | None, query: torch.Tensor) -> torch.Tensor | None:
    """The bias `(1, H, T, T)` of T queries `(B, H, T, D)`, from one for each distance, `(1, H, 1, 2 n - 1)`, n >= T."""
    if bias is None:
        return None
    length, middle = query.shape[2], bias.shape[-1] // 2
    near = bias[:, :, 0, middle - length + 1 : middle + length].to(query.dtype)
    return near.unfold(-1, length, 1).flip(-2)


def make_mask(
    q_length: int, kv_length: int, mask_function: Any, attention_mask: Any = None, **options: Any
) -> Packed | torch.Tensor | None:
    """transformers' mask: what is packed stays packed, and learns what its layer lets each text see."""
    if not isinstance(attention_mask, Packed):
        return sdpa_mask(
            q_length=q_length, kv_length=kv_length, mask_function=mask_function, attention_mask=attention_mask,
            **options,
        )  # fmt: skip
    return replace(attention_mask, rule=rule_of(mask_function, q_length, kv_length))


AttentionInterface.register(NAME, attend_packed)
AttentionMaskInterface.register(NAME, make_mask)
