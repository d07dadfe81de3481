"""Watching changes no bit of what a model answers, or is refused before anything of it can differ."""

import itertools
import threading
import warnings

import peft
import pytest
import torch
from torch import nn

import regard
from regard.errors import UnsupportedError

LENGTH, WIDTH = 5, 16
PADDING = {
    "none": None,
    "right": torch.tensor([[0, 0, 0, 0, 0], [0, 0, 0, 1, 1], [0, 0, 0, 0, 1]]).bool(),
    "left": torch.tensor([[0, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]]).bool(),
    "padding alone": torch.tensor([[0, 0, 0, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 1]]).bool(),
}
MASKS = {
    "none": None,
    "causal": nn.Transformer.generate_square_subsequent_mask(LENGTH),
    "boolean": torch.ones(LENGTH, LENGTH).triu(2).bool(),
    "numbers": torch.arange(LENGTH**2).reshape(LENGTH, LENGTH).sin().triu(1),  # PyTorch's fused layer hides all but 0
}
MODES = {
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
    "gradients": torch.enable_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


def same(one, other):
    """To the bit, NaN included."""
    return one.dtype == other.dtype and bool((one.isnan() & other.isnan() | (one == other)).all())


def spread(model):
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    return model


def encoder(layers=2, nested=True, **options):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(WIDTH, **{"nhead": 4, "dim_feedforward": 32, "batch_first": True, **options})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that nested tensors are not used
        return spread(nn.TransformerEncoder(layer, layers, enable_nested_tensor=nested)).eval()


def alone_and_watched(model, mode, *inputs, **options):
    """What a model answers, what it answers while watched, and what is seen."""
    with MODES[mode]():
        torch.manual_seed(1)
        alone = model(*inputs, **options)
        torch.manual_seed(1)
        with regard.watch(model) as seen:
            return alone, model(*inputs, **options), seen


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.filterwarnings("ignore:Support for mismatched")
@pytest.mark.filterwarnings("ignore:Converting mask")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "options",
    [{}, {"norm_first": True}, {"nested": False}, {"batch_first": False}, {"nhead": 1}, {"bias": False},
     {"activation": "gelu"}, {"activation": torch.tanh}, {"dtype": torch.float64}],
    ids=lambda options: " ".join(f"{name}={getattr(value, '__name__', value)}" for name, value in options.items()),
)  # fmt: skip
def test_a_transformer_encoder_answers_the_same(options, mode):
    model = encoder(**options)
    inputs = torch.randn(3, LENGTH, WIDTH, dtype=options.get("dtype"))
    inputs = inputs if options.get("batch_first", True) else inputs.transpose(0, 1)
    if mode == "autocast" and "dtype" in options:
        return
    for training, (kind, mask), padding in itertools.product((False, True), MASKS.items(), PADDING.values()):
        model.train(training)
        mask = mask.to(inputs.dtype) if kind in ("causal", "numbers") else mask
        asked = {"mask": mask, "src_key_padding_mask": padding, "is_causal": True if kind == "causal" else None}
        alone, watched, seen = alone_and_watched(model, mode, inputs, **asked)
        assert same(alone, watched)
        assert seen.names == ["layers.0.self_attn", "layers.1.self_attn"]
        assert seen[0].shape[-2:] == (LENGTH, LENGTH)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.filterwarnings("ignore:Converting mask")
@pytest.mark.filterwarnings("ignore:Support for mismatched")
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize(("mask", "padding"), [(m, p) for m in MASKS for p in ("none", "right", "left")])
def test_weights_of_the_fused_encoder_layer(norm_first, mask, padding):
    """Against the softmax written out, and that against the layer's own output."""
    model = encoder(1, norm_first=norm_first, dtype=torch.float64, dropout=0.0)
    layer, attention = model.layers[0], model.layers[0].self_attn
    states = torch.randn(3, LENGTH, WIDTH, dtype=torch.float64)
    hidden, padded = MASKS[mask], PADDING[padding]
    asked = {"mask": hidden if mask in ("none", "boolean") else hidden.double(), "src_key_padding_mask": padded}
    with torch.no_grad():
        with regard.watch(model, values=True) as seen:
            output = model(states, **asked)
        given = layer.norm1(states) if norm_first else states
        query, key, value = (
            nn.functional.linear(given, attention.in_proj_weight, attention.in_proj_bias)
            .reshape(3, LENGTH, 3, 4, 4)
            .permute(2, 0, 3, 1, 4)
        )
        scores = query @ key.mT / 2
        if hidden is not None:
            scores = scores.masked_fill(hidden.bool(), -torch.inf)
        if padded is not None:
            scores = scores.masked_fill(padded[:, None, None], -torch.inf)
        weights = scores.softmax(-1).nan_to_num(0)
        states = states + attention.out_proj((weights @ value).transpose(1, 2).flatten(2))
        if norm_first:
            states = states + layer.linear2(layer.linear1(layer.norm2(states)).relu())
        else:
            states = layer.norm1(states)
            states = layer.norm2(states + layer.linear2(layer.linear1(states).relu()))
    real = torch.ones(3, LENGTH, dtype=torch.bool) if padded is None else ~padded
    real &= weights.sum(-1)[:, 0] > 0  # of a query that may see nothing the fused layer makes NaN
    assert float((output - states)[real].abs().max()) < 1e-12
    assert float((seen[0].dense() - weights).transpose(1, 2)[real].abs().max()) < 1e-12
    lengths = torch.linalg.norm(value @ attention.out_proj.weight.T.reshape(4, 4, WIDTH), dim=-1)
    assert float((seen.norms()[0] - lengths).detach().transpose(1, 2)[real].abs().max()) < 1e-12


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_multihead_attention_answers_the_same(mode, weights):
    torch.manual_seed(0)
    states = torch.randn(3, LENGTH, WIDTH)
    for batch_first, masks in itertools.product(
        (True, False), ({}, {"key_padding_mask": PADDING["right"]}, {"attn_mask": MASKS["boolean"]})
    ):
        model = spread(nn.MultiheadAttention(WIDTH, 4, batch_first=batch_first)).eval()
        given = (states if batch_first else states.transpose(0, 1).contiguous(),) * 3
        options = {"need_weights": weights, "average_attn_weights": False, **masks}
        alone, watched, seen = alone_and_watched(model, mode, *given, **options)
        assert same(alone[0], watched[0])
        if weights:
            assert same(alone[1], watched[1])
            tolerance = 1e-2 if mode == "autocast" else 1e-6
            assert float((seen[0].dense() - alone[1]).detach().abs().max()) < tolerance


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("targets", [["linear1", "linear2"], ["out_proj"], ["self_attn"]], ids=str)
@pytest.mark.parametrize("nested", [False, True])
def test_adapters_in_a_fused_layer_answer_the_same(targets, nested):
    """PyTorch's fused layer passes adapters of its linear layers over; peft's own attention makes calls within it."""
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(encoder(nested=nested), LoraConfig(target_modules=targets, init_lora_weights=False)).eval()
    asked = {"src_key_padding_mask": PADDING["right"]}
    alone, watched, seen = alone_and_watched(model, "no_grad", torch.randn(3, LENGTH, WIDTH), **asked)
    assert same(alone, watched)
    assert len(seen) == 2


def test_what_pytorch_asks_is_as_it_was_and_another_thread_sees_no_difference():
    model, states, found = encoder(nested=False), torch.randn(3, LENGTH, WIDTH), {}
    before = torch.overrides.has_torch_function

    def elsewhere():
        with torch.no_grad(), torch.device("cpu"):  # a mode of PyTorch's own, which does switch the fused layer off
            found["mode"] = model(states)

    with torch.no_grad(), regard.watch(model), regard.watch(model) as seen:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        with torch.device("cpu"):
            assert same(model(states), found["mode"])
    assert len(seen) == 2
    assert torch.overrides.has_torch_function is before
    with torch.no_grad():
        assert not same(model(states), found["mode"])  # or the two ways could not be told apart


class Block(nn.Module):
    def forward(self, states):
        return nn.functional.scaled_dot_product_attention(states, states, states)


class Decorated(Block):
    @torch.compile(backend="eager")
    def attend(self, states):
        return super().forward(states)

    def forward(self, states):
        return self.attend(states)


@torch.compile(backend="eager")
def compiled_attention(states):
    return nn.functional.scaled_dot_product_attention(states, states, states)


WHOLE = nn.MultiheadAttention(WIDTH, 4, batch_first=True).eval()


@torch.compile(backend="eager")
def compiled_whole(states):
    return WHOLE(states, states, states)[0]


@torch.compile(backend="eager")
def compiled_activation(states):
    return nn.functional.gelu(states)


class Calling(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.functions = [function]  # out of sight

    def forward(self, states):
        return self.functions[0](states)


def in_place(model):
    model.compile(backend="eager")
    return model


def its_forward(model):
    model.forward = torch.compile(model.forward, backend="eager")
    return model


STATES = torch.randn(1, 2, LENGTH, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: torch.compile(Block(), backend="eager"), "a module compiled by torch.compile"),
        (lambda: in_place(Block()), "a module compiled by torch.compile"),
        (lambda: nn.Sequential(Block(), in_place(Block())), "a module compiled by torch.compile in 1"),
        (lambda: its_forward(Block()), "a method compiled by torch.compile, forward"),
        (lambda: nn.Sequential(Decorated()), "a method compiled by torch.compile, attend in 0"),
        (lambda: torch.jit.script(Block()), "a module of torch.jit"),
        (lambda: nn.Sequential(Block(), torch.jit.trace(Block(), STATES)), "a module of torch.jit in 1"),
    ],
)
def test_compiled_models_are_refused_before_they_run(make, what):
    model = make()
    with pytest.raises(UnsupportedError) as error, regard.watch(model):
        raise ZeroDivisionError  # not reached
    assert str(error.value) == (
        f"watch: need the model as it was before torch.compile, torch.jit or the like; got {what}; watch the model "
        "that was compiled, and call that."
    )


@pytest.mark.filterwarnings("ignore:Dynamo does not know how to trace")
@pytest.mark.parametrize("function", [compiled_attention, compiled_whole])
def test_a_compiled_function_that_holds_an_attention_is_refused_and_any_other_runs(function):
    model, states = Calling(function), torch.randn(3, LENGTH, WIDTH)
    for _ in range(2):  # traced, and kept
        with pytest.raises(UnsupportedError, match="got one that calls a compiled function"), regard.watch(model):
            model(states)
    model = nn.Sequential(Block(), Calling(compiled_activation))
    alone, watched, seen = alone_and_watched(model, "no_grad", STATES)
    assert same(alone, watched)
    assert seen.names == ["0"]


def test_a_model_that_runs_in_threads_of_its_own_is_refused():
    model = nn.DataParallel(Block())
    alone, watched, seen = alone_and_watched(model, "no_grad", STATES)  # on one device, in this thread
    assert same(alone, watched)
    assert seen.names == ["module"]
    model.device_ids = [0, 1]
    with pytest.raises(UnsupportedError) as error, regard.watch(model):
        raise ZeroDivisionError  # not reached
    assert str(error.value) == (
        "watch: need a model that runs in this thread; got DataParallel over 2 devices; watch the module inside, and "
        "call that."
    )


def test_a_model_inside_a_transformation_is_refused():
    model = Block()
    for transformed in (torch.func.vmap(model), torch.func.grad(lambda states: model(states).sum())):
        with pytest.raises(UnsupportedError) as error, regard.watch(model):
            transformed(STATES)
        assert str(error.value) == (
            "watch: need a model that is called on its own; got one inside a transformation of torch.func, in Block; "
            "call the model outside of it."
        )


def test_an_exported_program_is_seen():
    program = torch.export.export(Block(), (STATES,)).module()
    alone, watched, seen = alone_and_watched(program, "no_grad", STATES)
    assert same(alone, watched)
    scores = STATES @ STATES.mT / 8**0.5
    assert float((seen[0].dense() - scores.softmax(-1)).abs().max()) < 1e-6


def test_one_watch_used_twice_starts_anew():
    model = Block()
    watching = regard.watch(model)
    with watching as first:
        model(STATES)
    with watching as second:
        model(STATES[..., :3, :])
        with watching as inner:
            model(STATES[..., :2, :])
    assert [weights.shape[-1] for weights in first] == [LENGTH]
    assert [weights.shape[-1] for weights in second] == [3, 2]
    assert [weights.shape[-1] for weights in inner] == [2]


def with_adapters(model, targets):
    torch.manual_seed(2)
    config = peft.LoraConfig(target_modules=targets, init_lora_weights=False)
    return peft.get_peft_model(model, config).eval()


@pytest.mark.parametrize(
    ("targets", "where"),
    [
        ("linear1", "linear1"),
        ("linear2", "linear2"),
        ("out_proj", "self_attn.out_proj"),
        ("self_attn", "self_attn.base_layer.out_proj"),
    ],
)
def test_adapters_that_pytorch_does_not_run_are_told(targets, where):
    adapted, states = with_adapters(encoder(), [targets]), torch.randn(3, LENGTH, WIDTH)
    with torch.no_grad():
        with adapted.disable_adapter():
            without = adapted(states)
        answer, watched, seen = alone_and_watched(adapted, "no_grad", states)
    assert same(answer, without)
    assert same(answer, watched)
    first, second = (f"base_model.model.layers.{layer}" for layer in (0, 1))
    told = (
        f"the adapter of {first}.{where} does nothing, for {first} reads the layer's weights without calling it: "
        "merge_and_unload() lets it count, as does, of PyTorch's encoder layers in evaluation, "
        "torch.backends.mha.set_fastpath_enabled(False) for linear1 and linear2"
    )
    assert seen.remarks == [told, told.replace(first, second)]
    assert repr(seen).endswith(f"; {seen.remarks[0]}; {seen.remarks[1]})")
    assert seen[:1].remarks == seen.remarks


def test_adapters_that_run_or_are_merged_are_watched():
    states = torch.randn(3, LENGTH, WIDTH, generator=torch.Generator().manual_seed(0))
    adapted = with_adapters(encoder(), ["linear1"])
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        slow, watched, seen = alone_and_watched(adapted, "no_grad", states)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    assert same(slow, watched)
    assert len(seen) == 2
    assert not seen.remarks
    merged = adapted.merge_and_unload()
    fast, watched, seen = alone_and_watched(merged, "no_grad", states)
    assert same(fast, watched)
    assert len(seen) == 2
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)
    assert not seen.remarks
