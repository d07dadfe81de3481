"""Derivatives of higher order, forwards, and under the transforms of each framework, against dense attention's own."""

import functools

import numpy as np
import pytest

import frameworks
import regard
from regard import biases, masks

torch, jax, jnp, tf = frameworks.torch, frameworks.jax, frameworks.jnp, frameworks.tf
HEADS, T, S, D = 2, 5, 7, 3
WINDOW = np.tril(np.triu(np.ones((T, S), bool), S - T - 2), S - T + 1)
SLOPES = np.array([0.5, 0.25])
DISTANCE = np.abs(np.arange(T)[:, None] + S - T - np.arange(S)[None])

# Each: options of `regard.attention`, and the dense scores' bias and mask.
OPTIONS = {
    "plain": ({}, 0.0, True),
    "blockwise": ({"kernel": "blockwise"}, 0.0, True),
    "masked": ({"mask": masks.window(2, 1)}, 0.0, WINDOW),
    "biased": ({"bias": biases.alibi(SLOPES)}, -SLOPES[:, None, None] * DISTANCE, True),
}
ANSWERS = {
    "output": lambda out, weights: out,
    "logsumexp": lambda out, weights: weights.logsumexp,
    "entropy": lambda out, weights: weights.entropy(),
    "received": lambda out, weights: weights.received(),
    "max": lambda out, weights: weights.max(),
    "mass": lambda out, weights: weights.mass([0, 3, 4]),
    "pool": lambda out, weights: weights.pool(2, 3),
    "distance": lambda out, weights: weights.distance(),
    "tile": lambda out, weights: weights[..., 1:3, 2:6],
    "dense": lambda out, weights: weights.dense(),
}


def pooled(weights):
    rows, columns = (((np.arange(size) + 1) * bins - 1) // size for size, bins in ((T, 2), (S, 3)))
    of_rows = (rows == np.arange(2)[:, None]) / np.bincount(rows)[:, None]
    of_columns = (columns == np.arange(3)[:, None]) / np.bincount(columns)[:, None]
    return of_rows @ weights @ of_columns.T


def arrays(backend):
    random = np.random.default_rng(0)
    return [backend.array(random.normal(size=(HEADS, n, D)), "float64") for n in (T, S, S)]


class Dense:
    """Attention as it is written, in verbs that differentiate by themselves."""

    def __init__(self, backend, options):
        self.backend = backend
        _, self.bias, self.seen = OPTIONS[options]

    def __call__(self, answer, query, key, value):
        xp, constant = self.backend, self.backend.array
        scores = xp.matmul(query, xp.swap(key)) / D**0.5 + constant(np.broadcast_to(self.bias, (HEADS, T, S)).copy())
        seen = constant(np.broadcast_to(self.seen, (HEADS, T, S)).copy())
        exponentials = xp.where(seen, xp.exp(scores), constant(np.zeros((HEADS, T, S))))
        total = xp.sum(exponentials)
        weights = exponentials / total
        logarithm = xp.where(seen, scores - xp.log(total), constant(np.zeros((HEADS, T, S))))
        picked = {
            "output": lambda: xp.matmul(weights, value),
            "logsumexp": lambda: xp.log(total)[..., 0],
            "entropy": lambda: -xp.sum(weights * logarithm)[..., 0],
            "received": lambda: xp.sum(xp.swap(weights))[..., 0],
            "max": lambda: xp.max(weights)[..., 0],
            "mass": lambda: xp.sum(weights * constant(np.isin(np.arange(S), [0, 3, 4]).astype(float)))[..., 0],
            "pool": lambda: xp.matmul(xp.matmul(constant(ROWS), weights), constant(COLUMNS)),
            "distance": lambda: xp.sum(weights * constant(DISTANCE.astype(float)))[..., 0],
            "tile": lambda: weights[:, 1:3, 2:6],
            "dense": lambda: weights,
        }
        return picked[answer]()


def shares(size, bins):
    places = ((np.arange(size) + 1) * bins - 1) // size
    return (places == np.arange(bins)[:, None]) / np.bincount(places)[:, None]


ROWS = np.broadcast_to(shares(T, 2), (HEADS, 2, T)).copy()
COLUMNS = np.broadcast_to(shares(S, 3).T, (HEADS, S, 3)).copy()


def lazy(options, answer, query, key, value):
    return ANSWERS[answer](*regard.attention(query, key, value, **OPTIONS[options][0]))


def penalty(backend, function, inputs):
    """The gradients, by all inputs, of the squared length of all gradients of a sum of squares."""

    def first(*inputs):
        return list(backend.gradients(lambda *given: backend.total(*[function(*given)] * 2), *inputs))

    def squared(*inputs):
        parts = [backend.total(each, each) for each in first(*inputs)]
        return parts[0] + parts[1] + parts[2]

    if backend.name == "torch":
        leaves = [array.clone().requires_grad_() for array in inputs]
        one = torch.autograd.grad((function(*leaves) ** 2).sum(), leaves, create_graph=True, allow_unused=True)
        total = sum((each**2).sum() for each in one if each is not None)
        return torch.autograd.grad(total, leaves, materialize_grads=True)
    if backend.name == "jax":
        return jax.grad(squared, argnums=(0, 1, 2))(*inputs)
    with tf.GradientTape() as outer:
        outer.watch(inputs)
        with tf.GradientTape() as inner:
            inner.watch(inputs)
            total = tf.reduce_sum(function(*inputs) ** 2)
        one = inner.gradient(total, inputs, unconnected_gradients="zero")
        total = sum(tf.reduce_sum(each**2) for each in one)
    return outer.gradient(total, inputs, unconnected_gradients="zero")


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("options", OPTIONS)
def test_second_derivatives_are_those_of_dense_attention(differentiable, options, answer):
    with differentiable.scope("float64"):
        inputs = arrays(differentiable)
        mine = penalty(differentiable, functools.partial(lazy, options, answer), inputs)
        dense = penalty(differentiable, functools.partial(Dense(differentiable, options), answer), inputs)
        for one, other in zip(mine, dense, strict=True):
            other = differentiable.numpy(other)
            np.testing.assert_allclose(
                differentiable.numpy(one), other, rtol=1e-8, atol=1e-9 * max(abs(other).max(), 1)
            )


def test_second_derivatives_of_several_blocks(differentiable):
    """So many positions that there are several blocks, which have to come together in each derivative."""
    random = np.random.default_rng(0)
    with differentiable.scope("float64"):
        inputs = [differentiable.array(random.normal(size=(2, 1100, 2)), "float64") for _ in range(3)]

        def mine(query, key, value):
            output, weights = regard.attention(query, key, value, kernel="blockwise")
            return output * weights.entropy()[..., None]

        def dense(query, key, value):
            xp = differentiable
            exponentials = xp.exp(xp.matmul(query, xp.swap(key)) / 2**0.5)
            weights = exponentials / xp.sum(exponentials)
            return xp.matmul(weights, value) * -xp.sum(weights * xp.log(weights))

        found, wanted = (penalty(differentiable, function, inputs) for function in (mine, dense))
        for one, other in zip(found, wanted, strict=True):
            other = differentiable.numpy(other)
            np.testing.assert_allclose(differentiable.numpy(one), other, rtol=1e-6, atol=1e-8 * abs(other).max())


@pytest.mark.parametrize("answer", ["output", "logsumexp", "entropy", "received", "dense"])
@pytest.mark.parametrize("options", ["plain", "blockwise", "masked"])
def test_pytorchs_own_check_of_second_derivatives(options, answer):
    inputs = [array.requires_grad_() for array in arrays(frameworks.ALL["torch"])]
    assert torch.autograd.gradgradcheck(functools.partial(lazy, options, answer), inputs)


OF_TORCH = {
    "grad": lambda f, q, k, v: torch.func.grad(lambda q: (f(q, k, v) ** 2).sum())(q),
    "vmap": lambda f, q, k, v: torch.func.vmap(lambda q: f(q, k, v))(torch.stack([q, 2 * q])),
    "jacrev": lambda f, q, k, v: torch.func.jacrev(lambda q: f(q, k, v))(q),
    "jacfwd": lambda f, q, k, v: torch.func.jacfwd(lambda q: f(q, k, v))(q),
    "jvp": lambda f, q, k, v: torch.func.jvp(lambda q: f(q, k, v), (q,), (q.cos(),))[1],
    "hessian-vector": lambda f, q, k, v: torch.func.jvp(
        torch.func.grad(lambda q: (f(q, k, v) ** 2).sum()), (q,), (q.cos(),)
    )[1],
    "grad-of-vmap": lambda f, q, k, v: torch.func.grad(
        lambda q: (torch.func.vmap(lambda q: f(q, k, v))(torch.stack([q, 2 * q])) ** 2).sum()
    )(q),
    "vmap-of-grad": lambda f, q, k, v: torch.func.vmap(torch.func.grad(lambda q: (f(q, k, v) ** 2).sum()))(
        torch.stack([q, 2 * q])
    ),
    "several-gradients": lambda f, q, k, v: torch.autograd.functional.jacobian(lambda q: f(q, k, v), q, vectorize=True),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # of PyTorch's own forward mode
@pytest.mark.parametrize("answer", ["output", "logsumexp", "entropy", "received", "tile"])
@pytest.mark.parametrize("options", ["plain", "masked"])
@pytest.mark.parametrize("transform", OF_TORCH)
def test_pytorchs_transforms(transform, options, answer):
    backend = frameworks.ALL["torch"]
    query, key, value = arrays(backend)
    query, key, value = (
        array.repeat(1, 4, 1)[:, :20] if transform == "grad" else array for array in (query, key, value)
    )
    if transform == "grad":  # long enough for PyTorch's shortest way, which a transform must not take
        mine = torch.func.grad(lambda q: (regard.attention(q, key, value)[0] ** 2).sum())(query)
        weights = (query.clone().requires_grad_(),)
        dense = (torch.softmax(weights[0] @ key.mT / D**0.5, -1) @ value) ** 2
        torch.testing.assert_close(mine, torch.autograd.grad(dense.sum(), weights)[0])
        query, key, value = arrays(backend)
    apply = OF_TORCH[transform]
    mine = apply(functools.partial(lazy, options, answer), query, key, value)
    dense = apply(lambda q, k, v: OF_DENSE(options, answer, q, k, v), query, key, value)
    torch.testing.assert_close(mine, dense)


def OF_DENSE(options, answer, query, key, value):  # noqa: N802
    """As `Dense`, in what PyTorch's transforms take: no copies by NumPy."""
    _, bias, seen = OPTIONS[options]
    scores = query @ key.mT / D**0.5 + torch.as_tensor(np.asarray(bias))
    scores = torch.where(torch.as_tensor(np.asarray(seen)), scores, -torch.inf)
    weights = torch.softmax(scores, -1)
    safe = torch.where(weights > 0, weights, 1.0)
    return {
        "output": weights @ value,
        "logsumexp": torch.logsumexp(scores, -1),
        "entropy": -(weights * safe.log()).sum(-1),
        "received": weights.sum(-2),
        "tile": weights[..., 1:3, 2:6],
    }[answer]


OF_JAX = {
    "jvp": lambda f, q: jax.jvp(f, (q,), (jnp.cos(q),))[1],
    "jit-jvp": lambda f, q: jax.jit(lambda q: jax.jvp(f, (q,), (jnp.cos(q),))[1])(q),
    "linearize": lambda f, q: jax.linearize(f, q)[1](jnp.cos(q)),
    "hessian": lambda f, q: jax.hessian(lambda q: (f(q) ** 2).sum())(q),
    "hessian-vector": lambda f, q: jax.jvp(jax.grad(lambda q: (f(q) ** 2).sum()), (q,), (jnp.cos(q),))[1],
    "vmap-of-grad": lambda f, q: jax.vmap(jax.grad(lambda q: (f(q) ** 2).sum()))(jnp.stack([q, 2 * q])),
}


@pytest.mark.parametrize("answer", ["output", "logsumexp", "entropy", "received", "pool", "tile", "asked"])
@pytest.mark.parametrize("options", ["plain", "masked"])
@pytest.mark.parametrize("transform", OF_JAX)
def test_jaxs_transforms_where_ranks_must_agree(transform, options, answer):
    backend = frameworks.ALL["jax"]
    with backend.scope("float64"):
        query, key, value = arrays(backend)

        def mine(q):
            if answer == "asked":  # on the way to the output
                return regard.attention(q, key, value, ask=("entropy",), **OPTIONS[options][0])[1].entropy()
            return lazy(options, answer, q, key, value)

        with jax.numpy_rank_promotion("raise"):
            found = OF_JAX[transform](mine, query)
        dense = Dense(backend, options)
        wanted = OF_JAX[transform](lambda q: dense("entropy" if answer == "asked" else answer, q, key, value), query)
        np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-9)


COMPILED = ["output", "logsumexp", "entropy", "received", "tile"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated.*:DeprecationWarning")  # of PyTorch's compiler itself
@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("answer", COMPILED)
@pytest.mark.parametrize("options", ["plain", "blockwise", "masked"])
def test_one_whole_graph_of_pytorch(options, answer, gradients):
    torch.compiler.reset()
    query, key, value = (array.float() for array in arrays(frameworks.ALL["torch"]))
    function = functools.partial(lazy, options, answer)
    results = []
    for call in (torch.compile(function, fullgraph=True, backend="aot_eager"), function):
        leaf = query.clone().requires_grad_(gradients)
        found = call(leaf, key, value)
        results.append(torch.autograd.grad((found**2).sum(), leaf)[0] if gradients else found)
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kernel", ["auto", "blockwise"])
def test_autocast_hands_over_what_it_hands_to_pytorchs_own(kernel):
    backend = frameworks.ALL["torch"]
    query, key, value = (array.float() for array in arrays(backend))
    with torch.autocast("cpu", torch.bfloat16):
        for given in ((query, key, value), (query, key.bfloat16(), value.half())):
            output, weights = regard.attention(*given, kernel=kernel)
            theirs = torch.nn.functional.scaled_dot_product_attention(*given)
            assert output.dtype == theirs.dtype == weights.dtype == torch.bfloat16
            torch.testing.assert_close(output, theirs, rtol=2e-2, atol=2e-2)
        entropy = regard.attention(query, key, value, kernel=kernel)[1].entropy()
    rounded = [array.bfloat16().double() for array in (query, key)]
    wanted = torch.softmax(rounded[0] @ rounded[1].mT / D**0.5, -1)
    # Questions are answered in float32, also while products of float32 are those of half precision.
    torch.testing.assert_close(entropy.double(), -(wanted * wanted.log()).sum(-1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kernel", ["auto", "blockwise"])
@pytest.mark.parametrize("sizes", [(0, 5, 7), (2, 0, 7), (2, 5, 0)])
def test_axes_of_size_0_go_backward_as_in_pytorchs_own(sizes, kernel):
    batch, queries, keys = sizes
    results = []
    attend = torch.nn.functional.scaled_dot_product_attention
    for call in (lambda *given: regard.attention(*given, kernel=kernel)[0], attend):
        leaves = [torch.ones(batch, 3, n, 4, requires_grad=True) for n in (queries, keys, keys)]
        output = call(*leaves)
        output.sum().backward()
        results.append([output.detach(), *(leaf.grad for leaf in leaves)])
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs)


class NoGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, array):
        return array.clone()

    @staticmethod
    def backward(ctx, gradient):
        return None


@pytest.mark.parametrize("options", [{}, {"kernel": "blockwise"}, {"bias": torch.zeros(20, 20)}])
def test_a_gradient_that_is_none_stays_none(options):
    query, key, value = (torch.ones(1, 2, 20, 4) for _ in range(3))
    query.requires_grad_()
    NoGradient.apply(regard.attention(query, key, value, **options)[0]).sum().backward()
    assert query.grad is None


@pytest.mark.parametrize("call", [lambda q: regard.attention(q, q, q)[0], lambda q: regard.attention(q, q, q)[1].max()])
def test_tensorflows_forward_mode_is_refused(call):
    query = frameworks.ALL["tensorflow"].array(np.ones((2, 3, 4)))
    with (
        tf.autodiff.ForwardAccumulator(query, query),
        pytest.raises(regard.errors.UnsupportedError, match="need backward differentiation in TensorFlow"),
    ):
        call(query)
