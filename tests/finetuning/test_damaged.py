"""Files of others that hold something else: sounds, pictures, lists of objects, models. One sentence each, no wait."""

import json
import os
import shutil
import struct

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from scipy.io import wavfile
from typer.testing import CliRunner

from regard.cli import app
from regard.errors import ConfigError, DataError
from regard.finetuning.frameworks import torch as framework
from regard.finetuning.runs.run import Run
from regard.finetuning.tasks.pictures.boxes import from_coco, objects_of
from regard.finetuning.tasks.pictures.yolo import from_yolo
from regard.looking.pictures import open_picture, picture_size
from regard.looking.sounds import open_sound
from regard.looking.transformers.loading import load


def refusal(function, *arguments):
    with pytest.raises((DataError, ConfigError)) as caught:
        function(*arguments)
    return str(caught.value)


def wav(path, rate=16_000, values=None, channels=1, bits=16):
    """Write a header by hand, and what it says follows."""
    content = np.zeros(100, np.int16).tobytes() if values is None else values
    block = channels * bits // 8
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + len(content), b"WAVE", b"fmt ", 16, 1, channels, rate,
                       rate * block, block, bits)  # fmt: skip
    path.write_bytes(head + struct.pack("<4sI", b"data", len(content)) + content)
    return path


@pytest.mark.parametrize(
    "header", [{"rate": 0}, {"channels": 0}, {"bits": 0}, {"rate": 0, "channels": 0, "bits": 0}, {"rate": 2**32 - 1}]
)
def test_a_sound_with_zeros_in_its_header(tmp_path, header):
    path = tmp_path / "s.wav"
    try:
        wav(path, **header)
    except struct.error:  # the bytes of a second do not fit
        wav(path)
        path.write_bytes(path.read_bytes()[:24] + b"\xff" * 4 + path.read_bytes()[28:])
    assert refusal(open_sound, path).startswith(f"{path}: need a sound")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_a_sound_of_values_that_are_none(tmp_path, value):
    sound = np.zeros(50)
    sound[3] = value
    wavfile.write(tmp_path / "s.wav", 16_000, sound)
    expected = "need finite values; got NaN or infinity in 1 of 50; write it again."
    assert refusal(open_sound, tmp_path / "s.wav") == f"{tmp_path / 's.wav'}: {expected}"


@pytest.mark.parametrize("length", [0, 3, 11, 20, 30, 43])
def test_a_sound_that_is_cut(tmp_path, length):
    path = wav(tmp_path / "s.wav")
    path.write_bytes(path.read_bytes()[:length])
    assert refusal(open_sound, path).startswith(f"{path}: need a sound; got a file ")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".bmp", ".tif", ".webp"])
def test_a_picture_that_is_cut_or_spoilt(tmp_path, suffix):
    path = tmp_path / f"p{suffix}"
    Image.effect_noise((40, 40), 50).convert("RGB").save(path)
    whole = path.read_bytes()
    for damaged in (b"", whole[:5], whole[:30], whole[:100]):
        path.write_bytes(damaged)
        assert refusal(open_picture, path).startswith(f"{path}: need a picture; got a file that does not decode")


@pytest.mark.parametrize("read", [open_picture, picture_size, open_sound])
def test_pipes_are_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "p.wav")
    expected = "need a file or a folder; got a pipe or a device; name another."
    assert refusal(read, tmp_path / "p.wav") == f"{tmp_path / 'p.wav'}: {expected}"


COCO = {
    "images": [{"id": 1, "file_name": "a.png"}],
    "categories": [{"id": 1, "name": "cat"}],
    "annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]}],
}


@pytest.mark.parametrize(
    ("name", "entry", "lacking"),
    [
        ("images", {"id": 1}, "'file_name'"),
        ("images", {"id": 1, "file_name": 3}, "a number"),
        ("images", [], "'id', 'file_name'"),
        ("images", {"id": [1], "file_name": "a"}, "'id'"),
        ("categories", {"id": 1}, "'name'"),
        ("categories", None, "'id', 'name'"),
        ("annotations", {"image_id": 1}, "'category_id'"),
        ("annotations", {"image_id": {}, "category_id": 1}, "'image_id'"),
    ],
)
def test_coco_without_its_keys(tmp_path, name, entry, lacking):
    path = tmp_path / "coco.json"
    path.write_text(json.dumps({**COCO, name: [*COCO[name], entry]}))
    told = refusal(lambda: list(from_coco(path)))
    assert told.startswith(f"{path}: need ")
    assert told.endswith(f"got {lacking} missing or of another kind in entry 2; correct it.")
    path.write_text(json.dumps(COCO))
    assert list(from_coco(path)) == [{"image": "a.png", "objects": [{"label": "cat", "box": [0, 0, 1, 1]}]}]


@pytest.mark.parametrize(
    "content",
    [
        "names: [a, a]",
        "names: {0: a, 2: b}",
        "names: {1: a, 2: b}",
        "names: [null]",
        "names: [[a]]",
        "nc: 3\nnames: [a]",
    ],
)
def test_classes_of_yolo_that_would_be_mixed_up(tmp_path, content):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    (tmp_path / "data.yaml").write_text(content)
    assert refusal(lambda: list(from_yolo(tmp_path))).startswith(f"{tmp_path}/data.yaml: need ")


def test_categories_of_coco_that_would_be_mixed_up(tmp_path):
    path = tmp_path / "coco.json"
    categories = [*COCO["categories"], {"id": 2, "name": "cat"}]
    path.write_text(json.dumps({**COCO, "categories": categories}))
    assert len(list(from_coco(path))) == 1  # as long as one of them is not used
    path.write_text(json.dumps({**COCO, "categories": categories, "annotations": [
        {**COCO["annotations"][0], "category_id": number} for number in (1, 2)
    ]}))  # fmt: skip
    assert refusal(lambda: list(from_coco(path))) == (
        f"{path}: need each name in 'categories' once; got 'cat' several times; rename or drop all but one."
    )


def test_keys_of_coco_that_are_there_twice(tmp_path):
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(COCO)[:-1] + ', "images": []}')
    told = refusal(lambda: list(from_coco(path)))
    assert told == f"{path}: need each key once; got 'images' several times; rename or drop all but one."
    cell = '[{"label": "cat", "box": [0, 0, 1, 1], "label": "dog"}]'
    told = refusal(lambda: objects_of(cell, "xywh", "t.csv, row 1"))
    assert told == "t.csv, row 1: need each key once; got 'label' several times; rename or drop all but one."


@pytest.mark.parametrize(("crowd", "objects"), [(0, 1), ("0", 1), (False, 1), (None, 1), (1, 0), ("1", 0), (True, 0)])
def test_a_crowd_is_what_is_said_to_be_one(tmp_path, crowd, objects):
    path = tmp_path / "coco.json"
    path.write_text(json.dumps({**COCO, "annotations": [{**COCO["annotations"][0], "iscrowd": crowd}]}))
    assert len(next(from_coco(path))["objects"]) == objects


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"images": ' + "9" * 5000, "\ufeff{"], ids=["deep", "digits", "mark"]
)
def test_coco_that_is_no_json(tmp_path, content):
    path = tmp_path / "coco.json"
    path.write_text(content)
    assert refusal(lambda: list(from_coco(path))).startswith(f"{path}: need JSON; got '")


@pytest.mark.parametrize(("name", "entry"), [("images", {"file_name": "b.png"}), ("categories", {"name": "dog"})])
def test_coco_with_an_id_twice(tmp_path, name, entry):
    path = tmp_path / "coco.json"
    path.write_text(json.dumps({**COCO, name: [*COCO[name], {"id": 1, **entry}]}))
    told = refusal(lambda: list(from_coco(path)))
    assert told == f"{path}: need each id in '{name}' once; got '1' several times; rename or drop all but one."


@pytest.mark.parametrize(
    "content",
    ["names: [a]\nnames: [b]", "names: 5", "names: {a: b}", "path: 5\nnames: [a]", "[" * 20_000, "x: 2024-13-45"],
)
def test_yolo_s_yaml_of_other_kinds(tmp_path, content):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    (tmp_path / "data.yaml").write_text(content)
    assert "data.yaml: need " in refusal(lambda: list(from_yolo(tmp_path)))


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished.path, tmp_path / "copied")


def change(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def pickle(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"a": torch.ones(2)}, folder / "pytorch_model.bin")


def others(folder):
    save_file({"another.weight": torch.ones(2)}, folder / "model.safetensors", {"format": "pt"})


DAMAGES = {
    "cut": lambda model: os.truncate(model / "model.safetensors", 5000),
    "empty": lambda model: os.truncate(model / "model.safetensors", 0),
    "gone": lambda model: (model / "model.safetensors").unlink(),
    "pickled": pickle,
    "others": others,
    "negative": lambda model: change(model, hidden_size=-3),
    "texts": lambda model: change(model, num_hidden_layers="many"),
    "family": lambda model: change(model, model_type="no-such"),
    "described-by-nothing": lambda model: (model / "config.json").write_text("{"),
    "described-by-a-list": lambda model: (model / "config.json").write_text("[]"),
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_model_that_does_not_load_is_told(finished, copied, damage):
    """By what loads a run's model, and by `look` at a checkpoint."""
    DAMAGES[damage](copied / "model")

    def load_run():
        _, missing = framework.load(copied / "model", finished.config, finished.spec)
        if missing:
            raise DataError(f"{copied / 'model'}: lacks {len(missing)}")

    told = refusal(load_run)
    assert told.startswith((f"{copied / 'model'}: ", "model: need "))
    assert "\n" not in told
    assert refusal(load, str(copied / "model")).startswith(f"{copied / 'model'}: need ")


def test_a_checkpoint_of_other_weights_is_not_trained_from(finished, copied):
    others(copied / "model")
    told = refusal(finished.task.load_model, str(copied / "model"), finished.spec)
    there = sum(1 for _ in finished.model.parameters())
    expected = f"need a checkpoint with the model's weights; got '{copied / 'model'}' without {there} of its {there}"
    begin = "save or fetch it again, or name the family alone to begin at random, where the task can."
    assert told == f"model: {expected}; {begin}"


@pytest.mark.parametrize("named", ["Trainer", "AutoTokenizer", "__name__"])
def test_architectures_that_are_no_models(copied, named):
    change(copied / "model", architectures=[named])
    expected = f"need the name of a model in 'architectures' of config.json; got '{named}'; correct it."
    assert refusal(load, str(copied / "model")) == f"{copied / 'model'}: {expected}"


def test_architectures_of_another_kind_are_left_out(copied):
    change(copied / "model", architectures=5)
    assert type(load(str(copied / "model"))[0]).__name__ == "BertModel"


@pytest.mark.parametrize("content", ["{", ""])
def test_a_tokenizer_that_does_not_load_is_told(finished, copied, content):
    (copied / "model" / "tokenizer.json").write_text(content)
    told = refusal(lambda: Run.load(copied).task.load_processor(str(copied / "model"), finished.config))
    assert told.startswith("model: need a tokenizer beside the model; got ")


@pytest.mark.parametrize("changes", [{"spec": None}, {"spec": []}, {"files": 5}, {"inputs": "x"}, None])
def test_a_run_that_does_not_know_itself_is_told(finished, tmp_path, changes):
    path = tmp_path / "copy"
    shutil.copytree(finished.path, path)
    known = json.loads((path / "run.json").read_text())
    known = {} if changes is None else known | changes
    (path / "run.json").write_text(json.dumps(known))
    key = "spec" if changes is None else next(iter(changes))
    for use in (lambda run: run.predict("a film"), lambda run: run.evaluate(finished.config.data.test)):
        assert refusal(lambda use=use: use(Run.load(path))) == (
            f"{path}/run.json: need what the run knows of itself, as it wrote it; got no object for '{key}'; put back "
            "what it was, or train again."
        )


def test_a_tokenizer_that_is_gone_is_told(copied):
    for path in (copied / "model").glob("*token*"):
        path.unlink()
    done = CliRunner().invoke(app, ["predict", str(copied), "film"])
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
