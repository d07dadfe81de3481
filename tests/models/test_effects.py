"""`effects` against runs of the same model with weights or masks changed by hand, and gradients of gates of our own."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers.utils import logging

import regard
from models.families import ENCODERS, PAIRS, make, spread, text
from regard import masks
from regard.errors import ConfigError, DataError, DtypeError, OutOfRangeError, ShapeError


@pytest.fixture(autouse=True)
def _quiet():
    logging.set_verbosity_error()
    yield
    logging.set_verbosity_warning()


class Layer(torch.nn.Module):
    """Attention of 4 heads, which a test may replace by a plain formula of its own."""

    def __init__(self, causal):
        super().__init__()
        self.project, self.join = torch.nn.Linear(12, 36), torch.nn.Linear(12, 12)
        self.causal = causal
        self.by_hand = None

    def forward(self, x, real):
        query, key, value = self.project(x).unflatten(-1, (3, 4, 3)).permute(2, 0, 3, 1, 4)
        visible = real[:, None, None] & torch.ones(x.shape[1], x.shape[1]).bool().tril(x.shape[1] * (not self.causal))
        if self.by_hand is None:
            output = torch.nn.functional.scaled_dot_product_attention(query, key, value, visible)
        else:
            output = self.by_hand(query, key, value, visible)
        return x + self.join(output.transpose(1, 2).flatten(-2))


class Model(torch.nn.Module):
    def __init__(self, causal=False):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.causal = Layer(causal), Layer(causal), causal
        self.last = torch.nn.Linear(12, 3)

    def forward(self, x, attention_mask):
        real = attention_mask.bool()
        states = torch.tanh(self.second(torch.tanh(self.first(x, real)), real))
        return self.last(states)


def plainly(query, key, value, visible, gates=None, head=None, mean=None):
    """The formula; a gate for each query and key multiplies what is exponentiated, one for each head its output."""
    scores = (query @ key.mT / query.shape[-1] ** 0.5).masked_fill(~visible, -torch.inf)
    weights = scores.exp() * (1 if gates is None else gates)
    output = weights / weights.sum(-1, keepdim=True) @ value
    return output if head is None else head * output + (0 if mean is None else (1 - head) * mean(output))


def inputs(side="right", count=3, length=6):
    torch.manual_seed(1)
    x = torch.randn(count, length, 12, dtype=torch.float64) * 2
    real = torch.arange(length) < torch.tensor([length, 4, 5])[:count, None]
    return {"x": x, "attention_mask": (real if side == "right" else real.flip(1)).long()}


def first_logit(side="right"):
    """The first class's logit at a real position."""
    return lambda answer: answer[:, 0 if side == "right" else -1, 0]


def by_hand(model, given, score, change):
    """Scores where `change(layer number)` gives each layer its formula."""
    for number, layer in enumerate((model.first, model.second)):
        layer.by_hand = change(number)
    try:
        return score(model(**given))
    finally:
        model.first.by_hand = model.second.by_hand = None


def effect_by_hand(model, given, score, change):
    with torch.no_grad():
        before = by_hand(model, given, score, lambda _: plainly)
        return (by_hand(model, given, score, change) - before).numpy()


def without_head(number, head, mean=None):
    gate = torch.ones(4, 1, 1, dtype=torch.float64)
    gate[head] = 0
    return lambda layer: (lambda *all: plainly(*all, head=gate, mean=mean)) if layer == number else plainly


def hidden(places):
    """No query may see these: query (or all), key of each example."""

    def formula(query, key, value, visible):
        visible = visible.expand(*query.shape[:1], 1, *visible.shape[-2:]).clone()
        for example, (row, column) in enumerate(places):
            visible[example, :, slice(None) if row is None else row, column] = False
        return plainly(query, key, value, visible)

    return lambda _: formula


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("output", ["zero", "mean"])
def test_heads_and_layers_are_runs_without_each(side, output):
    model, given, score = Model().double(), inputs(side), first_logit(side)
    real = given["attention_mask"].double()[:, None, :, None]
    mean = None if output == "zero" else lambda each: (each * real).sum(2, True) / real.sum(2, True)
    found = regard.effects(model, given, score, output=output)
    assert found.each.shape == (3, 2, 4)
    for layer in (0, 1):
        for head in range(4):
            wanted = effect_by_hand(model, given, score, without_head(layer, head, mean))
            assert np.allclose(found.each[:, layer, head], wanted, atol=1e-12)
            assert found.effect[layer, head] == pytest.approx(wanted.mean())
    assert np.abs(found.effect).min() > 1e-5
    whole = regard.effects(model, given, score, "layers", output=output, layers="second")
    wanted = effect_by_hand(model, given, score, without_head(1, slice(None), mean))
    assert np.allclose(whole.each[:, 0], wanted, atol=1e-12)
    assert (whole.layers, whole.names) == ([1], ["second"])


@pytest.mark.parametrize("side", ["right", "left"])
def test_tokens_and_pairs_are_runs_with_masks_changed_by_hand(side):
    model, given, score = Model().double(), inputs(side), first_logit(side)
    real = [np.flatnonzero(each) for each in given["attention_mask"]]
    found = regard.effects(model, given, score, "tokens")
    assert found.each.shape == (3, 6)
    assert np.isnan(found.each).tolist() == [[False] * 6, [False] * 4 + [True] * 2, [False] * 5 + [True]]
    for token in range(4):
        wanted = effect_by_hand(model, given, score, hidden([(None, places[token]) for places in real]))
        assert np.allclose(found.each[:, token], wanted, atol=1e-12)
    pairs = [(0, 2), (-1, 1), (1, 5)]
    two = regard.effects(model, given, score, "pairs", pairs=pairs)
    for number, (query, key) in enumerate(pairs[:2]):
        wanted = effect_by_hand(model, given, score, hidden([(places[query], places[key]) for places in real]))
        assert np.allclose(two.each[:, number], wanted, atol=1e-12)
    assert np.isnan(two.each[:, 2]).tolist() == [False, True, True]
    assert two.rows()[1]["query"] == -1
    assert np.abs(two.effect).min() > 1e-6


def gradient_of_gates(model, given, score, shape, use):
    gates = [torch.ones(shape, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    by_hand(model, given, score, lambda layer: lambda *all: plainly(*all, **{use: gates[layer]})).sum().backward()
    return -torch.stack([gate.grad for gate in gates]).numpy()  # (layers, B, ...)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("causal", [False, True])
def test_estimates_are_gradients_of_gates(side, causal, frozen):
    model, given = Model(causal).double().requires_grad_(not frozen), inputs(side)
    score = (lambda answer: answer[:, -1, 0]) if side == "left" else lambda answer: answer[:, 3, 0]
    if causal and side == "left":  # rows in which nothing is seen, which the formula does not know
        given["attention_mask"] = torch.ones_like(given["attention_mask"])
    heads = gradient_of_gates(model, given, score, (3, 4, 1, 1), "head")[..., 0, 0]
    found = regard.effects(model, given, score)
    assert np.allclose(found.estimates, heads.transpose(1, 0, 2), atol=1e-12)
    layers = regard.effects(model, given, score, "layers")
    assert np.allclose(layers.estimates, heads.sum(2).T, atol=1e-12)
    pairs = gradient_of_gates(model, given, score, (3, 4, 6, 6), "gates").sum((0, 2))  # over layers and heads
    tokens = regard.effects(model, given, score, "tokens")
    two = regard.effects(model, given, score, "pairs", pairs=[(0, 2), (-1, 1)])
    for example, mask in enumerate(given["attention_mask"]):
        real = np.flatnonzero(mask)
        assert np.allclose(tokens.estimates[example, : len(real)], pairs[example][:, real].sum(0), atol=1e-12)
        wanted = [pairs[example][real[0], real[2]], pairs[example][real[-1], real[1]]]
        assert np.allclose(two.estimates[example], wanted, atol=1e-12)
    assert np.abs(found.estimate).min() > 1e-5
    assert found.agreement > 0.5
    assert all(parameter.grad is None or not frozen for parameter in model.parameters())


def test_no_gradient_is_left_and_no_estimate_where_there_is_none():
    model, given = Model().double(), inputs()
    regard.effects(model, given, first_logit(), "tokens")
    assert all(parameter.grad is None for parameter in model.parameters())
    counted = regard.effects(model, given, lambda answer: (answer[:, 0].argmax(-1) == 0).double())
    assert counted.estimate is None
    assert np.isnan(counted.agreement)
    assert "estimate" not in str(counted)
    assert regard.effects(model, given, first_logit(), estimate=False).estimate is None


@pytest.mark.parametrize("name", [*ENCODERS, *PAIRS])
@pytest.mark.parametrize("implementation", ["sdpa", "regard"])
def test_families_as_one_edit_after_the_other(name, implementation):
    import regard.models.transformers

    model = spread(make(name, {**ENCODERS, **PAIRS}[name]))
    if implementation == "sdpa" and not model._supports_sdpa:
        implementation = "regard"
    model.set_attn_implementation(implementation)
    ids, mask = text()
    given = {"input_ids": ids, "attention_mask": mask}
    given |= {"decoder_input_ids": ids[:, :7]} if name in PAIRS else {}
    found = regard.effects(model, given, lambda answer: answer[0][:, 3, 0], layers=[1])
    with torch.no_grad(), regard.edit(model, 1, 2, output="zero"):
        wanted = model(**given)[0][:, 3, 0].double().numpy()
    assert np.allclose(found.each[:, 0, 2], wanted - found.scores, atol=1e-6)
    assert np.isfinite(found.estimate).all()
    if name not in PAIRS:
        tokens = regard.effects(model, given, lambda answer: answer[0][:, 3, 0], "tokens")
        assert np.isnan(tokens.each).sum(1).tolist() == [8, 0]
        with torch.no_grad(), regard.edit(model, mask=~masks.pairs(None, 2)):
            wanted = model(**given)[0][:, 3, 0].double().numpy()
        assert np.allclose(tokens.each[:, 2], wanted - tokens.scores, atol=1e-6)
        assert (np.isfinite(tokens.estimates) == np.isfinite(tokens.each)).all()


def test_intervals_hold_the_mean_of_as_many_other_inputs():
    rng = np.random.default_rng(0)
    model = torch.nn.Sequential(Scaled())
    hits = 0
    for _ in range(40):
        x = torch.tensor(rng.normal(1, 1, (30, 2, 3, 1)))
        found = regard.effects(model, x, lambda answer: answer[:, 0, 0, 0], estimate=False)
        hits += found.low[0, 0] < -1 < found.high[0, 0]
        assert found.effect[0, 1] == found.low[0, 1] == found.high[0, 1] == 0
    assert 33 <= hits <= 40  # of 95 %
    alone = regard.effects(model, x[:1], lambda answer: answer[:, 0, 0, 0])
    assert np.isnan(alone.low).all()
    assert np.isfinite(alone.effect).all()


class Scaled(torch.nn.Module):
    """Heads whose output is the mean of what they see."""

    def forward(self, x):
        mean = x[:, :, :1].expand_as(x)
        return torch.nn.functional.scaled_dot_product_attention(torch.zeros_like(x), x, mean)


def batches():
    given = inputs()
    return [{name: array[rows] for name, array in given.items()} for rows in ([0, 2], [1])]


def test_batches_are_as_one_and_may_come_once():
    model, score = Model().double(), first_logit()
    for of in ("heads", "tokens"):
        one = regard.effects(model, inputs(), score, of)
        several = regard.effects(model, iter(batches()), score, of)
        assert np.allclose(several.each, one.each[[0, 2, 1]], atol=1e-12, equal_nan=True)
        assert np.allclose(several.estimates, one.estimates[[0, 2, 1]], atol=1e-12, equal_nan=True)
    positional = regard.effects(model, tuple(inputs().values()), score, estimate=False)
    assert np.allclose(positional.each, regard.effects(model, inputs(), score).each)
    given = {**inputs(), "labels": torch.tensor([0, 1, 2])}

    class Named(Model):
        def forward(self, x, attention_mask, labels):
            return super().forward(x, attention_mask)

    def negative_loss(answer, batch):
        return -torch.nn.functional.cross_entropy(answer[:, 0], batch["labels"], reduction="none")

    found = regard.effects(Named().double(), given, negative_loss)
    wanted = -torch.nn.functional.cross_entropy(model(**inputs())[:, 0], given["labels"], reduction="none")
    assert np.allclose(found.scores, wanted.detach())


class KilledError(Exception):
    pass


def test_a_run_goes_on_where_it_was_killed(tmp_path):
    model, file, calls = Model().double(), tmp_path / "effects.npz", []

    def score(answer):
        calls.append(1)
        if len(calls) == stop:
            raise KilledError
        return first_logit()(answer)

    stop = 16  # in the second batch: behind 2 + 1 + 8 runs of the first, and 1 + 1 + 2
    with pytest.raises(KilledError):
        regard.effects(model, batches(), score, resume=file)
    stop, first = None, len(calls)
    found = regard.effects(model, batches(), score, resume=file)
    assert len(calls) - first == 2 + 1 + 6
    whole = regard.effects(model, batches(), first_logit())
    assert np.array_equal(found.each, whole.each)
    assert np.array_equal(found.estimates, whole.estimates)
    before = len(calls)
    regard.effects(model, batches(), score, resume=file)
    assert len(calls) - before == 3


KILLED = """
import os, sys
sys.path[:0] = ["tests"]
from models.test_effects import *
from regard.inspection.effects import kept
kept.EVERY = 0.0
calls = []
def score(answer):
    calls.append(1)
    if len(calls) == 7:
        os._exit(9)
    return first_logit()(answer)
regard.effects(Model().double(), batches(), score, resume=sys.argv[1])
"""


def test_a_process_that_ends_at_once_loses_no_edit_that_was_written(tmp_path):
    file = tmp_path / "effects.npz"
    assert subprocess.run([sys.executable, "-c", KILLED, file], check=False).returncode == 9
    calls = []
    found = regard.effects(
        Model().double(), batches(), lambda answer: (calls.append(1), first_logit()(answer))[1], resume=file
    )
    assert len(calls) == 2 + 5 + 2 + 8
    assert np.array_equal(found.each, regard.effects(Model().double(), batches(), first_logit()).each)


def test_a_file_of_anything_else_is_refused(tmp_path):
    model, file = Model().double(), tmp_path / "effects.npz"
    regard.effects(model, inputs(), first_logit(), resume=file)
    told = (
        "effects: need a file of the same {} to resume; got another's, .*effects.npz; name another file, or delete it."
    )
    for options in ({"of": "layers"}, {"output": "mean"}, {"layers": 1}):
        with pytest.raises(DataError, match=told.format("model and question")):
            regard.effects(model, inputs(), first_logit(), resume=file, **options)
    with pytest.raises(DataError, match=told.format("inputs")):
        regard.effects(model, {**inputs(), "x": inputs()["x"] + 1e-9}, first_logit(), resume=file)
    with pytest.raises(DataError, match=told.format("score")):
        regard.effects(model, inputs(), lambda answer: answer[:, 0, 1], resume=file)
    with torch.no_grad():
        model.last.bias[2] += 1  # which changes no score
    with pytest.raises(DataError, match=told.format("model and question")):
        regard.effects(model, inputs(), first_logit(), resume=file)
    content = file.read_bytes()
    for broken in (content[: len(content) // 2], b"", b"effects"):
        file.write_bytes(broken)
        with pytest.raises(DataError, match="effects: need a file of effects to resume; got one that cannot be read"):
            regard.effects(model, inputs(), first_logit(), resume=file)


def test_rows_and_table():
    model = Model().double()
    found = regard.effects(model, inputs(), first_logit(), layers=[1])
    row = found.rows()[2]
    assert (row["layer"], row["name"], row["head"]) == (1, "second", 2)
    assert row["effect"] == found.effect[0, 2]
    lines = str(found).splitlines()
    assert lines[0].split() == ["layer", "head", "effect", "low", "high", "estimate"]
    assert len(lines) == 1 + 4 + 2
    assert lines[-1] == f"rank correlation of estimate and effect: {found.agreement:.2f}"
    assert lines[-2].startswith("inputs: 3; score without an edit: ")


@pytest.mark.parametrize("heads", [(4, 2)])
def test_layers_of_fewer_heads(heads):
    class Few(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.scaled_dot_product_attention(x[:, :2], x[:, :2], x[:, :2])

    x = torch.randn(2, 4, 5, 3)
    found = regard.effects(torch.nn.Sequential(Scaled(), Few()), x, lambda answer: answer[:, 1].sum((-2, -1)))
    assert found.effect.shape == (2, 4)
    assert np.isnan(found.effect[1]).tolist() == [False, False, True, True]
    assert len(found.rows()) == 6


WRONG = [
    (ConfigError, {"of": "words"}, "need of as one of heads, tokens, pairs, layers; got 'words'."),
    (ConfigError, {"output": "none"}, "need an output of 'zero' or 'mean'; got 'none'."),
    (ConfigError, {"of": "pairs"}, "need pairs, a list of (query, key), with of='pairs' and with nothing else; "
     "got none."),
    (ConfigError, {"pairs": [(0, 1)]}, "need pairs, a list of (query, key), with of='pairs' and with nothing else; got "
     "them with of='heads'."),
    (ShapeError, {"of": "pairs", "pairs": [0, 1]}, "need pairs as a list of (query, key), whole numbers; got int64 "
     "(2,)."),
    (OutOfRangeError, {"of": "pairs", "pairs": [(0, 1), (0, 6)]}, "need pairs of positions that an input has; got "
     "[[0, 6]], which none has."),
    (OutOfRangeError, {"layers": "third"}, "need layers that ran, by a number below 2 or a name, one of ['first', "
     "'second']; got ['third']."),
    (ShapeError, {"score": lambda answer: answer[:, 0]}, "need a score of one number for each example, (B,); got "
     "(3, 3); leave the batch's axis as it is, as with reduction='none'."),
    (DataError, {"score": lambda answer: answer[:, 0, 0] / 0}, "need scores that are finite; got infinite ones or NaN; "
     "use a logit, say."),
    (DtypeError, {"score": lambda answer: 1.0}, "need a score that gives an array (B,); got float."),
    (DtypeError, {"score": "logit"}, "need a score that is a function; got str."),
    (DtypeError, {"inputs": "a text"}, "need inputs as a batch or several; got str; tokenize it first."),
    (DtypeError, {"inputs": ["a text"]}, "need each batch as a mapping, an array or a tuple of arrays; got str."),
    (DataError, {"inputs": []}, "need a batch of inputs; got none."),
    (DtypeError, {"model": "BERT"}, "need a PyTorch module or a Keras model; got str; pass the model itself."),
]  # fmt: skip


@pytest.mark.parametrize(("error", "options", "message"), WRONG)
def test_what_cannot_be(error, options, message):
    given = {"model": Model().double(), "inputs": inputs(), "score": first_logit(), **options}
    with pytest.raises(error, match=f"^{re.escape('effects: ' + message)}$"):
        regard.effects(**given)


def test_a_model_with_dropout_on_is_refused():
    model = torch.nn.Sequential(Scaled(), torch.nn.Dropout(0.5))
    told = "effects: need a model that answers the same twice; got other scores the second time; turn dropout off"
    with pytest.raises(DataError, match=told):
        regard.effects(model, torch.randn(8, 2, 3, 4), lambda answer: answer.sum((1, 2, 3)))


def test_tokens_of_attentions_over_different_positions_are_refused():
    model = spread(make("Bart", PAIRS["Bart"]))
    ids, mask = text()
    given = {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": ids[:, :7]}
    told = r"effects: need attentions over the same positions of 2 examples, \(B, T, S\), for tokens and pairs; got "
    with pytest.raises(ShapeError, match=told + r"\(2, 7, 7\) and \(2, 7, 23\) and \(2, 23, 23\); choose with layers="):
        regard.effects(model, given, lambda answer: answer[0][:, 3, 0], "tokens")
    found = regard.effects(model, given, lambda answer: answer[0][:, 3, 0], "tokens", layers="*encoder_attn")
    assert np.isnan(found.each).sum(1).tolist() == [8, 0]
