"""Pictures of every kind from folders and tables, measures against scikit-learn, and a run from scratch on digits."""

import ast
import csv

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import top_k_accuracy_score
from typer.testing import CliRunner

from conftest import answer_without_numbers, run_programs
from regard.cli import app
from regard.errors import ConfigError, DataError
from regard.finetuning.check import check, prepare
from regard.finetuning.conduct import finetune
from regard.finetuning.configure import load_config
from regard.finetuning.export import export
from regard.finetuning.runs.run import Run, evaluate
from regard.finetuning.tasks.pictures import image_classification as task
from regard.finetuning.tasks.pictures import shared
from regard.looking.pictures import open_picture

SCRATCH = {"layers": 2, "width": 32, "heads": 4, "image": 8, "patch": 2}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A folder with `train` and `test`, each with a folder for the digits 0, 1 and 4 as grey 8 x 8 PNG files."""
    folder = tmp_path_factory.mktemp("digits")
    known = load_digits()
    chosen = [(n, t) for n, t in enumerate(known.target) if t in (0, 1, 4)][:300]
    for place, (number, digit) in enumerate(chosen):
        target = folder / ("test" if place >= 220 else "train") / str(digit)
        target.mkdir(parents=True, exist_ok=True)
        Image.fromarray((known.images[number] * 15.9).astype(np.uint8)).save(target / f"{number}.png")
    return folder


@pytest.fixture
def values(digits, tmp_path):
    return make_values(digits, tmp_path / "run")


def make_values(digits, output):
    return {
        "task": "image-classification",
        "model": "vit",
        "data": {"train": str(digits / "train"), "test": str(digits / "test"), "validation": 0.15},
        "output": str(output),
        "train": {"max_steps": 150, "learning_rate": 2e-3, "evaluate_every": 50, "precision": "float32"},
        "options": {"from_scratch": SCRATCH},
        "report": {"attention": 2},
    }


@pytest.fixture(scope="module")
def finished(digits, tmp_path_factory):
    return finetune(make_values(digits, tmp_path_factory.mktemp("runs") / "run"), quiet=True)


def refusal(function, *args, error=ConfigError, **options):
    with pytest.raises(error) as caught:
        function(*args, **options)
    return str(caught.value)


def test_small_pictures_are_decoded_once(digits, monkeypatch):
    files = sorted(str(file) for file in (digits / "train" / "4").iterdir())[:5]
    processor = task.load_processor("vit", load_config(make_values(digits, digits / "run")))
    rows = [{"pixel_values": file, "labels": n} for n, file in enumerate(files)]
    wanted = shared.pixels(processor, files)
    opened = []
    monkeypatch.setattr(shared, "open_picture", lambda file: opened.append(file) or open_picture(file))
    monkeypatch.setattr(shared, "KEPT", 3 * wanted[0].nbytes)
    collate = task.collator(processor)
    for chosen in ([0, 1, 2], [4, 2, 0, 4], [3, 1, 4]):
        batch = collate([rows[n] for n in chosen])
        assert batch["pixel_values"].equal(wanted[chosen])
        assert batch["labels"].tolist() == chosen
    assert opened == [files[n] for n in (0, 1, 2, 4, 3, 4)]  # the last two do not fit beside the first three


def test_a_run_from_scratch_learns(finished):
    metrics = finished.metrics
    assert metrics["rows"] == 80
    assert metrics["top_1"] > 0.8 > metrics["baselines"]["majority class"]["top_1"] + 0.3
    assert set(metrics["intervals_95"]) == {"top_1", "macro_f1"}
    assert set(metrics["baselines"]) == {"majority class", "logistic regression on pixels"}
    assert finished.state["newly_initialised"] == ["everything"]
    assert finished.model.config.num_hidden_layers == 2
    page = (finished.path / "report.html").read_text(encoding="utf-8")
    assert page.count("through all layers") == 2


def test_predicting_looking_and_evaluating(finished, digits):
    picture = sorted((digits / "test" / "4").iterdir())[0]
    [found] = Run.load(finished.path).predict(str(picture))
    assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    told = CliRunner().invoke(app, ["predict", str(finished.path), str(picture)])
    assert told.stdout.startswith(f"{found['label']} {found['probability']:.3f}")
    scores = evaluate(finished, digits / "test")
    assert scores["top_1"].value == pytest.approx(finished.metrics["top_1"], abs=1e-6)
    told = CliRunner().invoke(app, ["look", str(finished.path), str(picture)], env={"COLUMNS": "200"})
    assert "row 3, column 2" in told.stdout
    assert "As an explanation" in told.stdout


@pytest.mark.slow
def test_the_programs_in_the_card_answer_as_the_run(finished, digits, tmp_path):
    picture = sorted((digits / "test" / "4").iterdir())[0]
    (tmp_path / "picture.png").write_bytes(picture.read_bytes())
    plain, ours = map(ast.literal_eval, run_programs(finished, tmp_path))
    [expected] = finished.predict(str(picture))
    assert plain == pytest.approx(expected["probabilities"], abs=1e-5)
    assert ours[0]["label"] == expected["label"]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["safetensors", "onnx"])
def test_it_is_exported(finished, tmp_path, form):
    done = export(finished, tmp_path / "out", format=form)
    assert done.difference < 1e-4
    assert done.inputs == 8


def test_a_table_beside_its_pictures_is_the_folder(digits, values, tmp_path):
    for name in ("train", "test"):
        with (digits / f"{name}.csv").open("w", newline="") as file:
            rows = sorted((digits / name).glob("*/*.png"))
            cells = [[path.relative_to(digits), path.parent.name] for path in rows]
            csv.writer(file).writerows([["photo", "digit"], *cells])
    whole = prepare_splits(values)
    values["data"] |= {name: str(digits / f"{name}.csv") for name in ("train", "test")}
    values["data"] |= {"columns": {"image": "photo", "label": "digit"}}
    assert prepare_splits(values) == whole
    table = tmp_path / "one.jsonl"
    table.write_text('{"photo": "nowhere.png", "digit": "1"}\n')
    values["data"] |= {"test": str(table)}
    assert refusal(check, values, error=DataError) == (
        f"{table}: need the file of a picture in each row; got no file '{tmp_path / 'nowhere.png'}' in row 1; correct "
        "it or drop the row."
    )


def prepare_splits(values):
    from regard.finetuning.configure import load_config

    return {name: split.to_dict() for name, split in prepare(load_config(values)).splits.items()}


COLOURS = np.random.default_rng(3).integers(0, 255, (5, 7, 4)).astype(np.uint8)


def test_pictures_of_every_kind(tmp_path):
    def reopened(picture, name="picture.png", **options):
        picture.save(tmp_path / name, **options)
        opened, kind = open_picture(tmp_path / name)
        return np.asarray(opened), kind

    plain, kind = reopened(Image.fromarray(COLOURS[..., :3]))
    assert kind == "colour"
    np.testing.assert_array_equal(plain, COLOURS[..., :3])
    grey, kind = reopened(Image.fromarray(COLOURS[..., 0]))
    assert kind == "grey"
    np.testing.assert_array_equal(grey, COLOURS[..., :1].repeat(3, -1))
    clear, kind = reopened(Image.fromarray(COLOURS))
    assert kind == "transparent"
    share = COLOURS[..., 3:] / 255.0
    np.testing.assert_allclose(clear, COLOURS[..., :3] * share + 255 * (1 - share), atol=1.01)
    palette = Image.fromarray(COLOURS[..., :3]).convert("P")
    assert reopened(palette, transparency=0)[1] == "transparent"
    turned = Image.Exif()
    turned[0x0112] = 6  # shown turned by a quarter
    assert reopened(Image.fromarray(COLOURS[..., :3]), "p.jpg", exif=turned)[0].shape == (7, 5, 3)


def test_pictures_that_cannot_be_used(tmp_path, values):
    deep = tmp_path / "deep.png"
    Image.fromarray(COLOURS[..., 0].astype(np.uint16) * 200).save(deep)
    assert refusal(open_picture, deep, error=DataError) == (
        f"{deep}: need a picture of eight bits a channel; got more (mode I;16); convert it, for its range cannot be "
        "guessed."
    )
    for label in "ab":
        (tmp_path / "own" / label).mkdir(parents=True)
        for number in range(6):
            Image.fromarray(COLOURS + number).save(tmp_path / "own" / label / f"{label}{number}.png")
    broken = tmp_path / "own" / "b" / "b3.png"
    broken.write_bytes(broken.read_bytes()[:90])
    values["data"] = {"train": str(tmp_path / "own"), "validation": str(tmp_path / "own")}
    told = refusal(check, values, error=DataError)
    assert told.startswith(f"train, row 10: {broken}: need a picture; got a file that does not decode (")
    broken.unlink()
    messages = [finding.message for finding in check(values).warnings]
    assert "train: 11 pictures are transparent; laid on white" in messages
    assert any(m.startswith("train: 5 pictures carry different labels (first in rows 1 and 7)") for m in messages)
    assert any(m.startswith("validation: 6 pictures are in train too") for m in messages)


def test_pictures_that_no_class_would_have_are_told(values, tmp_path):
    for number in range(20):
        (tmp_path / "own" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        shade = np.full((8, 8), 12 * number, np.uint8)
        Image.fromarray(shade).save(tmp_path / "own" / "ab"[number % 2] / f"{number}.png")
    values["data"] = {"train": str(tmp_path / "own"), "validation": 0.2, "test": 0.2}
    for hidden in (".ipynb_checkpoints/0.png", "a/._0.png"):
        (tmp_path / "own" / hidden).parent.mkdir(exist_ok=True)
        (tmp_path / "own" / hidden).write_bytes(b"none")
    (tmp_path / "own" / "c").mkdir()
    (tmp_path / "own" / "README.md").touch()
    assert check(values).rows == {"train": 13, "validation": 4, "test": 3}
    for path in ("0.png", "a/deep/0.png", "a/deep/deeper/0.JPG"):
        lost = tmp_path / "own" / path
        lost.parent.mkdir(parents=True, exist_ok=True)
        lost.touch()
        assert refusal(check, values, error=DataError) == (
            f"{tmp_path}/own: need each picture in the folder of its class; got 1 elsewhere, such as '{path}'; move "
            "them, or name a table."
        )
        lost.unlink()
    (tmp_path / "own" / "c" / "photo.heic").touch()
    told = refusal(check, values, error=DataError)
    assert told.endswith(" in each folder; got other files alone in 'c'; convert or remove them.")


def test_a_folder_without_pictures(values, tmp_path):
    values["data"]["train"] = str(tmp_path)
    assert refusal(check, values, error=DataError) == (
        f"{tmp_path}: need a folder for each class with pictures in it (.png, .jpg, .jpeg, .bmp, .gif, .webp, .tif, "
        ".tiff); got none; name their parent, or a table."
    )


def test_sizes_that_cannot_be(values):
    assert refusal(check, values | {"model": "bert"}) == (
        "model: need one of vit, deit, dinov2 with options.from_scratch; got 'bert'; name a family, or leave out "
        "options.from_scratch."
    )
    assert refusal(check, values | {"options": {"from_scratch": SCRATCH | {"heads": 5}}}) == (
        "options.from_scratch: need width to be a multiple of heads; got 32 and 5; change one."
    )


def test_top_five_is_that_of_scikit_learn():
    rng = np.random.default_rng(1)
    labels = [str(n) for n in range(9)]
    truth, odds = rng.integers(0, 9, 200), rng.dirichlet(np.ones(9), 200)
    answers = [
        {"label": labels[row.argmax()], "probabilities": dict(zip(labels, row.tolist(), strict=True))} for row in odds
    ]
    split = Dataset.from_dict({"label": [labels[n] for n in truth]})
    scores = task.measure(split, answers, task.Known(labels=labels, from_scratch=None))
    for name, most in {"top_1": 1, "top_5": 5}.items():
        assert scores[name].value == pytest.approx(top_k_accuracy_score(truth, odds, k=most))
        assert scores[name].interval[0] < scores[name].value < scores[name].interval[1]


def test_no_answer_of_no_number(values):
    assert "got NaN or infinity for 3 of 3 (number 1, 2, 3); nothing was answered" in answer_without_numbers(values)
