"""Keras layers around `regard.attention`, on Keras' TensorFlow, JAX and PyTorch backends."""

from regard.nn.keras.attention_layer import AttentionLayer
from regard.nn.keras.encoder import Encoder, EncoderBlock
from regard.nn.keras.multi_head_attention import MultiHeadAttention

__all__ = ["AttentionLayer", "Encoder", "EncoderBlock", "MultiHeadAttention"]
