"""The four frameworks behind one small face: make an array, read it back, compile, differentiate, and the plain verbs.

torch is imported first: it and tensorflow load libraries of their own.
"""

import contextlib

import ml_dtypes
import numpy as np
import torch

import tensorflow as tf  # isort: skip
import jax
import jax.numpy as jnp

DTYPES = {
    "float64": np.dtype(np.float64),
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}


def rounded(x, dtype):
    """A NumPy array with its floating point numbers rounded to a dtype, given by its name."""
    x = np.asarray(x)
    return x.astype(DTYPES[dtype]) if x.dtype.kind == "f" else x


class NumPy:
    """NumPy: no compiler, no gradients; a half-width number is computed by rounding after each operation."""

    name, differentiable, compiles = "numpy", False, False

    def array(self, x, dtype=None):
        return rounded(x, dtype) if dtype else np.asarray(x)

    def numpy(self, x):
        x = np.asarray(x)
        return x if x.dtype.kind in "biu" else x.astype(np.float64)

    def owns(self, x):
        return isinstance(x, np.ndarray | np.generic)

    def dtype(self, x):
        return str(x.dtype)

    def device(self, x):
        return "cpu"

    def scope(self, dtype):
        return contextlib.nullcontext()

    def _same(self, result, *given):
        return np.asarray(result).astype(given[0].dtype)

    def matmul(self, a, b):
        return self._same(np.matmul(a, b), a)

    def exp(self, a):
        return self._same(np.exp(a), a)

    def log(self, a):
        return self._same(np.log(a), a)

    def tanh(self, a):
        return self._same(np.tanh(a), a)

    def sqrt(self, a):
        return self._same(np.sqrt(a), a)

    def where(self, condition, a, b):
        return np.where(condition, a, b)

    def max(self, a):
        return a.max(-1, keepdims=True)

    def sum(self, a):
        return self._same(a.sum(-1, keepdims=True), a)

    def swap(self, a):
        return np.swapaxes(a, -1, -2)

    def repeat(self, a, times):
        return np.repeat(a, times, -3)

    def compiled(self, function):
        return function


class Torch(NumPy):
    name, differentiable, compiles = "torch", True, False  # torch.compile is slow to start: its tests are marked

    def array(self, x, dtype=None):
        x = np.asarray(x)
        if (dtype and x.dtype.kind == "f") or x.dtype == DTYPES["bfloat16"]:
            number = getattr(torch, dtype or "bfloat16")
            x = torch.from_numpy(np.array(rounded(x, dtype) if dtype else x).astype(np.float64)).to(number)
            return x
        return torch.from_numpy(np.array(x))

    def numpy(self, x):
        if not isinstance(x, torch.Tensor):
            return super().numpy(x)
        x = x.detach()
        return (x.double() if x.is_floating_point() else x).numpy()

    def owns(self, x):
        return isinstance(x, torch.Tensor)

    def dtype(self, x):
        return str(x.dtype).removeprefix("torch.")

    def device(self, x):
        return str(x.device)

    def matmul(self, a, b):
        return torch.matmul(a, b)

    def exp(self, a):
        return torch.exp(a)

    def log(self, a):
        return torch.log(a)

    def tanh(self, a):
        return torch.tanh(a)

    def sqrt(self, a):
        return torch.sqrt(a)

    def where(self, condition, a, b):
        return torch.where(condition, a, b)

    def max(self, a):
        return torch.amax(a, -1, keepdim=True)

    def sum(self, a):
        return torch.sum(a, -1, keepdim=True)

    def swap(self, a):
        return torch.swapaxes(a, -1, -2)

    def repeat(self, a, times):
        return torch.repeat_interleave(a, times, -3)

    def compiled(self, function):
        return torch.compile(function)

    def gradients(self, function, *arrays):
        arrays = [x.detach().clone().requires_grad_() for x in arrays]
        return torch.autograd.grad(function(*arrays), arrays, allow_unused=True, materialize_grads=True)

    def total(self, a, b):
        """The sum of the products of two arrays: a number to differentiate."""
        return (a * b).sum()


class Jax(NumPy):
    name, differentiable, compiles, jax = "jax", True, True, jax

    def array(self, x, dtype=None):
        return jnp.asarray(rounded(x, dtype) if dtype else self._narrow(x))

    def _narrow(self, x):
        """Whole numbers of 32 bits unless 64 are switched on, as JAX does."""
        x = np.asarray(x)
        return x.astype(np.int32) if x.dtype == np.int64 and not jax.config.jax_enable_x64 else x

    def owns(self, x):
        return isinstance(x, jax.Array)

    def device(self, x):
        return x.device.platform

    def scope(self, dtype):
        return jax.enable_x64(True) if dtype == "float64" else contextlib.nullcontext()

    def matmul(self, a, b):
        return jnp.matmul(a, b)

    def exp(self, a):
        return jnp.exp(a)

    def log(self, a):
        return jnp.log(a)

    def tanh(self, a):
        return jnp.tanh(a)

    def sqrt(self, a):
        return jnp.sqrt(a)

    def where(self, condition, a, b):
        return jnp.where(condition, a, b)

    def max(self, a):
        return a.max(-1, keepdims=True)

    def sum(self, a):
        return a.sum(-1, keepdims=True)

    def swap(self, a):
        return jnp.swapaxes(a, -1, -2)

    def repeat(self, a, times):
        return jnp.repeat(a, times, -3)

    def compiled(self, function):
        return jax.jit(function)

    def gradients(self, function, *arrays):
        return jax.jit(jax.grad(function, argnums=tuple(range(len(arrays)))))(*arrays)

    def total(self, a, b):
        return (a * b).sum()


class TensorFlow(NumPy):
    name, differentiable, compiles = "tensorflow", True, True

    def array(self, x, dtype=None):
        return tf.constant(rounded(x, dtype) if dtype else np.asarray(x))

    def numpy(self, x):
        return super().numpy(x.numpy() if isinstance(x, tf.Tensor | tf.Variable) else x)

    def owns(self, x):
        return isinstance(x, tf.Tensor)

    def dtype(self, x):
        return x.dtype.name

    def device(self, x):
        return x.device.rsplit("/", 1)[-1]

    def matmul(self, a, b):
        return tf.matmul(a, b)

    def exp(self, a):
        return tf.exp(a)

    def log(self, a):
        return tf.math.log(a)

    def tanh(self, a):
        return tf.tanh(a)

    def sqrt(self, a):
        return tf.sqrt(a)

    def where(self, condition, a, b):
        return tf.where(condition, a, b)

    def max(self, a):
        return tf.reduce_max(a, -1, keepdims=True)

    def sum(self, a):
        return tf.reduce_sum(a, -1, keepdims=True)

    def swap(self, a):
        return tf.linalg.matrix_transpose(a)

    def repeat(self, a, times):
        return tf.repeat(a, times, axis=-3)

    def compiled(self, function):
        return tf.function(function)

    def gradients(self, function, *arrays):
        with tf.GradientTape() as tape:
            for x in arrays:
                tape.watch(x)
            result = function(*arrays)
        return [tf.convert_to_tensor(x) for x in tape.gradient(result, arrays, unconnected_gradients="zero")]

    def total(self, a, b):
        return tf.reduce_sum(a * b)


ALL = {framework.name: framework for framework in (NumPy(), Torch(), Jax(), TensorFlow())}
