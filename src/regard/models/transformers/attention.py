"""The attention that transformers calls by the name `regard`, and what its masks become: rules."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.utils._pytree import tree_map_only
from transformers import AttentionInterface, AttentionMaskInterface, masking_utils

from regard import masks
from regard._backends.protocol import Array, Backend
from regard._layout import Layout, Operand
from regard._rules import Span, Where
from regard.attention import Attention, attention, with_score
from regard.errors import UnsupportedError
from regard.masks import Mask, Segments, Window
from regard.masks.forms import Seamless
from regard.models.editing import Change
from regard.models.torch import frozen, telling
from regard.weights import AttentionWeights

NAME = "regard"
# Whose eager attention returns the weights as they are before the sink takes its part of them.
BEFORE_SINKS = ("granite_swa", "granitemoe_swa")
# Keywords that models hand on to every attention and that change none: what they ask for is elsewhere, or in the mask.
HARMLESS = {
    "cache_position", "deterministic", "grid_thw", "labels", "logits_to_keep", "max_length_k", "max_length_q",
    "num_items_in_batch", "output_attentions", "output_hidden_states", "output_router_logits", "position_ids",
    "return_dict", "sliding_window", "token_type_ids", "use_cache",
}  # fmt: skip
# What a model itself reads, which some hand on as well.
INPUTS = re.compile(r"(decoder_)?(inputs?_(ids|embeds|features|values)|pixel_values(_videos)?|(image|video)_grid_thw)")


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Mask | torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, AttentionWeights]:
    """transformers' signature: query `(B, H, T, D)`, key, value `(B, G, S, D)`; output `(B, T, H, D)` and weights.

    As in eager attention, everybody sees everybody where there is no mask; `is_causal=True` must be given.
    """
    attended = partial(_attended, module, query, key, value, attention_mask, **options)
    output, weights = telling(module, value, attended)
    return output.transpose(1, 2).contiguous(), weights


def _attended(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Mask | torch.Tensor | None,
    change: Change | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    position_bias: torch.Tensor | None = None,
    **others: Any,
) -> Attention:
    """Output `(B, H, T, D)` and weights, as edits make them if there are any."""
    others = {name: given for name, given in others.items() if given is not None and not _is_harmless(name)}
    mask, bias = _mask_and_bias(attention_mask, position_bias)
    if attention_mask is None and is_causal and query.shape[-2] > 1:
        mask = masks.causal_top_left()  # the corner of PyTorch's is_causal
    for rule in _given_otherwise(module, query, key, others):
        mask = rule if mask is None else mask & rule
    sinks = others.pop("sinks", None)
    if others:
        raise UnsupportedError(
            f'set_attn_implementation("regard"): need an attention without {", ".join(sorted(others))}; '
            f"{type(module).__name__} gives it; use another implementation of attention."
        )
    drop: dict[str, Any] = {"dropout": dropout, "seed": int(torch.randint(2**31, ()))} if dropout else {}
    before = s_aux is not None and getattr(module.config, "model_type", None) in BEFORE_SINKS
    apart = before or change is not None
    output, weights = attention(
        query, frozen(key), value, mask=mask, bias=bias, scale=scaling, softcap=softcap,
        sinks=None if apart else s_aux, **drop,
    )  # fmt: skip
    if change is not None:
        output, weights = change.attended(weights, value, lambda: output), change.weights(weights)
    plain = weights
    if apart and s_aux is not None:
        output, sunk = _with_sinks(output, weights, s_aux[:, None])
        weights = weights if before else sunk
    if sinks is not None:
        output, weights = _with_sinks(output, weights, sinks[..., 0])
    return Attention(output if change is None else change.replaced(plain, output), weights)


def _is_harmless(name: str) -> bool:
    return name in HARMLESS or INPUTS.fullmatch(name) is not None


def _with_sinks(
    output: torch.Tensor, weights: AttentionWeights, sinks: torch.Tensor
) -> tuple[torch.Tensor, AttentionWeights]:
    """The same with one more score for each query, `(B, H, T)`, that has no value."""
    problem = weights._problem
    score = problem.layout.from_heads(problem.xp, sinks[..., None], 2)
    by_row = output.reshape(*problem.rows_shape, output.shape[-1])
    by_row, logsumexp, problem = with_score(problem, by_row, weights._along(), score)
    return by_row.reshape(output.shape), AttentionWeights(problem, logsumexp, weights.kernel, weights.reason)


def _mask_and_bias(mask: Mask | torch.Tensor | None, bias: torch.Tensor | None) -> tuple[Mask | None, Any]:
    """A floating-point mask is a bias; a mask of whole numbers is refused, as PyTorch's attention does."""
    if isinstance(mask, Prepared):
        mask = mask.dense() if mask.rule is None else mask.rule
    if isinstance(mask, torch.Tensor) and mask.is_floating_point():
        return None, mask if bias is None else bias + mask
    return mask if mask is None or isinstance(mask, Mask) else masks.boolean(mask), bias


def _given_otherwise(module: Any, query: torch.Tensor, key: torch.Tensor, others: dict[str, Any]) -> Iterator[Mask]:
    """Who sees whom as models say it to other kernels than eager's; takes from `others` what it knows."""
    if query.shape[0] == 1 and "cu_seq_lens_q" in others and "cu_seq_lens_k" in others:  # packed sequences
        ends = [others.pop(f"cu_seq_lens_{side}")[1:].to(query.device) for side in "qk"]
        places = [torch.arange(array.shape[-2], device=query.device) for array in (query, key)]
        yield masks.segments(*(torch.searchsorted(e, p, right=True)[None] for e, p in zip(ends, places, strict=True)))
    if "seq_idx" in others and query.shape[-2] == key.shape[-2]:
        yield masks.segments(others.pop("seq_idx"))
    if "indices" in others:  # (B, T, k): the keys that an indexer chose for each query
        yield masks.boolean(_chosen(others.pop("indices"), key.shape[-2])[:, None])
    size = getattr(getattr(module, "indexer", None), "block_size", None)
    if "block_indices" in others and size is not None:  # (B, G, T, k): blocks of keys, -1 for none
        blocks = _chosen(others.pop("block_indices"), -(-key.shape[-2] // size))
        seen = blocks.repeat_interleave(size, -1)[..., : key.shape[-2]]
        yield masks.boolean(seen.repeat_interleave(query.shape[1] // seen.shape[1], 1))


def _chosen(places: torch.Tensor, count: int) -> torch.Tensor:
    """Which of `count` are among the places in the last axis, -1 for none."""
    places = torch.where(places < 0, count, places).long()
    return places.new_zeros((*places.shape[:-1], count + 1), dtype=torch.bool).scatter(-1, places, True)[..., :-1]


class Prepared(torch.Tensor, Mask):  # type: ignore[misc]
    """A rule where transformers hands on a mask `(B, 1, T, S)`.

    It stays a rule while it is handed on, moved or cast. To everything else it is the tensor that eager attention
    adds to the scores, made when it is needed; once that has been given away for writing, it is that tensor.
    """

    rule: Mask | None
    _make: Callable[[], torch.Tensor]
    _numbers: torch.Tensor | None
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    def __new__(cls, rule: Mask, make: Callable[[], torch.Tensor], shape: Sequence[int], **options: Any) -> Prepared:
        """The rule, what makes the tensor, and its shape, dtype and device."""
        prepared = torch.Tensor._make_wrapper_subclass(cls, tuple(shape), **options)
        prepared.rule, prepared._make, prepared._numbers = rule, make, None
        return prepared

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    @property
    def form(self) -> Any:  # type: ignore[override]
        return self._mask.form

    @property
    def leaves(self) -> Any:  # type: ignore[override]
        return self._mask.leaves

    @property
    def _mask(self) -> Mask:
        return masks.boolean(self.dense() == 0) if self.rule is None else self.rule

    def __repr__(self) -> str:  # type: ignore[override]
        return repr(self._numbers if self.rule is None else self.rule)

    def dense(self) -> torch.Tensor:
        """What eager attention adds: 0 where a query sees a key, and the type's least number where it does not."""
        return self._make() if self._numbers is None else self._numbers

    def settled(self) -> torch.Tensor:
        """The same, for good: what is written into it stays."""
        self._numbers, self.rule = self.dense(), None
        return self._numbers

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: tuple = (), kwargs: Any = None
    ) -> Any:
        first, kwargs = args[0] if args else None, kwargs or {}
        if isinstance(first, Prepared) and first.rule is not None and function in _HANDED_ON:
            handed = first._handed_on(function, args, kwargs)
            if handed is not None:
                return handed
        returns = function._schema.returns
        shares = function._schema.is_mutable or any(each.alias_info is not None for each in returns)
        plain = partial(tree_map_only, cls, cls.settled if shares else cls.dense)
        result = function(*plain(args), **plain(kwargs))
        return first if function._schema.is_mutable and isinstance(first, Prepared) else result

    def _handed_on(self, function: Any, args: tuple, kwargs: dict[str, Any]) -> Prepared | None:
        """The same rule for all of it, elsewhere or of another precision; None where it would be another's."""
        assert self.rule is not None
        dtype, device = kwargs.get("dtype") or self.dtype, kwargs.get("device") or self.device
        shape = function(torch.empty(self.shape, device="meta"), *args[1:]).shape
        if shape != self.shape or not dtype.is_floating_point:
            return None
        rule, make = self.rule, self._make
        if device != self.device:
            rule = Mask(rule.form, tuple(leaf.to(device) for leaf in rule.leaves))
        return Prepared(rule, lambda: make().to(device, dtype), self.shape, dtype=dtype, device=device)


_ATEN = torch.ops.aten
_HANDED_ON = {
    _ATEN.alias.default, _ATEN.clone.default, _ATEN.detach.default, _ATEN._to_copy.default,
    _ATEN.slice.Tensor, _ATEN.expand.default, _ATEN.view.default,
}  # fmt: skip


def make_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int = 0,
    kv_offset: int = 0,
    mask_function: Callable = masking_utils.causal_mask_function,
    attention_mask: torch.Tensor | None = None,
    allow_is_bidirectional_skip: bool = False,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    use_vmap: bool = False,
    **_: Any,
) -> Prepared | None:
    """transformers' mask as a rule; None where everybody sees everybody."""
    place = _Place(q_length, kv_length, int(q_offset), int(kv_offset), use_vmap)
    rule = _translated(mask_function, place)
    padding = masking_utils.prepare_padding_mask(attention_mask, kv_length, kv_offset)
    if padding is not None and not bool(padding.all()):
        seen = masks.boolean(padding[:, None, None, place.keys].bool())
        rule = seen if rule is None else rule & seen
    if rule is None:
        if allow_is_bidirectional_skip:
            return None
        rule = Mask(Window(None, None))
    make = partial(
        masking_utils.eager_mask, batch_size, q_length, kv_length, q_offset, kv_offset, mask_function, attention_mask,
        dtype, use_vmap=use_vmap, device=device,
    )  # fmt: skip
    make = partial(_aside, make) if use_vmap else make
    return Prepared(rule, make, (batch_size, 1, q_length, kv_length), dtype=dtype, device=device)


def _aside(make: Callable[[], torch.Tensor]) -> torch.Tensor:
    """What a function makes in a thread of its own: vmap does not work inside `__torch_dispatch__`."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(make).result()


@dataclass(frozen=True)
class _Place:
    """Where queries and keys stand in the whole sequence, a cache before them and a static one's end behind."""

    q_length: int
    kv_length: int
    q_offset: int
    kv_offset: int
    use_vmap: bool = False  # a function that somebody wrote, for single positions

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
    return Mask(Called(function, place.q_offset, place.kv_offset, place.use_vmap))


@dataclass(frozen=True)
class Called(Seamless):
    """A mask function of transformers, called with the positions of each tile."""

    function: Callable
    q_offset: int
    kv_offset: int
    use_vmap: bool
    leaves = 0

    def place(self, xp: Backend, layout: Layout, leaves: Sequence[Array]) -> list[Operand]:
        return []

    def visible(self, xp: Backend, where: Where, leaves: Sequence[Array]) -> Array:
        queries, keys = (torch.as_tensor(places).long() for places in (where.queries, where.keys))
        seen = self._seen(where.heads[0], queries + self.q_offset, keys + self.kv_offset)
        return seen if torch.is_tensor(where.keys) else seen.numpy()

    def _seen(self, examples: tuple[Any, Any], queries: Array, keys: Array) -> Array:
        start, count = examples
        batch = torch.arange(start, start + count, device=keys.device).reshape(-1, 1, 1, 1, 1)
        if not self.use_vmap:
            return self.function(batch, batch.new_zeros(()), queries, keys)
        with masking_utils.TransformGetItemToIndex():  # as transformers itself calls it
            seen = masking_utils._vmap_expansion_sdpa(self.function)(
                batch.flatten(), batch.new_zeros(1), queries.flatten(), keys.flatten()
            )
        return seen[:, :, None]

    def bounds(self, xp: Any, span: Span, leaves: Sequence[Any]) -> tuple[int, int]:
        return 0, span.keys

    def full(self, span: Span, bounds: tuple, leaves: Sequence[Any]) -> bool:
        return False

    def __str__(self) -> str:
        return f"called({self.function.__qualname__})"


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, make_mask)
