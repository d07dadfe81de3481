"""Fine-tuning in KerasHub: what transformers begins with, what it is told to do, and what a run leaves.

TensorFlow in this process, which Keras chooses once; JAX and PyTorch in processes of their own.
"""

import ast
import importlib
import json
import re
import resource
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from conftest import make_values, run_programs
from regard.cli import app
from regard.errors import ConfigError, RegardError, UnsupportedError
from regard.finetuning.check import check, prepare
from regard.finetuning.conduct import finetune
from regard.finetuning.configure import load_config
from regard.finetuning.frameworks import framework_of, get_framework
from regard.finetuning.progress import Display
from regard.finetuning.runs.run import Run
from regard.finetuning.tasks import TASKS, get_task
from regard.finetuning.tasks.targets import one_label
from regard.finetuning.training.interrupts import Interrupted

# NumPy's, of Keras' own saving on TensorFlow.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


def tensorflow(model, folder, output, **train):
    values = make_values(model, folder, output) | {"framework": "tensorflow"}
    values["train"] |= train
    return values


@pytest.fixture(scope="module")
def trained(tiny, tables, tmp_path_factory):
    """The run of `finished`, in KerasHub on TensorFlow."""
    return finetune(tensorflow(tiny, tables, tmp_path_factory.mktemp("keras") / "run"), quiet=True)


@pytest.fixture
def values(tiny, tables, tmp_path):
    """A short run on TensorFlow, to change and use."""
    short = tensorflow(tiny, tables, tmp_path / "run", max_steps=6, evaluate_every=3)
    return short | {"report": {"baselines": False, "attention": 0}}


def refusal(function, *args, error=ConfigError, **options):
    with pytest.raises(error) as caught:
        function(*args, **options)
    return str(caught.value)


def test_a_run_in_keras_is_measured_like_one_in_torch(trained, finished):
    assert trained.metrics["accuracy"] > 0.9
    assert trained.metrics["baselines"] == finished.metrics["baselines"]
    assert trained.metrics.keys() == finished.metrics.keys()
    assert trained.state["newly_initialised"] == finished.state["newly_initialised"]
    assert {"keras", "keras-hub", "tensorflow"} < trained.state["versions"].keys()
    left, theirs = ({p.name for p in run.path.iterdir()} for run in (trained, finished))
    assert left == theirs - {"attention.json"}  # nobody watches the heads while Keras trains
    assert "tensorflow" in (trained.path / "report.html").read_text(encoding="utf-8")


def test_steps_rates_and_validations_are_those_of_torch(trained, finished):
    def rates(run):
        return {e["step"]: e["learning_rate"] for e in run.state["history"] if "learning_rate" in e}

    def validated(run):
        return [
            (e["step"], {k for k in e if "loss" in k or "f1" in k}) for e in run.state["history"] if "eval_loss" in e
        ]

    assert trained.state["steps"] == finished.state["steps"] == 150
    assert validated(trained) == validated(finished)
    ours, theirs = rates(trained), rates(finished)
    assert ours.keys() == theirs.keys()
    np.testing.assert_allclose(list(ours.values()), [theirs[step] for step in ours], rtol=1e-6)


def test_keras_loads_the_model_by_itself(trained):
    import keras
    from transformers import AutoTokenizer

    model = keras.saving.load_model(trained.path / "model" / "model.keras", compile=False)
    tokens = AutoTokenizer.from_pretrained(trained.path / "model")(["a superb film"], return_tensors="np")
    logits = model({
        "token_ids": tokens["input_ids"], "padding_mask": tokens["attention_mask"],
        "segment_ids": tokens["token_type_ids"],
    })  # fmt: skip
    [found] = trained.predict("a superb film")
    expected = keras.ops.convert_to_numpy(keras.ops.softmax(logits))[0]
    np.testing.assert_allclose(list(found["probabilities"].values()), expected, atol=1e-5)


def test_an_answer_does_not_depend_on_the_texts_beside_it(trained, monkeypatch):
    texts = ["superb", "the plot of a dull film", "a", "film " * 40, "dull music and witty actors with a hollow story"]

    def odds(found):
        return np.array([list(each["probabilities"].values()) for each in found])

    alone = np.concatenate([odds(trained.predict([text])) for text in texts])
    for order in (slice(None), slice(None, None, -1)):
        np.testing.assert_allclose(odds(trained.predict(texts[order])), alone[order], atol=2e-6)

    def unmasked(model, batch, rows=None):
        inputs = as_inputs(model, batch, rows)
        return inputs | {"padding_mask": np.ones_like(inputs["padding_mask"])}

    from regard.finetuning.frameworks.keras import batches

    as_inputs = batches.as_inputs
    monkeypatch.setattr(batches, "as_inputs", unmasked)  # what is compared can differ
    assert np.abs(odds(trained.predict(texts)) - alone).max() > 5e-5


@pytest.mark.slow
def test_the_programs_in_the_card_answer_as_the_run(trained, tmp_path):
    plain, ours = map(ast.literal_eval, run_programs(trained, tmp_path, a_text_of_your_own="a superb film"))
    [expected] = trained.predict("a superb film")
    assert plain == pytest.approx(expected["probabilities"], abs=1e-5)
    assert ours[0]["label"] == expected["label"]


@pytest.mark.slow
def test_the_program_in_the_card_applies_what_was_fitted(values, tmp_path):
    run = finetune(values | {"options": {"calibrate": True}}, quiet=True)
    assert run.metrics["fitted"]["temperature"] != 1
    plain, _ = map(ast.literal_eval, run_programs(run, tmp_path, a_text_of_your_own="a superb film"))
    assert plain == pytest.approx(Run.load(run.path).predict("a superb film")[0]["probabilities"], abs=1e-5)


@pytest.mark.slow
def test_a_new_process_gives_the_same_answers(trained):
    texts = ["a superb film", "dull", "the plot and the actors of a film with music", "."]
    code = "import json, sys, regard; print(json.dumps(regard.predict(sys.argv[1], sys.argv[2:])))"
    done = subprocess.run(
        [sys.executable, "-c", code, trained.path, *texts], capture_output=True, text=True, check=True
    )
    here, there = trained.predict(texts), json.loads(done.stdout.splitlines()[-1])
    assert [p["label"] for p in here] == [p["label"] for p in there]
    np.testing.assert_allclose([p["probability"] for p in here], [p["probability"] for p in there], atol=1e-5)


def test_looking_at_a_run(trained):
    result = CliRunner().invoke(app, ["look", str(trained.path), "a superb film"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("positive 0.9")
    assert [line.split()[0] for line in result.stdout.splitlines()[2:7]] == ["[CLS]", "a", "superb", "film", "[SEP]"]
    assert "As an explanation" in result.stdout
    told = refusal(framework_of(trained.model).look, trained.model, None, "a", gradients=True, error=UnsupportedError)
    assert told == "relevance: need a model of PyTorch; got one of Keras; use --method rollout."


def test_what_is_seen_is_what_the_model_computes(trained):
    """The weights of the first layer against the softmax of its own query and key, worked out here."""
    looked = framework_of(trained.model).read(trained.model, trained.processor, "a superb film")
    layer = trained.model.backbone.get_layer("transformer_layer_0")._self_attention_layer
    before = trained.model.backbone.get_layer("embeddings_dropout").output
    import keras

    inputs = trained.model.backbone.input
    ids = np.array([trained.processor("a superb film")["input_ids"]])
    given = {"token_ids": ids, "padding_mask": np.ones_like(ids), "segment_ids": np.zeros_like(ids)}
    states = np.float64(keras.Model(inputs, before)(given))[0]
    kernels = [(np.float64(d.kernel), np.float64(d.bias)) for d in (layer.query_dense, layer.key_dense)]
    query, key = (np.einsum("td,dhk->htk", states, kernel) + bias[:, None] for kernel, bias in kernels)
    scores = np.exp(query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1]))
    np.testing.assert_allclose(looked.seen.dense()[0], scores / scores.sum(-1, keepdims=True), atol=1e-5)
    assert looked.seen.dense().shape == (2, 4, 5, 5)


SMALL = {"vocab_size": 60, "max_position_embeddings": 42, "pad_token_id": 1}
FAMILIES = {
    "bert": SMALL | {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40},
    "roberta": SMALL | {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40},
    "xlm-roberta": SMALL
    | {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40},
    "distilbert": SMALL | {"dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 40},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_it_begins_as_transformers_does(family, tmp_path, values):
    """Logits of padded batches before training, in both; KerasHub's GELU is approximate."""
    from transformers import AutoConfig, AutoModel

    keras = get_framework("tensorflow")
    torch.manual_seed(1)
    AutoModel.from_config(AutoConfig.for_model(family, **FAMILIES[family])).save_pretrained(tmp_path / family)
    config = load_config(values | {"model": str(tmp_path / family)})
    spec = one_label.Known(labels=["a", "b", "c"])
    torch.manual_seed(7)
    theirs, _ = get_task("text-classification").load_model(config.source, spec)
    torch.manual_seed(7)
    from regard.finetuning.frameworks.keras import models

    ours, described, fresh = models.build(config, spec)
    assert any(name.startswith("classifier") for name in fresh)
    assert described.id2label == {0: "a", 1: "b", 2: "c"}
    ids = torch.randint(3, 60, (3, 11), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(ids)
    mask[1, 5:], ids[1, 5:] = 0, 1
    expected = get_framework("torch").logits(theirs, {"input_ids": ids, "attention_mask": mask})
    found = keras.logits(ours, {"input_ids": ids, "attention_mask": mask})
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())
    assert keras.parameters(ours) <= sum(p.numel() for p in theirs.parameters())


@pytest.mark.parametrize(
    ("family", "told", "why"),
    [
        ("bert", {"hidden_act": "relu"}, "hidden_act relu (gelu in KerasHub)"),
        ("bert", {"layer_norm_eps": 0.01}, "layer_norm_eps 0.01 (1e-12 in KerasHub)"),
        ("distilbert", {"activation": "relu"}, "activation relu (gelu in KerasHub)"),
        (
            "roberta",
            {"hidden_act": "silu", "layer_norm_eps": 0.1},
            "hidden_act silu (gelu in KerasHub) and layer_norm_eps 0.1 (1e-05 in KerasHub)",
        ),
    ],
)
def test_a_checkpoint_that_keras_computes_otherwise_is_refused(family, told, why, tmp_path, values):
    from transformers import AutoConfig, AutoModel

    from models.families import spread
    from regard.finetuning.frameworks.keras import models

    model = spread(AutoModel.from_config(AutoConfig.for_model(family, **FAMILIES[family] | told)))
    model.save_pretrained(tmp_path / family)
    config = load_config(values | {"model": str(tmp_path / family)})
    spec = one_label.Known(labels=["a", "b", "c"])
    for half in (False, True):
        said = refusal(models.build, config, spec, half=half)
        assert re.fullmatch(
            f"model: need a model that KerasHub computes as transformers does; got '{tmp_path / family}', of which "
            rf"logits are apart by [\d.]+ of their deviation, for its configuration has {re.escape(why)}; choose "
            r"another model, or set framework: torch\.",
            said,
        )


@pytest.mark.slow
def test_a_vision_transformer_begins_and_runs_as_in_transformers(tmp_path):
    """The same logits at the start; and a run from scratch on random pictures."""
    from PIL import Image

    from regard.finetuning.frameworks.keras import models

    rng = np.random.default_rng(0)
    for place in range(24):
        folder = tmp_path / "own" / "ab"[place % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (9, 13, 3), dtype=np.uint8)).save(folder / f"{place}.png")
    values = {
        "task": "image-classification", "model": "vit", "framework": "tensorflow",
        "data": {"train": str(tmp_path / "own"), "validation": 0.3},
        "output": str(tmp_path / "run"), "train": {"max_steps": 2, "evaluate_every": 2, "batch_size": 5},
        "options": {"from_scratch": {"layers": 2, "width": 24, "heads": 3, "image": 12, "patch": 4}},
        "report": {"attention": 1, "baselines": False},
    }  # fmt: skip
    config = load_config(values)
    prepared = prepare(config)
    torch.manual_seed(3)
    theirs, _ = get_task(config.task).load_model("vit", prepared.check.spec)
    torch.manual_seed(3)
    ours, *_ = models.build(config, prepared.check.spec)
    batch = {"pixel_values": torch.tensor(rng.normal(size=(3, 3, 12, 12)), dtype=torch.float32)}
    expected = get_framework("torch").logits(theirs, batch)
    np.testing.assert_allclose(framework_of(ours).logits(ours, batch), expected, atol=1e-5 * np.abs(expected).max())
    run = finetune(values, quiet=True)
    looked = framework_of(run.model).look(run.model, run.processor, str(tmp_path / "own" / "a" / "0.png"))
    assert looked.seen.dense().shape == (2, 3, 10, 10)
    assert looked.grid == (3, 3)
    assert "through all layers" in (run.path / "report.html").read_text(encoding="utf-8")
    picture = tmp_path / "picture.png"
    picture.write_bytes((tmp_path / "own" / "a" / "0.png").read_bytes())
    plain, ours = map(ast.literal_eval, run_programs(run, tmp_path))
    assert plain == pytest.approx(run.predict(str(picture))[0]["probabilities"], abs=1e-5)
    assert ours[0]["label"] == run.predict(str(picture))[0]["label"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("writer", "call", "safe"),
    [("checkpoints:np.savez", 2, "step 3"), ("models:save", 1, "step 6")],
)
def test_no_room_stops_the_run_with_its_last_checkpoint_whole(
    values, tmp_path, monkeypatch, limited, writer, call, safe
):
    module, _, path = writer.partition(":")
    owner = importlib.import_module(f"regard.finetuning.frameworks.keras.{module}")
    *inner, name = path.split(".")
    for each in inner:
        owner = getattr(owner, each)
    write, left = getattr(owner, name), iter(range(call - 1))

    def full(*args, **options):
        if next(left, None) is None:
            limited(20_000)
        return write(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, full)
        told = refusal(finetune, values, quiet=True, error=RegardError)
    limited(resource.RLIM_INFINITY)
    assert told.startswith(f"{tmp_path}/run: need room to write; got a disk with ")
    assert f"the checkpoint of {safe} is whole" in told
    hidden = [each.name for each in (tmp_path / "run").rglob(".*") if each.name != ".lock"]
    assert hidden == []
    assert not (tmp_path / "run" / "model").exists()
    assert finetune(values, resume=True, quiet=True).state["steps"] == 6


def test_an_interrupted_run_goes_on_to_the_same_weights(values, tmp_path, monkeypatch):
    from regard.finetuning.frameworks.keras.train import Loop

    whole = finetune(values | {"output": str(tmp_path / "whole")}, quiet=True)
    train = Loop._train

    def interrupted(loop, numbers):
        train(loop, numbers)
        loop.interrupted = loop.step == 4

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_train", interrupted)
        with pytest.raises(Interrupted) as caught:
            finetune(values, quiet=True)
    assert (caught.value.step, caught.value.steps) == (4, 6)
    assert not (tmp_path / "run" / "model").exists()
    resumed = finetune(values, resume=True, quiet=True)
    assert resumed.state["history"] == whole.state["history"]
    for one, other in zip(resumed.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_validation_does_not_depend_on_the_size_of_batches(values, tmp_path):
    """Of texts of unlike lengths, weighed by the rarity of their labels: a sum over rows, divided once."""
    from regard.finetuning.frameworks.keras import models
    from regard.finetuning.frameworks.keras.train import Loop
    from regard.finetuning.runs.beginning import begin

    found = []
    for size in (1, 3, 7):
        values["train"]["batch_size"] = size
        prepared = prepare(load_config(values))
        torch.manual_seed(3)
        begin(tmp_path / str(size), prepared, [])
        loop = Loop(tmp_path / str(size), prepared, models.build(prepared.config, prepared.check.spec)[0], QUIET)
        loop._evaluate()
        found.append(loop.history[-1])
    rows, each = prepared.encoded["validation"].rows, []
    for row in rows:
        ids = torch.tensor([row["input_ids"]])
        logits = get_framework("tensorflow").logits(loop.model, {"input_ids": ids, "attention_mask": ids * 0 + 1})
        each.append(-torch.tensor(logits[0], dtype=torch.float64).log_softmax(-1)[row["labels"]])
    assert [entry["eval_loss"] for entry in found] == pytest.approx([float(torch.stack(each).mean())] * 3, rel=1e-5)
    assert len({entry["eval_accuracy" if "eval_accuracy" in entry else "eval_f1"] for entry in found}) == 1


QUIET = Display(quiet=True)


@pytest.mark.slow
def test_a_step_is_the_same_in_any_number_of_batches(values, tmp_path):
    """Ten rows at once, or in three batches whose last is short: the same loss, nearly the same new weights."""
    from regard.finetuning.frameworks.keras import models
    from regard.finetuning.frameworks.keras.train import Loop

    losses, weights = [], []
    (tmp_path / "run.json").write_text('{"id": "a run that has begun"}')
    for size, accumulate in ((10, 1), (4, 3)):
        values["train"] |= {"batch_size": size, "accumulate": accumulate, "dropout": 0.0, "warmup": 0.0}
        prepared = prepare(load_config(values | {"options": {"class_weights": "balanced"}}))
        torch.manual_seed(0)
        model, *_ = models.build(prepared.config, prepared.check.spec)
        loop = Loop(tmp_path / str(size), prepared, model, Display(quiet=True))
        loop._train(np.arange(10))
        losses.append(loop.history[-1]["loss"])
        weights.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    moved = np.abs(weights[0] - weights[1])
    assert np.quantile(moved, 0.99) < 1e-5 < values["train"]["learning_rate"]


def test_low_rank_adapters_are_merged(values, tiny):
    import keras

    from regard.finetuning.frameworks.keras import models

    run = finetune(values | {"adapter": {"kind": "lora", "rank": 2, "alpha": 4}}, quiet=True)
    torch.manual_seed(0)
    before, *_ = models.build(run.config, run.spec)
    changed = {
        old.path for old, new in zip(before.weights, run.model.weights, strict=True) if not np.array_equal(old, new)
    }
    pieces = {
        "query/kernel",
        "value/kernel",
        "pooled_dense/kernel",
        "pooled_dense/bias",
        "logits/kernel",
        "logits/bias",
    }
    assert {"/".join(path.split("/")[-2:]) for path in changed} == pieces
    assert not any("lora" in weight.name for weight in run.model.weights)
    assert isinstance(run.model, keras.Model)
    width, classes = 32, 2
    adapted = 2 * 2 * (width * 4 * 2 + 2 * 8)  # layers, query and value: A (width, heads, rank) and B (rank, head)
    assert run.state["trained"] == adapted + width * width + width + width * classes + classes


@pytest.mark.slow
def test_bfloat16_and_patience(values):
    values["train"] |= {"precision": "bfloat16", "patience": 1, "learning_rate": 1e-12, "evaluate_every": 1}
    run = finetune(values, quiet=True)
    assert run.state["steps"] == 2
    assert run.state["precision"] == "bfloat16 with float32 weights"
    assert {weight.dtype for weight in run.model.weights} == {"float32"}
    assert run.model.dtype_policy.name == "float32"


def test_what_keras_cannot_do_is_refused(values, tmp_path):
    from transformers import AutoConfig

    assert refusal(check, values | {"adapter": {"kind": "dora"}}) == (
        "framework: need adapter.kind none or lora on tensorflow; got 'dora', which only torch does; change it."
    )
    assert refusal(check, values | {"options": {"label_smoothing": 0.1}}) == (
        "framework: need options.label_smoothing left out on tensorflow; got it, which only torch does; remove it, or "
        "set framework: torch."
    )
    assert refusal(check, values | {"monitor": {"rows": 3}}) == (
        "framework: need 'monitor.rows' left out on tensorflow; got 3, which only torch does; remove the key, or set "
        "framework: torch."
    )
    assert refusal(check, values | {"framework": "jax"}) == (
        "framework: need Keras on jax for 'jax'; got Keras loaded on tensorflow in this process; start a new one."
    )
    AutoConfig.for_model("modernbert").save_pretrained(tmp_path)
    assert refusal(check, values | {"model": str(tmp_path)}) == (
        "model: need one of the families that KerasHub reads for text-classification (bert, distilbert, roberta, "
        "xlm-roberta); got 'modernbert'; choose another model, or set framework: torch."
    )


def test_a_key_that_keras_does_not_know_is_refused(values, monkeypatch):
    keras = get_framework("tensorflow")
    monkeypatch.setattr(keras, "HONOURED", keras.HONOURED - {"schedule"})
    check(values)
    values["train"] |= {"schedule": "cosine"}
    assert refusal(check, values) == (
        "framework: need 'train.schedule' left out on tensorflow; got 'cosine', which only torch does; remove the key, "
        "or set framework: torch."
    )


@pytest.mark.parametrize(
    ("length", "padded"), [(1, 8), (8, 8), (9, 16), (17, 24), (25, 32), (33, 48), (49, 64), (65, 96), (97, 128)]
)
def test_lengths_are_padded_to_few(length, padded):
    from regard.finetuning.frameworks.keras.batches import padded_length

    assert padded_length(length, 512) == padded
    assert padded_length(length, 20) == max(length, min(padded, 20))


def test_rows_that_fill_a_batch_do_not_change_the_others(trained):
    from regard.finetuning.frameworks.keras.batches import as_inputs

    ids = torch.tensor([[2, 9, 3], [2, 11, 3], [2, 30, 3]])
    model = SimpleNamespace(backbone=SimpleNamespace(max_sequence_length=32), input={"segment_ids": 0})
    inputs = as_inputs(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    assert {name: array.shape for name, array in inputs.items()} == dict.fromkeys(
        ("token_ids", "padding_mask", "segment_ids"), (4, 8)
    )
    assert inputs["padding_mask"].sum(-1).tolist() == [3, 3, 3, 3]
    np.testing.assert_array_equal(inputs["token_ids"][:3, :3], ids.numpy())


OTHER = """
import json, sys
import torch
from regard.finetuning.conduct import finetune
from regard.finetuning.frameworks import framework_of
run = finetune(json.loads(sys.argv[1]), quiet=True)
looked = framework_of(run.model).read(run.model, run.processor, "a superb film")
losses = [entry["loss"] for entry in run.state["history"] if "loss" in entry]
print(json.dumps([losses, looked.seen.dense().sum(-1).ravel().tolist(), run.predict(["dull"])]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["jax", "torch-keras"])
def test_the_other_backends(framework, values, tiny, tables, tmp_path):
    values["train"] |= {"dropout": 0.0}
    here = finetune(values | {"output": str(tmp_path / "here")}, quiet=True)
    there = values | {"framework": framework, "output": str(tmp_path / "there")}
    done = subprocess.run([sys.executable, "-c", OTHER, json.dumps(there)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    losses, sums, [answer] = json.loads(done.stdout.splitlines()[-1])
    np.testing.assert_allclose(sums, 1, atol=1e-5)
    expected = [entry["loss"] for entry in here.state["history"] if "loss" in entry]
    np.testing.assert_allclose(losses, expected, rtol=1e-3)
    assert answer["probability"] == pytest.approx(here.predict("dull")[0]["probability"], abs=1e-2)


@pytest.mark.slow
def test_the_pretrained_encoder_on_real_sentences(minilm, reviews, tmp_path):
    values = tensorflow(minilm, reviews, tmp_path / "run", max_steps=25, batch_size=16, learning_rate=3e-4)
    values |= {"report": {"baselines": False, "attention": 1}}
    run = finetune(values, quiet=True)
    assert run.metrics["accuracy"] > 0.6
    assert Run.load(run.path).predict("A wonderful, moving film.")[0]["probabilities"]["positive"] > 0.5


def test_templates_offer_keras_where_it_is_there():
    get_framework("tensorflow")
    from regard.finetuning.frameworks import keras

    assert {name for name in TASKS if "framework" not in get_task(name).TEMPLATE.hidden} == {*keras.TASKS}


def test_what_weights_decay_is_told_by_the_kind_of_layer():
    import keras
    import keras_hub

    from regard.finetuning.frameworks.keras.train import _compile

    inputs = keras.Input((None, 4))
    states = keras.layers.LayerNormalization(name="first")(inputs)
    states = keras.layers.Dense(4, name="norm")(states)
    states = keras_hub.src.models.t5.t5_layer_norm.T5LayerNorm(name="second")(states)
    states = keras.layers.MultiHeadAttention(1, 4, name="third")(states, states)
    states = keras.layers.RMSNormalization(name="fourth")(states)
    model = keras.Model(inputs, keras.layers.BatchNormalization(name="fifth")(states))
    train = SimpleNamespace(learning_rate=1e-3, weight_decay=0.1, max_gradient_norm=1.0, accumulate=1)
    optimizer = _compile(model, SimpleNamespace(train=train))
    decayed = {each.path for each in model.trainable_variables if optimizer._use_weight_decay(each)}
    assert decayed == {
        "norm/kernel",
        *(f"third/{part}/kernel" for part in ("query", "key", "value", "attention_output")),
    }
