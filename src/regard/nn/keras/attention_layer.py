"""The layer of the article: an encoder makes query, key and value, and attention brings them together."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from regard import masks
from regard.attention import Attention, attention
from regard.errors import UnsupportedError
from regard.nn.keras._conversion import check_choice, check_heads

ENCODERS = ("dense", "convolution", "recurrent")
SIMILARITIES = ("dot", "cosine")
CELLS = ("gru", "lstm")


@keras.saving.register_keras_serializable(package="regard")
class AttentionLayer(keras.layers.Layer):
    """Attention with learned query, key and value: `output, weights = AttentionLayer(units=128)(x)`.

    An encoder (dense, convolutional or recurrent) turns the input into query, key and value; the output is the sum
    of the values, weighted by the softmax of the scaled similarity of query and key.

    Shapes:
        B: batch; T: queries; S: keys and values; C: input channels; units: width of query, key, value and output.

        input `(B, T, C)` (and, for cross-attention, value `(B, S, C)`) -> output `(B, T, units)` and weights
        `(B, T, S)`, or `(B, heads, T, S)` with several heads. T and S are free: nothing is set in advance.

    Args:
        units: Width of query, key, value and output.
        heads: How many heads share the units; must divide them.
        encoder: The network that makes query, key and value: "dense", "convolution" (`kernel_size` wide) or
            "recurrent" (GRU, or LSTM by `cell`; in both directions unless `causal`).
        similarity: "dot" or "cosine".
        causal: Whether a query sees nothing after itself.
        return_weights: Whether to return `(output, weights)`, as an ordinary tensor, or the output alone.
        kernel_size: Width of the convolution, in positions.
        cell: "gru" or "lstm".

    Cost:
        Memory O(T + S) when nothing uses the weights tensor (a compiled model then never makes it), and always in
        `attend`, which gives the weights as an `AttentionWeights`.

    Example:
        >>> import numpy as np, keras
        >>> from regard.nn.keras import AttentionLayer
        >>> inputs = keras.Input(shape=(None, 128))
        >>> output, weights = AttentionLayer(units=128)(inputs)
        >>> model = keras.Model(inputs, [output, weights])
        >>> output, weights = model(np.zeros((32, 10, 128), "float32"))
        >>> tuple(output.shape), tuple(weights.shape)
        ((32, 10, 128), (32, 10, 10))
    """

    def __init__(
        self,
        units: int = 128,
        heads: int = 1,
        encoder: str = "dense",
        similarity: str = "dot",
        causal: bool = False,
        return_weights: bool = True,
        kernel_size: int = 3,
        cell: str = "gru",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_heads("AttentionLayer", units, heads)
        check_choice("AttentionLayer", "encoder", encoder, ENCODERS)
        check_choice("AttentionLayer", "similarity", similarity, SIMILARITIES)
        check_choice("AttentionLayer", "cell", cell, CELLS)
        self.units, self.heads, self.encoder, self.similarity = units, heads, encoder, similarity
        self.causal, self.return_weights, self.kernel_size, self.cell = causal, return_weights, kernel_size, cell
        self.supports_masking = True
        self.query_encoder = self._encoder("query")
        self.key_encoder = self._encoder("key")
        self.value_encoder = self._encoder("value")

    def _encoder(self, name: str) -> keras.layers.Layer:
        if self.encoder == "dense":
            return keras.layers.Dense(self.units, name=name, dtype=self.dtype_policy)
        if self.encoder == "convolution":
            padding = "causal" if self.causal else "same"
            return keras.layers.Conv1D(
                self.units, self.kernel_size, padding=padding, name=name, dtype=self.dtype_policy
            )
        cell = keras.layers.GRU if self.cell == "gru" else keras.layers.LSTM
        recurrent = cell(self.units, return_sequences=True, name=name, dtype=self.dtype_policy)
        if self.causal:
            return recurrent
        return keras.layers.Bidirectional(recurrent, merge_mode="sum", name=name, dtype=self.dtype_policy)

    def build(self, query_shape: Any, value_shape: Any = None, key_shape: Any = None) -> None:
        value_shape = value_shape or query_shape
        self.query_encoder.build(query_shape)
        self.key_encoder.build(key_shape or value_shape)
        self.value_encoder.build(value_shape)

    def call(
        self, query: Any, value: Any = None, key: Any = None,
        mask: Any = None, query_mask: Any = None, value_mask: Any = None,
    ) -> Any:  # fmt: skip
        """Output, and with `return_weights` the weights as a tensor; key defaults to value, value to query.

        Masks `(B, T)` and `(B, S)`, True = no padding, come from `Masking` or `mask_zero` layers by themselves: Keras
        hands over `mask` with one input, and `query_mask` and `value_mask` with several.
        """
        output, weights = self.attend(query, value, key, mask, query_mask, value_mask)
        return (output, weights.dense(max_bytes=2**62)) if self.return_weights else output

    def attend(
        self, query: Any, value: Any = None, key: Any = None,
        mask: Any = None, query_mask: Any = None, value_mask: Any = None,
    ) -> Attention:  # fmt: skip
        """Output and lazy weights (`AttentionWeights`, `(B, T, S)` or `(B, heads, T, S)`); not for symbolic inputs.

        Raises:
            UnsupportedError: A symbolic input, through which an object cannot flow.
        """
        if isinstance(query, keras.KerasTensor):
            raise UnsupportedError(
                "AttentionLayer.attend: need arrays; got a symbolic KerasTensor, through which lazy weights cannot "
                "flow; call the layer for weights as a tensor, or attend() with arrays once the model is built."
            )
        query_mask = mask if query_mask is None else query_mask
        if value is None:
            value, value_mask = query, query_mask
        key = value if key is None else key
        output, weights = attention(
            self._by_head(self._encoded(self.query_encoder, query, query_mask)),
            self._by_head(self._encoded(self.key_encoder, key, value_mask)),
            self._by_head(self._encoded(self.value_encoder, value, value_mask)),
            mask=self._mask(value_mask),
            causal=self.causal,
            similarity=self.similarity,
        )
        return Attention(self._together(output), weights)

    def _encoded(self, encoder: keras.layers.Layer, inputs: Any, mask: Any) -> Any:
        """Recurrent networks skip padding; the others do not look at it."""
        return encoder(inputs, mask=mask) if self.encoder == "recurrent" and mask is not None else encoder(inputs)

    def _mask(self, value_mask: Any) -> masks.Mask | None:
        if value_mask is None:
            return None
        axes = (1,) if self.heads == 1 else (1, 2)
        return masks.boolean(ops.expand_dims(ops.cast(value_mask, "bool"), axes))

    def _by_head(self, array: Any) -> Any:
        """`(B, T, units)` as `(B, heads, T, units / heads)`; as it is for one head."""
        if self.heads == 1:
            return array
        split = ops.reshape(array, (*ops.shape(array)[:2], self.heads, self.units // self.heads))
        return ops.transpose(split, (0, 2, 1, 3))

    def _together(self, array: Any) -> Any:
        if self.heads == 1:
            return array
        array = ops.transpose(array, (0, 2, 1, 3))
        return ops.reshape(array, (*ops.shape(array)[:2], self.units))

    def compute_output_spec(self, query: Any, value: Any = None, key: Any = None, **_: Any) -> Any:
        batch, queries, _ = query.shape
        keys = queries if value is None else value.shape[1]
        output = keras.KerasTensor((batch, queries, self.units), dtype=self.compute_dtype)
        if not self.return_weights:
            return output
        heads = () if self.heads == 1 else (self.heads,)
        return output, keras.KerasTensor((batch, *heads, queries, keys), dtype=self.compute_dtype)

    def compute_mask(self, query: Any, value: Any = None, previous_mask: Any = None, **_: Any) -> Any:
        mask = previous_mask[0] if isinstance(previous_mask, (list, tuple)) else previous_mask
        return (mask, None) if self.return_weights else mask

    def get_config(self) -> dict:
        names = ("units", "heads", "encoder", "similarity", "causal", "return_weights", "kernel_size", "cell")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
