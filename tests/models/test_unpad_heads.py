"""`unpad` with every head that transformers has for its families: the padded model's answers, loss and gradients."""

import copy
import functools
import itertools
import pickle

import pytest
import torch
import transformers
from families import GROUPED, PAIR, PAIRS, TEXT, TOKENS
from transformers.models.auto import modeling_auto
from transformers.utils import logging

import regard
from regard.errors import UnsupportedError
from regard.models.transformers import packed, unpad

LENGTHS = (6, 17, 3, 11)  # under and over 16 tokens, from which on a CPU's kernel loses no NaN
STILL = {
    "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout_prob": 0.0,
    "summary_last_dropout": 0.0,
}  # fmt: skip
COUNTED = {**TEXT, **STILL, "max_position_embeddings": 24, "num_labels": 2}  # fewer positions than tokens together
COUNTED_PAIR = {**PAIR, "max_position_embeddings": 24, "decoder_start_token_id": 0, "dropout": 0.0}
RELATIVE = {**PAIRS["T5"], "dropout_rate": 0.0, "relative_attention_num_buckets": 8}
OPTIONS = {
    "bert": COUNTED, "roberta": COUNTED, "xlm-roberta": COUNTED, "camembert": COUNTED, "electra": COUNTED,
    "albert": {**COUNTED, "embedding_size": 12},
    "distilbert": {
        **TOKENS, "dim": 24, "hidden_dim": 30, "n_layers": 2, "n_heads": 4, "dropout": 0.0, "attention_dropout": 0.0,
        "seq_classif_dropout": 0.0, "qa_dropout": 0.0, "max_position_embeddings": 24,
    },
    "modernbert": {**TEXT, "num_hidden_layers": 4, "local_attention": 8, "cls_token_id": 1, "sep_token_id": 2},
    "eurobert": {**GROUPED, "mask_token_id": 3},
    "bart": COUNTED_PAIR, "mbart": COUNTED_PAIR, "marian": COUNTED_PAIR, "pegasus": COUNTED_PAIR,
    "t5": RELATIVE, "mt5": RELATIVE,
}  # fmt: skip
PAIRED = ("bart", "mbart", "marian", "pegasus", "t5", "mt5")
ROUNDED = ("t5", "mt5", "modernbert", "eurobert")  # norms or rotations in float32, whatever the type


BY_TOKEN = ("logits", "prediction_logits", "last_hidden_state", "hidden_states")
OF_ENCODER = ("encoder_last_hidden_state", "encoder_hidden_states")


def heads():
    """Every class with an encoder that one of transformers' own tables names for a family, with that table's name."""
    found = {}
    for name in sorted(each for each in dir(modeling_auto) if each.startswith("MODEL_") and each.endswith("MAPPING")):
        for family in OPTIONS:
            of = getattr(modeling_auto, name).get(transformers.CONFIG_MAPPING[family], None)
            if of is not None and not (family in PAIRED and "CAUSAL_LM_M" in name and "SEQ" not in name):
                found[family, of.__name__] = of
    return found


HEADS = heads()
SIDES = ("right", "left", "inside", "empty")


def cases():
    """All heads by all sides; a fourth of them, and all of BERT's, are fast."""
    for (number, (family, name)), (turn, side) in itertools.product(enumerate(HEADS), enumerate(SIDES)):
        fast = family == "bert" or number % 4 == turn
        yield pytest.param(family, name, side, id=f"{name}-{side}", marks=() if fast else pytest.mark.slow)


@pytest.fixture(autouse=True)
def _quiet():
    logging.set_verbosity_error()
    yield
    logging.set_verbosity_warning()


def spread(model):
    """Scores of unit size: at their initial size, weights are all alike and hide every fault."""
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=1 if "relative" in name else parameter.shape[-1] ** -0.5)
    return model


def make(family, name, **more):
    config = transformers.CONFIG_MAPPING[family](**{**OPTIONS[family], **more})
    torch.manual_seed(0)
    return spread(HEADS[family, name](config)).double().eval()


def padding(side, choices=False):
    """Tokens and mask, texts with padding at one side; `inside` lacks tokens amid, in `empty` a text has none."""
    columns = torch.arange(max(LENGTHS))
    mask = (columns < torch.tensor(LENGTHS)[:, None]).long()
    if side == "left":
        mask = mask.flip(1)
    if side == "inside":
        mask = mask.clone()
        mask[:, 1:3] = 0
    if side == "empty":
        mask[3] = 0
    ids = torch.randint(4, 50, mask.shape, generator=torch.Generator().manual_seed(0)).masked_fill(mask == 0, 0)
    for row, real in zip(ids, mask, strict=True):  # one end in each, where BART and T5 look
        row[real.nonzero()[-1] if real.any() else -1] = 2
    return (ids.unflatten(0, (2, 2)), mask.unflatten(0, (2, 2))) if choices else (ids, mask)


def call(family, name, side):
    """A call with whatever labels the head takes."""
    kind = name.split("For")[-1]
    ids, mask = padding(side, choices=kind == "MultipleChoice")
    inputs = {"input_ids": ids, "attention_mask": mask}
    whole, tokens = torch.tensor([1, 0, 0, 1])[: len(ids)], (ids * 7 % 2).masked_fill(mask == 0, -100)
    if kind in ("SequenceClassification", "MultipleChoice", "NextSentencePrediction"):
        return {**inputs, "labels": whole}
    if kind == "QuestionAnswering":
        return {**inputs, "start_positions": whole, "end_positions": whole + 1}
    if kind in ("ConditionalGeneration", "MarianMTModel"):
        return {**inputs, "labels": ids[:, :5].clamp(3)}
    if kind == "PreTraining":
        more = {"bert": {"next_sentence_label": whole}, "albert": {"sentence_order_label": whole}, "electra": {}}
        return {**inputs, "labels": tokens.clamp(0) if family == "electra" else tokens, **more[family]}
    if kind in ("TokenClassification", "MaskedLM", "CausalLM", "BertLMHeadModel"):
        return {**inputs, "labels": tokens}
    assert kind.endswith("Model"), kind
    return {**inputs, "decoder_input_ids": ids[:, :5]} if family in PAIRED and "Encoder" not in kind else inputs


def answers(model, outputs, mask):
    """What is to be equal: what there is by token at real places, and the rest whole."""
    by_token = OF_ENCODER if model.config.is_encoder_decoder else BY_TOKEN
    mask = mask.flatten(0, -2)
    for name, values in outputs.items():
        for value in values if isinstance(values, tuple) else (values,):
            if isinstance(value, torch.Tensor):
                yield name, value[mask.bool()] if name in by_token and value.shape[:2] == mask.shape else value


def learn(model, inputs):
    """The answers to a call, and the gradients of its loss; of a model without a loss, of its answers."""
    outputs = model(**inputs, output_hidden_states=True)
    found = dict.fromkeys(name for name, _ in answers(model, outputs, inputs["attention_mask"]))
    for name in found:
        values = [value for other, value in answers(model, outputs, inputs["attention_mask"]) if other == name]
        found[name] = torch.cat([value.flatten() for value in values])
    loss = outputs.get("loss")
    (sum(value.sin().sum() for value in found.values()) if loss is None else loss).backward()
    return found | {name: each.grad for name, each in model.named_parameters() if each.grad is not None}


def difference(ours, theirs):
    """The largest one, of the largest number there is."""
    assert ours.shape == theirs.shape
    assert torch.equal(ours.isnan(), theirs.isnan())
    apart = (ours - theirs).detach().nan_to_num(0).abs().max()
    return float(apart / theirs.detach().nan_to_num(0).abs().max().clamp(min=1e-3))


def compare(padded, unpadded, inputs, family):
    theirs, ours = learn(padded, inputs), learn(unpadded, inputs)
    assert ours.keys() == theirs.keys()
    apart = {name: difference(ours[name], theirs[name]) for name in theirs}
    allowed = 2e-5 if family in ROUNDED else 1e-10
    assert not {name: far for name, far in apart.items() if far > allowed}


def computes_padding(family, name, side):
    """The rule, in words: what reads padding, or a place that is padding, has it computed."""
    kind = name.split("For")[-1]
    if family in PAIRED:
        return side == "empty" or (side == "inside" and family in ("t5", "mt5"))
    if kind in ("QuestionAnswering", "CausalLM", "BertLMHeadModel"):
        return True
    if side == "inside" and family == "modernbert":
        return True
    of_texts = kind in ("SequenceClassification", "MultipleChoice", "NextSentencePrediction")
    if of_texts and family == "eurobert":  # which averages
        return side == "empty"
    pools = of_texts or (kind == "PreTraining" and family in ("bert", "albert"))
    pools |= kind.endswith("Model") and family in ("bert", "roberta", "xlm-roberta", "camembert", "albert")
    return pools and side in ("left", "empty")


@pytest.fixture
def packings(monkeypatch):
    """How many batches have been packed."""
    made, real = [], packed.Packing.of
    monkeypatch.setattr(packed.Packing, "of", lambda mask: made.append(mask) or real(mask))
    return made


@pytest.mark.parametrize(("family", "name", "side"), list(cases()))
def test_heads(family, name, side, packings):
    padded, inputs = make(family, name), call(family, name, side)
    unpadded = regard.unpad(copy.deepcopy(padded))
    compare(padded, unpadded, inputs, family)
    assert (not packings) == computes_padding(family, name, side)


POOLINGS = [
    ("modernbert", "ModernBertForSequenceClassification", {"classifier_pooling": "mean"}, ("inside", "empty")),
    ("modernbert", "ModernBertForMultipleChoice", {"classifier_pooling": "mean"}, ("inside", "empty")),
    ("eurobert", "EuroBertForSequenceClassification", {"classifier_pooling": "bos"}, ("left", "empty")),
    ("eurobert", "EuroBertForSequenceClassification", {"classifier_pooling": "mean"}, ("empty",)),
    ("electra", "ElectraForMultipleChoice", {"summary_type": "last"}, SIDES),
    ("electra", "ElectraForMultipleChoice", {"summary_type": "mean"}, SIDES),
    ("electra", "ElectraForMultipleChoice", {"summary_type": "cls_index"}, SIDES),
]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("family", "name", "how", "as_before"), POOLINGS)
def test_pooling(family, name, how, as_before, side, packings):
    padded = make(family, name, **how)
    unpadded = regard.unpad(copy.deepcopy(padded))
    compare(padded, unpadded, call(family, name, side), family)
    assert (not packings) == (side in as_before)


LABELLED = [
    ("bert", "BertForTokenClassification"), ("bert", "BertForPreTraining"), ("albert", "AlbertForMaskedLM"),
    ("roberta", "RobertaForMaskedLM"), ("eurobert", "EuroBertForMaskedLM"), ("t5", "T5ForTokenClassification"),
]  # fmt: skip


@pytest.mark.parametrize(("family", "name"), LABELLED)
def test_labels_at_padding_count(family, name, packings):
    inputs = call(family, name, "right")
    inputs["labels"] = inputs["labels"].clamp(0)
    for logits in ("all", "labelled"):
        padded = make(family, name)
        compare(padded, regard.unpad(copy.deepcopy(padded), logits=logits), inputs, family)
    assert not packings


@pytest.mark.parametrize("kind", ["regression", "multi_label_classification"])
@pytest.mark.parametrize(
    ("family", "name"),
    [("distilbert", "DistilBertForSequenceClassification"), ("bart", "BartForSequenceClassification")],
)
def test_kinds_of_problems(family, name, kind, packings):
    padded, inputs = make(family, name, problem_type=kind, num_labels=2), call(family, name, "right")
    inputs["labels"] = torch.rand(4, 2, dtype=torch.float64)
    compare(padded, regard.unpad(copy.deepcopy(padded)), inputs, family)
    assert packings


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("kind", [torch.bool, torch.float64])
@pytest.mark.parametrize("side", ["right", "left"])
def test_segments_positions_and_masks_of_other_types(side, kind, shared, packings):
    padded, inputs = make("bert", "BertForMaskedLM"), call("bert", "BertForMaskedLM", side)
    rows = 1 if shared else 4
    random = torch.Generator().manual_seed(1)
    inputs |= {
        "attention_mask": inputs["attention_mask"].to(kind),
        "token_type_ids": torch.randint(2, (rows, 17), generator=random),
        "position_ids": torch.randint(24, (rows, 17), generator=random),
    }
    compare(padded, regard.unpad(copy.deepcopy(padded)), inputs, "bert")
    assert packings


@pytest.mark.parametrize(
    ("family", "name"),
    [("bert", "BertModel"), ("bert", "BertForMaskedLM"), ("roberta", "RobertaForSequenceClassification"),
     ("roberta", "RobertaForMultipleChoice"), ("distilbert", "DistilBertForTokenClassification")],
)  # fmt: skip
def test_inputs_by_position(family, name, packings):
    padded, inputs = make(family, name), call(family, name, "right")
    unpadded = regard.unpad(copy.deepcopy(padded))
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    if family == "distilbert":
        given = (ids, mask, None)
    else:
        given = (ids, ids % 2, mask) if name.endswith("Choice") else (ids, mask, ids % 2)
    with torch.no_grad():
        expected, found = padded(*given)[0], unpadded(*given)[0]
    real = mask.bool() if expected.shape[:2] == mask.shape else slice(None)
    torch.testing.assert_close(found[real], expected[real])
    assert packings
    message = "multiple values for argument 'attention_mask'"
    for model in (padded, unpadded):
        with pytest.raises(TypeError, match=message):
            model(ids, None, mask, attention_mask=mask)


def shapes(outputs):
    return [shapes(each) for each in outputs] if isinstance(outputs, tuple) else outputs.shape


def test_inputs_by_position_to_a_forward_of_ones_own(packings):
    padded = make("roberta", "RobertaForSequenceClassification")
    for model in (padded, padded.roberta):
        model.forward = lambda *inputs, original=model.forward, **more: original(*inputs, **more)
    unpadded = make("roberta", "RobertaForSequenceClassification")
    for model in (unpadded, unpadded.roberta):
        model.forward = lambda *inputs, original=model.forward, **more: original(*inputs, **more)
    regard.unpad(unpadded)
    for side, count in (("left", 0), ("right", 1)):
        ids, mask = padding(side)
        torch.testing.assert_close(unpadded(ids, mask).logits, padded(ids, mask).logits)
        assert len(packings) == count


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("family", "name"), [("bert", "BertForMaskedLM"), ("bart", "BartModel"), ("t5", "T5EncoderModel")]
)
def test_outputs_asked_for_in_the_configuration(family, name, when, packings):
    padded, inputs = make(family, name), call(family, name, "right")
    unpadded = copy.deepcopy(padded)
    if when == "after":
        regard.unpad(unpadded)
    for model in (padded, unpadded):
        model.config.output_hidden_states = True
        model.config.return_dict = family == "bart"  # which has no other way itself
    if when == "before":
        regard.unpad(unpadded)
    with torch.no_grad():
        expected, found = padded(**inputs), unpadded(**inputs)
    assert type(found) is type(expected)
    if family == "bart":
        expected, found = (each.encoder_hidden_states for each in (expected, found))
    assert shapes(found) == shapes(expected)
    assert packings


def test_some_hidden_states():
    padded, inputs = make("bert", "BertModel"), call("bert", "BertModel", "right")
    unpadded = regard.unpad(copy.deepcopy(padded))
    expected, found = (m(**inputs, output_hidden_states=[1]).hidden_states for m in (padded, unpadded))
    assert [each is None for each in found] == [each is None for each in expected] == [True, False, True]
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(found[1][real], expected[1][real])


@pytest.mark.parametrize(("family", "name"), [("bert", "BertForMaskedLM"), ("bart", "BartModel")])
def test_attentions_asked_for_in_the_configuration(family, name, packings):
    padded, inputs = make(family, name), call(family, name, "right")
    padded.set_attn_implementation("eager")
    padded.config.output_attentions = True
    unpadded = regard.unpad(copy.deepcopy(padded))
    with torch.no_grad():
        expected, found = padded(**inputs), unpadded(**inputs)
    which = "encoder_attentions" if family == "bart" else "attentions"
    assert len(found[which]) == len(expected[which]) == 2
    dense, real = found[which][1].dense().transpose(1, 2), inputs["attention_mask"].bool()
    torch.testing.assert_close(dense[real], expected[which][1].transpose(1, 2)[real])
    assert not packings
    unpadded(**inputs, output_attentions=False)
    assert packings


PLACES = {
    ("bert", "BertForSequenceClassification"): ("query", "key", "value", "word_embeddings"),
    ("bert", "BertForTokenClassification"): ("query", "key", "value", "word_embeddings"),
    ("eurobert", "EuroBertForTokenClassification"): ("q_proj", "k_proj", "v_proj", "embed_tokens"),
    ("modernbert", "ModernBertForTokenClassification"): ("Wqkv", "tok_embeddings"),
    ("t5", "T5ForTokenClassification"): (".q", ".k", ".v", "shared", "bias"),
}


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("head", "place"), [(head, place) for head, places in PLACES.items() for place in places])
def test_nan_stays(head, kind, place, packings):
    """In texts of every length: with fewer than 16 keys PyTorch's kernel loses it."""
    padded = make(*head).to(kind)
    columns = torch.arange(20)
    mask = (columns < torch.arange(1, 21)[:, None]).long()
    ids = torch.randint(8, 50, mask.shape, generator=torch.Generator().manual_seed(0)).masked_fill(mask == 0, 0)
    ids[columns % 3 == 0, 0] = 7  # a token that is broken with the embeddings, in every third text
    with torch.no_grad():
        for parameter in (each for name, each in padded.named_parameters() if f"{place}.weight" in name):
            parameter[7, 3] = float("nan")
        unpadded = regard.unpad(copy.deepcopy(padded))
        expected, found = (model(ids, attention_mask=mask).logits for model in (padded, unpadded))
    real = mask.bool() if found.ndim == 3 else slice(None)
    assert packings
    assert expected[real].isnan().any()
    assert torch.equal(found[real].isnan(), expected[real].isnan())


def state(model):
    """Everything that a model and its modules hold, but hooks and weights."""
    return {
        name: {key: value for key, value in vars(module).items() if not key.startswith("_") or "regard" in key}
        for name, module in model.named_modules()
    }


@pytest.mark.parametrize("forward", [False, True])
@pytest.mark.parametrize(
    ("family", "name"),
    [("bert", "BertForMaskedLM"), ("roberta", "RobertaForSequenceClassification"), ("modernbert", "ModernBertModel"),
     ("t5", "T5ForConditionalGeneration"), ("bart", "BartModel")],
)  # fmt: skip
def test_pad_brings_back_the_model_as_it_was(family, name, forward):
    model = make(family, name)
    encoder = unpad._encoder(model)
    if forward:  # of the module's own, as accelerate gives it
        model.forward, encoder.forward = functools.partial(model.forward), functools.partial(encoder.forward)
    before, config, weights = state(model), copy.deepcopy(model.config), model.state_dict()
    regard.unpad(regard.unpad(model, logits="labelled"))
    assert regard.unpad(encoder) is encoder
    assert model.state_dict().keys() == weights.keys()
    assert state(model) != before
    assert regard.pad(model) is model
    assert state(model) == before
    assert model.config.to_dict() == config.to_dict()
    assert model.config._attn_implementation == encoder.config._attn_implementation == "sdpa"
    assert state(regard.pad(model)) == before


COPIES = [
    ("bert", "BertForMaskedLM"), ("roberta", "RobertaForSequenceClassification"), ("albert", "AlbertModel"),
    ("bart", "BartForConditionalGeneration"), ("t5", "T5EncoderModel"),
]  # fmt: skip


@pytest.mark.parametrize("how", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize(("family", "name"), COPIES)
def test_copies_run_their_own_weights(family, name, how, packings):
    original, inputs = regard.unpad(make(family, name)), call(family, name, "right")
    other = how(original)
    before = original(**inputs)[0].detach()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    plain = regard.pad(how(other))
    assert "forward" not in {key for module in plain.modules() for key in vars(module)}
    packings.clear()
    compare(plain, other, inputs, family)
    assert packings
    assert torch.equal(original(**inputs)[0], before)


def test_other_types_of_numbers():
    padded, inputs = (
        make("roberta", "RobertaForTokenClassification"),
        call("roberta", "RobertaForTokenClassification", "left"),
    )
    unpadded = regard.unpad(copy.deepcopy(padded))
    real = inputs["attention_mask"].bool()
    for kind, allowed in ((torch.float32, 2e-6), (torch.float16, 2e-2), (torch.bfloat16, 2e-1)):
        expected, found = (copy.deepcopy(each).to(kind)(**inputs).logits.detach() for each in (padded, unpadded))
        assert found.dtype == kind
        assert float((found - expected)[real].abs().max()) < allowed


def test_heads_of_your_own(packings):
    """Nobody knows what they read, unless they are transformers' own under another name, or given the encoder alone."""

    class Named(transformers.RobertaForSequenceClassification):
        pass

    class Changed(transformers.RobertaForSequenceClassification):
        def forward(self, **inputs):
            return self.classifier(self.roberta(**inputs).last_hidden_state.flip(1))

    ids, mask = padding("right")
    for kind, count in ((Named, 1), (Changed, 1)):
        padded = spread(kind(transformers.RobertaConfig(**OPTIONS["roberta"]))).eval()
        unpadded = regard.unpad(copy.deepcopy(padded))
        expected, found = (model(input_ids=ids, attention_mask=mask) for model in (padded, unpadded))
        torch.testing.assert_close(found[0] if kind is Named else found, expected[0] if kind is Named else expected)
        assert len(packings) == count
    regard.unpad(unpadded.roberta)(ids, attention_mask=mask)
    assert len(packings) == 2


def test_parts_of_a_length_run_padded(packings):
    padded = make("bert", "BertForTokenClassification", chunk_size_feed_forward=17)
    compare(padded, regard.unpad(copy.deepcopy(padded)), call("bert", "BertForTokenClassification", "right"), "bert")
    assert not packings


@pytest.mark.parametrize("family", ["bart", "mbart", "marian", "pegasus"])
def test_decoders_alone(family):
    config = transformers.CONFIG_MAPPING[family](**OPTIONS[family])
    model = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config)
    with pytest.raises(UnsupportedError) as error:
        regard.unpad(model)
    kind = type(model.base_model).__name__
    assert (
        str(error.value) == f"unpad: need a model with an encoder; got {kind}, a decoder of {family}; use it as it is."
    )
    assert regard.pad(model) is model


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("family", "name"), [("bert", "BertModel"), ("modernbert", "ModernBertForMaskedLM")])
def test_causal(family, name, causal, packings):
    padded, inputs = make(family, name), call(family, name, "right") | {"is_causal": causal}
    compare(padded, regard.unpad(copy.deepcopy(padded)), inputs, family)
    assert bool(packings) != causal
