"""Learning rates a layer: by hand on a tiny BERT, and what one step of a run does with them."""

import pytest
import torch
from transformers import BertForSequenceClassification, TrainingArguments

from regard._files import read_json
from regard.errors import ConfigError
from regard.finetuning.conduct import finetune
from regard.finetuning.configure import load_config
from regard.finetuning.training.rates import layer_rates
from regard.finetuning.training.trainer import StepTrainer


def test_rates_fall_from_the_head_to_the_embeddings():
    names = {
        "bert.embeddings.word_embeddings.weight": 0.125,
        "bert.encoder.layer.0.output.dense.bias": 0.25,
        "bert.encoder.layer.1.attention.self.query.weight": 0.5,
        "bert.pooler.dense.weight": 1.0,
        "classifier.weight": 1.0,
    }
    assert layer_rates(names, 0.5) == names
    names = {
        "model.shared.weight": 0.25**3,
        "model.encoder.embed_positions.weight": 0.25**3,
        "model.encoder.layers.1.fc1.weight": 0.25,
        "model.decoder.layers.0.fc1.weight": 0.25**2,
        "base_model.model.vit.layers.0.attention.q_proj.lora_A.default.weight": 0.25**2,
    }
    assert layer_rates(names, 0.25) == names
    with pytest.raises(ConfigError) as caught:
        layer_rates(["classifier.weight"], 0.5)
    assert str(caught.value) == (
        "train.layer_decay: need a model with numbered layers; got one without; leave the key out."
    )


def optimizer(tiny, folder, decay):
    model = BertForSequenceClassification.from_pretrained(tiny)
    arguments = TrainingArguments(output_dir=str(folder), learning_rate=0.1, weight_decay=0.01, report_to="none")
    trainer = StepTrainer(max_tokens=100, unpadded=False, layer_decay=decay, model=model, args=arguments)
    return model, trainer.create_optimizer()


def test_every_parameter_has_its_rate_and_its_decay(tiny, tmp_path):
    plain_model, plain = optimizer(tiny, tmp_path, 1.0)
    model, parted = optimizer(tiny, tmp_path, 0.5)

    def settings(model, optimizer):
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        return {names[id(p)]: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}

    before, after = settings(plain_model, plain), settings(model, parted)
    rates = layer_rates(before, 0.5)
    assert after == {name: (rate * rates[name], decay) for name, (rate, decay) in before.items()}
    assert parted.param_groups[0]["lr"] == 0.1
    assert len({rate for rate, _ in after.values()}) == 4


def test_lower_layers_move_less(values, tiny):
    values["train"] |= {"max_steps": 1, "evaluate_every": 1, "weight_decay": 0.0, "warmup": 0.0, "layer_decay": 0.1}
    values["report"] |= {"baselines": False}
    run = finetune(load_config(values), quiet=True)
    before = BertForSequenceClassification.from_pretrained(tiny).state_dict()
    after = run.model.state_dict()

    def moved(name):
        return (after[name] - before[name]).abs().median().item()

    ends = "attention.output.dense.weight"
    upper, lower = moved(f"bert.encoder.layer.1.{ends}"), moved(f"bert.encoder.layer.0.{ends}")
    assert lower == pytest.approx(upper / 10, rel=0.05)
    assert read_json(run.path / "run.json")["steps"] == 1
    assert torch.isfinite(after["classifier.weight"]).all()
