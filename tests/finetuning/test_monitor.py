"""The monitor of transformers' Trainer: what it records is right, and training does not know of it."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from regard.errors import ConfigError, UnsupportedError
from regard.finetuning.check import prepare
from regard.finetuning.conduct import finetune
from regard.finetuning.runs.run import ATTENTION
from regard.finetuning.training import monitor
from regard.finetuning.training.trainer import StepTrainer
from regard.inspection.history import MEASURES, History


@pytest.fixture
def short(values):
    values["train"] |= {"max_steps": 20, "evaluate_every": 20, "keep": "last"}
    values["report"] |= {"baselines": False, "attention": 0}
    return values


def test_a_whole_run_is_validated_and_looked_at_once_at_its_end(short):
    short["train"] |= {"max_steps": 3, "evaluate_every": 1.0}
    run = finetune(short | {"monitor": {"every": 1.0}}, quiet=True)
    assert [entry["step"] for entry in run.state["history"] if "eval_loss" in entry] == [3]
    assert History.load(run.path / ATTENTION).steps == [0, 3]


def losses(run):
    return [(entry["step"], entry["loss"]) for entry in run.state["history"] if "loss" in entry]


def test_training_is_the_same_to_the_last_bit(short, tmp_path):
    """Dropout is on; the monitor looks at steps at which the loss is logged, and at others."""
    watched = finetune(short | {"monitor": {"every": 3}}, quiet=True)
    alone = finetune(short | {"monitor": {"every": 0}, "output": str(tmp_path / "alone")}, quiet=True)
    one, other = (load_file(run.path / "model" / "model.safetensors") for run in (watched, alone))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert losses(watched) == losses(alone)
    assert len(losses(alone)) == 20
    assert not (alone.path / ATTENTION).exists()
    assert History.load(watched.path / ATTENTION).steps == [0, 3, 6, 9, 12, 15, 18, 20]


@pytest.mark.parametrize("every", [0, 2])
def test_bfloat16_is_computed_in_whether_or_not_training_is_watched(short, every, monkeypatch):
    """accelerate puts the cast around the model; looking at the model once took it off for the rest of the run."""
    steps, step = [], StepTrainer.training_step

    def recorded(self, model, inputs, *rest):
        kinds = set()
        hook = model.classifier.register_forward_hook(lambda module, inputs, output: kinds.add(output.dtype))
        loss = step(self, model, inputs, *rest)
        hook.remove()
        steps.append(kinds)
        return loss

    monkeypatch.setattr(StepTrainer, "training_step", recorded)
    short["train"] |= {"max_steps": 5, "evaluate_every": 5, "precision": "bfloat16"}
    run = finetune(short | {"monitor": {"every": every}}, quiet=True)
    assert steps == [{torch.bfloat16}] * 5
    assert {value.dtype for value in load_file(run.path / "model" / "model.safetensors").values()} == {torch.float32}


def dense(folder, config):
    """The weights of each layer by transformers' eager attention, in float64, and which positions are no padding."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager").double().eval()
    prepared = prepare(config)
    rows = prepared.encoded["validation"].rows
    chosen = np.sort(np.random.default_rng(config.seed).permutation(len(rows))[: config.monitor.rows])
    batch = prepared.processor.pad({"input_ids": [rows[int(n)]["input_ids"] for n in chosen]}, return_tensors="pt")
    with torch.no_grad():
        weights = [w.numpy() for w in model(**batch, output_attentions=True).attentions]
    return weights, batch["attention_mask"].numpy().astype(bool)


def test_what_is_recorded_is_what_transformers_computes(short, tiny):
    run = finetune(short | {"monitor": {"every": 20, "rows": 5}}, quiet=True)
    history = History.load(run.path / ATTENTION)
    assert history.steps == [0, 20]
    start, real = dense(tiny, run.config)
    end, _ = dense(run.path / "model", run.config)
    for place, layers in enumerate((start, end)):
        for layer, weights in enumerate(layers):
            entropy = -(weights * np.log(np.where(weights > 0, weights, 1))).sum(-1)
            by_query = np.moveaxis(entropy, 1, 2)[real]
            np.testing.assert_allclose(history.entropy[place][layer], by_query.mean(0), rtol=1e-3)
            first = np.moveaxis(weights[..., 0], 1, 2)[real]
            np.testing.assert_allclose(history.first[place][layer], first.mean(0), rtol=1e-3)
    length = real.shape[1]
    chosen = np.unique(np.linspace(0, length - 1, min(length, 16)).round().astype(int))
    for layer, (before, after) in enumerate(zip(start, end, strict=True)):
        moved = np.moveaxis(0.5 * np.abs(after - before).sum(-1), 1, 2)[:, chosen][real[:, chosen]]
        np.testing.assert_allclose(history.drift[1][layer], moved.mean(0), atol=1e-4)
    assert np.max(history.drift[0]) == 0
    assert np.min(history.drift[1]) > 0.001


def test_the_report_and_the_log_tell_of_it(short):
    run = finetune(short | {"monitor": {"every": 10}}, quiet=True)
    assert "How each head attended during training" in (run.path / "report.html").read_text(encoding="utf-8")
    history = History.load(run.path / ATTENTION)
    logged = [entry for entry in run.state["history"] if "attention/layer_1/drift" in entry]
    assert [entry["step"] for entry in logged] == [0, 10, 20]
    assert logged[2]["attention/layer_1/drift"] == pytest.approx(np.mean(history.drift[2][1]))
    assert logged[2]["attention/layer_0/largest_score"] == np.max(history.largest_score[2][0])


def test_attention_that_cannot_be_watched_does_not_stop_the_run(short, capsys, monkeypatch):
    def refused(model):
        raise UnsupportedError("watch: need an attention that can be seen.")

    monkeypatch.setattr(monitor, "watch", refused)
    short["train"] |= {"max_steps": 1, "evaluate_every": 1}
    run = finetune(short, quiet=False)
    assert "attention is not monitored: watch: need an attention that can be seen." in capsys.readouterr().err
    assert not (run.path / ATTENTION).exists()


@pytest.mark.slow
def test_tensorboard_is_told(short):
    run = finetune(short | {"monitor": {"every": 10, "report_to": ["tensorboard"]}}, quiet=True)
    written = b"".join(path.read_bytes() for path in (run.path / "tensorboard").rglob("events.out.tfevents.*"))
    for tag in (b"train/loss", b"train/attention/layer_1/drift", b"eval/macro_f1"):
        assert tag in written


def test_a_tracker_that_is_not_installed(short, tmp_path):
    with pytest.raises(ConfigError) as caught:
        finetune(short | {"monitor": {"report_to": ["trackoid"]}}, quiet=True)
    assert str(caught.value) == (
        "monitor.report_to: need trackers that are installed; got trackoid; pip install it, or leave it out."
    )
    assert not (tmp_path / "run").exists()


def history(**changes):
    """Two layers of two heads at two steps, calm but for the changes at the last one."""
    values = {"entropy": 1.0, "largest_score": 5.0, "distance": 3.0, "first": 0.1, "drift": 0.1}
    fields = {name: [[[value] * 2] * 2 for _ in range(2)] for name, value in values.items()}
    for name, layers in changes.items():
        fields[name][1] = layers
    return History([0, 200], ["one", "two"], **fields)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"largest_score": [[5, 99], [5, 100]]}, []),
        (
            {"largest_score": [[5, 99], [5, 143]]},
            ["attention: by step 200, 1 of 4 heads (first: layer 1, head 1) have scores above 100, which goes before "
             "unstable training: lower train.learning_rate, or lengthen train.warmup"],
        ),
        (
            {"entropy": [[0.05, 0.9], [0.01, 0.5]]},
            ["attention: by step 200, 2 of 4 heads (first: layer 0, head 0) have lost nine tenths of their entropy, "
             "and look at one token: lower train.learning_rate"],
        ),
        (
            {"first": [[0.3, 0.97], [0.5, 0.5]]},
            ["attention: by step 200, 1 of 4 heads (first: layer 0, head 1) have put nearly all weight on the first "
             "token and did not at the start, as heads do that have nothing to do: lower "
             "train.learning_rate, or train fewer steps"],
        ),
        (
            {"drift": [[0.6, 0.6], [0.7, 0.2]]},
            ["attention: by step 200, half of the weight lies elsewhere than in the pretrained model: lower "
             "train.learning_rate, or train few parameters with adapter.kind: lora"],
        ),
    ],
)  # fmt: skip
def test_warnings_say_what_to_try(changes, expected):
    assert history(**changes).warnings() == expected
    assert history(**changes).warnings(pretrained=False) == ([] if "drift" in changes else expected)


def test_a_history_is_cut_where_training_goes_on():
    whole = history()
    assert whole.until(200) == whole
    assert whole.until(199).steps == [0]
    assert all(len(getattr(whole.until(0), measure)) == 1 for measure in (*MEASURES, "drift"))
    assert History().warnings() == []
