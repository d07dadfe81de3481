"""Which layers of Keras and KerasHub hand their attention over, by which of their methods, and what it is made of."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import ops

from regard import masks
from regard._backends import get_backend
from regard.attention import Attention, make_problem
from regard.masks import Mask
from regard.models.editing import Change
from regard.models.seen import Values
from regard.nn.keras import AttentionLayer, MultiHeadAttention
from regard.nn.keras._conversion import both, heads_first, pairs
from regard.weights import AttentionWeights

OURS = (AttentionLayer, MultiHeadAttention)


@dataclass(frozen=True)
class Call:
    """One attention of a layer: its query as the layer has it, and what makes weights and values."""

    query: Any
    weights: Callable[[], AttentionWeights]
    values: Callable[[], Values]

    def under(self, change: Change) -> Call:
        """The same with weights as edits make them, for an output that they have made already."""
        return replace(self, weights=lambda: change.weights(self.weights()))


@dataclass(frozen=True)
class Reading:
    """The method of a layer that is told of, and what reads a call of it: `read(layer, result, *args, **kwargs)`."""

    method: str
    read: Callable[..., Call]


def reading(layer: Any) -> Reading | None:
    """How the attention of a layer is read; None where it cannot be, since its scores are its own."""
    if isinstance(layer, OURS):
        return Reading("_attention", _ours)
    if isinstance(layer, keras.layers.Attention):
        plain = all(
            getattr(type(layer), method) is getattr(keras.layers.Attention, method)
            for method in ("call", "_calculate_scores", "_calculate_score_mask", "_apply_scores")
        )
        return Reading("call", _single) if plain and layer.score_mode == "dot" else None
    method = getattr(type(layer), "_compute_attention", None)
    if method is not None and method in _KERAS:
        return Reading("_compute_attention", _keras)
    name = getattr(method, "__qualname__", "").partition(".")[0]
    if not getattr(method, "__module__", "").startswith("keras_hub.") or name not in _HUB:
        return None
    return Reading("_compute_attention", _HUB[name])


def replaced(call: Call, found: Any, change: Change) -> Any:
    """What a layer's method gives, as edits make it: the output, and the weights where they are given too."""
    weights, values = call.weights(), call.values()
    output = change.apply(weights, values.value, lambda: values.by_head(values.output))
    if values.by_head is heads_first:
        output = ops.transpose(output, (0, 2, 1, 3))
    output = ops.reshape(output, ops.shape(values.output))
    if not isinstance(found, tuple):
        return output
    _, beside = found
    if isinstance(beside, AttentionWeights):
        edited = change.weights(weights)
        return Attention(output, edited if beside.ndim > 3 else edited[:, 0])
    return output, None if beside is None else ops.reshape(change.weights(weights).dense(), ops.shape(beside))


def _weights(query: Any, key: Any, mask: Any, scale: float, causal: bool = False, softcap: Any = None) -> Any:
    """Of `(B, T, N, D)`, `(B, S, G, D)` and Keras' masks."""
    rule: Mask | None = None
    if mask is not None:
        rule = pairs("watch", mask, query.shape[:2], key.shape[:2], query.shape[2])
    rule = both(rule, masks.causal_top_left() if causal else None)
    query, key = heads_first(query), heads_first(key)
    backend = get_backend("watch", query=query)
    problem, _ = make_problem(backend, query, key, key, mask=rule, scale=scale, softcap=softcap)
    return AttentionWeights(problem, kernel="the model's own", reason="watched")


def _values(value: Any, output: Any, by_head: Callable[[Any], Any], projection: Callable[[], Any]) -> Values:
    return Values(by_head(value), output, by_head, projection)


def _matrix(layer: Any) -> Any:
    """The kernel of the layer behind the heads, `(N E, d)`."""
    kernel = ops.convert_to_tensor(layer.kernel)
    return ops.reshape(kernel, (-1, kernel.shape[-1]))


def _keras(
    layer: Any, found: Any, query: Any, key: Any, value: Any, attention_mask: Any = None, *_: Any, **options: Any
) -> Call:
    """Keras' attentions of several heads."""
    scale = getattr(layer, "_inverse_sqrt_key_dim", None)
    scale = float(layer._inverse_sqrt_head_dim if scale is None else scale)
    causal = options.get("use_causal_mask", False)
    weights = functools.partial(_weights, query, key, attention_mask, scale, causal)
    projection = functools.partial(_matrix, layer._output_dense)
    return Call(query, weights, functools.partial(_values, value, found[0], heads_first, projection))


def _llama(
    layer: Any,
    found: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any = None,
    cache_update_index: Any = None,
    **_: Any,
) -> Call:
    """KerasHub's Llama and its like, whose keys are repeated for the heads that share them."""
    windowed = getattr(layer, "use_sliding_window_attention", getattr(layer, "sliding_window_size", None))
    if hasattr(layer, "_mask_sliding_window") and windowed and not _fused(layer) and _has_values(query):
        attention_mask = layer._mask_sliding_window(attention_mask, cache_update_index=cache_update_index or 0)
    weights = functools.partial(_weights, query, key, attention_mask, float(layer._inv_norm_factor))
    behind = getattr(layer, "_output_dense", None)
    projection = functools.partial(_matrix, layer.output_dense if behind is None else behind)
    return Call(query, weights, functools.partial(_values, value, found, heads_first, projection))


def _fused(layer: Any) -> bool:
    """Whether a layer of KerasHub runs Keras' fused attention, to which some give no window."""
    asked = getattr(layer, "_use_fused_attention_op", None)
    return bool(
        type(layer)._compute_attention.__globals__["fused_attention_op_available"]() if asked is None else asked()
    )


def _has_values(array: Any) -> bool:
    return not isinstance(array, keras.KerasTensor)


def _gemma(
    layer: Any,
    found: Any,
    q: Any,
    k: Any,
    v: Any,
    attention_mask: Any,
    training: Any = False,
    cache_update_index: Any = 0,
) -> Call:
    width = layer.head_dim if layer.query_head_dim_normalize else layer.hidden_dim // layer.num_query_heads
    if layer.use_sliding_window_attention and attention_mask is not None and _has_values(q):
        attention_mask = layer._mask_sliding_window(attention_mask, cache_update_index=cache_update_index)
    scaled = keras.backend.backend() == "torch" and not _fused(layer)  # in its place, by the time that this is read
    scale = 1.0 if scaled else width**-0.5
    weights = functools.partial(_weights, q, k, attention_mask, scale, softcap=layer.logit_soft_cap)
    projection = functools.partial(_matrix, layer.output_dense)
    return Call(q, weights, functools.partial(_values, v, found, heads_first, projection))


def _single(
    layer: Any,
    found: Any,
    inputs: Any,
    mask: Any = None,
    training: Any = False,
    return_attention_scores: bool = False,
    use_causal_mask: bool = False,
) -> Call:
    """`keras.layers.Attention`, of one head `(B, T, D)`."""
    query, value, key = (*inputs, inputs[1])[:3]
    hidden = mask[1] if mask else None

    def weights() -> AttentionWeights:
        given = query if layer.scale is None else query * ops.cast(layer.scale, query.dtype)
        visible = None if hidden is None else ops.expand_dims(hidden, -2)
        return _weights(ops.expand_dims(given, 2), ops.expand_dims(key, 2), visible, 1.0, use_causal_mask)

    output = found[0] if isinstance(found, tuple) else found
    projection = functools.partial(ops.eye, value.shape[-1])  # its output is the head's
    return Call(query, weights, functools.partial(_values, value, output, _four, projection))


def _ours(layer: Any, found: Any, query: Any, key: Any, value: Any, *_: Any) -> Call:
    output, weights = found
    if isinstance(layer, AttentionLayer):
        projection: Callable[[], Any] = functools.partial(ops.eye, layer.units)  # its output is the heads, side by side
    else:
        projection = functools.partial(_matrix, layer._output_dense)
    return Call(
        query, functools.partial(_by_head, weights), functools.partial(_values, value, output, _four, projection)
    )


def _four(array: Any) -> Any:
    """`(B, T, E)` of one head as `(B, 1, T, E)`."""
    return array if len(array.shape) > 3 else ops.expand_dims(array, 1)


def _by_head(weights: AttentionWeights) -> AttentionWeights:
    """Weights `(B, T, S)` of one head as `(B, 1, T, S)`: one more axis of size one behind the first."""
    if weights.ndim > 3:
        return weights
    arrays, (xp, place, scores, axes, *rest) = weights._flatten()
    arrays = tuple(None if array is None else xp.reshape(array, _with_axis(xp.shape(array), 1)) for array in arrays)
    place = replace(place, lead=(*place.lead, 1), outer=(*place.outer, 1))
    return AttentionWeights._unflatten((xp, place, scores, [_with_axis(along, False) for along in axes], *rest), arrays)


def _with_axis(along: tuple, entry: Any) -> tuple:
    return (along[0], entry, *along[1:])


_KERAS = (keras.layers.MultiHeadAttention._compute_attention, keras.layers.GroupQueryAttention._compute_attention)
# By the class that defines the method: those that multiply query and key, scale and mask, and nothing else.
_HUB: dict[str, Callable[..., Call]] = {
    "CachedGemmaAttention": _gemma,
    "CachedMistralAttention": _llama,
    "CachedMixtralAttention": _llama,
    "GPTNeoXAttention": _llama,
    "LlamaAttention": _llama,
    "Phi3Attention": _llama,
    "Qwen3Attention": _llama,
    "Qwen3MoeAttention": _llama,
    "QwenAttention": _llama,
    "QwenMoeAttention": _llama,
}
