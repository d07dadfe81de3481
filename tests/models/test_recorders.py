"""Every library's adapter for `watch` is held to one contract, which `regard.models.recording.Recorder` states."""

import copy
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from models.contract import CLAUSES, Case
from nn import keras_process
from regard.models import recording, watch

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"
HIDDEN = np.array([[False] * 7, [False] * 5 + [True] * 2])


def inputs(length, width=24):
    return torch.from_numpy(np.random.default_rng(length).standard_normal((2, length, width), dtype=np.float32))


def hidden(length):
    """The keys of padding, in the first length alone."""
    return torch.from_numpy(HIDDEN) if length == 7 else None


def called(model, run):
    """The model's answer, dropout drawn alike each time."""
    torch.manual_seed(0)
    return run(model)


def caught(model, modules, run):
    """What modules are given, in the order of their calls."""
    given = []
    hooks = [
        each.register_forward_pre_hook(lambda _, args, kwargs: given.append((args, kwargs)), with_kwargs=True)
        for each in modules
    ]
    with torch.no_grad():
        called(model, run)
    for hook in hooks:
        hook.remove()
    return given


def backward(answer):
    answer.square().sum().backward()


# --- adapters --------------------------------------------------------------------------------------------------------


class Functional(nn.Module):
    """Heads by `scaled_dot_product_attention`, with a scale of its own, a bias or causality, and dropout."""

    def __init__(self, causal):
        super().__init__()
        self.causal, self.project, self.back = causal, nn.Linear(24, 72), nn.Linear(24, 24)

    def heads(self, x):
        return self.project(x).unflatten(-1, (3, 3, 8)).movedim(2, 0).transpose(2, 3)  # (3, B, H, T, d)

    def bias(self, length):
        distance = torch.arange(length)[:, None] - torch.arange(length)
        return None if self.causal else -0.2 * distance.abs().to(self.back.weight.dtype)

    def forward(self, x):
        query, key, value = self.heads(x)
        output = functional.scaled_dot_product_attention(
            query, key, value, self.bias(x.shape[1]), 0.5, self.causal, scale=0.6
        )
        return x + self.back(output.transpose(1, 2).flatten(2))

    def plain(self, x):
        query, key, _ = self.double().heads(x.double())
        scores = 0.6 * query @ key.mT + (0 if self.causal else self.bias(x.shape[1]))
        below = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        return (scores.masked_fill(~below, -torch.inf) if self.causal else scores).softmax(-1)


class HandWrittenAttention(nn.Module):
    """Attention that calls no function of attention."""

    def forward(self, x):
        return x + (x @ x.mT / 8).softmax(-1) @ x


def of_functional(causal, beside=()):
    torch.manual_seed(1)
    model = nn.Sequential(Functional(causal), *beside, Functional(causal))

    def run(length, model=model):
        return model(inputs(length))

    def plain(length):
        blocks = [each for each in model if isinstance(each, Functional)]
        given = caught(model, blocks, partial(run, length))
        return [
            copy.deepcopy(each).plain(args[0]).detach().numpy() for each, (args, _) in zip(blocks, given, strict=True)
        ]

    return Case(
        model,
        lambda length: called(model, partial(run, length)),
        ["0", str(len(model) - 1)],
        plain,
        [*model.modules(), functional],
        unseen=["1"] * bool(beside),
        backward=backward,
    )


class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.MultiheadAttention(24, 3, dropout=0.5, batch_first=True) for _ in range(2))

    def forward(self, x, mask):
        for layer in self.layers:
            x = x + layer(x, x, x, key_padding_mask=mask, need_weights=False)[0]
        return x


def of_multi_head_attention():
    torch.manual_seed(2)
    model = Stack()

    def run(length, model=model):
        return model(inputs(length), hidden(length))

    def plain(length):
        given = caught(model, model.layers, partial(run, length))
        return [
            copy.deepcopy(layer)
            .eval()(*args, **kwargs | {"need_weights": True, "average_attn_weights": False})[1]
            .detach()
            .numpy()
            for layer, (args, kwargs) in zip(model.layers, given, strict=True)
        ]

    names = ["layers.0", "layers.1"]
    call = lambda length: called(model, partial(run, length))  # noqa: E731
    return Case(model, call, names, plain, [*model.modules()], hidden=HIDDEN, backward=backward)


def of_transformers(attention):
    from transformers import BertConfig, BertModel

    import regard.models.transformers.attention  # noqa: F401 (which registers it)

    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=50, hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=3,
        initializer_range=0.3, attn_implementation=attention,
    )  # fmt: skip
    model = BertModel(config).eval()
    eager = BertModel(copy.deepcopy(config)).eval()
    eager.set_attn_implementation("eager")
    eager.load_state_dict(model.state_dict())

    def run(length, model=model, **options):
        ids = torch.from_numpy(np.random.default_rng(0).integers(5, 50, (2, length)))
        mask = None if hidden(length) is None else ~hidden(length)
        return model(input_ids=ids, attention_mask=mask, **options)

    def plain(length):
        with torch.no_grad():
            return [each.numpy() for each in run(length, eager, output_attentions=True).attentions]

    names = [f"encoder.layer.{number}.attention.self" for number in range(2)]
    return Case(
        model, lambda length: run(length).last_hidden_state, names, plain, [*model.modules()], hidden=HIDDEN,
        backward=backward,
    )  # fmt: skip


def of_diffusers():
    from diffusers import DiTTransformer2DModel
    from diffusers.models.attention_processor import AttnProcessor

    torch.manual_seed(4)
    model = DiTTransformer2DModel(
        num_attention_heads=3, attention_head_dim=8, in_channels=4, num_layers=2, sample_size=8, patch_size=2,
        num_embeds_ada_norm=10,
    ).eval()  # fmt: skip
    for block in model.transformer_blocks:
        block.attn1.to_q.weight.data *= 6  # far from uniform weights
    noise = torch.randn(2, 4, 8, 8)

    def run(model):
        return model(noise, timestep=torch.tensor([1, 5]), class_labels=torch.tensor([1, 2])).sample

    def plain(_):
        other, found = copy.deepcopy(model), []
        for block in other.transformer_blocks:
            block.attn1.set_processor(AttnProcessor())
            compute = block.attn1.get_attention_scores
            block.attn1.get_attention_scores = lambda *given, compute=compute: (
                found.append(compute(*given)) or found[-1]
            )
        with torch.no_grad():
            run(other)
        return [each.unflatten(0, (2, 3)).numpy() for each in found]

    names = [f"transformer_blocks.{number}.attn1" for number in range(2)]
    return Case(model, lambda _: run(model), names, plain, [*model.modules()], lengths=(16,), backward=backward)


def of_tinynet():
    """The library that the page on adding one adds."""
    blocks = re.findall(
        r"^```python\n(.*?)^```", (DOCS / "add-a-library.md").read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    space = {"__name__": "tinynet"}
    exec("\n".join(blocks), space)
    layers = [space["SelfAttention"](f"layer.{n}", width=24, heads=3, seed=n) for n in range(2)]
    model = space["Network"](*layers)

    def plain(length):
        x, found = inputs(length).numpy().astype(float), []
        for layer in layers:
            query, key = ((x @ each).reshape(2, length, 3, 8).swapaxes(1, 2) for each in (layer.query, layer.key))
            found.append(torch.from_numpy(query @ key.swapaxes(-1, -2) / 8**0.5).softmax(-1).numpy())
            x = layer(x)
        return found

    why = "it wraps a method for all threads, as its page says"
    return Case(
        model, lambda length: model(inputs(length).numpy()), ["layer.0", "layer.1"], plain, [model, *layers],
        without={"threads": why},
    )  # fmt: skip


ADAPTERS = {
    "PyTorch, causal": partial(of_functional, True),
    "PyTorch, a bias": partial(of_functional, False),
    "PyTorch, beside what cannot be seen": partial(of_functional, True, (HandWrittenAttention(),)),
    "nn.MultiheadAttention": of_multi_head_attention,
    "transformers": partial(of_transformers, "sdpa"),
    "transformers by Regard's interface": partial(of_transformers, "regard"),
    "diffusers": of_diffusers,
    "tinynet": of_tinynet,
}


@pytest.fixture(autouse=True)
def recorders(monkeypatch):
    """As they are: the page adds a line to them."""
    monkeypatch.setattr(watch, "_recorder", watch._recorder)


@pytest.mark.parametrize("name", CLAUSES)
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_an_adapter_keeps_its_contract(adapter, name):
    case = ADAPTERS[adapter]()
    if name in case.without:
        pytest.skip(case.without[name])
    CLAUSES[name](case)


def program(body):
    """A program that has the contract at hand."""
    return f"import sys\nsys.path.insert(0, {str(HERE.parent)!r})\nimport torch\n{body}"


KERAS = """
import keras
import numpy as np
from models.contract import Case, check, numbers

keras.utils.set_random_seed(0)
HIDDEN = np.array([[False] * 7, [False] * 5 + [True] * 2])
given = keras.Input((None,), dtype="int32")
embedding = keras.layers.Embedding(30, 24, embeddings_initializer="random_normal")
states, real = embedding(given), given != 0
mask = keras.ops.logical_and(real[:, None], keras.ops.ones_like(real)[:, :, None])
layers = [keras.layers.MultiHeadAttention(3, 8, kernel_initializer=keras.initializers.RandomNormal(0, 3)),
          keras.layers.GroupQueryAttention(8, 4, 2)]
for layer in layers:
    states = keras.layers.LayerNormalization()(states + layer(states, states, attention_mask=mask))
model = keras.Model(given, states)

def ids(length):
    found = np.random.default_rng(0).integers(1, 30, (2, length))
    return np.where(HIDDEN, 0, found) if length == 7 else found

def plain(length):
    states, found = embedding(ids(length)), []
    mask = np.broadcast_to((ids(length) != 0)[:, None], (2, length, length))
    norms = [each for each in model.layers if isinstance(each, keras.layers.LayerNormalization)]
    for layer, norm in zip(layers, norms):
        output, scores = layer(states, states, attention_mask=mask, return_attention_scores=True)
        found.append(numbers(scores))
        states = norm(states + output)
    return found

backward = (lambda answer: answer.square().sum().backward()) if keras.backend.backend() == "torch" else None
check(Case(model, lambda length: model(ids(length)), [each.path for each in layers], plain,
           list(model._flatten_layers(recursive=True)), hidden=HIDDEN, backward=backward))
"""
TIMM = """
for name in ("nms", "qnms"):  # which torchvision registers a shape for
    torch.library.define(f"torchvision::{name}", "(Tensor boxes, Tensor scores, float threshold) -> Tensor")
import copy
import timm
from models.contract import Case, check

torch.manual_seed(0)
model = timm.create_model("vit_tiny_patch16_224", pretrained=False, depth=2, img_size=48).eval()
for block in model.blocks:
    block.attn.qkv.weight.data *= 8
pictures = torch.randn(2, 3, 48, 48)

def plain(_):
    other, found = copy.deepcopy(model), []
    for block in other.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_pre_hook(lambda _, given: found.append(given[0].numpy()))
    with torch.no_grad():
        other(pictures)
    return found

check(Case(model, lambda _: model(pictures), ["blocks.0.attn", "blocks.1.attn"], plain, list(model.modules()),
           lengths=(10,), backward=lambda answer: answer.square().sum().backward()))
"""


@pytest.mark.parametrize("backend", keras_process.BACKENDS)
def test_keras_keeps_the_contract(backend):
    keras_process.execute(backend, program(KERAS))


@pytest.mark.slow
def test_timm_keeps_the_contract(monkeypatch):
    apart = Path(sys.prefix) / "timm"
    assert apart.is_dir(), f"need timm in {apart}, where `make test` installs it"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(apart), os.environ.get("PYTHONPATH")])))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program(TIMM)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]


# --- each of these can fail ------------------------------------------------------------------------------------------


def broken(name, monkeypatch):
    """PyTorch's recorder with one promise broken."""
    from regard.models import torch as recorder
    from regard.models.seen import Seen

    kind = recorder.Recorder
    attend, keep, stop, start = kind._attention, Seen.append, kind.stop, kind.start
    weights_of, shared = recorder.weights_of, {}

    def leave(self):
        stop(self)
        self._model.left = functional.relu

    def share(self):
        self.seen = shared.setdefault(id(self._model), self.seen)
        return start(self)

    breaks = {
        "outputs": (kind, "_attention", lambda *given: attend(*given) * (1 + 1e-6)),
        "entries": (Seen, "append", lambda self, name, *rest: keep(self, f"{name}x", *rest)),
        "weights": (recorder, "weights_of", lambda q, k, mask, causal, scale: weights_of(q, k, None, causal, scale)),
        "memory": (Seen, "nbytes", property(lambda self: sum(each.shape[-1] ** 2 for each in self))),
        "chosen": (recording.Layers, "_is_wanted", lambda *_, **__: True),
        "nothing": (kind, "check", lambda self: None),
        "unseen": (Seen, "unseen", []),
        "left_alone": (kind, "stop", leave),
        "nested": (kind, "start", share),
        "threads": (kind, "start", share),
        "gradients": (recorder.Gradients, "of", lambda _, output: lambda: torch.ones_like(output)),
    }
    monkeypatch.setattr(*breaks[name])


@pytest.mark.parametrize("name", CLAUSES)
def test_an_adapter_that_breaks_its_contract_is_found(name, monkeypatch):
    case = of_functional(False, (HandWrittenAttention(),))
    CLAUSES[name](case)
    broken(name, monkeypatch)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        CLAUSES[name](case)


def test_the_contract_says_what_is_tested():
    said = re.sub(r"\s+", " ", recording.Recorder.__doc__)
    for clause in CLAUSES.values():
        assert clause.__doc__ in said
    assert said.count(" - ") == len(CLAUSES)
