"""Boxes from every kind of file, faults that are recognised, measures against an oracle, and runs from end to end."""

import ast
import json

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from conftest import answer_without_numbers, run_programs
from regard.cli import app
from regard.errors import ConfigError, DataError
from regard.finetuning.check import prepare
from regard.finetuning.conduct import finetune
from regard.finetuning.configure import load_config
from regard.finetuning.data.tables import read_table
from regard.finetuning.runs.run import Run, evaluate
from regard.finetuning.tasks.pictures import average_precision
from regard.finetuning.tasks.pictures import boxes as boxing
from regard.finetuning.tasks.pictures import object_detection as task
from regard.models.watch import watch

WIDTH, HEIGHT = 48, 32
SCRATCH = {"layers": 1, "width": 16, "heads": 2, "image": 32, "patch": 8, "queries": 5}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A folder with 40 pictures of bright and grey rectangles, and what they show as (file, objects)."""
    folder, rng, rows = tmp_path_factory.mktemp("scenes"), np.random.default_rng(5), []
    for number in range(40):
        canvas, objects = np.zeros((HEIGHT, WIDTH), np.uint8), []
        for label, colour, left in (("bright", 250, 0), ("grey", 120, 24))[: 1 + number % 2]:
            x, y = left + int(rng.integers(0, 7)), int(rng.integers(0, 11))
            w, h = int(rng.integers(11, 17)), int(rng.integers(13, 19))
            canvas[y : y + h, x : x + w] = colour
            objects.append({"label": label, "box": [x, y, w, h]})
        Image.fromarray(canvas).save(folder / f"{number:02}.png")
        rows.append((f"{number:02}.png", objects))
    return folder, rows


def write_coco(path, rows):
    labels = ["bright", "grey"]
    annotations = [
        {"image_id": n, "category_id": labels.index(o["label"]), "bbox": o["box"]}
        for n, (_, objects) in enumerate(rows)
        for o in objects
    ]
    images = [{"id": n, "file_name": file} for n, (file, _) in enumerate(rows)]
    categories = [{"id": n, "name": name} for n, name in enumerate(labels)]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def write_table(path, rows, boxes=lambda box: box):
    lines = [
        {"image": file, "objects": [{**each, "box": boxes(each["box"])} for each in objects]} for file, objects in rows
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def write_yolo(folder, scenes):
    where, rows = scenes
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    (folder / "data.yaml").write_text("names: {0: bright, 1: grey}\n")
    for file, objects in rows:
        (folder / "images" / file).write_bytes((where / file).read_bytes())
        lines = []
        for each in objects:
            x, y, w, h = each["box"]
            parts = ((x + w / 2) / WIDTH, (y + h / 2) / HEIGHT, w / WIDTH, h / HEIGHT)
            lines.append(" ".join([str(["bright", "grey"].index(each["label"])), *map(repr, parts)]))
        (folder / "labels" / file).with_suffix(".txt").write_text("\n".join(lines))
    return folder


@pytest.fixture
def values(scenes, tmp_path):
    folder, rows = scenes
    return make_values(write_coco(folder / "all.json", rows), tmp_path / "run")


def make_values(source, output):
    return {
        "task": "object-detection",
        "model": "conditional_detr",
        "data": {"train": str(source), "validation": 0.2, "test": 0.2},
        "output": str(output),
        "train": {"max_steps": 4, "batch_size": 8, "evaluate_every": 2, "precision": "float32"},
        "options": {"from_scratch": SCRATCH},
        "monitor": {"every": 2},
        "report": {"attention": 1},
    }


def prepared(values):
    return prepare(load_config(values))


def refusal(function, *args, error=DataError):
    with pytest.raises(error) as caught:
        function(*args)
    return str(caught.value)


def boxes_of(path, **options):
    split = read_table(path, task.FORMATS)
    return [
        [(o["label"], *o["box"]) for o in boxing.objects_of(cell, options.get("boxes", "xywh"), "row")]
        for cell in split["objects"]
    ]


def test_every_kind_of_file_holds_the_same_boxes(scenes, tmp_path):
    folder, rows = scenes
    wanted = [[(o["label"], *o["box"]) for o in objects] for _, objects in rows]
    assert boxes_of(write_coco(folder / "coco.json", rows)) == wanted
    assert boxes_of(write_table(folder / "table.jsonl", rows)) == wanted
    corners = write_table(folder / "corners.jsonl", rows, lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]])
    assert boxes_of(corners, boxes="xyxy") == wanted
    middles = write_table(folder / "m.jsonl", rows, lambda b: [b[0] + b[2] / 2, b[1] + b[3] / 2, b[2], b[3]])
    assert boxes_of(middles, boxes="cxcywh") == wanted
    for found, right in zip(boxes_of(write_yolo(tmp_path / "yolo", scenes)), wanted, strict=True):
        assert [each[0] for each in found] == [each[0] for each in right]
        np.testing.assert_allclose([each[1:] for each in found], [each[1:] for each in right], atol=1e-9)
    lists = {"bbox": [[1, 2, 3, 4], [5, 6, 7, 8]], "category": ["grey", "bright"]}
    found = boxing.objects_of(json.dumps(lists), "xywh", "row")
    assert [(o["label"], o["box"]) for o in found] == [("grey", [1, 2, 3, 4]), ("bright", [5, 6, 7, 8])]


def test_boxes_in_another_form_are_recognised(scenes, values):
    folder, rows = scenes
    corners = write_table(folder / "corners.jsonl", rows, lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]])
    values["data"] = {"train": str(corners), "validation": str(corners)}
    told = refusal(prepared, values)
    assert told.startswith(f"{corners}: need boxes inside their pictures; got ")
    assert told.endswith("read as xywh, while all fit as xyxy; set options.boxes: xyxy.")
    assert prepared({**values, "options": {**values["options"], "boxes": "xyxy"}}).check.spec.labels == [
        "bright",
        "grey",
    ]
    shares = write_table(
        folder / "shares.jsonl", rows, lambda b: [b[0] / WIDTH, b[1] / HEIGHT, b[2] / WIDTH, b[3] / HEIGHT]
    )
    values["data"] = {"train": str(shares), "validation": str(shares)}
    told = refusal(prepared, values)
    assert told.startswith(f"{shares}: need boxes in pixels; got fractions of the pictures, none above ")
    assert told.endswith("; set options.units: fractions.")
    values["options"]["units"] = "fractions"
    assert prepared(values).encoded["train"].rows["labels"][0][0][1:] == pytest.approx(rows[0][1][0]["box"])


def changed(scenes, name, number, objects):
    folder, rows = scenes
    return write_table(folder / name, [*rows[:number], (rows[number][0], objects), *rows[number + 1 :]])


def test_boxes_outside_empty_and_unknown(scenes, values):
    far = changed(scenes, "far.jsonl", 2, [{"label": "grey", "box": [100, 3, 9, 9]}])
    values["data"] = {"train": str(far), "validation": 0.2}
    assert "need boxes inside their pictures; got 100, 3, 9, 9 (left, top, width, height) in row " in refusal(
        prepared, values
    )
    odd = [{"label": "grey", "box": [40, 3, 20, 9]}, {"label": "grey", "box": [4, 3, 0, 9]}]
    table = changed(scenes, "odd.jsonl", 2, odd)
    values["data"] = {"train": str(table), "validation": str(scenes[0] / "all.json")}
    write_coco(scenes[0] / "all.json", scenes[1])
    told = [finding.message for finding in prepared(values).check.findings]
    assert "train: 1 boxes reach beyond their pictures; cut at the edges" in told
    assert "train: 1 boxes are empty, without width or height; left out" in told
    known = changed(scenes, "unknown.jsonl", 3, [{"label": "blue", "box": [1, 1, 9, 9]}])
    values["data"] = {"train": str(table), "validation": str(known)}
    assert refusal(prepared, values) == (
        f"{known}: need labels that are in {table} too ('bright', 'grey'); got 'blue' in row 4; correct it, or add "
        "training rows of it."
    )
    for objects, told in (
        (
            [{"label": "grey", "box": [1, 2, 3]}],
            "need four numbers for each box; got [1, 2, 3]; correct it or drop the object.",
        ),
        ([{"box": [1, 2, 3, 4]}], "need a label for each object; got none; fill it in or drop the object."),
        ("cat", "need the objects as JSON; got 'Expecting value'; correct it."),
        (7, "need a list of objects; got a int; write [] for none."),
    ):
        assert refusal(boxing.objects_of, objects, "xywh", "t.csv, row 3") == f"t.csv, row 3: {told}"


def test_files_that_are_not_what_they_seem(scenes, values, tmp_path):
    bad = tmp_path / "bad.json"
    bad.write_text('{"pictures": []}')
    assert refusal(read_table, bad, task.FORMATS) == (
        f"{bad}: need COCO's lists images, annotations, categories; got 'pictures'; convert it, or name a table."
    )
    bad.write_text('{"images": [], "categories": [], "annotations": [{"category_id": 3, "image_id": 0}]}')
    assert refusal(read_table, bad, task.FORMATS) == (
        f"{bad}: need a category_id that is in 'categories'; got 3 in annotation 1; correct it or drop the annotation."
    )
    assert refusal(read_table, tmp_path, task.FORMATS) == (
        f"{tmp_path}: need the folders 'images' and 'labels' in it; got none; name their parent, or a file."
    )
    yolo = write_yolo(tmp_path / "yolo", scenes)
    (yolo / "labels" / "00.txt").write_text("0 12 12 20 20")
    assert refusal(read_table, yolo, task.FORMATS) == (
        f"{yolo}/labels/00.txt: need fractions of the picture; got pixels ('0 12 12 20 20' at line 1); divide by its "
        "width and height."
    )
    (yolo / "labels" / "00.txt").write_text("7 .1 .1 .2 .2")
    assert "need a class from 0 to 1 and four numbers in each line" in refusal(read_table, yolo, task.FORMATS)
    (yolo / "data.yaml").unlink()
    assert refusal(read_table, yolo, task.FORMATS) == (
        f"{yolo}: need the names of the classes in data.yaml or classes.txt; got neither; write one."
    )
    folder, rows = scenes
    (folder / "broken.png").write_bytes(b"no picture")
    table = write_table(folder / "broken.jsonl", [*rows[:9], ("broken.png", [])])
    values["data"] = {"train": str(table), "validation": 0.2}
    assert f"{folder / 'broken.png'}: need a picture; got a file that does not decode" in refusal(prepared, values)
    values["model"] = "resnet"
    values["data"]["train"] = str(write_table(folder / "fine.jsonl", rows))
    assert refusal(prepared, values, error=ConfigError) == (
        "model: need one of conditional_detr, detr, rt_detr, yolos with options.from_scratch; got 'resnet'; name a "
        "family, or leave out options.from_scratch."
    )


@pytest.mark.parametrize("patch", [4, 8, 16])
@pytest.mark.parametrize("family", ["detr", "conditional_detr", "rt_detr"])
def test_positions_are_patches(family, patch, recwarn):
    scratch = {**SCRATCH, "width": 24, "image": 64, "patch": patch}  # heads of 12, against which RT-DETR warns
    model, _ = task.load_model(
        family, task.Known(boxes="xywh", units="pixels", from_scratch=scratch, labels=["a", "b"])
    )
    assert not [str(each.message) for each in recwarn if "d_model" in str(each.message)]
    assert all(parameter.requires_grad for parameter in model.parameters())
    with watch(model.eval()) as seen:
        model(pixel_values=torch.zeros(1, 3, 64, 64))
    read = 2 * patch if family == "rt_detr" else patch  # its encoder attends on the coarser level alone
    assert seen[0].shape[-1] == (64 // read) ** 2
    norms = [each for each in model.modules() if "BatchNorm" in type(each).__name__]
    assert all(isinstance(each, torch.nn.BatchNorm2d) for each in norms)  # none is frozen


def test_sizes_that_cannot_be():
    def refused(family, **sizes):
        spec = task.Known(boxes="xywh", units="pixels", from_scratch={**SCRATCH, **sizes}, labels=["a"])
        return refusal(task.load_model, family, spec, error=ConfigError)

    assert refused("detr", patch=12, image=36) == (
        "options.from_scratch: need a patch of 4, 8, 16 or 32 with a backbone; got 12; change it, or take model: yolos."
    )
    assert refused("rt_detr", image=40) == (
        "options.from_scratch: need image to be a multiple of twice the patch with rt_detr; got 40 and 8; change one."
    )


def precision_of_one_class(truth, found, overlap):
    """COCO's average precision by loops: the boxes in order of their scores, each to the best box not yet taken."""
    order = sorted(((o["score"], n, o["box"]) for n, each in enumerate(found) for o in each), key=lambda t: -t[0])
    taken, hits = set(), []
    for _, picture, (x, y, w, h) in order:
        best, chosen = overlap, None
        for number, other in enumerate(truth[picture]):
            a, b, c, d = other["box"]
            shared = max(0, min(x + w, a + c) - max(x, a)) * max(0, min(y + h, b + d) - max(y, b))
            ratio = shared / (w * h + c * d - shared)
            if ratio >= best and (picture, number) not in taken:
                best, chosen = ratio, (picture, number)
        hits.append(chosen is not None)
        taken.add(chosen)
    total, right, points = sum(map(len, truth)), 0, []
    for count, hit in enumerate(hits, start=1):
        right += hit
        points.append((right / total, right / count))
    return sum(max((p for r, p in points if r >= step / 100 - 1e-12), default=0.0) for step in range(101)) / 101


def test_average_precision_agrees_with_loops():
    rng = np.random.default_rng(11)

    def some(count, scored):
        boxes = [[float(x) for x in (*rng.integers(0, 20, 2), *rng.integers(5, 20, 2))] for _ in range(count)]
        return [{"label": "a", "box": box} | ({"score": float(rng.random())} if scored else {}) for box in boxes]

    truth = [some(3, False) for _ in range(23)]
    close = [
        [{**o, "score": float(rng.random()), "box": [x + float(rng.normal()) for x in o["box"]]} for o in objects[:2]]
        for objects in truth
    ]
    found = [near + some(2, True) for near in close]
    scores = average_precision.average_precision(truth, found, ["a", "b"], resamples=50)
    assert scores.scores["map_50"].value == pytest.approx(precision_of_one_class(truth, found, 0.5), abs=1e-9)
    assert scores.scores["map_75"].value == pytest.approx(precision_of_one_class(truth, found, 0.75), abs=1e-9)
    assert scores.by_label["a"][1] == scores.scores["map_50"].value
    assert np.isnan(scores.by_label["b"][0])
    low, high = scores.scores["map_50"].interval
    assert low < scores.scores["map_50"].value < high
    perfect = [[{**o, "score": 1.0} for o in objects] for objects in truth]
    assert average_precision.average_precision(truth, perfect, ["a"], 0).scores["map"].value == pytest.approx(1)
    assert average_precision.average_precision(truth, [[]] * 23, ["a"], 0).scores["map"].value == 0


def test_a_run_from_end_to_end(scenes, values, tmp_path):
    folder, rows = scenes
    run = finetune(values, quiet=True)
    assert {"map", "map_50", "map_75"} <= set(run.metrics)
    assert set(run.metrics["intervals_95"]) == {"map", "map_50", "map_75"}
    assert run.metrics["baselines"]["each class's mean box"]["map_50"] > 0
    picture = str(folder / rows[1][0])
    [found] = Run.load(run.path).predict(picture)
    scores = [each["score"] for each in found["objects"]]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= x <= WIDTH for each in found["objects"] for x in each["box"])
    assert evaluate(run, str(write_coco(folder / "all.json", rows)))["map"].value >= 0
    target = tmp_path / "found.jsonl"
    asked = folder / "asked.csv"
    asked.write_text("image\n" + "\n".join(file for file, _ in rows[:3]))
    told = CliRunner().invoke(app, ["predict", str(run.path), str(asked), "-o", str(target), "--draw"])
    assert told.exit_code == 0, told.output
    written = [json.loads(line) for line in target.read_text().splitlines()]
    assert [row["image"] for row in written] == [file for file, _ in rows[:3]]
    assert Image.open(tmp_path / written[2]["drawing"]).size == (WIDTH, HEIGHT)
    told = CliRunner().invoke(app, ["look", str(run.path), picture, "-o", str(tmp_path / "look.png")])
    assert told.exit_code == 0, told.output
    assert (tmp_path / "look.png").is_file()
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "Average precision of each label" in page
    assert "How each head attended during training" in page


@pytest.mark.slow
def test_the_programs_in_the_card_answer_as_the_run(scenes, values, tmp_path):
    folder, rows = scenes
    values["train"]["max_steps"] = 2
    run = finetune(values | {"monitor": {"every": 0}, "report": {"attention": 0, "baselines": False}}, quiet=True)
    (tmp_path / "picture.png").write_bytes((folder / rows[1][0]).read_bytes())
    all_of_them = {'("picture.png")': '("picture.png", threshold=0)'}
    plain, ours = map(ast.literal_eval, run_programs(run, tmp_path, **all_of_them))
    [expected] = run.predict(str(tmp_path / "picture.png"))
    first, theirs = expected["objects"][0], max(plain, key=lambda found: found["score"])
    assert theirs["score"] == pytest.approx(first["score"], abs=1e-5)
    assert theirs["label"] == first["label"]
    x, y, w, h = first["box"]
    assert list(theirs["box"].values()) == pytest.approx([x, y, x + w, y + h], abs=1.01)  # in whole pixels
    assert ours[0]["objects"][0] == first


@pytest.mark.slow
@pytest.mark.parametrize("family", ["detr", "rt_detr", "yolos"])
def test_other_families_train_and_resume(family, values, monkeypatch):
    from regard.finetuning.training import interrupts, watcher

    values["model"] = family
    whole = finetune(values, quiet=True)
    values["output"] += "-2"

    def stop(self, args, state, control, **events):
        control.should_save = control.should_training_stop = True
        self.interrupted = True
        return control

    with monkeypatch.context() as patched:
        patched.setattr(watcher.Watcher, "on_step_end", stop)
        with pytest.raises(interrupts.Interrupted):
            finetune(values, quiet=True)
    resumed = finetune(values, resume=True, quiet=True)
    before, after = whole.model.state_dict(), resumed.model.state_dict()
    assert all((before[name] == after[name]).all() for name in before)


def test_what_is_told_to_a_reader():
    sure = {"label": "cat", "score": 0.9, "box": [1.2, 2.0, 3.0, 4.0]}
    assert task.tell({"objects": [sure, {**sure, "score": 0.2}]}) == "cat 0.900 at 1, 2, 3 x 4 pixels"
    assert task.tell({"objects": []}) == "nothing with a probability of 0.5 or more"


def test_no_answer_of_no_number(values):
    assert "got NaN or infinity for 3 of 3 (number 1, 2, 3); nothing was answered" in answer_without_numbers(values)
