"""Training in bfloat16: short attentions are computed in float32 on a CPU, where their backward is the faster."""

import copy
from contextlib import nullcontext

import pytest
import torch
import transformers
from torch.nn import functional
from torch.overrides import TorchFunctionMode

import regard
from regard.finetuning.conduct import finetune
from regard.finetuning.training.precision import SHORT, ShortAttention, choose_precision
from regard.finetuning.training.trainer import StepTrainer

HEADS, WIDTH = 2, 6


def texts(queries, keys=None, trained=True):
    torch.manual_seed(0)
    lengths = (queries, keys or queries, keys or queries)
    return [torch.randn(3, HEADS, length, WIDTH).bfloat16().requires_grad_(trained) for length in lengths]


@pytest.mark.parametrize(
    ("found", "chosen"),
    [({"amx_bf16": True, "avx512_bf16": True}, "bfloat16"), ({"avx512_bf16": True}, "float32"), ({}, "float32")],
)
def test_auto_is_bfloat16_where_a_processor_multiplies_it_faster(monkeypatch, found, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    assert choose_precision("auto") == chosen
    assert choose_precision("float32") == "float32"
    assert choose_precision("bfloat16") == "bfloat16"


class Spy(TorchFunctionMode):
    """Outside of other modes, it sees what the kernel is called with in the end: queries, and types."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        output = function(*args, **kwargs or {})
        if function is functional.scaled_dot_product_attention:
            self.found.append((args[0].shape[-2], {array.dtype for array in (*args[:3], output)}))
        return output


@pytest.fixture
def seen():
    with Spy() as spy:
        yield spy.found


@pytest.mark.parametrize(
    ("queries", "keys", "trained", "rate", "computed"),
    [
        (7, 7, True, 0.0, torch.float32),
        (7, SHORT, True, 0.0, torch.float32),
        (7, SHORT + 1, True, 0.0, torch.bfloat16),
        (SHORT + 1, 7, True, 0.0, torch.bfloat16),
        (7, 7, False, 0.0, torch.bfloat16),
        (7, 7, True, 0.1, torch.bfloat16),
    ],
)
def test_short_attentions_with_a_gradient_are_computed_in_float32(seen, queries, keys, trained, rate, computed):
    arrays = texts(queries, keys, trained)
    with torch.autocast("cpu", torch.bfloat16), ShortAttention():
        output = functional.scaled_dot_product_attention(*arrays, dropout_p=rate)
    assert output.dtype == torch.bfloat16
    assert seen == [(queries, {computed})]


def test_float32_stays_float32_without_autocast(seen):
    with ShortAttention():
        output = functional.scaled_dot_product_attention(*(array.float() for array in texts(7)))
    assert output.dtype == torch.float32
    assert seen == [(7, {torch.float32})]


def test_what_autocast_would_cast_is_not_cast_inside(seen):
    with torch.autocast("cpu", torch.bfloat16), ShortAttention():
        output = functional.scaled_dot_product_attention(*(array.float() for array in texts(7)))
    assert output.dtype == torch.bfloat16  # as autocast gives it
    assert seen == [(7, {torch.float32})]


@pytest.mark.parametrize("mask", ["none", "bool", "bias", "causal"])
def test_outputs_and_gradients_are_nearer_to_exact_ones(mask):
    arrays = texts(11)
    options = {
        "none": {},
        "bool": {"attn_mask": torch.rand(11, 11) < 0.7},
        "bias": {"attn_mask": torch.randn(11, 11).bfloat16()},
        "causal": {"is_causal": True, "scale": 0.3},
    }[mask]
    if mask == "bool":
        options["attn_mask"].fill_diagonal_(True)
    exact = {name: value.double() if mask == "bias" else value for name, value in options.items()}

    def learned(mode, arrays, options):
        arrays = [array.detach().requires_grad_() for array in arrays]
        with mode:
            output = functional.scaled_dot_product_attention(*arrays, **options)
        output.sum().backward()
        return [output.detach().double(), *(array.grad.double() for array in arrays)]

    truth = learned(nullcontext(), [array.double() for array in arrays], exact)
    plain = learned(nullcontext(), arrays, options)
    ours = learned(ShortAttention(), arrays, options)
    for right, theirs, own in zip(truth, plain, ours, strict=True):
        assert (own - right).norm() <= (theirs - right).norm() + 1e-3 * right.norm()


@pytest.mark.parametrize("unpadded", [False, True])
def test_a_step_of_a_model_is_no_worse(tiny, unpadded, seen):
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    base = transformers.BertForSequenceClassification.from_pretrained(tiny, **still).train()
    ids = torch.randint(5, 30, (4, 19), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(19) < torch.tensor([[19], [5], [11], [11]])).long()
    inputs = {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([0, 1, 1, 0])}

    def gradients(model, *modes):
        if unpadded:
            model = regard.unpad(model)
        with modes[0], modes[1]:
            loss = model(**inputs).loss
        loss.backward()
        return {name: parameter.grad.double() for name, parameter in model.named_parameters()}

    half = torch.autocast("cpu", torch.bfloat16)
    exact = gradients(copy.deepcopy(base).double(), nullcontext(), nullcontext())
    plain = gradients(copy.deepcopy(base), nullcontext(), half)
    seen.clear()
    ours = gradients(copy.deepcopy(base), ShortAttention(), half)
    assert {kind for _, kinds in seen for kind in kinds} == {torch.float32}
    errors = [max(float((found[name] - exact[name]).norm()) for name in exact) for found in (ours, plain)]
    assert 0 < errors[0] <= 2 * errors[1]


def test_fine_tuning_in_bfloat16_learns_so(values, seen, monkeypatch):
    """And its validations, which learn nothing, do not."""
    found = {}

    def recorded(name):
        original = getattr(StepTrainer, name)

        def run(self, *args, **options):
            before = len(seen)
            result = original(self, *args, **options)
            found[name] = found.get(name, set()).union(*(kinds for _, kinds in seen[before:]))
            return result

        monkeypatch.setattr(StepTrainer, name, run)

    recorded("training_step")
    recorded("prediction_step")
    values["train"] |= {"max_steps": 1, "evaluate_every": 1, "precision": "bfloat16", "dropout": 0.0}
    values["report"] |= {"baselines": False, "attention": 0}
    finetune(values | {"monitor": {"every": 0}}, quiet=True)
    assert found == {"training_step": {torch.float32}, "prediction_step": {torch.bfloat16}}
