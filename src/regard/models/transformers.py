"""transformers' attention interface: `model.set_attn_implementation("regard")`, once this module is imported.

    import regard.models.transformers
    model = AutoModel.from_pretrained(..., attn_implementation="regard")
    model(**inputs, output_attentions=True).attentions[0].received()

The model runs on `regard.attention`, at fused speed, and its attentions are lazy `AttentionWeights`. transformers
describes a mask as a function of positions; here it becomes a rule, so a window stays a window and padding a vector,
and no n x n mask is made. A function that we do not know is called a tile at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, masking_utils

from regard import masks
from regard._backends.protocol import Array, Backend
from regard._layout import Layout, Operand
from regard._rules import Span, Where
from regard.attention import attention
from regard.masks import Mask, Segments, Window, _Seamless
from regard.models.torch import frozen
from regard.weights import AttentionWeights

NAME = "regard"


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Mask | torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    position_bias: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, AttentionWeights]:
    """transformers' signature: query `(B, H, T, D)`, key, value `(B, G, S, D)`; output `(B, T, H, D)` and weights."""
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    if attention_mask is None and causal and query.shape[-2] > 1:
        attention_mask = masks.causal_top_left()  # the corner of PyTorch's is_causal
    mask, bias = _mask_and_bias(attention_mask, position_bias)
    drop: dict[str, Any] = {"dropout": dropout, "seed": int(torch.randint(2**31, ()))} if dropout else {}
    output, weights = attention(
        query, frozen(key), value, mask=mask, bias=bias, scale=scaling, softcap=softcap, sinks=s_aux, **drop
    )  # fmt: skip
    return output.transpose(1, 2).contiguous(), weights


def _mask_and_bias(mask: Mask | torch.Tensor | None, bias: torch.Tensor | None) -> tuple[Mask | None, Any]:
    """A floating-point mask is a bias."""
    if isinstance(mask, torch.Tensor) and mask.dtype != torch.bool:
        return None, mask if bias is None else bias + mask
    return mask if mask is None or isinstance(mask, Mask) else masks.boolean(mask), bias


@dataclass(frozen=True, eq=False, repr=False)
class Prepared(Mask):
    """A rule that passes for a mask of `shape` (B, 1, T, S) where transformers hands masks on."""

    shape: tuple[int, int, int, int] = (1, 1, 1, 1)
    ndim = 4

    def contiguous(self) -> Prepared:
        return self

    def to(self, *_: Any, **__: Any) -> Prepared:
        return self


def make_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int = 0,
    kv_offset: int = 0,
    mask_function: Callable = masking_utils.causal_mask_function,
    attention_mask: torch.Tensor | Prepared | None = None,
    allow_is_bidirectional_skip: bool = False,
    **_: Any,
) -> Prepared | None:
    """transformers' mask as a rule; None where everybody sees everybody."""
    place = _Place(q_length, kv_length, int(q_offset), int(kv_offset))
    shape = (batch_size, 1, q_length, kv_length)
    rule = _translated(mask_function, place)
    if isinstance(attention_mask, Prepared):  # made ahead: by generate, for a static cache, or by unpad
        both = attention_mask if rule is None else attention_mask & rule
        return Prepared(both.form, both.leaves, shape)
    padding = masking_utils.prepare_padding_mask(attention_mask, kv_length, kv_offset)
    if padding is not None and not bool(padding.all()):
        seen = masks.boolean(padding[:, None, None, place.keys].bool())
        rule = seen if rule is None else rule & seen
    if rule is None:
        return None if allow_is_bidirectional_skip else Prepared(Window(None, None), (), shape)
    return Prepared(rule.form, rule.leaves, shape)


@dataclass(frozen=True)
class _Place:
    """Where queries and keys stand in the whole sequence, a cache before them and a static one's end behind."""

    q_length: int
    kv_length: int
    q_offset: int
    kv_offset: int

    @property
    def ahead(self) -> int:
        """By how much the query's own position lies ahead of where the last query is aligned with the last key."""
        return self.q_offset - self.kv_offset - (self.kv_length - self.q_length)

    @property
    def queries(self) -> slice:
        return slice(self.q_offset, self.q_offset + self.q_length)

    @property
    def keys(self) -> slice:
        return slice(self.kv_offset, self.kv_offset + self.kv_length)


def rule_of(function: Callable, q_length: int, kv_length: int) -> Mask | None:
    """The rule that a mask function of transformers is, without a cache; None where everybody sees everybody."""
    return _translated(function, _Place(q_length, kv_length, 0, 0))


def _translated(function: Callable, place: _Place) -> Mask | None:
    """The rule that a mask function is, by the name it has in `transformers.masking_utils`; None for no rule."""
    kept = dict(
        zip(function.__code__.co_freevars, (cell.cell_contents for cell in function.__closure__ or ()), strict=True)
    )
    name = function.__qualname__.removesuffix(".<locals>.inner_mask")
    ahead = place.ahead
    if name == "bidirectional_mask_function":
        return None
    if name == "causal_mask_function":
        return Mask(Window(None, ahead))
    if name == "sliding_window_overlay":
        return Mask(Window(kept["sliding_window"] - 1 - ahead, None))
    if name == "sliding_window_bidirectional_overlay":
        return Mask(Window(kept["sliding_window"] - ahead, kept["sliding_window"] + ahead))
    if name == "packed_sequence_mask_function":
        ids = kept["packed_sequence_mask"]
        return Mask(Segments(), (ids[:, place.queries], ids[:, place.keys]))
    if name == "and_masks.<locals>.and_mask":
        rules = [rule for each in kept["mask_functions"] if (rule := _translated(each, place)) is not None]
        both: Mask | None = None
        for rule in rules:
            both = rule if both is None else both & rule
        return both
    return Mask(Called(function, place.q_offset, place.kv_offset))


@dataclass(frozen=True)
class Called(_Seamless):
    """A mask function of transformers, called with the positions of each tile."""

    function: Callable
    q_offset: int
    kv_offset: int
    leaves = 0

    def place(self, xp: Backend, layout: Layout, leaves: Sequence[Array]) -> list[Operand]:
        return []

    def visible(self, xp: Backend, where: Where, leaves: Sequence[Array]) -> Array:
        start, count = where.heads[0]
        batch = torch.arange(start, start + count, device=where.keys.device).reshape(-1, 1, 1, 1, 1)
        queries, keys = where.queries.long() + self.q_offset, where.keys.long() + self.kv_offset
        return self.function(batch, batch.new_zeros(()), queries, keys)

    def bounds(self, xp: Any, span: Span, leaves: Sequence[Any]) -> tuple[int, int]:
        return 0, span.keys

    def full(self, span: Span, bounds: tuple, leaves: Sequence[Any]) -> bool:
        return False

    def __str__(self) -> str:
        return f"called({self.function.__qualname__})"


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, make_mask)
