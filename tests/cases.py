"""The one table of cases: what is given to attention, said once and read by the library and by the oracle.

Every axis has its own number, so that no two can be confused: B=2 H=6 G=2 T=5 S=7 D=3 E=11, and S=5 T=7 where
there are more queries than keys.
"""

import dataclasses
import functools
import zlib
from typing import NamedTuple

import numpy as np
import pytest

import frameworks
import oracle

B, H, G, T, S, D, E = 2, 6, 2, 5, 7, 3, 11


class Rule(NamedTuple):
    """A rule of `regard.masks` or `regard.biases` by its name and its arguments; arrays are NumPy's."""

    name: str
    arguments: tuple = ()
    options: tuple = ()

    def __and__(self, other):
        return Rule("&", (self, other))

    def __or__(self, other):
        return Rule("|", (self, other))

    def __invert__(self):
        return Rule("~", (self,))

    def for_library(self, module, array):
        """As a value of `regard.masks` or `regard.biases`, its arrays made by `array`."""
        given = [x.for_library(module, array) if isinstance(x, Rule) else x for x in self.arguments]
        if self.name == "&":
            return given[0] & given[1]
        if self.name == "|":
            return given[0] | given[1]
        if self.name == "~":
            return ~given[0]
        given = [array(x) if isinstance(x, np.ndarray) else x for x in given]
        return given[0] if self.name == "as it is" else getattr(module, self.name)(*given, **dict(self.options))

    def for_oracle(self, rounding):
        """As a function of the oracle, its floating point numbers rounded as the library receives them."""
        given = [x.for_oracle(rounding) if isinstance(x, Rule) else x for x in self.arguments]
        names = {"&": oracle.both, "|": oracle.either, "~": oracle.neither}
        if self.name in names:
            return names[self.name](*given)
        given = [rounding(x) if isinstance(x, np.ndarray) else x for x in given]
        if self.name == "as it is":
            return oracle.boolean(given[0]) if given[0].dtype == bool else oracle.array(given[0])
        return getattr(oracle, self.name)(*given, **dict(self.options))


def rule(name, *arguments, **options):
    return Rule(name, arguments, tuple(options.items()))


def numbers(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def flags(*shape, seed=0):
    """Booleans, two of three true."""
    return np.random.default_rng([1, seed, *shape]).random(shape) < 2 / 3


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """One call of attention."""

    name: str
    query: tuple = (B, H, T, D)
    key: tuple = (B, G, S, D)
    value: tuple = (B, G, S, E)
    mask: Rule | None = None
    bias: Rule | None = None
    sinks: np.ndarray | None = None
    options: dict = dataclasses.field(default_factory=dict)
    magnitude: float = 1.0
    dtype: str = "float32"
    layout: str = "plain"

    @functools.cached_property
    def arrays(self):
        """Query, key and value, rounded to the dtype."""
        random = np.random.default_rng(zlib.crc32(self.name.split("-as-")[0].encode()))
        query, key, value = (random.standard_normal(shape) for shape in (self.query, self.key, self.value))
        arrays = [query * self.magnitude, key * self.magnitude, value]
        if self.layout == "expanded":
            arrays = [np.broadcast_to(x[:1], x.shape) for x in arrays]
        return [frameworks.rounded(x, self.dtype) for x in arrays]

    def arguments(self, backend):
        """Query, key, value and the keyword arguments for `regard.attention`, as the framework's arrays."""
        import regard

        def array(x):
            return backend.array(x, self.dtype if x.dtype.kind == "f" else None)

        positional = [_laid_out(x, self.layout, backend) for x in self.arrays]
        keywords = dict(self.options)
        if self.mask is not None:
            keywords["mask"] = self.mask.for_library(regard.masks, array)
        if self.bias is not None:
            keywords["bias"] = self.bias.for_library(regard.biases, array)
        if self.sinks is not None:
            keywords["sinks"] = array(self.sinks)
        return positional, keywords

    @property
    def oracle_arguments(self):
        """Query, key, value and the keyword arguments for `oracle.attention`, in float64."""

        def rounding(x):
            return frameworks.rounded(x, self.dtype).astype(np.float64) if x.dtype.kind == "f" else x

        keywords = dict(self.options)
        for name, given in (("mask", self.mask), ("bias", self.bias)):
            if given is not None:
                keywords[name] = given.for_oracle(rounding)
        if self.sinks is not None:
            keywords["sinks"] = rounding(self.sinks)
        return [x.astype(np.float64) for x in self.arrays], keywords

    @functools.cached_property
    def expected(self):
        """The oracle's result."""
        arrays, keywords = self.oracle_arguments
        return oracle.attention(*arrays, **keywords)

    def __repr__(self):
        return self.name


def _laid_out(x, layout, backend):
    """The array of a framework, in a memory layout that is not the usual one."""
    if layout == "transposed":  # (B, T, H, D) in memory, seen as (B, H, T, D)
        inner = backend.array(np.ascontiguousarray(np.swapaxes(x, -3, -2)), str(x.dtype))
        if backend.name == "torch":
            return inner.transpose(-3, -2)
        if backend.name == "tensorflow":
            return backend.array(x, str(x.dtype))
        return inner.swapaxes(-3, -2)
    if layout == "strided":
        wide = np.zeros((*x.shape[:-2], x.shape[-2] * 2, x.shape[-1] * 3), x.dtype)
        wide[..., ::2, 1::3] = x
        return backend.array(wide, str(x.dtype))[..., ::2, 1::3]
    if layout == "reversed" and backend.name != "torch":  # negative strides, which torch cannot hold
        return backend.array(np.ascontiguousarray(x[..., ::-1, :]), str(x.dtype))[..., ::-1, :]
    made = backend.array(x, str(x.dtype))
    if layout == "readonly" and backend.name == "numpy":
        made = made.copy()
        made.flags.writeable = False
    if layout == "expanded":  # one example seen B times: a stride of zero
        if backend.name == "torch":
            return made[:1].expand(made.shape)
        if backend.name == "numpy":
            return np.broadcast_to(made[:1], made.shape)
    return made


def _shapes(*leading, heads=H, groups=G, queries=T, keys=S, width=D, value_width=E):
    return {
        "query": (*leading, *(() if heads is None else (heads,)), queries, width),
        "key": (*leading, *(() if groups is None else (groups,)), keys, width),
        "value": (*leading, *(() if groups is None else (groups,)), keys, value_width),
    }


_WIDE = {"queries": T, "keys": S}
_SQUARE = {"queries": S, "keys": S}
_TALL = {"queries": S, "keys": T}
_EVEN = rule("lengths", np.array([S, 3]))
_SEGMENTS = rule("segments", np.array([[0, 0, 1, 1, 2], [0, 1, 1, 3, 3]]), np.array([[0, 0, 0, 1, 1, 2, 2], [1] * 7]))


def _masked_part(*shape):
    """A bias with -inf in some entries and in the whole of one query's row."""
    bias = numbers(*shape)
    bias[~flags(*shape)] = -np.inf
    bias[..., 1, :] = -np.inf
    return bias


def _table():
    for name, lengths in (("wide", _WIDE), ("square", _SQUARE), ("tall", _TALL)):
        yield Case(name, **_shapes(B, **lengths))
        yield Case(f"{name}-causal", **_shapes(B, **lengths), options={"causal": True})
        yield Case(f"{name}-masks-causal", **_shapes(B, **lengths), mask=rule("causal"))

    # heads and leading axes
    yield Case("heads-each-its-own", **_shapes(B, groups=H))
    yield Case("heads-share-one", **_shapes(B, groups=1))
    yield Case("heads-one", **_shapes(B, heads=1, groups=1))
    yield Case("axes-2", **_shapes(heads=None, groups=None))
    yield Case("axes-2-causal", **_shapes(heads=None, groups=None), options={"causal": True})
    yield Case("axes-2-lengths", **_shapes(heads=None, groups=None), mask=rule("lengths", 4))
    yield Case(
        "axes-2-segments", **_shapes(heads=None, groups=None, **_SQUARE), mask=rule("segments", np.arange(S) // 3)
    )
    yield Case("axes-2-alibi", **_shapes(heads=None, groups=None), bias=rule("alibi", np.array([0.3])))
    yield Case("axes-3", **_shapes(B, heads=None, groups=None))
    yield Case("axes-3-heads-grouped", **_shapes())
    yield Case("axes-3-lengths", **_shapes(B, heads=None, groups=None), mask=_EVEN)
    yield Case("axes-3-segments", **_shapes(B, heads=None, groups=None), mask=_SEGMENTS)
    yield Case("axes-3-sinks", **_shapes(), sinks=numbers(H))
    yield Case("axes-5", **_shapes(3, B))
    yield Case("axes-5-causal", **_shapes(3, B, **_TALL), options={"causal": True})
    yield Case("axes-5-lengths", **_shapes(3, B), mask=rule("lengths", np.array([[1, 2], [7, 5], [0, 3]])))
    yield Case("broadcast-key", query=(3, B, H, T, D), key=(B, G, S, D), value=(B, G, S, E))
    yield Case("broadcast-both", query=(3, 1, H, T, D), key=(1, B, G, S, D), value=(3, B, G, S, E))
    yield Case("broadcast-value", query=(B, H, T, D), key=(B, G, S, D), value=(G, S, E))
    yield Case("broadcast-query", query=(H, T, D), key=(B, G, S, D), value=(1, G, S, E))
    yield Case(
        "broadcast-lengths", query=(H, T, D), key=(B, G, S, D), value=(B, G, S, E), mask=_EVEN, options={"causal": True}
    )

    # sizes of none and of one
    yield Case("size-0-queries", **_shapes(B, queries=0))
    yield Case("size-0-keys", **_shapes(B, keys=0))
    yield Case("size-0-keys-causal", **_shapes(B, keys=0), options={"causal": True})
    yield Case("size-0-both", **_shapes(B, queries=0, keys=0), options={"causal": True})
    yield Case("size-0-batch", **_shapes(0))
    yield Case("size-0-value-width", **_shapes(B, value_width=0))
    yield Case("size-0-width", **_shapes(B, width=0), options={"scale": 1.0})
    yield Case("size-1-query", **_shapes(B, queries=1), options={"causal": True})
    yield Case("size-1-key", **_shapes(B, keys=1), options={"causal": True})
    yield Case("size-1-batch", **_shapes(1))
    yield Case("size-1-width", **_shapes(B, width=1))
    yield Case("size-1-value-width", **_shapes(B, value_width=1))
    yield Case("size-1-everything", **_shapes(1, heads=1, groups=1, queries=1, keys=1, width=1, value_width=1))

    # lengths that are no multiple of any block
    long = functools.partial(_shapes, heads=2, groups=1)
    yield Case("long-257", **long(queries=257, keys=257))
    yield Case("long-257-causal", **long(queries=257, keys=257), options={"causal": True})
    yield Case("long-300-by-257-causal", **long(queries=300, keys=257), options={"causal": True})
    yield Case("long-129-by-300-window", **long(queries=129, keys=300), mask=rule("window", 17, 5))
    yield Case("long-257-window-causal", **long(queries=257, keys=257), mask=rule("window", 31, 0))
    yield Case(
        "long-257-segments",
        **long(queries=257, keys=257),
        mask=rule("segments", np.repeat(np.arange(5), [64, 3, 120, 1, 69])),
    )
    yield Case("long-257-relative", **long(queries=257, keys=257), bias=rule("relative", numbers(32, 2)))
    yield Case(
        "long-300-lengths", **long(B, queries=300, keys=300), mask=rule("lengths", np.array([259, 1])) & rule("causal")
    )

    # masks
    for left, right in ((2, 1), (0, 0), (None, 1), (3, None), (None, None), (100, 100)):
        yield Case(f"window-{left}-{right}", mask=rule("window", left, right))
    yield Case("window-tall", **_shapes(B, **_TALL), mask=rule("window", 1, 0))
    yield Case("lengths", mask=_EVEN)
    yield Case("lengths-empty-example", mask=rule("lengths", np.array([0, S])))
    yield Case("lengths-of-queries", mask=rule("lengths", np.array([4, 6]), np.array([5, 2])))
    yield Case("segments", mask=_SEGMENTS)
    yield Case(
        "segments-one-array", **_shapes(B, **_SQUARE), mask=rule("segments", np.arange(B * S).reshape(B, S) // 3)
    )
    yield Case("segments-shared", **_shapes(B, **_SQUARE), mask=rule("segments", np.array([0, 0, 1, 2, 2, 2, 3])))
    yield Case("prefix", mask=rule("prefix", 3))
    yield Case("prefix-none", mask=rule("prefix", 0))
    yield Case("prefix-all", mask=rule("prefix", S))
    yield Case("pairs", mask=rule("pairs", (3, 6, 4), slice(1, 4)))
    yield Case("pairs-keys", mask=rule("pairs", None, [0, 6]))
    yield Case("pairs-queries", mask=rule("pairs", slice(4, None), None))
    for shape in (
        (S,),
        (1,),
        (T, S),
        (1, S),
        (T, 1),
        (H, 1, 1),
        (H, T, S),
        (1, T, S),
        (B, 1, 1, S),
        (B, 1, T, S),
        (B, H, 1, S),
        (B, H, T, 1),
        (B, H, T, S),
    ):
        text = "x".join(map(str, shape))
        yield Case(f"boolean-{text}", mask=rule("boolean", flags(*shape)))
        if shape in ((S,), (T, S), (B, 1, 1, S), (B, H, T, S)):
            yield Case(f"array-{text}", mask=rule("as it is", flags(*shape)))
    yield Case("boolean-none", mask=rule("boolean", np.zeros((T, S), bool)))
    yield Case("boolean-empty-rows", mask=rule("boolean", flags(B, H, T, 1) & flags(S)))
    yield Case("array-and-causal", mask=rule("as it is", flags(B, 1, T, S)), options={"causal": True})
    yield Case("and", mask=rule("causal") & _EVEN)
    yield Case("or", mask=rule("causal") | rule("prefix", 4))
    yield Case("not-window", mask=~rule("window", 1, 1))
    yield Case("not-lengths", mask=~_EVEN)
    yield Case("not-pairs", mask=~rule("pairs", [2, 5], [1, 2, 6]))
    yield Case("not-pairs-tall", **_shapes(B, **_TALL), mask=~rule("pairs", 3, None))
    yield Case("not-pairs-and-lengths", mask=~rule("pairs", None, 2) & _EVEN)
    yield Case("not-causal", **_shapes(B, **_SQUARE), mask=~rule("causal"))
    yield Case("not-boolean", mask=~rule("boolean", flags(H, T, S)))
    yield Case("or-lengths-of-prefix-language-model", mask=(rule("causal") | rule("prefix", 3)) & _EVEN)
    yield Case("and-or-not", mask=(rule("window", 2, 2) & _SEGMENTS) | ~(rule("causal") | rule("boolean", flags(S))))
    yield Case("and-window-lengths-causal", mask=rule("window", 2, 2) & _EVEN, options={"causal": True})

    # scores
    yield Case("scale", options={"scale": 0.37})
    yield Case("scale-zero", options={"scale": 0.0})
    yield Case("scale-negative", options={"scale": -1.3, "causal": True})
    yield Case("cosine", options={"similarity": "cosine"})
    yield Case("cosine-scale", options={"similarity": "cosine", "scale": 9.0, "causal": True})
    yield Case("softcap", options={"softcap": 1.7})
    yield Case("softcap-scale-bias", bias=rule("array", numbers(T, S)), options={"softcap": 0.9, "scale": 2.0})
    yield Case("softcap-causal", options={"softcap": 1.7, "causal": True})
    yield Case("large", magnitude=6.0)
    yield Case("huge", magnitude=100.0)
    yield Case("huge-causal", **_shapes(B, **_TALL), magnitude=100.0, options={"causal": True})
    yield Case("huge-softcap", magnitude=100.0, options={"softcap": 30.0})
    yield Case("tiny", magnitude=1e-3)

    # biases
    for shape in ((S,), (T, S), (T, 1), (H, 1, S), (H, T, S), (B, 1, T, S), (B, H, T, S)):
        yield Case("bias-" + "x".join(map(str, shape)), bias=rule("array", numbers(*shape)))
    yield Case("bias-as-it-is", bias=rule("as it is", numbers(H, T, S)))
    yield Case("bias-as-it-is-causal", bias=rule("as it is", numbers(B, 1, T, S)), mask=_EVEN, options={"causal": True})
    yield Case("bias-minus-infinity", bias=rule("array", _masked_part(H, T, S)))
    yield Case("bias-huge", bias=rule("array", 1000 * numbers(H, T, S)))
    yield Case("alibi", bias=rule("alibi", 2.0 ** -np.arange(1, H + 1)))
    yield Case("alibi-tall-causal", **_shapes(B, **_TALL), bias=rule("alibi", numbers(H)), options={"causal": True})
    yield Case("relative", bias=rule("relative", numbers(32, H)))
    yield Case("relative-few-buckets", bias=rule("relative", numbers(8, H), max_distance=5))
    yield Case(
        "relative-one-way",
        bias=rule("relative", numbers(8, H), bidirectional=False, max_distance=6),
        options={"causal": True},
    )
    yield Case("relative-tall", **_shapes(B, **_TALL), bias=rule("relative", numbers(8, H), max_distance=6))

    # sinks
    yield Case("sinks", sinks=numbers(H))
    yield Case("sinks-causal-tall", **_shapes(B, **_TALL), sinks=numbers(H), options={"causal": True})
    yield Case("sinks-large", sinks=20 + numbers(H))
    yield Case("sinks-softcap-window", sinks=numbers(H), mask=rule("window", 2, 0), options={"softcap": 1.1})
    yield Case(
        "everything",
        sinks=numbers(H),
        mask=rule("window", 3, 3) & _EVEN,
        bias=rule("alibi", 2.0 ** -np.arange(1, H + 1)),
        options={"causal": True, "scale": 0.7, "softcap": 2.5, "similarity": "cosine"},
    )

    # memory
    for layout in ("readonly", "transposed", "strided", "reversed", "expanded"):
        shapes = {**_shapes(B), **({"key": (B, H, S, D), "value": (B, H, S, E)} if layout == "transposed" else {})}
        yield Case(f"layout-{layout}", **shapes, layout=layout, options={"causal": True})


BASE = {case.name: case for case in _table()}

IN_EVERY_DTYPE = [
    "wide",
    "tall-causal",
    "long-257-causal",
    "window-2-1",
    "lengths",
    "boolean-2x6x5x7",
    "cosine",
    "softcap-causal",
    "large",
    "huge",
    "alibi",
    "bias-6x5x7",
    "sinks",
    "everything",
]


def _in(dtype, case):
    return dataclasses.replace(case, name=f"{case.name}-as-{dtype}", dtype=dtype)


ALL = BASE | {
    case.name: case
    for dtype in ("float64", "float16", "bfloat16")
    for case in (_in(dtype, BASE[name]) for name in IN_EVERY_DTYPE)
}

# What the questions about weights are asked of: one case for each kind of score, and rows of every kind.
FOR_QUESTIONS = [
    "wide",
    "tall-causal",
    "axes-2-causal",
    "broadcast-both",
    "size-0-keys",
    "size-1-query",
    "long-300-by-257-causal",
    "long-129-by-300-window",
    "and-window-lengths-causal",
    "boolean-empty-rows",
    "cosine-scale",
    "softcap-scale-bias",
    "large",
    "huge-causal",
    "bias-minus-infinity",
    "alibi",
    "relative",
    "sinks-causal-tall",
    "everything",
    "wide-as-float64",
    "tall-causal-as-bfloat16",
    "everything-as-float16",
]

# JAX compiles each case anew, most of a second each. These are the ones that every run asks of it: a case for each
# path; the rest of the table is marked slow for JAX, and runs on the other three.
JAX_IN_EVERY_RUN = {
    "wide",
    "tall-causal",
    "axes-2-causal",
    "axes-5-lengths",
    "broadcast-both",
    "size-0-keys",
    "size-1-everything",
    "long-300-by-257-causal",
    "long-129-by-300-window",
    "lengths-empty-example",
    "segments",
    "boolean-2x1x5x7",
    "array-5x7",
    "and-or-not",
    "cosine-scale",
    "softcap-scale-bias",
    "huge-causal",
    "bias-minus-infinity",
    "alibi",
    "relative",
    "sinks-causal-tall",
    "everything",
    "wide-as-float64",
    "long-257-causal-as-float64",
    "everything-as-float16",
    "tall-causal-as-bfloat16",
}


def everywhere(names, quick=JAX_IN_EVERY_RUN):
    """Pairs of a framework and a case, for `parametrize(("backend", "case"), ..., indirect=["backend"])`."""
    return [
        pytest.param(
            framework,
            ALL[name],
            id=f"{framework}-{name}",
            marks=[pytest.mark.slow] if framework == "jax" and name not in quick else [],
        )
        for framework in frameworks.ALL
        for name in names
    ]
