"""The model card: read by the hub's own library, its programs run; and pushed to a hub in a process of its own."""

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from hub import TOKEN
from huggingface_hub import ModelCard

from conftest import make_values, write_csv
from regard.errors import ConfigError, DataError, RegardError
from regard.finetuning.conduct import finetune
from regard.finetuning.configure import load_config
from regard.finetuning.push import _renamed, push
from regard.finetuning.reporting.facts import best_step
from regard.finetuning.reporting.usage import license_of, programs
from regard.finetuning.runs.run import Run
from regard.finetuning.tasks import TASKS
from regard.finetuning.tasks.targets import one_label
from regard.finetuning.template import write_template
from regard.inspection.report.card import Origin, _header, _rows, model_card
from regard.inspection.report.content import Calibration, ClassScore, Metric, Report, Source


def card_of(run):
    return ModelCard.load(run.path / "model" / "README.md")


def program_of(run):
    return re.findall(r"```python\n(.*?)```", card_of(run).text, re.DOTALL)[0]


def ran(program, **changes):
    """What a program leaves behind, and what it prints."""
    import io

    printed, names = io.StringIO(), {}
    for old, new in changes.items():
        program = program.replace(old.replace("_", " "), new)
    with contextlib.redirect_stdout(printed):
        exec(program, names)
    return names, printed.getvalue()


def test_the_header_holds_each_measure_for_the_hub(finished):
    data = card_of(finished).data
    assert (data.library_name, data.pipeline_tag, data.tags) == ("transformers", "text-classification", ["regard"])
    assert data.model_name == "finished"
    assert {each.metric_type: each.metric_value for each in data.eval_results} == {
        "accuracy": finished.metrics["accuracy"],
        "macro_f1": finished.metrics["macro_f1"],
        "matthews_correlation": finished.metrics["mcc"],
    }
    assert {(each.dataset_name, each.dataset_split) for each in data.eval_results} == {("test.csv", "test")}
    assert "base_model" not in data.to_dict()
    assert "license" not in data.to_dict()


def test_the_card_tells_verdict_data_measures_environment_and_limits(finished):
    body = card_of(finished).text
    low, high = finished.metrics["intervals_95"]["accuracy"]
    rivals = [finished.metrics["baselines"][name]["accuracy"] for name in finished.metrics["baselines"]]
    row = [f"{finished.metrics['accuracy']:.3f}", f"{low:.3f} to {high:.3f}", *(f"{value:.3f}" for value in rivals)]
    assert f"**{finished.metrics['verdict']['sentence']}**" in body
    assert f"| Accuracy | {' | '.join(row)} |" in body
    assert "- train: 200 rows: negative 100 (50%), positive 100 (50%)" in body
    assert re.search(r"- test: 80 rows, test.csv, SHA-256 [0-9a-f]{64}\n", body)
    assert "- It learned from 200 rows of train.csv, validation.csv, test.csv" in body
    assert "- No licence is known" in body
    assert "| label | precision | recall | F1 | support |" in body
    assert "Expected calibration error" in body
    assert f"torch {torch.__version__}" in body
    kept = best_step(SimpleNamespace(config=finished.config, check=SimpleNamespace(spec=finished.spec)), finished.state)
    assert (
        f"- Training: {finished.state['steps']} steps of 8 rows; step {kept} validated best and is the model\n" in body
    )
    assert "- Processor: " in body
    assert yaml.safe_load(body.split("```yaml\n")[1].split("```")[0]) == yaml.safe_load(finished.config.dump())


def test_base_model_and_pipeline_are_named_as_a_hub_knows_them():
    origin = Origin("m", "speech-recognition", "openai/whisper-tiny", "transformers", ("a.csv", "test"), "mit")
    header = yaml.safe_load(_header([], origin).strip("-\n"))
    assert header == {
        "base_model": "openai/whisper-tiny",
        "library_name": "transformers",
        "license": "mit",
        "pipeline_tag": "automatic-speech-recognition",
        "tags": ["regard"],
    }


def test_a_bar_in_a_cell_stays_in_its_cell():
    assert _rows([["a|b", "c"], ["1", "2"]]) == "| a\\|b | c |\n| --- | --- |\n| 1 | 2 |"


def small(**changes):
    """A report of small numbers, as a card tells it."""
    values = {"mean": 0.0007}
    metrics = [Metric("MSE", 2e-5, (1.2e-5, 3.4e-5), values, repeats=(2e-5, 2.4e-5)), Metric("Pearson", 0.9)]
    told = {"classes": [ClassScore("a", 0.5, 0.0012, 0.00024, 9)], "calibration": Calibration([], 4e-5)}
    report = Report("r", "s", [("Training", "9 steps")], metrics, **{**told, **changes})
    return model_card(report, Origin("m", "t", "b/b", "keras", ("a.csv", "test")), limits=[], use=[])


def test_small_numbers_keep_their_digits_in_a_card():
    card = small()
    assert "| measure | value | 95 % interval | over 2 seeds | mean |" in card
    assert "| MSE | 2e-05 | 1.2e-05 to 3.4e-05 | 2.2e-05 ± 2.8e-06 | 0.0007 |" in card
    assert "| Pearson | 0.900 |  |  |  |" in card
    assert "Trained with 2 seeds, MSE is 2e\u221205 to 2.4e\u221205" in card
    assert "| a | 0.500 | 0.0012 | 0.00024 | 9 |" in card
    assert "in ten bins: 4e-05." in card
    assert "0.000 " not in card


def test_a_card_of_thousands_of_labels_shows_the_weakest():
    card = small(classes=[ClassScore(f"l{n}", 0.5, 0.5, n / 2000, 9) for n in range(2000)])
    assert len(card) < 10_000
    assert card.count("| 0.500 | 0.500 |") == 100
    assert "\n\nThese are the 100 of 2000 labels with the lowest F1.\n\n" in card


def test_a_card_tells_fingerprints_that_were_not_recorded():
    assert "- train: 7 rows, a.csv, SHA-256 not recorded when the run began\n" in small(
        sources=[Source("train", "a.csv", 7)]
    )


def test_the_program_in_the_card_answers_as_the_run(finished):
    _, printed = ran(program_of(finished), a_text_of_your_own="a superb film")
    assert "regard" not in program_of(finished)
    expected = finished.predict("a superb film")[0]["probabilities"]
    assert eval(printed) == pytest.approx(expected, abs=1e-5)


KINDS = {
    "single": ({"calibrate": True}, lambda row: ["bad", "good"][row[1] > 0]),
    "multi": (
        {"kind": "multi", "calibrate": True},
        lambda row: ";".join(["even"] * (row[1] % 2 == 0) + ["good"] * (row[1] > 0)),
    ),
    "regression": ({}, lambda row: f"{row[1] + 0.5}"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_programs_apply_what_was_fitted(kind, values, tmp_path):
    options, label = KINDS[kind]
    rng = np.random.default_rng(1)
    texts = [(" ".join(rng.choice(["superb", "film", "dull", "plot"], 6)), n % 7 - 3) for n in range(160)]
    rows = [(f"{text} {'witty' if n > 0 else ''}".strip(), label((text, n))) for text, n in texts]
    for name, part in {"train": rows[:80], "validation": rows[80:120], "test": rows[120:]}.items():
        write_csv(tmp_path / f"{name}.csv", part)
    values["data"] |= {name: str(tmp_path / f"{name}.csv") for name in ("train", "validation", "test")}
    values["train"] |= {"max_steps": 10, "evaluate_every": 10}
    values["report"] |= {"baselines": False, "attention": 0}
    run = finetune(values | {"options": options}, quiet=True)
    assert set(run.metrics.get("fitted", {})) == {
        "single": {"temperature"},
        "multi": {"temperature", "thresholds"},
    }.get(kind, set())
    names, printed = ran(program_of(run), a_text_of_your_own="witty dull film")
    [expected] = Run.load(run.path).predict("witty dull film")
    if kind == "multi":
        assert names["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-5)
    said = {"single": "probabilities", "multi": "labels", "regression": "value"}[kind]
    assert eval(printed) == (expected[said] if kind == "multi" else pytest.approx(expected[said], abs=1e-4))


@pytest.mark.parametrize("task", ["translation", "masked-language-modeling"])
def test_programs_of_other_tasks_run(task, tiny, tmp_path):
    from transformers import BertConfig, BertForMaskedLM, BertTokenizer, T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    BertTokenizer.from_pretrained(tiny).save_pretrained(tmp_path)
    if task == "translation":
        sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
        model = T5ForConditionalGeneration(T5Config(vocab_size=60, decoder_start_token_id=0, **sizes))
        model.generation_config.max_new_tokens = 5
        model.save_pretrained(tmp_path)
    else:
        BertForMaskedLM(BertConfig.from_pretrained(tiny)).save_pretrained(tmp_path)
    values = make_values(tiny, tmp_path, "o") | {"task": task}
    values["data"] = {"train": "t"}
    program = programs(load_config(values), {}, {}, tmp_path)[0]
    assert ran(program, a_text_of_your_own="the film")[1].strip() or task == "translation"


@pytest.mark.parametrize(("task", "framework"), [*((task, "torch") for task in TASKS), (next(iter(TASKS)), "jax")])
def test_a_pushed_card_names_nothing_of_this_machine(task, framework, tmp_path):
    config = load_config(yaml.safe_load(write_template(task)), {"framework": framework})
    model = tmp_path / "run" / "model"
    written = programs(config, one_label.Known(labels=["a"]), {}, model)
    card = "".join(f"```python\n{program}```\n" for program in written)
    assert str(tmp_path) in card
    sent = _renamed(card, model, "somebody/reviews")
    assert str(tmp_path) not in sent
    assert ("somebody/reviews" in sent) == (len(re.findall("```python", card)) == 2)


# ---- licences --------------------------------------------------------------------------------------------------------


def test_the_licence_is_that_of_the_configuration_or_of_the_base_models_card(finished, tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    config = finished.config.model_copy(update={"model": str(base)})
    assert license_of(config) is None
    (base / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n# Base\n")
    assert license_of(config) == "cc-by-4.0"
    (base / "README.md").write_text("---\n: [\n---\n# Base\n")
    assert license_of(config) is None
    stated = config.report.model_copy(update={"license": "mit"})
    assert license_of(config.model_copy(update={"report": stated})) == "mit"
    assert license_of(config.model_copy(update={"model": "nobody/nothing"})) is None


# ---- push ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path):
    """A hub in a process of its own: its address and its folder."""
    folder = tmp_path / "hub"
    folder.mkdir()
    program = Path(__file__).with_name("hub.py")
    with subprocess.Popen([sys.executable, str(program), str(folder)], stdout=subprocess.PIPE, text=True) as server:
        try:
            yield server.stdout.readline().strip(), folder
        finally:
            server.terminate()


def pushed(run, *arguments, address="", token=TOKEN, offline=False):
    environment = {
        k: v for k, v in os.environ.items() if k not in ("HF_HUB_OFFLINE", "HF_TOKEN", "TRANSFORMERS_OFFLINE")
    }
    environment |= {"HF_ENDPOINT": address, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HOME": str(run.path.parent / "home")}
    environment |= {"HF_TOKEN": token} if token else {}
    environment |= {"HF_HUB_OFFLINE": "1"} if offline else {}
    command = [sys.executable, "-m", "regard.cli", "push", str(run.path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)


def test_model_and_card_are_pushed(finished, hub):
    address, folder = hub
    done = pushed(finished, "somebody/reviews", "--private", address=address)
    assert done.returncode == 0, done.stderr
    assert f"Uploaded to {address}/somebody/reviews (private)" in done.stdout
    assert "model.safetensors" in done.stdout
    assert '"full": "somebody/reviews"' in (folder / "created.json").read_text()
    assert re.search(r'"(private": true|visibility": "private)', (folder / "created.json").read_text())
    model = finished.path / "model"
    sent = {
        path.relative_to(folder / "repo").as_posix(): path.read_bytes()
        for path in (folder / "repo").rglob("*")
        if path.is_file()
    }
    assert set(sent) == {path.name for path in model.iterdir()}
    for name, content in sent.items():
        assert name == "README.md" or content == (model / name).read_bytes()
    card = ModelCard(sent["README.md"].decode())
    assert 'from_pretrained("somebody/reviews")' in card.text
    assert "import regard" not in card.text
    assert card.data.to_dict() == card_of(finished).data.to_dict()


def test_what_hinders_a_push_is_told_in_a_sentence(finished, hub):
    address, _ = hub
    refused = pushed(finished, "a/b", address=address, token="wrong")
    assert refused.returncode == 2
    assert refused.stderr == (
        "regard: push: need a hub that takes 'a/b'; got its answer 401; look at the name, and at what the token may "
        "do.\n"
    )
    assert "wrong" not in refused.stderr + refused.stdout
    none = pushed(finished, "a/b", address=address, token="")
    assert none.stderr == "regard: push: need a token of the hub; got none; set HF_TOKEN, or run 'hf auth login'.\n"
    offline = pushed(finished, "a/b", address=address, offline=True)
    assert offline.stderr == (
        "regard: push: need the network; got HF_HUB_OFFLINE set; unset it, or see what goes with --dry-run.\n"
    )
    gone = pushed(finished, "a/b", address="http://127.0.0.1:9")
    assert gone.stderr.startswith("regard: push: need to reach http://127.0.0.1:9; got ")
    assert gone.returncode == 2


def test_a_dry_run_uploads_nothing(finished):
    done = push(finished, "somebody/reviews", dry_run=True)
    assert done.url == ""
    assert done.files == {path.name: path.stat().st_size for path in sorted((finished.path / "model").iterdir())}


def test_names_and_runs_that_cannot_be_pushed(finished, tmp_path, monkeypatch):
    with pytest.raises(ConfigError) as caught:
        push(finished, "not a name")
    assert str(caught.value) == (
        "push: need a name as hubs take it, OWNER/NAME of letters, digits, '-', '_' and '.'; got 'not a name'; choose "
        "another."
    )
    import shutil

    shutil.copytree(finished.path, tmp_path / "bare")
    (tmp_path / "bare" / "model" / "README.md").unlink()
    with pytest.raises(DataError, match=r"need a model with its card; got none of README.md"):
        push(tmp_path / "bare", "a/b")
    assert issubclass(ConfigError, RegardError)
