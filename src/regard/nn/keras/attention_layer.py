"""The layer of the article: an encoder makes query, key and value, and attention brings them together."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from regard import masks
from regard.attention import Attention, attention
from regard.masks import Mask
from regard.nn.keras import _conversion
from regard.nn.keras._conversion import LAZY, check_choice, check_heads

WHO = "AttentionLayer"
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
        return_weights: What to return beside the output: True for the weights as an ordinary tensor; names of questions
            of `AttentionWeights` without argument, `("entropy", "received")`, for a dict of their answers, tensors
            `(B, T)` and `(B, S)`, or `(B, heads, T)` and `(B, heads, S)`; False for nothing.
        kernel_size: Width of the convolution, in positions.
        cell: "gru" or "lstm".
        dropout: Probability of dropping a weight in the output while training; what is returned is before dropout.
        seed: Of the dropout.

    Raises:
        ConfigError: Units that heads do not divide, or names that do not exist.

    Cost:
        Memory O(T + S), forward and backward, unless the weights tensor is asked for and used (a compiled model that
        does not use it never makes it). `attend` gives the weights as an `AttentionWeights`.

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
        return_weights: Any = True,
        kernel_size: int = 3,
        cell: str = "gru",
        dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_heads(WHO, units, heads)
        check_choice(WHO, "encoder", encoder, ENCODERS)
        check_choice(WHO, "similarity", similarity, SIMILARITIES)
        check_choice(WHO, "cell", cell, CELLS)
        self.units, self.heads, self.encoder, self.similarity = units, heads, encoder, similarity
        self.causal, self.kernel_size, self.cell = causal, kernel_size, cell
        self.return_weights = return_weights if isinstance(return_weights, bool) else tuple(return_weights)
        self.dropout, self.seed = dropout, seed
        self.dropout_layer = keras.layers.Dropout(dropout, seed=seed, dtype=self.dtype_policy)
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
        mask: Any = None, query_mask: Any = None, value_mask: Any = None, key_mask: Any = None,
        training: bool | None = None, return_weights: Any = None,
    ) -> Any:  # fmt: skip
        """Output, and beside it what `return_weights` says, here or in the constructor.

        Key defaults to value, value to query. Masks `(B, T)` and `(B, S)`, True = no padding, come from `Masking` or
        `mask_zero` layers by themselves: Keras hands over `mask` with one input, and `query_mask` and so on with
        several.
        """
        query_mask = mask if query_mask is None else query_mask
        if value is None:
            value, value_mask = query, query_mask
        if key is None:
            key, key_mask = value, value_mask
        wanted = self.return_weights if return_weights is None else return_weights
        output, weights = self._attention(
            self._by_head(self._encoded(self.query_encoder, query, query_mask)),
            self._by_head(self._encoded(self.key_encoder, key, key_mask)),
            self._by_head(self._encoded(self.value_encoder, value, value_mask)),
            self._mask(value, value_mask, key_mask),
            training,
            _conversion.asked(wanted),
        )
        output = self._together(output)
        return (output, _conversion.returned(weights, wanted)) if wanted else output

    def attend(
        self, query: Any, value: Any = None, key: Any = None,
        mask: Any = None, query_mask: Any = None, value_mask: Any = None, key_mask: Any = None,
        training: bool | None = None,
    ) -> Attention:  # fmt: skip
        """Output and lazy weights (`AttentionWeights`, `(B, T, S)` or `(B, heads, T, S)`), called as the layer is.

        Raises:
            UnsupportedError: A symbolic input, through which an object cannot flow.
        """
        instead = "give the layer return_weights=('entropy', 'received')"
        _conversion.refuse_symbolic(WHO, instead, query, value, key)
        return Attention(
            *self(
                query, value, key, mask=mask, query_mask=query_mask, value_mask=value_mask, key_mask=key_mask,
                training=training, return_weights=LAZY,
            )
        )  # fmt: skip

    def _attention(
        self, query: Any, key: Any, value: Any, mask: Mask | None, training: bool | None, ask: tuple[str, ...] = ()
    ) -> Attention:
        """Of `(B, heads, T, D)`, or `(B, T, D)` for one head. What `regard.watch` looks at."""
        return attention(
            query, key, value, mask=mask, causal=self.causal, similarity=self.similarity, ask=ask,
            **_conversion.dropping(self.dropout_layer, training),
        )  # fmt: skip

    def _encoded(self, encoder: keras.layers.Layer, inputs: Any, mask: Any) -> Any:
        """Recurrent networks skip padding; the others do not look at it."""
        return encoder(inputs, mask=mask) if self.encoder == "recurrent" and mask is not None else encoder(inputs)

    def _mask(self, value: Any, *given: Any) -> Mask | None:
        """From padding `(B, S)`."""
        different = {id(mask): mask for mask in given if mask is not None}.values()
        for mask in different:
            _conversion.check_padding(WHO, mask, value)
        axes = (-2,) if self.heads == 1 else (-3, -2)
        return _conversion.both(*(masks.boolean(ops.expand_dims(ops.cast(mask, "bool"), axes)) for mask in different))

    def _by_head(self, array: Any) -> Any:
        """`(B, T, units)` as `(B, heads, T, units / heads)`; as it is for one head."""
        if self.heads == 1:
            return array
        sizes = ops.shape(array)[:2]
        return _conversion.heads_first(ops.reshape(array, (*sizes, self.heads, self.units // self.heads)))

    def _together(self, array: Any) -> Any:
        if self.heads == 1:
            return array
        array = ops.transpose(array, (0, 2, 1, 3))
        return ops.reshape(array, (*ops.shape(array)[:2], self.units))

    def compute_output_spec(
        self, query: Any, value: Any = None, key: Any = None, *_: Any, return_weights: Any = None, **__: Any
    ) -> Any:
        batch, queries, _ = query.shape
        output = keras.KerasTensor((batch, queries, self.units), dtype=self.compute_dtype)
        wanted = self.return_weights if return_weights is None else return_weights
        if not wanted:
            return output
        heads = () if self.heads == 1 else (self.heads,)
        shape = (batch, *heads, queries, queries if value is None else value.shape[1])
        return output, _conversion.returned_spec(wanted, shape, self.compute_dtype)

    def compute_mask(self, query: Any, previous_mask: Any = None, **_: Any) -> Any:
        return previous_mask[0] if isinstance(previous_mask, (list, tuple)) else previous_mask

    def get_config(self) -> dict:
        names = (
            "units", "heads", "encoder", "similarity", "causal", "return_weights", "kernel_size", "cell", "dropout",
            "seed",
        )  # fmt: skip
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
