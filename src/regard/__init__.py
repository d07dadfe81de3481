"""Regard: attention you can look into.

    output, weights = regard.attention(query, key, value)

gives the exact output at fused-kernel speed and exact weights that answer any question, in memory linear in the
length, for arrays of NumPy, TensorFlow, PyTorch and JAX. Importing this imports none of the frameworks.
"""

from regard import biases, errors, masks
from regard.attention import Attention, attention
from regard.models.unpad import pad, unpad
from regard.models.watch import watch
from regard.weights import AttentionWeights

__version__ = "0.1.0"

__all__ = [
    "Attention",
    "AttentionWeights",
    "attention",
    "biases",
    "errors",
    "masks",
    "pad",
    "unpad",
    "watch",
]
