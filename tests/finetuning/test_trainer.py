"""Steps: however many passes a step takes, its gradient is that of its mean loss over all its items."""

import pytest
import torch
import transformers
from datasets import Dataset
from transformers import DataCollatorForTokenClassification, DataCollatorWithPadding, TrainerCallback, TrainingArguments
from transformers.models.t5.modeling_t5 import T5LayerNorm

import regard
from regard.errors import DtypeError, UnsupportedError
from regard.finetuning.tasks.texts.tokenizing import load_tokenizer
from regard.finetuning.training.padding import without_padding
from regard.finetuning.training.trainer import StepTrainer, split

LENGTHS = (5, 19, 3, 11, 11, 7, 2, 23, 13, 4, 17, 6)
RANDOM = torch.Generator().manual_seed(0)
IDS = [torch.randint(5, 30, (length,), generator=RANDOM).tolist() for length in LENGTHS]
KINDS = {
    "ForSequenceClassification": [n % 2 for n in range(len(IDS))],
    "ForTokenClassification": [[-100 if n % 3 else n % 2 for n in ids] for ids in IDS],  # some have no item at all
}


class Gradients(TrainerCallback):
    """Keeps the gradients of the first step."""

    def on_pre_optimizer_step(self, args, state, control, model=None, **_):
        self.found = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def make(tiny, kind):
    torch.manual_seed(0)
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return getattr(transformers, f"Bert{kind}").from_pretrained(tiny, **still)


def collate(tiny, kind):
    tokenizer = load_tokenizer(str(tiny), None)
    return DataCollatorWithPadding(tokenizer) if "Seq" in kind else DataCollatorForTokenClassification(tokenizer)


def rows(kind):
    return {"input_ids": IDS, "labels": KINDS[kind], "length": list(LENGTHS)}


def step(tiny, kind, folder, unpadded=False, max_tokens=10_000, batch=12, accumulate=1):
    """The gradients of one step over all rows, its loss, and the shapes of the passes it took."""
    model = make(tiny, kind)
    assert without_padding(model, unpadded) == unpadded
    passes, kept = [], Gradients()
    model.register_forward_pre_hook(
        lambda module, inputs, given: passes.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=1, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulate,
        max_grad_norm=0.0, use_cpu=True, report_to="none", disable_tqdm=True, save_strategy="no", logging_steps=1,
        dataloader_pin_memory=False, seed=0,
    )  # fmt: skip
    trainer = StepTrainer(
        max_tokens=max_tokens, unpadded=unpadded, model=model, args=arguments, callbacks=[kept],
        train_dataset=Dataset.from_dict(rows(kind)), data_collator=collate(tiny, kind),
    )  # fmt: skip
    trainer.train()
    return kept.found, trainer.state.log_history[0]["loss"], passes


@pytest.fixture(scope="module")
def expected(tiny):
    """Loss and gradients of all rows in one padded forward pass, by the model alone."""
    found = {}
    for kind in KINDS:
        model = make(tiny, kind)
        values = rows(kind)
        batch = collate(tiny, kind)([dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)])
        del batch["length"]
        loss = model(**batch).loss
        loss.backward()
        found[kind] = {name: parameter.grad for name, parameter in model.named_parameters()}, loss.item()
    return found


@pytest.mark.parametrize(
    ("plan", "unpadded"),
    [
        ({}, False),
        ({"max_tokens": 40}, False),
        ({"batch": 4, "accumulate": 3}, False),
        ({"batch": 6, "accumulate": 2, "max_tokens": 30}, True),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_does_not_depend_on_the_passes(tiny, expected, tmp_path, capsys, kind, plan, unpadded):
    gradients, loss, passes = step(tiny, kind, tmp_path, unpadded, **plan)
    truth, whole = expected[kind]
    assert loss == pytest.approx(whole, abs=2e-6)
    assert max(float((gradients[name] - truth[name]).abs().max()) for name in truth) < 2e-6
    assert sum(count for count, _ in passes) == 12
    limit = plan.get("max_tokens", 10_000)
    assert len(passes) >= plan.get("accumulate", 1)
    if not unpadded:
        assert all(count == 1 or count * length <= limit for count, length in passes)
    assert (len(passes) == 1) == (plan == {})


def test_the_longest_texts_of_a_step_run_first(tiny, tmp_path, capsys):
    passes = step(tiny, "ForSequenceClassification", tmp_path, max_tokens=40)[2]
    assert [length for _, length in passes] == sorted((length for _, length in passes), reverse=True)
    assert passes[0] == (1, 23)


def test_splitting_cuts_each_part_to_its_longest_text():
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [0, 1, 0, 0]])
    ids = torch.arange(12).reshape(3, 4)
    parts = list(split({"input_ids": ids, "attention_mask": mask, "labels": torch.arange(3)}, 4, padded=True))
    assert [part["input_ids"].tolist() for part in parts] == [[[4, 5, 6, 7]], [[0, 1], [8, 9]]]
    assert [part["labels"].tolist() for part in parts] == [[1], [0, 2]]
    pictures = {"pixel_values": torch.zeros(3, 4)}
    assert next(split(pictures, 1, padded=True)) is pictures


def test_unpadding_that_is_wanted_must_be_possible(tiny):
    config = transformers.ViTConfig(hidden_size=24, num_hidden_layers=1, num_attention_heads=4, image_size=16)
    picture = transformers.ViTModel(config)
    assert without_padding(picture, "auto") is False
    assert without_padding(torch.nn.Linear(2, 2), "auto") is False
    with pytest.raises(UnsupportedError):
        without_padding(picture, True)
    with pytest.raises(DtypeError):
        without_padding(torch.nn.Linear(2, 2), True)
    model = make(tiny, "ForSequenceClassification")
    assert without_padding(model, False) is False
    assert without_padding(model, "auto") is True
    assert without_padding(regard.pad(model), True) is True
    assert without_padding(make(tiny, "ForQuestionAnswering"), "auto") is False  # its head reads padding


class Named(torch.nn.Module):
    """Normalisations by other names, and a linear layer that is called as one."""

    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.LayerNorm(4), torch.nn.GroupNorm(2, 4)
        self.third, self.fourth = T5LayerNorm(4), torch.nn.RMSNorm(4)
        self.norm, self.words = torch.nn.Linear(4, 4), torch.nn.Embedding(3, 4)
        self.deep = torch.nn.Sequential(torch.nn.BatchNorm1d(4), torch.nn.MultiheadAttention(4, 2))


def test_what_weights_decay_is_told_by_the_kind_of_layer(tmp_path):
    arguments = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none", weight_decay=0.1)
    trainer = StepTrainer(max_tokens=10, unpadded=False, model=Named(), args=arguments)
    groups = trainer.create_optimizer().param_groups
    named = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    found = {group["weight_decay"]: {named[id(each)] for each in group["params"]} for group in groups}
    assert found[0.1] == {"norm.weight", "words.weight", "deep.1.in_proj_weight", "deep.1.out_proj.weight"}
    assert found[0.0] == set(named.values()) - found[0.1]
