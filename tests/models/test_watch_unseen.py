"""What ran as attention and cannot be seen is told by name, and a refusal names what would help."""

import inspect

import pytest
import torch
import transformers
from torch import nn
from torch.nn.attention.flex_attention import flex_attention
from transformers.utils import logging

import regard
import regard.models.transformers
from models.families import GROUPED, IMAGE, PAIRS, TEXT, difference, make, text
from regard.errors import UnsupportedError

STATES = torch.randn(2, 3, 7, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _quiet():
    logging.set_verbosity_error()
    yield
    logging.set_verbosity_warning()


class Fused(nn.Module):
    def forward(self, states):
        return nn.functional.scaled_dot_product_attention(states, states, states)


class OwnAttention(nn.Module):
    def forward(self, states):
        return (states @ states.mT).softmax(-1) @ states


class LinearAttention(nn.Module):
    """Without a softmax."""

    def forward(self, states):
        return states @ (states.mT @ states)


class Wrapped(nn.Module):
    """`attention` around `attention.inner`."""

    def __init__(self):
        super().__init__()
        self.attention = nn.Sequential(nn.Identity())
        self.attention.append(OwnAttention())

    def forward(self, states):
        return self.attention(states)


def eager_attention_forward(states):
    return torch.softmax(input=states @ states.mT, dim=-1) @ states


class Functional(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.functions = [function]

    def forward(self, states):
        return self.functions[0](states)


class Mixer(nn.Module):
    """Called `attn` by what it is in, and has parts."""

    def __init__(self):
        super().__init__()
        self.project = nn.Linear(8, 8)

    def forward(self, states):
        return self.project(states).cumsum(-2)


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn, self.c_attn, self.attn_conv = Mixer(), Router(), Mixer()

    def forward(self, states):
        return self.attn_conv(self.c_attn(self.attn(states)))


class Router(nn.Module):
    """A softmax that is no attention."""

    def forward(self, states):
        return states.softmax(-1)


class AttentionNorm(nn.Module):
    def forward(self, states):
        return states / states.norm(dim=-1, keepdim=True)


class MultiscaleDeformableAttention(nn.Module):
    def forward(self, states):
        return states.softmax(-1) * states


@torch.library.custom_op("regard_tests::flash_attn_forward", mutates_args=())
def kernel(states: torch.Tensor) -> torch.Tensor:
    return states.clone()


CASES = {
    "softmax of its own": (OwnAttention, ["1"]),
    "linear attention": (LinearAttention, ["1"]),
    "the innermost": (Wrapped, ["1.attention.1"]),
    "a function of attention": (lambda: Functional(eager_attention_forward), ["1"]),
    "by its own name": (Named, ["1.attn"]),
    "flex_attention": (lambda: Functional(lambda states: flex_attention(states, states, states)), ["1"]),
    "a kernel": (lambda: Functional(kernel), ["1"]),
    "a router": (Router, []),
    "a norm": (AttentionNorm, []),
    "a softmax in a function": (lambda: Functional(lambda states: states.softmax(-1)), []),
    "deformable attention": (MultiscaleDeformableAttention, []),
}


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("case", CASES)
def test_what_was_not_seen(case):
    make_other, expected = CASES[case]
    model = nn.Sequential(Fused(), make_other(), Fused())
    with torch.no_grad():
        alone = model(STATES)
        with regard.watch(model) as outer, regard.watch(model, layers=[0]) as seen:
            assert torch.equal(model(STATES), alone)
    assert (outer.names, outer.unseen) == (["0", "2"], expected)
    assert (seen.names, seen.unseen) == (["0"], expected)  # what was left out on purpose is none of it
    assert seen.only("*").unseen == seen.over(7).unseen == seen.summary().unseen == expected
    told = f"not seen: {', '.join(expected)}"
    assert repr(seen).endswith(f"MB: 0; {told})" if expected else "MB: 0)")
    assert (str(seen.summary()).splitlines()[-1] == told) is bool(expected)


def test_what_did_not_run_is_none_of_it():
    model = nn.Sequential(Fused(), OwnAttention())
    with regard.watch(model) as seen:
        model[0](STATES)
    assert seen.unseen == []


def test_a_tower_that_runs_eagerly():
    config = transformers.CLIPConfig(
        text_config={**TEXT, "num_attention_heads": 4}, vision_config=IMAGE, projection_dim=12
    )
    model = transformers.CLIPModel._from_config(config, attn_implementation={"vision_config": "eager"}).eval()
    ids, mask = text()
    with torch.no_grad(), regard.watch(model) as seen:
        model(input_ids=ids, attention_mask=mask, pixel_values=torch.rand(2, 3, 16, 16))
    assert seen.names == [f"text_model.encoder.layers.{number}.self_attn" for number in range(2)]
    assert seen.unseen == [f"vision_model.encoder.layers.{number}.self_attn" for number in range(2)]


def test_linear_attention_beside_attention():
    config = {
        **GROUPED, "head_dim": 8, "layer_types": ["linear_attention", "full_attention"], "num_experts": 2,
        "num_experts_per_tok": 1, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
        "linear_num_value_heads": 2, "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    }  # fmt: skip
    model = make("Qwen3Next", config)
    with torch.no_grad(), regard.watch(model) as seen:
        model(text()[0])
    assert (seen.names, seen.unseen) == (["layers.1.self_attn"], ["layers.0.linear_attn"])


GEMMA = {**GROUPED, "head_dim": 8, "sliding_window": 5}


@pytest.mark.parametrize(
    ("name", "config", "implementation", "help"),
    [
        ("Bert", TEXT, "eager", 'choose an attention that can be seen, model.set_attn_implementation("sdpa")'),
        (
            "Gemma2",
            GEMMA,
            None,
            "choose an attention that can be seen, import regard.models.transformers and "
            'model.set_attn_implementation("regard")',
        ),
        (
            "DebertaV2",
            TEXT,
            None,
            "nothing makes the attention of DisentangledSelfAttention visible, which is computed in a way of its own",
        ),
        (
            "Mamba",
            {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 1},
            None,
            "call the model inside the with",
        ),
    ],
)
def test_a_refusal_names_what_helps(name, config, implementation, help):
    model = make(name, config)
    if implementation:
        model.set_attn_implementation(implementation)
    with pytest.raises(UnsupportedError) as error, torch.no_grad(), regard.watch(model):
        model(text()[0])
    assert str(error.value).endswith(f"; {help}.")
    for implementation in ("sdpa", "regard"):
        if f'"{implementation}"' in help:
            model.set_attn_implementation(implementation)
            with torch.no_grad(), regard.watch(model) as seen:
                model(text()[0])
            assert len(seen) == config["num_hidden_layers"]


@pytest.mark.parametrize(("name", "config"), [("Bert", TEXT), ("Gemma2", GEMMA), ("T5", PAIRS["T5"])])
def test_regards_own_attention_in_transformers(name, config):
    """Each attention once, by the module's name, with the weights that `output_attentions` gives."""
    ids, mask = text()
    inputs = {"input_ids": ids, "attention_mask": mask} | ({"decoder_input_ids": ids[:, :7]} if name == "T5" else {})
    model = make(name, config)
    model.set_attn_implementation("regard")
    with torch.no_grad():
        alone = model(**inputs, output_attentions=True)
        with regard.watch(model) as outer, regard.watch(model, layers=[1], heads=[0, 3]) as seen:
            assert torch.equal(model(**inputs)[0], alone[0])
    kinds = ("attentions",) if name != "T5" else ("encoder_attentions", "decoder_attentions", "cross_attentions")
    expected = [weights for kind in kinds for weights in getattr(alone, kind)]
    found = list(outer)
    if name == "T5":  # in its decoder, self-attention and cross-attention take turns
        found = [*found[:2], *found[2::2], *found[3::2]]
    assert len(found) == len(expected)
    assert max(difference(ours, theirs.dense()) for ours, theirs in zip(found, expected, strict=True)) < 1e-6
    assert outer.unseen == []
    assert all(name in dict(model.named_modules()) for name in outer.names)
    assert seen.names == outer.names[1:2]
    assert difference(seen[0], expected[1].dense()[:, [0, 3]]) < 1e-6


def test_relevance_and_norms_of_regards_own_attention_are_those_of_sdpa():
    ids, mask = text()
    model, found = make("Bert", TEXT, "ForSequenceClassification"), []
    for implementation in ("sdpa", "regard"):
        model.set_attn_implementation(implementation)
        with regard.watch(model, values=True) as seen:
            logits = model(ids, attention_mask=mask).logits
        logits[:, 1].sum().backward()
        found.append((seen.names, seen.relevance(), seen.norms(), seen.rollout(0)))
    (names, *theirs), (others, *ours) = found
    assert names == others
    for one, other in zip(theirs, ours, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_the_source_of_a_class_may_be_missing(monkeypatch):
    model = make("Bert", TEXT)
    model.set_attn_implementation("eager")
    monkeypatch.setattr(inspect, "getsource", lambda kind: (_ for _ in ()).throw(OSError))
    with (
        pytest.raises(UnsupportedError, match="nothing makes the attention of BertSelfAttention visible"),
        regard.watch(model),
    ):
        model(text()[0])


BLOCKS = {"block_size": 2, "num_random_blocks": 1}  # sparse from 15 tokens on
TURNED = (
    "since a text came that is too short for 'block_sparse', {} attends to everything ('original_full'): "
    ".set_attention_type('block_sparse') turns it back"
)


def test_a_model_of_blocks_that_went_over_to_full_attention_is_told():
    ids, _ = text()
    model = make("BigBird", {**TEXT, "num_attention_heads": 4, **BLOCKS})
    assert "attends to everything" not in refused(model, ids)
    assert len(model(ids, output_attentions=True).attentions) == 2
    model(ids[:, :7])
    assert model(ids, output_attentions=True).attentions == ()  # transformers' hooks sit where the blocks were
    assert refused(model, ids).endswith(f"computed in a way of its own; {TURNED.format('BigBirdModel')}.")
    model.set_attention_type("block_sparse")
    assert "attends to everything" not in refused(model, ids)


def refused(model, ids):
    with pytest.raises(UnsupportedError) as caught, regard.watch(model):
        model(ids)
    return str(caught.value)


def test_an_encoder_of_blocks_beside_a_decoder_that_is_seen_is_told():
    ids, _ = text()
    options = {**PAIRS["Bart"], **BLOCKS}
    model = make("BigBirdPegasus", options)
    model.set_attn_implementation("regard")
    with regard.watch(model) as seen:
        model(ids, decoder_input_ids=ids[:, :7])
    assert seen.unseen == [f"encoder.layers.{layer}.self_attn.self" for layer in range(2)]
    assert not seen.remarks
    with regard.watch(model) as seen:
        model(ids[:, :7], decoder_input_ids=ids[:, :7])
    assert seen.remarks == [TURNED.format("BigBirdPegasusEncoder")]
    assert repr(seen).endswith(f"; {seen.remarks[0]})")
