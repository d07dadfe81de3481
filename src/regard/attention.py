"""The public function: check, plan, run."""

from __future__ import annotations

import functools
import math
import numbers
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from regard import _asking, _check, _kernels, biases, masks
from regard._backends import backend_of, get_backend, unwrapped
from regard._backends.protocol import Array, Backend
from regard._blockwise import Drop, Scores
from regard._layout import Layout, Operand
from regard._problem import Problem
from regard._questions import LogSumExp
from regard.weights import AttentionWeights


class Attention(NamedTuple):
    """The output `(..., H, T, E)` and the weights `(..., H, T, S)`, which are computed as they are asked for."""

    output: Array
    weights: AttentionWeights


def attention(
    query: Array,
    key: Array,
    value: Array,
    *,
    mask: Any = None,
    causal: bool = False,
    bias: Any = None,
    scale: float | None = None,
    similarity: str = "dot",
    softcap: float | None = None,
    sinks: Any = None,
    dropout: float = 0.0,
    seed: Any = None,
    kernel: str = "auto",
    ask: Sequence[str | tuple[str, Any]] = (),
) -> Attention:
    """Attention: each query's sum of the values, weighted by the softmax of its similarity with each key.

    output = softmax(scale * query key^T) value, in memory linear in T and S.

    Shapes:
        B: batch, any number of leading axes, which broadcast as in a matrix product; every one is optional.
        H: query heads; G: key heads, where G divides H, and query head h reads key head h // (H / G).
        T: queries; S: keys; D: width of query and key; E: width of value.

    Args:
        query: `(B, H, T, D)`, an array of NumPy, PyTorch, JAX or TensorFlow; `(T, D)` and `(B, T, D)` too.
        key: `(B, G, S, D)`, of the same framework and type.
        value: `(B, G, S, E)`, likewise.
        mask: Who may see whom: a value of `regard.masks`, or a boolean array that broadcasts to `(B, H, T, S)`,
            True = may see.
        causal: Shorthand for `masks.causal()`, combined with `mask` by and.
        bias: Added to the scaled score: a value of `regard.biases`, or an array that broadcasts to `(B, H, T, S)`.
        scale: Factor on the similarity; default 1 / sqrt(D) for `"dot"`, 1 for `"cosine"`.
        similarity: `"dot"`, or `"cosine"`: query and key are divided by their lengths first.
        softcap: c > 0: the score becomes c tanh(score / c), after `scale` and before `bias`.
        sinks: `(H,)`, one more score for each head, which takes part in the softmax's sum and has no value; rows
            then sum to less than 1.
        dropout: Probability in [0, 1) that a weight is dropped in the output; `weights` are those before dropout.
        seed: What makes dropout repeatable, needed with it: a whole number, or an array `(n,)` of some, which a
            compiled function may compute (a `keras.random.SeedGenerator`'s next, `jax.random.key_data(key)`).
        kernel: `"auto"`, or a kernel by name, which then runs, or raises with the reason why it cannot:
            `"fused"` (the framework's own: PyTorch's on a CPU or a CUDA GPU, cuDNN through JAX), `"compiled"` (loops
            that Numba compiles, for NumPy and for PyTorch on a CPU; see `regard.compile`) or `"blockwise"` (everything,
            everywhere).
        ask: Questions that the weights will be asked, by name, or with an argument as a pair, such as `("entropy",
            "received", ("topk", 8), ("pool", (64, 64)))`: the kernels `"compiled"` and `"blockwise"` answer them on the
            way to the output, which saves a pass over the scores.

    Returns:
        `(output, weights)`. The output has the type of query; the weights are an `AttentionWeights`.

    Raises:
        ShapeError: Shapes that do not fit together.
        DtypeError: Arrays of several frameworks, types or devices, or of a type that is not floating point.
        UnsupportedError: A kernel that cannot do what is asked, with the reason.

    Edges:
        Causal corner: query i sees key j when j <= i + S - T, so the last query sees every key.
        A query that may see no key gives zeros: output 0, weights 0, log-sum-exp -inf.
        inf and NaN reach exactly the rows that see them; with a mask, such a value makes its whole rows NaN.
        Sums are accumulated in float32 or, for float64, in float64.

    Cost:
        Time O(T S (D + E)) for each head, less where a mask leaves tiles empty; memory O(T + S), forward and backward.

    Source:
        Vaswani et al. 2017, "Attention Is All You Need", arXiv 1706.03762, equation 1. Grouped heads: Ainslie et
        al. 2023, arXiv 2305.13245. Softcap: Gemma 2, arXiv 2408.00118, section 2. Sinks: Xiao et al. 2023,
        arXiv 2309.17453, and as a learned score a head, Agarwal et al. 2025 (gpt-oss), arXiv 2508.10925.

    Example:
        >>> import numpy as np, regard
        >>> rng = np.random.default_rng(0)
        >>> query, key, value = rng.normal(size=(3, 5, 4))
        >>> output, weights = regard.attention(query, key, value)
        >>> output.shape, weights.shape
        ((5, 4), (5, 5))
        >>> bool(np.allclose(weights @ value, output))
        True
    """
    names, parameters = ((), {}) if type(ask) is tuple and not ask else _asking.read(ask)
    asks = bool(names or parameters)
    causal = _check.flag(_check.WHO, "causal", causal)
    if (
        (not asks or kernel == "fused")
        and mask is bias is softcap is sinks is seed is None
        and (scale is None or (type(scale) is float and -math.inf < scale < math.inf))
        and type(similarity) is type(kernel) is str
        and similarity == "dot"
        and type(dropout) in (float, int)
        and dropout == 0
        and kernel in ("auto", "fused")
    ):
        found = _at_once(query, key, value, causal, scale, kernel)
        if found is not None:
            return found
    query, key, value = (unwrapped(array) for array in (query, key, value))
    xp = get_backend(_check.WHO, query=query, key=key, value=value)
    query, key, value = xp.promoted(*(xp.asarray(array, array) for array in (query, key, value)))
    _check.types(xp, query=query, key=key, value=value)
    _check.dropout(xp, dropout, seed, query)
    _check.kernel(kernel, _kernels.NAMES)
    problem, values = make_problem(
        xp, query, key, value,
        mask=mask, causal=causal, bias=bias, scale=scale, similarity=similarity, softcap=softcap,
    )  # fmt: skip
    drop = Drop(float(dropout)) if dropout else None
    asked = tuple(_asking.named(problem, "attention", names, parameters).values()) if asks else ()
    asked = asked if sinks is None else ()  # sinks change the weights after the kernel
    chosen = _kernels.choose(kernel, problem, values, drop, bool(asked))
    problem = replace(problem, kernel="compiled" if chosen.name == "compiled" else kernel)
    seed = _seed(problem, seed) if dropout else None
    output, logsumexp, answers = _kernels.run(chosen, problem, values, drop, seed, asked)
    if sinks is not None:
        output, logsumexp, problem = _with_sinks(problem, output, logsumexp, sinks)
    output = problem.layout.to_caller(xp, output, (problem.layout.queries, xp.shape(value)[-1]))
    weights = AttentionWeights(problem, logsumexp, chosen.name, chosen.reason, answers)
    return Attention(xp.cast(output, xp.dtype_name(query)), weights)


def attended(weights: AttentionWeights, value: Array) -> Array:
    """The sums of values `(..., G, S, E)` by weights, `(..., H, T, E)`, by the kernel that `attention` would take."""
    problem = weights._problem
    xp, place = problem.xp, problem.layout
    values = place.key(xp, xp.cast(value, xp.dtype_name(problem.query.array)))
    output, *_ = _kernels.run(_kernels.choose("auto", problem, values, None), problem, values, None, None)
    return xp.cast(place.to_caller(xp, output, (place.queries, xp.shape(value)[-1])), problem.given)


def _at_once(query: Any, key: Any, value: Any, causal: bool, scale: float | None, kernel: str) -> Attention | None:
    """The short way, for short inputs: the output first, and all else when the weights are asked about."""
    xp = backend_of(query)
    if xp is None:
        return None
    found: Any = xp.plain(query, key, value, causal, scale, functools.partial(_by_blocks, xp, causal, scale))
    if found is not None:
        found = (*found, _kernels.Choice("fused", _kernels.reason(kernel, xp)))
    elif kernel == "auto" and not causal:
        found = _kernels.at_once(xp, query, key, value, scale)
    if found is None:
        return None
    output, logsumexp, chosen = found
    later = functools.partial(_afterwards, xp, query, key, value, causal, scale, logsumexp, xp.has_gradient(output))
    return Attention(output, AttentionWeights(later, None, chosen.name, chosen.reason))


def _by_blocks(xp: Backend, causal: bool, scale: float | None, query: Array, key: Array, value: Array) -> Array:
    """The output alone, as its caller counts axes."""
    problem, values = make_problem(xp, query, key, value, causal=causal, scale=scale)
    output = problem.layout.to_caller(xp, problem.attend(values)[0], (problem.layout.queries, xp.shape(value)[-1]))
    return xp.cast(output, problem.given)


def _afterwards(
    xp: Backend, query: Array, key: Array, value: Array, causal: bool, scale: float | None, logsumexp: Array,
    has_gradient: bool,
) -> tuple[Problem, Array | None]:  # fmt: skip
    if not has_gradient:  # whatever mode the weights are asked about in
        query, key, value = (xp.stop_gradient(array) for array in (query, key, value))
    with xp.recording():
        problem, _ = make_problem(xp, query, key, value, causal=causal, scale=scale)
    return problem, _kernels.exact(problem, xp.reshape(logsumexp, (*problem.rows_shape, -1)))


def make_problem(
    xp: Backend,
    query: Array,
    key: Array,
    value: Array,
    *,
    mask: Any = None,
    causal: bool = False,
    bias: Any = None,
    scale: float | None = None,
    similarity: str = "dot",
    softcap: float | None = None,
) -> tuple[Problem, Operand]:
    """The arguments of `attention`, checked, in block space: the problem, and the values."""
    place = _check.layout(xp.shape(query), xp.shape(key), xp.shape(value))
    _check.similarity(similarity)
    softcap = _check.number("softcap", softcap, positive=True)
    factor = _check.number("scale", scale)
    given = xp.dtype_name(query)
    if similarity == "cosine":
        query, key, value = _unit(xp, query), _unit(xp, key), _at_least_float32(xp, value)
    if factor is None:
        width = xp.shape(query)[-1]
        factor = 1.0 if similarity == "cosine" else 1 / math.sqrt(max(width, 1))
    the_bias, the_mask = _rules(unwrapped(bias), _mask(unwrapped(mask), causal))
    leaves = [
        *(() if the_bias is None else placed("bias", xp, place, the_bias, query)),
        *(() if the_mask is None else placed("mask", xp, place, the_mask, query)),
    ]
    bias_form = None if the_bias is None else the_bias.form
    scores = Scores(factor, softcap, bias_form, None if the_mask is None else the_mask.form)
    problem = Problem(xp, place, scores, place.query(xp, query), place.key(xp, key), tuple(leaves), given)
    return problem, place.key(xp, value)


def _unit(xp: Backend, array: Array) -> Array:
    """Rows of length one; a row of zeros stays zero."""
    wide = _at_least_float32(xp, array)
    squares = xp.sum(wide * wide, -1)
    return wide / xp.sqrt(xp.where(squares == 0, 1.0, squares))


def _at_least_float32(xp: Backend, array: Array) -> Array:
    return array if xp.dtype_name(array) in ("float32", "float64") else xp.cast(array, "float32")


def _bias(bias: Any) -> biases.Bias | None:
    return bias if bias is None or isinstance(bias, biases.Bias) else biases.array(bias)


def _rules(bias: Any, mask: masks.Mask | None) -> tuple[biases.Bias | None, masks.Mask | None]:
    """Bias and mask; PyTorch's object for a causal corner is a mask, wherever it is given."""
    corner = masks.corner(bias)
    if corner is None:
        return _bias(bias), mask
    return None, corner if mask is None else mask & corner


def _mask(mask: Any, causal: bool) -> masks.Mask | None:
    found = mask if mask is None or isinstance(mask, masks.Mask) else masks.boolean(mask)
    if not causal:
        return found
    return masks.causal() if found is None else masks.causal() & found


def _seed(problem: Problem, seed: Any) -> Operand:
    """As one number of 32 bits."""
    xp, place = problem.xp, problem.layout
    if isinstance(seed, numbers.Integral):
        seed = np.array(_words(int(seed)), np.uint32).view(np.int32)
    several = xp.reshape(xp.asarray(seed, problem.query.array), (-1,))
    bits = several[:1]
    for number in range(1, xp.shape(several)[0]):
        bits = xp.mix(bits, several[number : number + 1])
    return place.operand(xp, xp.reshape(xp.cast(bits, "int32"), (1,) * len(place.space)))


def _words(seed: int) -> list[int]:
    """A whole number as words of 32 bits, the lowest first."""
    words = [seed & 0xFFFFFFFF]
    seed >>= 32
    while seed not in (0, -1):
        words.append(seed & 0xFFFFFFFF)
        seed >>= 32
    return words


def placed(name: str, xp: Backend, place: Layout, rule: Any, like: Array) -> list[Operand]:
    """The arrays of a mask or a bias, checked, in block space."""
    leaves = [unwrapped(leaf) for leaf in rule.leaves]
    for leaf in leaves:
        _check.leaf(name, xp, backend_of(leaf), leaf, like)
    return rule.form.place(xp, place, [_of(xp, leaf, like) for leaf in leaves])


def _of(xp: Backend, leaf: Any, like: Array) -> Array:
    """An array, numbers or lists of them as an array of the framework, by way of NumPy, which takes all alike."""
    return xp.asarray(leaf if backend_of(leaf) is not None else np.asarray(leaf), like)


def _with_sinks(problem: Problem, output: Array, logsumexp: Array | None, sinks: Any) -> tuple[Array, Array, Problem]:
    """The same with one more score for each head, `(H,)`."""
    xp, place = problem.xp, problem.layout
    sinks = unwrapped(sinks)
    _check.leaf("sinks", xp, backend_of(sinks), sinks, problem.query.array)
    sinks = _of(xp, sinks, problem.query.array)
    _check.per_head("sinks", xp, place, sinks, 0)
    return with_score(problem, output, logsumexp, place.from_heads(xp, sinks[..., None, None], 2))


def with_score(problem: Problem, output: Array, logsumexp: Array | None, score: Array) -> tuple[Array, Array, Problem]:
    """The same with one more score that has no value, for each row in block space, `(*lead, R, T or 1, 1)`.

    L' = log(exp L + exp score), and output and weights shrink by exp(L - L'): plain arithmetic of O(T).
    """
    xp, place = problem.xp, problem.layout
    score = xp.cast(score, problem.dtype)
    if logsumexp is None:
        [logsumexp] = problem.ask([LogSumExp()])
    along = xp.sum(logsumexp, -1)[..., 0]
    before = xp.where(along == -math.inf, 0.0, along)
    largest = xp.maximum(before, score)
    share = before - largest - xp.log(xp.exp(before - largest) + xp.exp(score - largest))
    output = output * xp.cast(xp.exp(share), xp.dtype_name(output))[..., None]
    *others, last = (logsumexp[..., part] for part in range(xp.shape(logsumexp)[-1]))
    logsumexp = xp.concatenate([each[..., None] for each in (*others, last - share)], -1)
    return output, logsumexp, replace(problem, share=place.operand(xp, share))
