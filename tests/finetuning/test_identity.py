"""What a run depends on is what it was: data, the model that it begins with, checkpoints, and what it left."""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import pytest

from conftest import make_values, sentences, write_csv
from regard._files import read_json, write_json
from regard.errors import ConfigError, DataError
from regard.finetuning import conduct
from regard.finetuning.conduct import finetune
from regard.finetuning.config import find_model
from regard.finetuning.configure import load_config
from regard.finetuning.export import export
from regard.finetuning.predict import predict
from regard.finetuning.runs import run as run_module
from regard.finetuning.runs.inputs import describe_data, describe_model, describe_named, require_same_inputs
from regard.finetuning.runs.run import STATE, Run, evaluate, require_unchanged, rewrite
from regard.finetuning.runs.seals import describe
from regard.finetuning.training import checkpoints, train
from regard.finetuning.training.adapters import load_adapter


def refusal(function, *args, error=(ConfigError, DataError), **options):
    with pytest.raises(error) as caught:
        function(*args, **options)
    return str(caught.value)


def interrupted(*_):
    raise KeyboardInterrupt


def change(path):
    """Another byte, of the same size and time."""
    known, data = path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    shutil.os.utime(path, ns=(known.st_atime_ns, known.st_mtime_ns))


@pytest.fixture
def copies(tiny, tables, tmp_path):
    """A configuration whose model and tables are copies, to be changed."""
    shutil.copytree(tiny, tmp_path / "base")
    shutil.copytree(tables, tmp_path / "tables")
    values = make_values(tmp_path / "base", tmp_path / "tables", tmp_path / "run")
    values["train"] |= {"max_steps": 4, "evaluate_every": 2}
    values["report"] |= {"baselines": False, "attention": 0}
    return values


@pytest.fixture
def stopped(copies):
    """A run that stopped before its model was saved."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            finetune(copies, quiet=True)
    return copies


@pytest.mark.parametrize(
    ("key", "file"),
    [
        ("data.train", "tables/train.csv"),
        ("data.validation", "tables/validation.csv"),
        ("data.test", "tables/test.csv"),
        ("model", "base/model.safetensors"),
        ("model", "base/config.json"),
        ("model", "base/tokenizer.json"),
    ],
)
def test_a_changed_byte_of_what_a_run_is_made_of_is_refused(stopped, tmp_path, key, file):
    path = tmp_path / file
    change(path)
    assert refusal(finetune, stopped, resume=True, quiet=True) == (
        f"{tmp_path / 'run'}: need {key} as it was when the run began, in {path.parent}; got other bytes in "
        f"{path.name}; put it back, or start again with --overwrite."
    )
    change(path)
    assert finetune(stopped, resume=True, quiet=True).state["finished"]


def described(folder, **changes):
    values = {"data.train": str(folder), "options": {}, **changes}
    config = SimpleNamespace(flat=lambda: values, options={}, model="no/such-model")
    return describe_data(config)


def test_folders_are_all_that_is_in_them(tmp_path):
    pictures = tmp_path / "pictures"
    for name in ("cats/1.png", "dogs/1.png", "notes.md", ".hidden"):
        (pictures / name).parent.mkdir(parents=True, exist_ok=True)
        (pictures / name).write_bytes(name.encode())
    inputs = described(pictures)
    assert set(inputs["data.train"]["files"]) == {"cats/1.png", "dogs/1.png"}
    require_same_inputs(tmp_path, inputs)
    expected = (
        f"{tmp_path}: need data.train as it was when the run began, in {pictures}; got {{}}; put it back, or "
        + ("start again with --overwrite.")
    )
    (pictures / "cats" / "2.png").touch()
    assert refusal(require_same_inputs, tmp_path, inputs) == expected.format("'cats/2.png' besides")
    (pictures / "cats" / "2.png").unlink()
    (pictures / "dogs" / "1.png").write_bytes(b"dogs")
    assert refusal(require_same_inputs, tmp_path, inputs) == expected.format("4 of the 10 bytes of dogs/1.png")
    (pictures / "dogs" / "1.png").unlink()
    assert refusal(require_same_inputs, tmp_path, inputs) == expected.format("one without dogs/1.png")


def test_pictures_and_sounds_that_tables_name_are_described(tmp_path):
    from datasets import Dataset

    for name in ("a.png", "b.wav"):
        (tmp_path / name).write_bytes(name.encode())
    split = Dataset.from_dict({"image": [str(tmp_path / "a.png")] * 2, "label": ["a.png", "b"]})
    other = Dataset.from_dict({"audio": [str(tmp_path / "b.wav")]})
    inputs = describe_named([split, other], {})
    assert len(next(iter(inputs.values()))["files"]) == 2
    require_same_inputs(tmp_path, inputs)
    change(tmp_path / "b.wav")
    assert f"other bytes in {str(tmp_path)[1:]}/b.wav" in refusal(require_same_inputs, tmp_path, inputs)
    assert describe_named([split, other], described(tmp_path)) == {}


def test_what_options_name_is_described(tmp_path):
    (tmp_path / "rated.csv").write_text("text,label\n")
    shutil.copytree(tmp_path, tmp_path / "vocoder")
    inputs = described(
        tmp_path / "no.csv",
        **{
            "options.downstream.train": str(tmp_path / "rated.csv"),
            "options.vocoder": str(tmp_path / "vocoder"),
            "options.prefix": str(tmp_path / "vocoder"),
        },
    )
    assert set(inputs) == {"options.downstream.train", "options.vocoder"}


def test_a_model_in_the_hub_s_cache_is_described_where_it_lies(tmp_path, monkeypatch):
    snapshot = tmp_path / "models--a--b" / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text(snapshot.name)
    (snapshot / "config.json").write_text("{}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    found = describe_model(SimpleNamespace(options={}, model="a/b"))
    assert found["model"]["folder"] == str(snapshot)
    assert describe_model(SimpleNamespace(options={}, model="a/c")) == {}
    assert describe_model(SimpleNamespace(options={"from_scratch": {"layers": 1}}, model="a/b")) == {}


def test_a_changed_best_checkpoint_is_refused(copies, tmp_path, monkeypatch):
    """Before it becomes the model: when a run is resumed, and at its end."""
    copies["train"] |= {"max_steps": 6, "evaluate_every": 2, "learning_rate": 0.5}  # the first is the best
    folder = tmp_path / "run" / "checkpoints" / "checkpoint-2"
    told = (
        f"{folder}: need the best checkpoint as this run wrote it; got other bytes in model.safetensors; put it back, "
        "or start again with --overwrite."
    )
    load = checkpoints.CheckpointTrainer._load_best_model

    def changed(trainer):
        assert trainer.state.best_global_step == 2
        change(folder / "model.safetensors")
        load(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.CheckpointTrainer, "_load_best_model", changed)
        assert refusal(finetune, copies, quiet=True) == told
    assert refusal(finetune, copies, resume=True, quiet=True) == told
    change(folder / "model.safetensors")
    assert finetune(copies, resume=True, quiet=True).state["steps"] == 6


def test_a_checkpoint_does_not_name_a_best_one_elsewhere(stopped, tmp_path):
    """Whatever path a state names, the best checkpoint is this run's."""
    folder = tmp_path / "run" / "checkpoints" / "checkpoint-4"
    state = read_json(folder / checkpoints.TRAINER)
    write_json(folder / checkpoints.TRAINER, state | {"best_model_checkpoint": str(tmp_path), "best_global_step": 3})
    run = read_json(tmp_path / "run" / STATE)["id"]
    checkpoints.seal(folder, run)
    expected = f"{folder.with_name('checkpoint-3')}: need the best checkpoint as this run wrote it; got one without "
    assert refusal(finetune, stopped, resume=True, quiet=True).startswith(expected)


@pytest.fixture
def mine(finished, tmp_path):
    """A copy of a finished run, to be changed."""
    shutil.copytree(finished.path, tmp_path / "mine")
    return tmp_path / "mine"


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_changed_model_answers_nothing(mine, tmp_path, file):
    change(mine / "model" / file)
    expected = (
        f"{mine}: need the model that the run wrote; got other bytes in model/{file}; put it back, or train again."
    )
    assert refusal(predict, mine, "a film") == expected
    assert refusal(evaluate, mine, Run.load(mine).config.data.test) == expected
    assert refusal(export, mine, tmp_path / "exported") == expected
    assert refusal(lambda: Run.load(mine).processor) == expected
    assert not (tmp_path / "exported").exists()


def test_a_file_that_the_model_would_read_is_not_put_beside_it(mine):
    for name in ("README.md", "notes.md", ".gitattributes"):
        (mine / "model" / name).write_text("mine")
    assert predict(mine, "a film")
    (mine / "model" / "adapter_config.json").write_text("{}")
    assert refusal(predict, mine, "a film") == (
        f"{mine}: need the model that the run wrote; got model/adapter_config.json besides; put it back, or train "
        "again."
    )


def test_runs_from_before_are_opened_as_they_were(mine):
    state = read_json(mine / STATE)
    write_json(mine / STATE, {key: value for key, value in state.items() if key not in ("files", "inputs")})
    change(mine / "model" / "README.md")
    assert predict(mine, "a film")


def test_a_run_refers_to_nothing_outside_of_it(mine, tmp_path):
    shutil.move(mine / "model" / "config.json", tmp_path / "config.json")
    (mine / "model" / "config.json").symlink_to(tmp_path / "config.json")
    assert refusal(Run.load, mine) == (
        f"{mine}: need a run without links to what lies outside of it; got one at model/config.json; put what it "
        "points to in its place."
    )
    (mine / "model" / "config.json").unlink()
    shutil.move(tmp_path / "config.json", mine / "model" / "config.json")
    (tmp_path / "link").symlink_to(mine)
    assert predict(tmp_path / "link", "a film")
    state = read_json(mine / STATE)
    outside = {"model/../../config.json": state["files"]["model/config.json"]}
    write_json(mine / STATE, state | {"files": outside})
    assert refusal(predict, mine, "a film") == (
        f"{mine}: need the model that the run wrote; got the name 'model/../../config.json', which leads out of it; "
        "put it back, or train again."
    )


def test_what_was_trained_is_what_is_measured(copies, tmp_path):
    """A run that was stopped after training: its model, adapter and history are compared before it goes on."""
    copies["adapter"] = {"kind": "lora"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conduct, "finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            finetune(copies, quiet=True)
    run = tmp_path / "run"
    for part, file in {
        "model": "model/model.safetensors", "adapter": "adapter/adapter_model.safetensors",
        "attention.json": "attention.json",
    }.items():  # fmt: skip
        change(run / file)
        expected = f"{run}: need the {part} that the run wrote; got other bytes in {file}; put it back, or train again."
        assert refusal(finetune, copies, resume=True, quiet=True) == expected
        change(run / file)
    assert finetune(copies, resume=True, quiet=True).state["finished"]
    change(run / "adapter" / "adapter_model.safetensors")
    assert "other bytes in adapter_model.safetensors" in refusal(load_adapter, run / "adapter")


def test_the_history_of_attention_is_that_of_the_checkpoint(stopped, tmp_path):
    whole = json.loads((tmp_path / "run" / "attention.json").read_text())
    (tmp_path / "run" / "attention.json").write_text("{}")
    run = finetune(stopped, resume=True, quiet=True)
    assert json.loads((run.path / "attention.json").read_text()) == whole


def test_scores_of_other_seeds_are_as_they_were_measured(copies, tmp_path):
    copies["repeats"] = 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conduct, "finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            finetune(copies, quiet=True)
    metrics = tmp_path / "run" / "repeats" / "seed-43" / "metrics.json"
    change(metrics)
    assert "need the metrics.json that the run wrote; got other bytes in metrics.json" in refusal(
        finetune, copies, resume=True, quiet=True
    )


def test_a_package_is_found_and_not_imported(tmp_path, monkeypatch):
    for folder in ("outer/inner/model", "outer/model"):
        (tmp_path / folder).mkdir(parents=True)
    for init in ("outer/__init__.py", "outer/inner/__init__.py"):
        (tmp_path / init).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_model("package:outer/model") == str(tmp_path / "outer" / "model")
    assert find_model("package:outer.inner/model") == str(tmp_path / "outer" / "inner" / "model")
    for name in ("package:", "package:.outer/model", "package:no_such_package/model", "package:__main__/model"):
        expected = f"model: need an installed package; got '{name}'; pip install it or name a directory."
        assert refusal(find_model, name) == expected
    for name in ("package:outer/../elsewhere", "package:outer//etc"):
        expected = f"model: need a path inside of the package; got '{name}'; name a directory."
        assert refusal(find_model, name) == expected
    assert not (tmp_path / "ran").exists()


def test_code_that_a_model_brings_is_not_run(values, tiny, tmp_path):
    """A configuration of a kind that transformers does not know, with a module that says that it ran."""
    from regard.looking.transformers.loading import load

    brought = tmp_path / "brought"
    shutil.copytree(tiny, brought)
    known = json.loads((brought / "config.json").read_text())
    code = {"AutoConfig": "mine.MineConfig", "AutoModel": "mine.Mine"}
    (brought / "config.json").write_text(json.dumps(known | {"model_type": "mine", "auto_map": code}))
    (brought / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert refusal(finetune, values | {"model": str(brought)}, quiet=True) == (
        f"model: need a model whose code is part of transformers; got '{brought}', which brings code of its own, and "
        "that is not run; choose another model."
    )
    assert refusal(load, str(brought)).startswith(f"{brought}: need a model whose code is part of transformers; got ")
    assert not (tmp_path / "ran").exists()


def test_a_configuration_is_still_one(values):
    assert load_config(values).source == values["model"]


def test_labels_that_were_swapped_are_noticed(stopped, tmp_path):
    rows = sentences(320, seed=1)[:200]
    swapped = [(text, "positive" if label == "negative" else "negative") for text, label in rows]
    write_csv(tmp_path / "tables" / "train.csv", swapped)
    assert "need data.train as it was" in refusal(finetune, stopped, resume=True, quiet=True)


@pytest.mark.parametrize("text", ["{}", None, '{"calibration": 1}'])
@pytest.mark.parametrize("killed", range(4))
def test_a_file_that_is_written_anew_is_known_at_every_moment(tmp_path, monkeypatch, text, killed):
    """A kill before, between and after the writes; what is found then is what the run wrote."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("1")
    write_json(tmp_path / STATE, {"files": describe(tmp_path, [tmp_path / "model" / "weights"])})
    rewrite(tmp_path, "model/config.json", '{"before": 1}')
    left = iter(range(killed))

    def stopping(function):
        def write(*args):
            if next(left, None) is None:
                raise KeyboardInterrupt
            return function(*args)

        return write

    for name in ("write_json", "write_text", "remove"):
        monkeypatch.setattr(f"regard.finetuning.runs.run.{name}", stopping(getattr(run_module, name)))
    if killed < 3:
        with pytest.raises(KeyboardInterrupt):
            rewrite(tmp_path, "model/config.json", text)
    else:
        rewrite(tmp_path, "model/config.json", text)
    monkeypatch.undo()
    require_unchanged(tmp_path, read_json(tmp_path / STATE)["files"])
    rewrite(tmp_path, "model/config.json", text)
    require_unchanged(tmp_path, read_json(tmp_path / STATE)["files"])
    (tmp_path / "model" / "config.json").write_text('{"others": 1}')
    assert "model/config.json" in refusal(require_unchanged, tmp_path, read_json(tmp_path / STATE)["files"])


def test_rows_that_others_read_are_compared_too(stopped, tmp_path, monkeypatch):
    """What no configuration names, such as the labels beside pictures: the rows are others, the files are not."""
    from regard.finetuning import check

    read = check.read_splits

    def otherwise(config):
        found = read(config)
        tables = found.tables | {"train": found.tables["train"].select(range(1, 200))}
        return dataclasses.replace(found, tables=tables)

    monkeypatch.setattr(check, "read_splits", otherwise)
    assert refusal(finetune, stopped, resume=True, quiet=True) == (
        f"{tmp_path / 'run'}: need the rows of train that the run began with; got others; put back what data.train "
        "reads, or start again with --overwrite."
    )
