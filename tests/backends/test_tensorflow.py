"""What graphs need: blocks of one shape share a loop, so that a graph does not grow with the length."""

import logging

import numpy as np
import pytest
import tensorflow as tf

import regard
from regard import _plan, masks


def arrays(length, heads=3):
    random = np.random.default_rng(0)
    return tuple(tf.constant(random.normal(size=(2, heads, length, 5)), tf.float32) for _ in range(3))


MASKS = {
    "none": None,
    "causal": masks.causal(),
    "window": masks.window(20, 7),
    "segments": masks.segments(np.repeat([[0, 1, 2], [3, 4, 5]], [41, 50, 12], axis=1)),
    "lengths": masks.lengths([103, 31]),
}


@pytest.mark.parametrize(
    "mask",
    [pytest.param(mask, id=name, marks=[pytest.mark.slow] * (name != "causal")) for name, mask in MASKS.items()],
)
def test_a_graph_gives_what_eager_gives_where_there_are_many_blocks(mask, monkeypatch):
    monkeypatch.setitem(_plan.TILE_BYTES, "tensorflow", 4 * 32 * 103)  # a head and 32 rows

    def everything(query, key, value):
        with tf.GradientTape() as tape:
            tape.watch((query, key, value))
            output, weights = regard.attention(query, key, value, mask=mask)
            answers = weights.ask("entropy", "received", "max", topk=3, pool=(4, 5))
            loss = tf.reduce_sum(output**2) + tf.reduce_sum(answers["received"] ** 2)
        largest = weights.pool(4, 5, reduce="max")
        return (
            output,
            *answers["topk"],
            *list(answers.values())[:3],
            answers["pool"],
            largest,
            *tape.gradient(loss, (query, key, value)),
        )

    inputs = arrays(103)
    for ours, theirs in zip(tf.function(everything)(*inputs), everything(*inputs), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def nodes(length):
    @tf.function
    def graph(query, key, value):
        output, weights = regard.attention(query, key, value)
        return output, weights.received()

    definition = graph.get_concrete_function(*arrays(length)).graph.as_graph_def()
    return len(definition.node) + sum(len(function.node_def) for function in definition.library.function)


def test_a_graph_does_not_grow_with_the_length():
    assert nodes(16384) < 1.2 * nodes(4096)


def test_autograph_has_nothing_to_complain_about(caplog):
    with caplog.at_level(logging.WARNING, logger="tensorflow"):
        tf.function(lambda query: regard.attention(query, query, query).weights.entropy())(arrays(11)[0])
    assert "AutoGraph" not in caplog.text
