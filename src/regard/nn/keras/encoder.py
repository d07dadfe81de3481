"""Encoders of `MultiHeadAttention` layers: embeddings in, embeddings out."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from regard.attention import Attention
from regard.errors import ConfigError, ShapeError
from regard.nn.keras._conversion import check_choice, check_heads
from regard.nn.keras.multi_head_attention import MultiHeadAttention

NORMS = ("pre", "post")
POSITIONS = ("learned", "sinusoidal", "rotary", None)
WAVELENGTH = 10000.0  # the longest, over 2 pi, of sinusoidal and rotary positions
EPSILON = 1e-6


@keras.saving.register_keras_serializable(package="regard")
class EncoderBlock(keras.layers.Layer):
    """Self-attention, then a network of one hidden layer for each position, both with a way past them.

    With `norm="pre"`: x <- x + attention(norm(x)), x <- x + network(norm(x)); with `norm="post"`: x <- norm(x +
    attention(x)), x <- norm(x + network(x)).

    Shapes:
        B: batch; T: positions, any number; units: width.

        inputs `(B, T, units)` -> `(B, T, units)`. A Keras mask `(B, T)`, True = no padding, is honoured and passed on.

    Args:
        units: Width of inputs and output.
        heads: How many heads share the units; must divide them.
        hidden_units: Width of the hidden layer; default 4 units.
        norm: Where the layer normalisation is: "pre" or "post".
        dropout: Probability of dropping a weight of the attention, and a number of each of the two results.
        activation: Of the hidden layer.
        causal: Whether a position sees nothing after itself.
        rotary: Whether queries and keys are turned by their position.

    Raises:
        ConfigError: Units that heads do not divide, or another norm.

    Cost:
        Time O(T^2 units); memory O(T units), forward and backward.

    Source:
        Vaswani et al. 2017, arXiv 1706.03762, section 3.1; before the layers, Xiong et al. 2020, arXiv 2002.04745;
        rotary, Su et al. 2021, arXiv 2104.09864, equation 34.

    Example:
        >>> import numpy as np
        >>> from regard.nn.keras import EncoderBlock
        >>> EncoderBlock(units=8, heads=2)(np.ones((3, 5, 8), "float32")).shape[1:]
        (5, 8)
    """

    def __init__(
        self,
        units: int,
        heads: int,
        hidden_units: int | None = None,
        norm: str = "pre",
        dropout: float = 0.0,
        activation: Any = "gelu",
        causal: bool = False,
        rotary: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_heads("EncoderBlock", units, heads)
        check_choice("EncoderBlock", "norm", norm, NORMS)
        if rotary and units // heads % 2:
            raise ConfigError(
                f"EncoderBlock: need heads of an even width for rotary positions; got units={units}, heads={heads}."
            )
        self.units, self.heads, self.hidden_units = units, heads, hidden_units or 4 * units
        self.norm, self.dropout, self.causal, self.rotary = norm, dropout, causal, rotary
        self.activation = keras.activations.get(activation)
        self.supports_masking = True
        own: dict[str, Any] = {"dtype": self.dtype_policy}
        kind = RotaryAttention if rotary else MultiHeadAttention
        self.attention = kind(heads, units // heads, dropout=dropout, name="attention", **own)
        self.attention_norm = keras.layers.LayerNormalization(epsilon=EPSILON, name="attention_norm", **own)
        self.attention_dropout = keras.layers.Dropout(dropout, name="attention_dropout", **own)
        self.hidden = keras.layers.Dense(self.hidden_units, self.activation, name="hidden", **own)
        self.output_dense = keras.layers.Dense(units, name="output", **own)
        self.network_norm = keras.layers.LayerNormalization(epsilon=EPSILON, name="network_norm", **own)
        self.network_dropout = keras.layers.Dropout(dropout, name="network_dropout", **own)

    def build(self, inputs_shape: Any) -> None:
        check_width("EncoderBlock", inputs_shape, self.units)
        self.attention.build(inputs_shape, inputs_shape)
        for layer in (self.attention_norm, self.network_norm, self.hidden):
            layer.build(inputs_shape)
        self.output_dense.build((*inputs_shape[:-1], self.hidden_units))

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Embeddings `(B, T, units)`, from embeddings of that shape."""
        if self.norm == "pre":
            inputs = inputs + self._attended(self.attention_norm(inputs), mask)
            return inputs + self._transformed(self.network_norm(inputs))
        inputs = self.attention_norm(inputs + self._attended(inputs, mask))
        return self.network_norm(inputs + self._transformed(inputs))

    def _attended(self, inputs: Any, mask: Any) -> Any:
        output = self.attention(inputs, inputs, query_mask=mask, value_mask=mask, use_causal_mask=self.causal)
        return self.attention_dropout(output)

    def _transformed(self, inputs: Any) -> Any:
        return self.network_dropout(self.output_dense(self.hidden(inputs)))

    def compute_output_shape(self, inputs_shape: Any) -> Any:
        return inputs_shape

    def get_config(self) -> dict:
        names = ("units", "heads", "hidden_units", "norm", "dropout", "causal", "rotary")
        own = {name: getattr(self, name) for name in names}
        return {**super().get_config(), **own, "activation": keras.activations.serialize(self.activation)}


@keras.saving.register_keras_serializable(package="regard")
class Encoder(keras.layers.Layer):
    """Positions, then several `EncoderBlock`: embeddings `(B, T, units)` in, embeddings `(B, T, units)` out.

    Shapes:
        B: batch; T: positions, any number (with learned positions up to `max_length`); units: width.

        inputs `(B, T, units)` -> `(B, T, units)`. A Keras mask `(B, T)`, True = no padding, is honoured and passed on.

    Args:
        layers: How many blocks.
        units: Width of inputs and output.
        heads: How many heads share the units; must divide them.
        hidden_units: Width of each block's hidden layer; default 4 units.
        positions: How a position is told from others: "learned" (a vector for each, added), "sinusoidal" (added),
            "rotary" (queries and keys are turned), or None (not at all).
        max_length: How many positions are learned.
        norm: Where the layer normalisation is: "pre" (and once at the end) or "post".
        dropout: Probability of dropping a number of the embeddings, a weight of the attention, and so on.
        activation: Of the hidden layers.
        causal: Whether a position sees nothing after itself.

    Raises:
        ConfigError: Units that heads do not divide, or names that do not exist.
        ShapeError: More positions than `max_length`, or inputs of another width.

    Cost:
        Time O(layers T^2 units); memory O(layers T units), forward and backward.

    Source:
        As `EncoderBlock`; sinusoidal positions, Vaswani et al. 2017, arXiv 1706.03762, section 3.5; learned ones as
        in BERT, Devlin et al. 2018, arXiv 1810.04805.

    Example:
        >>> import keras
        >>> from regard.nn.keras import Encoder
        >>> tokens = keras.Input((None,), dtype="int32")
        >>> states = keras.layers.Embedding(1000, 32, mask_zero=True)(tokens)
        >>> Encoder(layers=2, units=32, heads=4, positions="rotary")(states).shape
        (None, None, 32)
    """

    def __init__(
        self,
        layers: int,
        units: int,
        heads: int,
        hidden_units: int | None = None,
        positions: str | None = "learned",
        max_length: int = 512,
        norm: str = "pre",
        dropout: float = 0.0,
        activation: Any = "gelu",
        causal: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_heads("Encoder", units, heads)
        check_choice("Encoder", "norm", norm, NORMS)
        check_choice("Encoder", "positions", positions, POSITIONS)
        self.layers, self.units, self.heads, self.hidden_units = layers, units, heads, hidden_units or 4 * units
        self.positions, self.max_length, self.norm = positions, max_length, norm
        self.dropout, self.causal = dropout, causal
        self.activation = keras.activations.get(activation)
        self.supports_masking = True
        own: dict[str, Any] = {"dtype": self.dtype_policy}
        self.input_dropout = keras.layers.Dropout(dropout, name="input_dropout", **own)
        self.blocks = [
            EncoderBlock(
                units, heads, hidden_units, norm, dropout, activation, causal, positions == "rotary",
                name=f"block_{number}", **own,
            )
            for number in range(layers)
        ]  # fmt: skip
        self.output_norm = (
            keras.layers.LayerNormalization(epsilon=EPSILON, name="output_norm", **own) if norm == "pre" else None
        )

    def build(self, inputs_shape: Any) -> None:
        check_width("Encoder", inputs_shape, self.units)
        if self.positions == "learned":
            self.learned = self.add_weight(
                (self.max_length, self.units), keras.initializers.RandomNormal(stddev=0.02), name="positions"
            )
        for layer in (*self.blocks, *([self.output_norm] if self.output_norm else [])):
            layer.build(inputs_shape)

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Embeddings `(B, T, units)`, from embeddings of that shape."""
        states = self.input_dropout(self._positioned(inputs))
        for block in self.blocks:
            states = block(states, mask=mask)
        return states if self.output_norm is None else self.output_norm(states)

    def _positioned(self, inputs: Any) -> Any:
        length = ops.shape(inputs)[1]
        if self.positions == "learned":
            check_length(length, self.max_length)
            return inputs + ops.cast(self.learned[:length], inputs.dtype)
        if self.positions == "sinusoidal":
            return inputs + ops.cast(sinusoids(length, self.units), inputs.dtype)
        return inputs

    def compute_output_spec(self, inputs: Any, **_: Any) -> keras.KerasTensor:
        if self.positions == "learned":
            check_length(inputs.shape[1], self.max_length)
        return keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)

    def get_config(self) -> dict:
        names = (
            "layers", "units", "heads", "hidden_units", "positions", "max_length", "norm", "dropout", "causal",
        )  # fmt: skip
        own = {name: getattr(self, name) for name in names}
        return {**super().get_config(), **own, "activation": keras.activations.serialize(self.activation)}


class RotaryAttention(MultiHeadAttention):
    """With queries and keys turned by their positions, so that their product knows the distance only."""

    def _attention(self, query: Any, key: Any, *others: Any) -> Attention:
        return super()._attention(turned(query), turned(key), *others)


def turned(array: Any) -> Any:
    """Pairs of numbers (x_k, x_{k + D/2}) of `(..., T, D)`, turned by the angle of the position.

    Source: Su et al. 2021, arXiv 2104.09864, equation 34, with halves for pairs as in GPT-NeoX.
    """
    angles = _angles(ops.shape(array)[-2], array.shape[-1])
    cosine, sine = (ops.cast(function(angles), array.dtype) for function in (ops.cos, ops.sin))
    first, second = ops.split(array, 2, axis=-1)
    return ops.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)


def sinusoids(length: Any, units: int) -> Any:
    """sin and cos of the position over wavelengths from 2 pi to 10000 2 pi, `(T, units)`, side by side."""
    angles = _angles(length, units + units % 2)
    return ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)[:, :units]


def _angles(length: Any, width: int) -> Any:
    """i / 10000^(2 k / width) for position i and pair k: `(T, width / 2)`, in float32."""
    positions = ops.cast(ops.arange(length), "float32")
    frequencies = WAVELENGTH ** (-2 * ops.arange(width // 2, dtype="float32") / width)
    return positions[:, None] * frequencies


def check_width(who: str, inputs_shape: Any, units: int) -> None:
    if len(inputs_shape) != 3 or inputs_shape[-1] != units:
        raise ShapeError(
            f"{who}: need inputs (B, T, units) with units={units}; got {tuple(inputs_shape)}; "
            "embed or project them to that width."
        )


def check_length(length: Any, most: int) -> None:
    if isinstance(length, int) and length > most:
        raise ShapeError(
            f"Encoder: need at most max_length={most} learned positions; got {length}; "
            "raise max_length, or choose positions='sinusoidal' or 'rotary'."
        )
