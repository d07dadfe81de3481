"""Keras' `MultiHeadAttention`, computed by `regard.attention`."""

from __future__ import annotations

import functools
from typing import Any

import keras
from keras import ops

from regard import masks
from regard.attention import Attention, attention
from regard.masks import Mask
from regard.nn.keras import _conversion
from regard.nn.keras._conversion import LAZY

WHO = "MultiHeadAttention"


@keras.saving.register_keras_serializable(package="regard")
class MultiHeadAttention(keras.layers.MultiHeadAttention):
    """A drop-in for `keras.layers.MultiHeadAttention`, in memory linear in the length, that can be looked into.

    The same arguments, variables and names, so that weights copy over, and the same outputs and scores within
    rounding. Different is what the rules cost, no array of T x S for causality and padding; a query that may see no
    key gives zeros always, where Keras gives them with scores and the mean of all values without; and cross-attention
    declares its scores as they are, `(B, heads, T, S)`.

    Shapes:
        B: batch; T: queries; S: keys and values; heads: `num_heads`; E: width of query, or `output_shape`.

        query `(B, T, ...)`, value and key `(B, S, ...)` -> output `(B, T, E)`; more axes with `attention_axes`.

    The arguments are Keras', but for one of the call: `return_attention_scores` takes True, for the scores as a tensor
    `(B, heads, T, S)`, before dropout, or names of questions of `AttentionWeights` without argument, such as
    `("entropy", "received")`, for a dict of their answers, tensors `(B, heads, T)` and `(B, heads, S)`.

    Raises:
        ShapeError: An attention mask that does not fit.

    Cost:
        Time O(T S key_dim) for each head; memory O(T + S), forward and backward, unless the scores are asked for. XLA,
        where B, T or S is unknown as a function is traced, computes all scores at once.

    Source:
        Vaswani et al. 2017, arXiv 1706.03762; keras/src/layers/attention/multi_head_attention.py of Keras 3.15.

    Example:
        >>> import keras
        >>> from regard.nn.keras import MultiHeadAttention
        >>> states = keras.Input((None, 64))
        >>> layer = MultiHeadAttention(num_heads=4, key_dim=16)
        >>> output, found = layer(states, states, return_attention_scores=("entropy", "received"))
        >>> output.shape, found["received"].shape
        ((None, None, 64), (None, 4, None))
    """

    def attend(
        self, query: Any, value: Any, key: Any = None,
        query_mask: Any = None, value_mask: Any = None, key_mask: Any = None, attention_mask: Any = None,
        training: bool | None = None, use_causal_mask: bool = False,
    ) -> Attention:  # fmt: skip
        """Output and lazy weights (`AttentionWeights`, `(B, heads, T, S)`), called as the layer is.

        With arrays, or in the `call` of a layer of your own, whose answers may leave a compiled function as tensors.

        Raises:
            UnsupportedError: A symbolic input, through which an object cannot flow.
        """
        instead = "call the layer with return_attention_scores=('entropy', 'received')"
        _conversion.refuse_symbolic(WHO, instead, query, value, key)
        return Attention(
            *self(
                query, value, key, query_mask=query_mask, value_mask=value_mask, key_mask=key_mask,
                attention_mask=attention_mask, training=training, use_causal_mask=use_causal_mask,
                return_attention_scores=LAZY,
            )
        )  # fmt: skip

    def _compute_attention_mask(
        self, query: Any, value: Any, query_mask: Any = None, value_mask: Any = None, key_mask: Any = None,
        attention_mask: Any = None, use_causal_mask: bool = False,
    ) -> Mask | None:  # fmt: skip
        """As a rule, where Keras makes an array of T x S."""
        axes, queries, keys = self._attention_axes, ops.shape(query)[:-1], ops.shape(value)[:-1]
        rules = [self._rule(attention_mask, queries, keys)]
        rules += [masks.causal_top_left()] if use_causal_mask else []
        rules += [_conversion.band(self._sliding_window)] if self._sliding_window else []
        rules += [] if query_mask is None else [_conversion.real_queries(query_mask, queries, axes)]
        rules += [_conversion.real_keys(mask, keys, axes) for mask in (value_mask, key_mask) if mask is not None]
        return _conversion.both(*rules)

    def _rule(self, mask: Any, queries: Any, keys: Any) -> Mask | None:
        if mask is None or isinstance(mask, Mask):
            return mask
        return _conversion.pairs(WHO, mask, queries, keys, self._num_heads, self._attention_axes)

    def _compute_attention(
        self, query: Any, key: Any, value: Any, attention_mask: Any = None, training: bool | None = None,
        return_attention_scores: Any = False, use_causal_mask: bool = False,
    ) -> tuple[Any, Any]:  # fmt: skip
        axes, queries, keys = self._attention_axes, ops.shape(query)[:-2], ops.shape(key)[:-2]
        mask = self._rule(attention_mask, queries, keys)
        if use_causal_mask:
            mask = _conversion.both(mask, masks.causal_top_left())
        first = functools.partial(_conversion.heads_first, axes=axes)
        ask = _conversion.asked(return_attention_scores)
        output, weights = self._attention(first(query), first(key), first(value), mask, training, ask)
        found = _conversion.returned(weights, return_attention_scores)
        if return_attention_scores is True:
            found = ops.reshape(found, _conversion.weights_shape(queries, keys, self._num_heads, axes))
        return _conversion.heads_last(output, axes, query), found

    def _attention(
        self, query: Any, key: Any, value: Any, mask: Mask | None, training: bool | None, ask: tuple[str, ...] = ()
    ) -> Attention:
        """Of `(B, N, T, D)`. What `regard.watch` looks at."""
        return attention(
            query, key, value, mask=mask, scale=self._inverse_sqrt_key_dim, ask=ask,
            **_conversion.dropping(self._dropout_layer, training),
        )  # fmt: skip

    def compute_output_spec(
        self, query: Any, value: Any, key: Any = None, *args: Any, return_attention_scores: Any = False, **kwargs: Any
    ) -> Any:
        output = super().compute_output_spec(query, value, key)
        if not return_attention_scores:
            return output
        shape = _conversion.weights_shape(query.shape[:-1], value.shape[:-1], self._num_heads, self._attention_axes)
        return output, _conversion.returned_spec(return_attention_scores, shape, self.compute_dtype)
