"""`edit` against the same model whose attention is a plain formula in float64 with its weights changed by hand."""

import threading

import numpy as np
import pytest
import torch
from transformers import AttentionInterface, AttentionMaskInterface, masking_utils
from transformers.utils import logging

import regard
import regard.models.transformers
from models.families import ENCODERS, IMAGES, PAIRS, WHISPER, make, spread, text
from regard import masks
from regard.errors import ConfigError, DtypeError, OutOfRangeError, ShapeError, UnsupportedError

LATE = slice(4, None)
EDITS = {
    "zero": {"output": "zero"},
    "knockout": {"mask": ~masks.pairs(LATE, 2)},
    "sharper": {"scale": 3.0},
    "uniform": {"weights": "uniform"},
}


@pytest.fixture(autouse=True)
def _quiet():
    logging.set_verbosity_error()
    yield
    logging.set_verbosity_warning()


class ByHand:
    """An attention of transformers in float64, of which one call's head 1 is changed."""

    def __init__(self):
        self.calls, self.changed, self.how = 0, None, ""

    def __call__(self, module, query, key, value, attention_mask=None, scaling=None, softcap=None, **options):
        repeats = query.shape[1] // key.shape[1]
        key, value = (array.double().repeat_interleave(repeats, 1) for array in (key, value))
        scores = query.double() @ key.mT * (query.shape[-1] ** -0.5 if scaling is None else scaling)
        changes = self.calls == self.changed
        self.calls += 1
        if changes and self.how == "sharper":
            scores[:, 1] *= 3
        scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
        bias = torch.zeros_like(scores)
        for given in (attention_mask, options.get("position_bias")):
            bias = bias if given is None else bias + given[..., : key.shape[-2]].double()
        if changes and self.how == "uniform":
            scores[:, 1] = 0
            bias[:, 1] = torch.where(bias[:, 1] > -1e4, 0, bias[:, 1])
        scores = scores + bias
        if changes and self.how == "knockout":
            late = torch.arange(scores.shape[2]) + scores.shape[3] - scores.shape[2] >= LATE.start
            scores[:, 1, late, 2] = -torch.inf
        output = torch.softmax(scores, -1) @ value
        if changes and self.how == "zero":
            output[:, 1] = 0
        return output.to(query.dtype).transpose(1, 2).contiguous(), None


by_hand = ByHand()
AttentionInterface.register("by_hand", lambda *given, **options: by_hand(*given, **options))
AttentionMaskInterface.register("by_hand", masking_utils.eager_mask)


def expected(model, number, how, inputs):
    """The answer of a model with one attention changed by hand."""
    model.set_attn_implementation("by_hand")
    by_hand.calls, by_hand.changed, by_hand.how = 0, number, how
    with torch.no_grad():
        return model(**inputs)[0]


def family(name, side="right"):
    """A model, its inputs and which rows of its answer count."""
    model = spread(make(name, {**ENCODERS, **PAIRS}[name]))
    ids, mask = text()
    mask = mask if side == "right" else mask.flip(1)
    inputs = {"input_ids": ids, "attention_mask": mask}
    if name in PAIRS:
        return model, {**inputs, "decoder_input_ids": ids[:, :7]}, torch.ones(2, 7, dtype=torch.bool)
    return model, inputs, mask.bool()


@pytest.mark.parametrize("how", EDITS)
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", [*ENCODERS, *PAIRS])
def test_as_if_it_had_been_changed_by_hand(name, side, how):
    model, inputs, real = family(name, side)
    number = 3 if name in PAIRS else 1
    wanted = expected(model, number, how, inputs)
    unchanged = expected(model, None, how, inputs)
    for implementation in ("sdpa", "regard"):
        if implementation == "sdpa" and not model._supports_sdpa:
            continue
        model.set_attn_implementation(implementation)
        with torch.no_grad(), regard.edit(model, layers=number, heads=1, **EDITS[how]) as edited:
            found = model(**inputs)[0]
        assert len(edited.names) == 1
        assert float((found - wanted)[real].abs().max()) < 1e-5 * max(1, float(wanted.abs().max())), implementation
    assert float((wanted - unchanged)[real].abs().max()) > 1e-3


@pytest.mark.parametrize("name", IMAGES)
def test_pictures(name):
    model = spread(make(name, IMAGES[name]))
    inputs = {"pixel_values": torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))}
    wanted = expected(model, 1, "knockout", inputs)
    model.set_attn_implementation("sdpa")
    with torch.no_grad(), regard.edit(model, layers=1, heads=1, **EDITS["knockout"]):
        assert float((model(**inputs)[0] - wanted).abs().max()) < 1e-5


def test_cross_attention_of_whisper_by_a_pattern():
    model = spread(make("Whisper", WHISPER))
    inputs = {"input_features": torch.randn(1, 8, 40), "decoder_input_ids": torch.tensor([[1, 2, 3]])}
    with torch.no_grad():
        plain = model(**inputs)[0]
    with torch.no_grad(), regard.edit(model, "decoder.*.encoder_attn", mask=~masks.pairs(None, slice(0, 20))) as edited:
        nothing = model(**inputs)[0]
    with torch.no_grad(), regard.edit(model, "*encoder_attn", output="zero"):
        assert torch.allclose(nothing, model(**inputs)[0], atol=1e-6)
    assert edited.names == ["decoder.layers.0.encoder_attn", "decoder.layers.1.encoder_attn"]
    assert float((plain - nothing).abs().max()) > 1e-3


def small(**options):
    return spread(make("Llama", {**ENCODERS["Llama"], **options}))


def test_no_edit_is_no_change_to_the_bit():
    model, inputs, _ = family("Bert")
    with torch.no_grad():
        plain = model(**inputs)[0]
        with regard.edit(model, layers=1, heads=[], output="zero"):
            assert torch.equal(model(**inputs)[0], plain)
        with regard.edit(model, layers=1, heads=[], mask=masks.causal()):
            assert torch.equal(model(**inputs)[0], plain)
        assert torch.equal(model(**inputs)[0], plain)


class Heads(torch.nn.Module):
    """An attention whose heads are its output."""

    def forward(self, x):
        return torch.nn.functional.scaled_dot_product_attention(x, x, x)


@pytest.fixture
def heads():
    return torch.nn.Sequential(Heads(), Heads()), torch.randn(2, 4, 7, 8, generator=torch.Generator().manual_seed(0))


def plain(x, visible=None, scale=8**-0.5):
    scores = x.double() @ x.double().mT * scale
    scores = scores if visible is None else scores.masked_fill(~visible, -torch.inf)
    return scores.softmax(-1) @ x.double()


def test_heads_without_an_edit_are_the_models_own_to_the_bit(heads):
    model, x = heads
    with regard.edit(model, 0, [1, 3], mask=masks.causal()):
        changed = model(x)
    first = model[0](x)
    first[:, [1, 3]] = changed_first = regard.attention(x[:, [1, 3]], x[:, [1, 3]], x[:, [1, 3]], causal=True)[0]
    assert torch.allclose(changed, model[1](first), atol=1e-6)
    with regard.edit(model, 1, [1, 3], mask=masks.causal()):
        second = model(x)
    assert torch.equal(second[:, [0, 2]], model(x)[:, [0, 2]])
    assert not torch.allclose(changed_first, model[0](x)[:, [1, 3]], atol=1e-2)


def test_several_of_one_head_are_put_together(heads):
    model, x = heads
    first, second = regard.edit(model, 0, 2, mask=~masks.pairs(1, 3)), regard.edit(model[0], heads=[2, 3], scale=2.0)
    with first, second, regard.edit(model, 0, 2, mask=torch.arange(7) != 5):
        found = model[0](x)
    visible = torch.ones(7, 7, dtype=torch.bool)
    visible[1, 3] = visible[:, 5] = False
    wanted = plain(x)
    wanted[:, 2] = plain(x, visible, 2 * 8**-0.5)[:, 2]
    wanted[:, 3] = plain(x, None, 2 * 8**-0.5)[:, 3]
    assert float((found - wanted).abs().max()) < 2e-6


def test_outputs_the_inner_one_counts(heads):
    model, x = heads
    mine = torch.randn(7, 8)
    with regard.edit(model, 1, [0, 1], output="zero"), regard.edit(model, 1, [1, 2], output=mine):
        found = model(x)
    assert float(found[:, 0].abs().max()) == 0
    assert torch.equal(found[:, 1], mine.expand(2, 7, 8))
    assert torch.equal(found[:, 2], mine.expand(2, 7, 8))
    assert torch.equal(found[:, 3], model(x)[:, 3])


def test_the_mean_is_over_what_is_real():
    model, inputs, _ = family("Bert")
    outputs = []
    with torch.no_grad(), regard.edit(model, 0, 1, output="mean"):
        model.encoder.layer[0].attention.self.register_forward_hook(lambda *given: outputs.append(given[-1][0]))
        model(**inputs)
    with torch.no_grad():
        model(**inputs)
    mean, own = (each.unflatten(-1, (6, 4))[:, :, 1] for each in outputs)
    assert torch.allclose(mean[0], own[0, :15].mean(0).expand(23, 4), atol=1e-6)
    assert torch.allclose(mean[1], own[1].mean(0).expand(23, 4), atol=1e-6)


@pytest.mark.parametrize("inside", [True, False])
def test_whoever_watches_sees_the_edited_weights(heads, inside):
    model, x = heads
    edit, watch = regard.edit(model, 1, [2], mask=~masks.pairs([1, 5], 3)), regard.watch(model, values=True)
    x = x.requires_grad_()
    with watch if not inside else edit as first, edit if not inside else watch as second:
        answer = model(x)
    seen = second if inside else first
    assert seen.names == ["0", "1"]
    weights = seen[1].dense()
    assert (weights[:, 2, [1, 5], 3] == 0).all()
    assert (weights[:, [0, 1, 3]][:, :, :, 3] > 0).all()
    assert (seen[0].dense() > 0).all()
    first_output = plain(x)
    assert torch.allclose(weights.double() @ first_output, answer.double(), atol=2e-6)
    answer.sum().backward()
    assert torch.isfinite(seen.relevance(queries=None)).all()


def test_gradients_are_those_of_the_plain_formula(heads):
    model, x = heads
    x, scale = x.double().requires_grad_(), torch.randn(4, 7, 8, dtype=torch.float64)
    with regard.edit(model, 0, [1], mask=~masks.pairs(None, [0, 6])), regard.edit(model, 0, 2, output="mean"):
        (model[0](x) * scale).sum().backward()
    found, x.grad = x.grad, None
    visible = torch.ones(7, 7, dtype=torch.bool)
    visible[:, [0, 6]] = False
    wanted = plain(x).unbind(1)
    wanted = torch.stack(
        [wanted[0], plain(x, visible)[:, 1], wanted[2].mean(1, True).expand_as(wanted[2]), wanted[3]], 1
    )
    (wanted * scale).sum().backward()
    assert torch.allclose(found, x.grad, atol=1e-12)


def test_a_given_output_gets_a_gradient(heads):
    model, x = heads
    mine = torch.zeros(7, 8, requires_grad=True)
    with regard.edit(model, 1, 0, output=mine):
        model(x).sum().backward()
    assert torch.equal(mine.grad, torch.full((7, 8), 2.0))


def test_while_it_generates_each_step_is_edited_as_without_a_cache():
    model = spread(make("Llama", ENCODERS["Llama"], "ForCausalLM"))
    ids = torch.randint(3, 50, (1, 9), generator=torch.Generator().manual_seed(1))
    options = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    plain = model.generate(ids, **options)
    edits = {"layers": [1], "heads": [0, 4], "mask": ~masks.pairs(LATE, [2, 3, 6])}
    with regard.edit(model, **edits) as edited, regard.edit(model, layers=0, heads=3, output="zero"):
        cached = model.generate(ids, **options)
    with regard.edit(model, **edits), regard.edit(model, layers=0, heads=3, output="zero"):
        assert torch.equal(cached, model.generate(ids, use_cache=False, **options))
    assert edited.names == ["model.layers.1.self_attn"] * 8
    assert not torch.equal(cached, plain)


def test_in_the_loop_of_an_encoder_decoder_numbers_stay():
    model = spread(make("Bart", PAIRS["Bart"], "ForConditionalGeneration"))
    ids, mask = text()
    with regard.edit(model, layers=[1, 5], output="zero") as edited:
        model.generate(ids, attention_mask=mask, max_new_tokens=3, min_new_tokens=3, num_beams=2)
    steps = edited.names.count("model.decoder.layers.1.encoder_attn")
    assert edited.names == ["model.encoder.layers.1.self_attn"] + ["model.decoder.layers.1.encoder_attn"] * steps
    assert steps > 1


def test_runs_of_one_module_have_numbers_of_their_own():
    model, inputs, real = family("Albert")
    wanted = expected(model, 1, "zero", inputs)
    model.set_attn_implementation("sdpa")
    with torch.no_grad(), regard.edit(model, layers=1, heads=1, output="zero") as edited:
        found = [model(**inputs)[0] for _ in range(2)]
    assert len(edited.names) == 2
    assert all(float((each - wanted)[real].abs().max()) < 1e-5 for each in found)


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("batched", [True, False])
def test_multihead_attention(weights, batched):
    torch.manual_seed(0)
    layer, x = torch.nn.MultiheadAttention(16, 4).double().eval(), torch.randn(7, 3, 16).double()
    x = x if batched else x[:, 0]
    hidden = None if not batched else torch.tensor([[False] * 5 + [True] * 2] * 3)
    with regard.edit(layer, heads=1, mask=~masks.pairs(LATE, 2)), regard.edit(layer, heads=[0], output="zero"):
        found, averaged = layer(x, x, x, key_padding_mask=hidden, need_weights=weights)
    given = x if batched else x[:, None]
    query, key, value = (
        torch.nn.functional.linear(given, *each).unflatten(-1, (4, 4)).permute(1, 2, 0, 3)
        for each in zip(layer.in_proj_weight.chunk(3), layer.in_proj_bias.chunk(3), strict=True)
    )
    scores = query @ key.mT / 2
    if batched:
        scores[..., 5:] = -torch.inf
    scores[:, 1, LATE, 2] = -torch.inf
    probabilities = scores.softmax(-1)
    output = probabilities @ value
    output[:, 0] = 0
    wanted = layer.out_proj(output.permute(2, 0, 1, 3).flatten(-2))
    assert torch.allclose(found, wanted if batched else wanted[:, 0], atol=1e-12)
    mean = probabilities.mean(1)
    assert averaged is None if not weights else torch.allclose(averaged, mean if batched else mean[0], atol=1e-12)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage:UserWarning")
def test_pytorchs_encoder_in_evaluation():
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(16, 4, 20, batch_first=True)
    model = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=True).eval()
    x, hidden = torch.randn(2, 7, 16), torch.tensor([[False] * 7, [False] * 4 + [True] * 3])
    with torch.no_grad():
        with regard.edit(model, layers=1, heads=2, output="zero") as edited, regard.watch(model) as seen:
            found = model(x, src_key_padding_mask=hidden)
        with regard.watch(model) as again:
            untouched = model(x, src_key_padding_mask=hidden)
        taken = model.layers[1].self_attn.out_proj.weight[:, 8:12]
        kept, taken.data[:] = taken.clone(), 0
        wanted = model(x, src_key_padding_mask=hidden)
        taken.data[:] = kept
    assert edited.names == ["layers.1.self_attn"]
    assert len(seen) == len(again) == 2
    assert torch.allclose(found[~hidden], wanted[~hidden], atol=1e-6)
    assert not torch.allclose(found[~hidden], untouched[~hidden], atol=1e-3)


def test_gpt_oss_keeps_its_sinks():
    even = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 4}  # as products in groups want it
    experts = {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 64}
    options = {**ENCODERS["Llama"], **even, **experts}
    model = spread(make("GptOss", options))
    ids, _ = text()
    model.set_attn_implementation("regard")
    with torch.no_grad():
        with regard.edit(model, 1, 1, mask=~masks.pairs(LATE, 2)), regard.watch(model) as seen:
            model(ids)
        weights = seen[1].dense()
        model.set_attn_implementation("eager")
        scores = model(ids, output_attentions=True).attentions[1]
    assert (weights[:, 1, LATE, 2] == 0).all()
    assert torch.allclose(weights[:, [0, 2, 3]], scores[:, [0, 2, 3]], atol=1e-5)
    total = weights.sum(-1)
    assert (total < 1).all()
    # The sink's share of a row grows as the keys lose theirs.
    before, without = scores[:, 1, LATE], scores[:, 1, LATE].clone()
    without[..., 2] = 0
    sink = 1 - before.sum(-1)
    assert torch.allclose(total[:, 1, LATE], without.sum(-1) / (without.sum(-1) + sink), atol=1e-5)


def test_threads_and_errors_leave_nothing(heads):
    model, x = heads
    before = model(x)
    others = []
    with regard.edit(model, 0, output="zero"):
        thread = threading.Thread(target=lambda: others.append(model(x)))
        thread.start()
        thread.join()
        assert not torch.allclose(model(x), before)
    assert torch.equal(others[0], before)
    with pytest.raises(ZeroDivisionError), regard.edit(model, 0, output="zero"):
        raise ZeroDivisionError
    assert torch.equal(model(x), before)
    again = regard.edit(model, 0, output="zero")
    for _ in range(2):
        with again:
            assert float(model[0](x).abs().max()) == 0


class ByItself(torch.nn.Module):
    """Attention in a way of its own."""

    def forward(self, x):
        return torch.softmax(x @ x.mT, -1) @ x


class SelfAttention(ByItself):
    pass


WRONG = [
    (OutOfRangeError, {"layers": -1, "output": "zero"}, "edit: need layers by number from 0, by name or by pattern"),
    (ConfigError, {}, "edit: need output, mask, scale or weights, which say what is to be otherwise; got none."),
    (ConfigError, {"output": "none"}, "edit: need an output of 'zero', 'mean' or an array; got 'none'."),
    (ConfigError, {"scale": -1}, "edit: need a scale that is a number of 0 or more; got -1."),
    (ConfigError, {"weights": "even"}, "edit: need weights of 'uniform'; got 'even'."),
    (DtypeError, {"heads": "all", "output": "zero"}, "edit: need heads as numbers; got str."),
    (OutOfRangeError, {"layers": [0, 5], "output": "zero"}, r"edit: need layers that ran, by a number below 2 or a "
     r"name, one of \['0', '1'\]; got \[5\]."),
    (OutOfRangeError, {"heads": 4, "output": "zero"}, "edit: need heads below 4; got 4."),
    (ShapeError, {"output": np.zeros((3, 3))}, r"edit: need an output that broadcasts to the chosen heads' "
     r"\(2, 4, 7, 8\); got \(3, 3\)."),
]  # fmt: skip


@pytest.mark.parametrize(("error", "options", "message"), WRONG)
def test_what_cannot_be(heads, error, options, message):
    model, x = heads
    with pytest.raises(error, match=message), regard.edit(model, **options):
        model(x)


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # by torch.compile
def test_models_that_cannot_be_edited(heads):
    _, x = heads
    with pytest.raises(
        DtypeError, match=r"edit: need a PyTorch module or a Keras model; got list; pass the model itself."
    ):
        regard.edit([], output="zero")
    with pytest.raises(UnsupportedError, match=r"edit: need the model as it was before torch.compile"):
        regard.edit(torch.compile(Heads()), output="zero").__enter__()
    with (
        pytest.raises(UnsupportedError, match=r"edit: need a model that runs and calls torch.nn.functional.scaled_dot"),
        regard.edit(torch.nn.Sequential(SelfAttention()), output="zero"),
    ):
        pass
    both = torch.nn.Sequential(Heads(), SelfAttention())
    with (
        pytest.raises(
            UnsupportedError, match=r"edit: need attention that can be seen; 1 ran without being edited; choose"
        ),
        regard.edit(both, output="zero"),
    ):
        both(x)
    with regard.edit(both, layers=0, output="zero"):
        both(x)


def test_an_unpadded_model_is_edited_with_its_padding():
    model, inputs, real = family("Bert")
    with torch.no_grad(), regard.edit(model, 1, 1, output="zero"):
        wanted = model(**inputs)[0]
    regard.unpad(model)
    with torch.no_grad(), regard.edit(model, 1, 1, output="zero"):
        assert float((model(**inputs)[0] - wanted)[real].abs().max()) < 1e-5
