"""`unpad` with every head that transformers has for its families: the padded model's answers, loss and gradients."""

import copy
import itertools

import pytest
import torch
import transformers
from families import GROUPED, PAIR, PAIRS, TEXT, TOKENS
from transformers.models.auto import modeling_auto
from transformers.utils import logging

import regard
from regard.models import transformers_packed

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
    made, real = [], transformers_packed.Packing.of
    monkeypatch.setattr(transformers_packed.Packing, "of", lambda mask: made.append(mask) or real(mask))
    return made


@pytest.mark.parametrize(("family", "name", "side"), list(cases()))
def test_heads(family, name, side, packings):
    padded, inputs = make(family, name), call(family, name, side)
    unpadded = regard.unpad(copy.deepcopy(padded))
    compare(padded, unpadded, inputs, family)
    assert (not packings) == computes_padding(family, name, side)
