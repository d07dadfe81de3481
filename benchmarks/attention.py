"""One framework's attention against what its users call today; prints rows as JSON. `run.py` calls it.

python benchmarks/attention.py torch full|brief|quick
"""

from __future__ import annotations

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np
from measure import Program, in_turn

import regard
from regard import masks

HEADS = 8
LENGTHS = (128, 512, 2048, 8192, 16384)
WIDTHS = (64, 128)
SECONDS = 1.5  # for each program of a row, and at least three runs of it
DENSE_LIMIT = 6 * 2**30  # bytes of a peer's n x n arrays above which it is left out


def rows(framework: str, extent: str) -> list[dict]:
    """Every length, width and type; `brief`: beyond 2048 one of each only; `quick`: none of that."""
    found = []
    for width in WIDTHS[:1] if extent == "quick" else WIDTHS:
        for dtype in ("float32", "bfloat16") if framework != "numpy" else ("float32",):
            all_lengths = extent == "full" or (extent == "brief" and (width, dtype) == (64, "float32"))
            for length in LENGTHS if all_lengths else (128, 512, 2048):
                for what, ours, peer, name in programs(framework, length, width, dtype):
                    found.append(compare(framework, what, length, width, dtype, ours, peer, name))
    return found


def programs(framework: str, length: int, width: int, dtype: str):
    """What is compared: `(what, ours, the peer's or None where it does not fit, the peer's name)`."""
    makers = {
        "torch": torch_programs, "jax": jax_programs, "tensorflow": tensorflow_programs, "numpy": numpy_programs,
        "questions": question_programs, "watch": watch_programs, "edit": edit_programs, "keras": keras_programs,
    }  # fmt: skip
    return makers[framework](length, width, dtype)


def compare(
    framework: str, what: str, length: int, width: int, dtype: str, ours: Program, peer: Program | None, name: str
) -> dict:
    programs = {"regard": ours} if peer is None else {"regard": ours, "peer": peer}
    times = in_turn(programs, SECONDS)
    row = {
        "framework": framework, "what": what, "n": length, "d": width, "dtype": dtype, "peer": name,
        "regard_ms": times["regard"] * 1e3,
    }  # fmt: skip
    if peer is not None:
        row |= {
            "peer_ms": times["peer"] * 1e3,
            "speed": times["peer"] / times["regard"],
        }
    print(describe(row), file=sys.stderr, flush=True)
    return row


def describe(row: dict) -> str:
    beside = f"{row['peer_ms']:10.1f} ms  {row['speed']:5.2f}x" if "speed" in row else "        (does not fit)"
    return (
        f"{row['framework']:10} {row['what']:18} n={row['n']:<6} d={row['d']:<4} {row['dtype']:9} "
        f"{row['regard_ms']:10.1f} ms  {row['peer']}: {beside}"
    )


def arrays(length: int, width: int, count: int = 3) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    heads = HEADS if length < 16384 else 2
    return [random.normal(size=(1, heads, length, width)).astype(np.float32) for _ in range(count)]


def fits(array: np.ndarray, copies: int) -> bool:
    heads, length = array.shape[1:3]
    return copies * heads * length * length * 4 <= DENSE_LIMIT


def torch_programs(length: int, width: int, dtype: str):
    import torch
    from torch.nn import functional

    query, key, value, up = (torch.tensor(a).to(getattr(torch, dtype)) for a in arrays(length, width, 4))
    peer = "F.scaled_dot_product_attention"

    def gradients(function):
        def program():
            inputs = [a.detach().requires_grad_() for a in (query, key, value)]
            function(*inputs).backward(up)
            return [a.grad for a in inputs]

        return program

    def plain(query, key, value):
        return regard.attention(query, key, value).output

    with torch.no_grad():
        yield (
            "forward",
            lambda: plain(query, key, value),
            lambda: functional.scaled_dot_product_attention(query, key, value),
            peer,
        )
    with torch.enable_grad():
        yield "forward+backward", gradients(plain), gradients(functional.scaled_dot_product_attention), peer


def jax_programs(length: int, width: int, dtype: str):
    import jax
    import jax.numpy as jnp

    query, key, value = (jnp.asarray(a, dtype) for a in arrays(length, width))
    theirs = tuple(jnp.swapaxes(a, 1, 2) for a in (query, key, value))
    peer = "jax.nn.dot_product_attention"

    def compiled(function, inputs, grad):
        def loss(*inputs):
            return function(*inputs).astype(jnp.float32).sum()

        program = jax.jit(jax.grad(loss, (0, 1, 2)) if grad else function)
        return lambda: jax.block_until_ready(program(*inputs))

    def plain(query, key, value):
        return regard.attention(query, key, value).output

    for what, grad in (("forward", False), ("forward+backward", True)):
        other = compiled(jax.nn.dot_product_attention, theirs, grad) if fits(query, 4 if grad else 2) else None
        yield what, compiled(plain, (query, key, value), grad), other, peer


def tensorflow_programs(length: int, width: int, dtype: str):
    import keras
    import tensorflow as tf

    query, key, value = (tf.cast(a, dtype) for a in arrays(length, width))
    theirs = tuple(tf.transpose(a, (0, 2, 1, 3)) for a in (query, key, value))
    peer = "keras.ops.dot_product_attention"

    def compiled(function, inputs, grad):
        @tf.function
        def graph(*inputs):
            if not grad:
                return function(*inputs)
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                loss = tf.reduce_sum(tf.cast(function(*inputs), tf.float32))
            return tape.gradient(loss, inputs)

        return lambda: graph(*inputs)

    def plain(query, key, value):
        return regard.attention(query, key, value).output

    for what, grad in (("forward", False), ("forward+backward", True)):
        other = compiled(keras.ops.dot_product_attention, theirs, grad) if fits(query, 5 if grad else 3) else None
        yield what, compiled(plain, (query, key, value), grad), other, peer


def numpy_programs(length: int, width: int, dtype: str):
    query, key, value = arrays(length, width)

    def softmax():
        scores = query @ key.swapaxes(-1, -2) / np.sqrt(width).astype(np.float32)
        exponentials = np.exp(scores - scores.max(-1, keepdims=True))
        return (exponentials / exponentials.sum(-1, keepdims=True)) @ value

    peer = softmax if fits(query, 4) else None
    yield "forward", lambda: regard.attention(query, key, value).output, peer, "softmax(q k^T) v"


def question_programs(length: int, width: int, dtype: str):
    """Four questions at once against dense weights and against the output alone; a window against full attention.

    And a step of training whose loss has the mean entropy in it, against one whose loss has the output alone.
    """
    import torch
    from torch.nn import functional

    query, key, value, up = (torch.tensor(a) for a in arrays(length, width, 4))

    def asked():
        return regard.attention(query, key, value).weights.ask("entropy", "received", topk=8, pool=(64, 64))

    def on_the_way():
        return regard.attention(query, key, value, ask=("entropy", "received", "max"))

    def all_on_the_way():
        return regard.attention(query, key, value, ask=("entropy", "received", ("topk", 8), ("pool", (64, 64))))

    def dense():
        weights = torch.softmax(query @ key.mT / width**0.5, -1)
        entropy = -(weights * torch.where(weights > 0, weights, 1).log()).sum(-1)
        pooled = functional.avg_pool2d(weights, length // 64)
        return entropy, weights.sum(-2), weights.topk(8, -1), pooled

    def window():
        return regard.attention(query, key, value, mask=masks.window(128, 128)).output

    def fused():
        return functional.scaled_dot_product_attention(query, key, value)

    def step(loss):
        def program():
            inputs = [array.detach().requires_grad_() for array in (query, key, value)]
            with torch.enable_grad():
                loss(*inputs).backward()
            return [array.grad for array in inputs]

        return program

    def with_entropy(*inputs):
        output, weights = regard.attention(*inputs, ask=("entropy",))
        return (output * up).sum() + 0.1 * weights.entropy().mean()

    def without(*inputs):
        return (functional.scaled_dot_product_attention(*inputs) * up).sum()

    with torch.no_grad():
        yield "4 questions", asked, dense if fits(query, 4) else None, "dense weights"
        yield "4 questions on the way", all_on_the_way, dense if fits(query, 4) else None, "dense weights"
        yield "output+questions", asked, fused, "the output alone"
        yield "output+3 on the way", on_the_way, fused, "the output alone"
        yield "output+4, top and map", all_on_the_way, fused, "the output alone"
        yield "window of 256", window, fused, "full fused"
        yield "step with entropy", step(with_entropy), step(without), "fused, output alone"


def watch_programs(length: int, width: int, dtype: str):
    """What all layers of an encoder of BERT's size attend to: watched, by eager attentions; and recording alone."""
    import torch
    from transformers import BertConfig, BertModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    torch.manual_seed(0)
    layers, heads = BertConfig().num_hidden_layers, BertConfig().num_attention_heads
    models = {
        kind: BertModel(BertConfig(max_position_embeddings=length, attn_implementation=kind)).eval()
        for kind in ("sdpa", "eager")
    }
    ids = torch.randint(1000, 20000, (1, length))

    def watched():
        with torch.no_grad(), regard.watch(models["sdpa"]) as seen:
            models["sdpa"](ids)
            return [weights.ask("received", "entropy") for weights in seen]

    def eager():
        with torch.no_grad():
            attentions = models["eager"](ids, output_attentions=True).attentions
            return [(weights.sum(-2), -(weights * weights.clamp(min=1e-30).log()).sum(-1)) for weights in attentions]

    def recorded():
        with torch.no_grad(), regard.watch(models["sdpa"]):
            return models["sdpa"](ids)

    def plain():
        with torch.no_grad():
            return models["sdpa"](ids)

    dense = (layers + 3) * heads * length * length * 4
    yield "watch, 2 questions", watched, eager if dense <= DENSE_LIMIT else None, "eager attentions"
    yield "watch, recording", recorded, plain, "the model alone"


def edit_programs(length: int, width: int, dtype: str):
    """An encoder of BERT's size without one head, with another mask for it, and with keys that no head may see."""
    import torch
    from transformers import BertConfig, BertModel
    from transformers.utils import logging

    from regard import masks

    logging.set_verbosity_error()
    torch.manual_seed(0)
    model = BertModel(BertConfig(max_position_embeddings=length)).eval()
    ids = torch.randint(1000, 20000, (1, length))

    def plain():
        with torch.no_grad():
            return model(ids)

    def under(**options):
        def program():
            with torch.no_grad(), regard.edit(model, **options):
                return model(ids)

        return program

    keys = ~masks.pairs(None, range(100, 116))
    yield "edit, one head away", under(layers=3, heads=5, output="zero"), plain, "the model alone"
    yield "edit, one head's mask", under(layers=3, heads=5, mask=keys), plain, "the model alone"
    yield "edit, keys away for all", under(mask=keys), plain, "the model alone"


def keras_programs(length: int, width: int, dtype: str):
    """A layer's compiled forward pass, and a step of `fit`; alone, and with statistics of the scores.

    Statistics are each query's entropy and what each key receives; while fitting, their means are metrics.
    """
    import keras
    import tensorflow as tf

    from regard.nn.keras import MultiHeadAttention

    units = HEADS * width
    states = np.random.default_rng(0).normal(size=(1, length, units)).astype(np.float32)
    nothing = np.zeros((1, HEADS, length), np.float32)
    inputs = keras.Input((length, units))
    keras.utils.set_random_seed(0)

    def mean(_, statistic):
        return keras.ops.mean(statistic)

    def model(outputs):
        found, several = keras.Model(inputs, outputs), isinstance(outputs, list)
        found.compile(
            "sgd", loss=["mse", None, None] if several else "mse", metrics=[[], [mean], [mean]] if several else None
        )
        return found

    def ours(layer):
        output, found = layer(inputs, inputs, return_attention_scores=("entropy", "received"))
        return [output, found["entropy"], found["received"]]

    def theirs(layer):
        output, scores = layer(inputs, inputs, return_attention_scores=True)
        entropy = -keras.ops.sum(scores * keras.ops.log(keras.ops.maximum(scores, 1e-30)), -1)
        return [output, entropy, keras.ops.sum(scores, -2)]

    def forward(found):
        run = tf.function(lambda states: found(states))
        return lambda: run(tf.constant(states))

    def step(found, targets):
        return lambda: found.train_on_batch(states, targets)

    def layer(kind):
        return kind(HEADS, width)

    peer, dense = "keras.layers.MultiHeadAttention", keras.layers.MultiHeadAttention
    plain = [model(layer(kind)(inputs, inputs)) for kind in (MultiHeadAttention, dense)]
    asked = [model(ours(layer(MultiHeadAttention))), model(theirs(layer(dense)))]
    head = np.empty((1, HEADS, length, 0))
    rows = (
        ("layer forward", 3, [forward(each) for each in plain]),
        ("layer forward, statistics", 4, [forward(each) for each in asked]),
        ("layer fit", 5, [step(each, states) for each in plain]),
        ("layer fit, statistics", 6, [step(each, [states, nothing, nothing]) for each in asked]),
    )
    for what, copies, (mine, other) in rows:
        yield what, mine, other if fits(head, copies) else None, peer


def layers(extent: str) -> list[dict]:
    lengths = (128, 512, 2048) if extent == "quick" else (128, 512, 2048, 8192)
    return [
        compare("keras", what, length, 64, "float32", *those)
        for length in lengths
        for what, *those in keras_programs(length, 64, "float32")
    ]


def watching(extent: str) -> list[dict]:
    lengths = (128, 512) if extent == "quick" else (128, 512, 2048, 8192)
    return [
        compare("torch", what, length, 64, "float32", *those)
        for length in lengths
        for what, *those in watch_programs(length, 64, "float32")
    ]


def editing(extent: str) -> list[dict]:
    lengths = (128,) if extent == "quick" else (128, 512, 2048)
    return [
        compare("torch", what, length, 64, "float32", *those)
        for length in lengths
        for what, *those in edit_programs(length, 64, "float32")
    ]


def questions(quick: bool) -> list[dict]:
    lengths = {
        "4 questions": 4096, "4 questions on the way": 4096, "output+questions": 8192, "output+3 on the way": 4096,
        "output+4, top and map": 4096, "window of 256": 16384, "step with entropy": 4096,
    }  # fmt: skip
    return [
        compare("torch", what, length, 64, "float32", *those)
        for asked, full in lengths.items()
        for length in [min(full, 2048) if quick else full]
        for what, *those in question_programs(length, 64, "float32")
        if what == asked
    ]


def main() -> None:
    framework, extent = sys.argv[1:]
    regard.compile()
    others = {
        "questions": lambda: questions(extent == "quick"),
        "watch": lambda: watching(extent),
        "edit": lambda: editing(extent),
        "keras": lambda: layers(extent),
    }
    found = others[framework]() if framework in others else rows(framework, extent)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
