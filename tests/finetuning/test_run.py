"""Whole runs on a tiny model: what they leave, that they can be trusted, and what they refuse."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from safetensors.torch import load_file

import regard.finetuning.conduct as conduct
from conftest import make_values, write_csv
from regard.errors import ConfigError, DataError, RegardError
from regard.finetuning.check import check
from regard.finetuning.conduct import finetune
from regard.finetuning.configure import load_config
from regard.finetuning.export import export
from regard.finetuning.predict import predict
from regard.finetuning.push import push
from regard.finetuning.reporting.compare import compare
from regard.finetuning.runs.run import Run, evaluate
from regard.finetuning.runs.stream import predict_file
from regard.finetuning.search import search
from regard.finetuning.training import reload


def refusal(function, *args, error=ConfigError, **options):
    with pytest.raises(error) as caught:
        function(*args, **options)
    return str(caught.value)


def contents(folder):
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_what_a_run_leaves(finished):
    left = {path.name for path in finished.path.iterdir()}
    assert left == {
        "attention.json", "config.yaml", "metrics.json", "model",
        "predictions.jsonl", "report.html", "resamples.npz", "run.json", "training-curves.png",
    }  # fmt: skip
    assert (finished.path / "training-curves.png").read_bytes().startswith(b"\x89PNG")
    assert load_config(finished.path / "config.yaml") == finished.config


def test_the_model_learned_more_than_the_baselines(finished):
    metrics = finished.metrics
    assert metrics["rows"] == 80
    assert metrics["split"] == "test"
    assert metrics["accuracy"] > 0.9
    assert metrics["baselines"]["majority class"]["accuracy"] == 0.5
    assert metrics["accuracy"] > metrics["baselines"]["frozen embeddings + logistic regression"]["accuracy"]
    low, high = metrics["intervals_95"]["accuracy"]
    assert low < metrics["accuracy"] <= high
    assert set(metrics["seconds"]) == {"check", "train", "evaluate", "baselines", "report"}


def test_all_files_of_the_model_have_the_same_permissions(finished):
    assert len({path.stat().st_mode for path in (finished.path / "model").iterdir()}) == 1


def test_predictions_are_those_of_the_test_split(finished):
    rows = [json.loads(line) for line in (finished.path / "predictions.jsonl").read_text().splitlines()]
    right = sum(row["truth"] == row["predicted"] for row in rows)
    assert right / len(rows) == finished.metrics["accuracy"]
    assert [p["label"] for p in predict(finished.path, [row["text"] for row in rows])] == [r["predicted"] for r in rows]


def test_transformers_loads_the_model_by_itself(finished):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(finished.path / "model")
    tokenizer = AutoTokenizer.from_pretrained(finished.path / "model")
    assert model.config.id2label == {0: "negative", 1: "positive"}
    assert model.config.label2id == {"negative": 0, "positive": 1}
    assert tokenizer.model_max_length == 32
    logits = model(**tokenizer(["a superb film"], return_tensors="pt")).logits
    probability = logits.softmax(-1)[0, 1].item()
    assert probability == pytest.approx(finished.predict("a superb film")[0]["probabilities"]["positive"], abs=1e-5)


def test_every_parameter_was_trained_and_saved(finished, tiny):
    saved = load_file(finished.path / "model" / "model.safetensors")
    before = {f"bert.{name}": value for name, value in load_file(tiny / "model.safetensors").items()}
    assert finished.state["newly_initialised"] == ["classifier.bias", "classifier.weight"]
    assert set(saved) == {*before, "classifier.bias", "classifier.weight"}
    assert all(not torch.equal(saved[name], value) for name, value in before.items())
    assert saved["classifier.bias"].abs().max() > 0


def test_evaluate_repeats_the_measures_of_the_run(finished):
    scores = evaluate(finished.path, finished.config.data.test)
    assert {name: round(score.value, 6) for name, score in scores.items()} == {
        name: finished.metrics[name] for name in ("accuracy", "macro_f1", "mcc")
    }


def test_evaluating_on_unknown_labels(finished, tmp_path):
    path = write_csv(tmp_path / "odd.csv", [("a film", "neutral")])
    assert refusal(evaluate, finished, path, error=DataError) == (
        f"{path}: need labels that are in the training data too ('negative', 'positive'); got 'neutral' in row 1; "
        "correct it, or add training rows of it."
    )


def test_predicting_from_no_text(finished):
    expected = "input 2: need a text; got int; correct the column or name another."
    assert refusal(predict, finished, ["film", 3], error=DataError) == expected


NO_NAME = "run: need a run, or the directory of one; got a name that no file can have; correct it."


def given_wrong(run, folder):
    """Calls that were given something of another kind: a name -> the call, the error and its words."""
    table, new = run.config.data.test, folder / "new"
    no_run = "run: need a run, or the directory of one; got {}; give its path, as str or Path."
    no_config = "config: need a configuration, its values, or a YAML file; got {}; give its path, as str or Path."
    no_list = "predict: need a list of inputs, one text each; got {}; put them into a list."
    no_text = "input {}: need a text; got {}; correct the column or name another."
    yield from (
        ("load", lambda: Run.load(5), DataError, no_run.format("int")),
        ("load-none", lambda: Run.load(None), DataError, no_run.format("NoneType")),
        ("load-bytes", lambda: Run.load(b"run"), DataError, no_run.format("bytes")),
        ("load-null", lambda: Run.load("a\0"), DataError, NO_NAME),
        ("predict-no-run", lambda: predict([], ["film"]), DataError, no_run.format("list")),
        ("predict-number", lambda: run.predict(5), DataError, no_list.format("int")),
        ("predict-none", lambda: run.predict(None), DataError, no_list.format("NoneType")),
        ("predict-bytes", lambda: run.predict(b"film"), DataError, no_list.format("bytes")),
        ("predict-dict", lambda: run.predict({"text": "film"}), DataError, no_list.format("dict")),
        ("predict-set", lambda: run.predict({"film", "plot"}), DataError, no_list.format("set")),
        ("predict-frame", lambda: run.predict(pandas.DataFrame({"a": ["b"]})), DataError, no_list.format("DataFrame")),
        ("predict-numbers", lambda: run.predict([5]), DataError, no_text.format(1, "int")),
        ("predict-nones", lambda: run.predict(["film", None]), DataError, no_text.format(2, "NoneType")),
        ("predict-path", lambda: run.predict(Path("film")), DataError, no_text.format(1, "PosixPath")),
        ("predict-list", lambda: run.predict([["film"]]), DataError, no_text.format(1, "list")),
        (
            "predict-half", lambda: run.predict(["film", "a \ud800"]), DataError,
            r"predict: need whole characters; got half of a surrogate pair (\ud800) in input 2; correct it.",
        ),
        ("evaluate", lambda: run.evaluate(5), DataError, "data: need a table; got int; give its path, as str or Path."),
        ("columns", lambda: run.evaluate(table, columns="a"), ConfigError,
         "columns: need the task's names -> the table's; got str; give a dictionary."),
        ("columns-role", lambda: run.evaluate(table, columns={"txt": "a"}), ConfigError,
         "columns: need names among text, label; got 'txt'; correct it."),
        ("columns-number", lambda: run.evaluate(table, columns={"text": 5}), ConfigError,
         "columns: need a column of the table for text; got int; name one."),
        ("columns-list", lambda: run.evaluate(table, columns={"text": ["sentence"]}), ConfigError,
         "columns: need a column of the table for text; got list; name one."),
        ("source", lambda: predict_file(run, 5, folder / "new.csv"), DataError,
         "data: need a table; got int; give its path, as str or Path."),
        ("target", lambda: predict_file(run, table, 5), DataError,
         "predict: need a file to write; got int; give its path, as str or Path."),
        ("column", lambda: predict_file(run, table, new, column=5), ConfigError,
         "column: need the name of a column; got int; give a str."),
        ("check", lambda: check(5), ConfigError, no_config.format("int")),
        ("finetune", lambda: finetune(None), ConfigError, no_config.format("NoneType")),
        ("search", lambda: search([]), ConfigError, no_config.format("list")),
        ("overrides", lambda: load_config(run.config, ["seed"]), ConfigError,
         "overrides: need dotted keys -> values; got something else; give a dictionary of them."),
        ("export", lambda: export(5, new), DataError, no_run.format("int")),
        ("export-nowhere", lambda: export(run, None), ConfigError,
         "export: need a directory to make; got NoneType; give its path, as str or Path."),
        ("export-half", lambda: export(run, f"{folder}/\ud800"), ConfigError,
         "export: need a directory to make; got a name that no file can have; correct it."),
        ("export-format", lambda: export(run, new, format=5), ConfigError,
         "export: need a format, one of safetensors, onnx, openvino; got '5'; choose one."),
        ("push", lambda: push(run, None, dry_run=True), ConfigError,
         "push: need a name as hubs take it, OWNER/NAME of letters, digits, '-', '_' and '.'; got 'None'; choose "
         "another."),
        ("compare-none", lambda: compare(), ConfigError, "compare: need at least two runs; got 0; name another."),
        ("compare-list", lambda: compare([run, run]), DataError, no_run.format("list")),
        ("compare-one", lambda: compare(run), ConfigError, "compare: need at least two runs; got 1; name another."),
    )  # fmt: skip


def test_what_is_of_another_kind_is_told_in_a_sentence(finished, tmp_path):
    for name, call, error, told in given_wrong(finished, tmp_path):
        assert (name, refusal(call, error=error)) == (name, told)
    assert not list(tmp_path.iterdir())


def test_predicting_takes_what_has_an_order(finished):
    texts = ["a superb film", "a dull plot"]
    expected = finished.predict(texts)
    for given in (tuple(texts), iter(texts), np.array(texts), pandas.Series(texts, index=[4, 2])):
        assert finished.predict(given) == expected
    assert finished.predict([]) == []


def test_the_report_tells_the_run(finished):
    page = (finished.path / "report.html").read_text(encoding="utf-8")
    for part in ("Accuracy", "majority class", "frozen embeddings", "negative", "text-classification", "[CLS]"):
        assert part in page


def test_checkpoints_can_be_kept(values):
    values["train"] |= {"keep_checkpoints": True, "max_steps": 2, "evaluate_every": 1}
    values["report"] |= {"baselines": False}
    run = finetune(values, quiet=True)
    assert list((run.path / "checkpoints").iterdir())
    assert run.metrics["baselines"] == {}


def test_without_a_test_split_the_validation_split_is_measured(values):
    del values["data"]["test"]
    values["train"] |= {"max_steps": 2, "evaluate_every": 1}
    values["report"] |= {"baselines": False}
    run = finetune(values, quiet=True)
    assert run.metrics["split"] == "validation"
    assert "so the score flatters" in (run.path / "report.html").read_text(encoding="utf-8")


def test_half_precision_checkpoints_are_trained_in_float32(values, tiny, tmp_path):
    from transformers import AutoModel, AutoTokenizer

    half = tmp_path / "half"
    AutoModel.from_pretrained(tiny, dtype=torch.bfloat16).save_pretrained(half)
    AutoTokenizer.from_pretrained(tiny).save_pretrained(half)
    values |= {"model": str(half)}
    values["train"] |= {"max_steps": 1, "evaluate_every": 1}
    values["report"] |= {"baselines": False}
    saved = load_file(finetune(values, quiet=True).path / "model" / "model.safetensors")
    assert {value.dtype for value in saved.values()} == {torch.float32}


def test_bfloat16_and_balanced_labels_and_patience_run(values):
    values["train"] |= {"precision": "bfloat16", "evaluate_every": 1, "patience": 1, "learning_rate": 1e-9}
    values["options"] = {"class_weights": "balanced"}
    values["report"] |= {"baselines": False}
    run = finetune(values, quiet=True)
    assert run.state["steps"] == 2
    assert run.state["precision"] == "bfloat16 with float32 weights"


def test_a_head_for_other_labels_is_replaced(values, finished, tmp_path):
    rows = [(f"{text} {n}", "abc"[n % 3]) for n, text in enumerate(["film", "plot", "story"] * 20)]
    path = write_csv(tmp_path / "three.csv", rows)
    values |= {"model": str(finished.path / "model")}
    values["data"] |= {"train": str(path), "validation": 0.2, "test": None}
    values["train"] |= {"max_steps": 1, "evaluate_every": 1}
    values["report"] |= {"baselines": False}
    run = finetune(values, quiet=True)
    assert run.state["newly_initialised"] == ["classifier.bias", "classifier.weight"]
    assert run.model.config.id2label == {0: "a", 1: "b", 2: "c"}


def test_a_run_is_not_trained_over(finished):
    before = contents(finished.path)
    assert refusal(finetune, finished.config, quiet=True) == (
        f"{finished.path}: need an output directory without a run; got one that holds a run; go on with it (--resume), "
        "replace it (--overwrite), or choose another output."
    )
    expected = f"{finished.path}: need an unfinished run to resume; got a finished one; choose another output."
    assert refusal(finetune, finished.config, resume=True, quiet=True) == expected
    expected = "finetune: need either resume or overwrite; got both; choose one."
    assert refusal(finetune, finished.config, resume=True, overwrite=True, quiet=True) == expected
    assert contents(finished.path) == before


def test_files_of_others_are_not_touched(values, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "thesis.tex").write_text("precious")
    for overwrite in (False, True):
        expected = f"{folder}: need a new or empty output directory; got one with other files; choose another output."
        assert refusal(finetune, values, overwrite=overwrite, quiet=True) == expected
    assert (folder / "thesis.tex").read_text() == "precious"


def test_bad_data_neither_writes_nor_deletes(values, finished, tables, tmp_path):
    values["data"]["columns"]["text"] = "nothing"
    refusal(finetune, values, quiet=True, error=DataError)
    assert not (tmp_path / "run").exists()
    copy = tmp_path / "copy"
    shutil.copytree(finished.path, copy)
    before = contents(copy)
    refusal(finetune, values | {"output": str(copy)}, overwrite=True, quiet=True, error=DataError)
    assert contents(copy) == before


def test_overwriting_replaces_a_run(values, finished, tmp_path):
    shutil.copytree(finished.path, tmp_path / "run")
    values["train"] |= {"max_steps": 1, "evaluate_every": 1}
    values["report"] |= {"baselines": False}
    run = finetune(values, overwrite=True, quiet=True)
    assert run.state["steps"] == 1
    assert run.metrics["baselines"] == {}


def test_a_run_interrupted_while_it_is_measured_is_not_trained_again(values, tmp_path, monkeypatch):
    values["train"] |= {"max_steps": 2, "evaluate_every": 1}
    values["report"] |= {"baselines": False}

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(conduct, "finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            finetune(values, quiet=True)
    trained = (tmp_path / "run" / "model" / "model.safetensors").stat().st_mtime_ns
    run = finetune(values, resume=True, quiet=True)
    assert (run.path / "model" / "model.safetensors").stat().st_mtime_ns == trained
    assert run.state["finished"]


def test_nothing_to_resume(values, tmp_path):
    expected = f"{tmp_path / 'run'}: need a run to resume; got none; leave out --resume."
    assert refusal(finetune, values, resume=True, quiet=True) == expected


def test_opening_what_is_no_run(tmp_path):
    def expected(what):
        return f"need a run directory; got {what}; make one with 'regard finetune'."

    gone, file = tmp_path / "gone", tmp_path / "file"
    file.touch()
    assert refusal(Run.load, gone, error=DataError) == f"{gone}: {expected('nothing there')}"
    assert refusal(Run.load, tmp_path, error=DataError) == f"{tmp_path}: {expected('a directory without one')}"
    assert refusal(Run.load, file, error=DataError) == f"{file}: {expected('a file')}"


def test_a_loss_that_is_no_number_stops_the_run(values):
    values["train"] |= {"learning_rate": 2e9, "max_gradient_norm": 2e9, "warmup": 0.0}
    told = refusal(finetune, values, quiet=True, error=RegardError)
    assert told.startswith("finetune: need a finite loss; got ")
    assert told.endswith("; lower train.learning_rate.")


def test_a_model_that_answers_otherwise_after_loading_is_found(values, monkeypatch):
    values["train"] |= {"max_steps": 1, "evaluate_every": 1}
    monkeypatch.setattr(reload, "alike", lambda *_: False)
    told = refusal(finetune, values, quiet=True, error=RegardError)
    assert told.endswith("need the saved model to answer as the trained one; it does not; please report this.")


@pytest.mark.slow
def test_the_pretrained_encoder_on_real_sentences(minilm, reviews, tmp_path):
    for name, rows in {"train": 400, "validation": 50, "test": 200}.items():
        lines = (reviews / f"{name}.csv").read_text(encoding="utf-8").splitlines(keepends=True)
        (tmp_path / f"{name}.csv").write_text("".join(lines[: rows + 1]), encoding="utf-8")
    values = make_values(minilm, tmp_path, tmp_path / "run")
    values["train"] |= {"max_steps": 25, "batch_size": 16, "learning_rate": 3e-4, "evaluate_every": 25}
    values["report"] |= {"baselines": False, "attention": 1}
    run = finetune(values, quiet=True)
    assert run.metrics["accuracy"] > 0.6
    assert run.predict("A wonderful, moving film.")[0]["probabilities"]["positive"] > 0.5
