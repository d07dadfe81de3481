"""Object detection: what a picture shows and where, each object with its box."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from regard._digits import digits
from regard.errors import ConfigError, DataError
from regard.finetuning.config import Config, Section
from regard.finetuning.data import duplicates
from regard.finetuning.finite import require_all
from regard.finetuning.progress import Display, quiet_transformers
from regard.finetuning.tasks import BY_LOSS, Encoded, Made, Part, Prediction, Score, Spec, Template, bases, input_files
from regard.finetuning.tasks.pictures import average_precision, detectors, shared, yolo
from regard.finetuning.tasks.pictures import boxes as boxing
from regard.finetuning.tasks.targets import classes
from regard.inspection.report.content import Finding, Picture, Table
from regard.looking.pictures import open_picture, picture_size

if TYPE_CHECKING:
    from datasets import Dataset

COLUMNS = {"image": "the file of the picture", "objects": "its objects: a list of `label` and `box`"}
INPUT = "image"
FORMATS = {".json": boxing.from_coco, "": yolo.from_yolo}
BATCH = 16
"""Pictures in a batch without gradients."""
FLOOR = 0.01
"""The least probability of what is told: measures need the unsure boxes too."""
SURE = 0.5
"""The least probability of what is shown to a reader."""
alike = input_files.alike
tally = validate = reading = read = None


class Options(Section):
    """Keys of this task."""

    boxes: Literal["xywh", "xyxy", "cxcywh"] = "xywh"
    """`xywh`: left, top, width, height; `xyxy`: left, top, right, bottom; `cxcywh`: centre, width, height.

    What the four numbers of a `box` mean: `xywh` as in COCO. YOLO's files say it themselves.
    """
    units: Literal["pixels", "fractions"] = "pixels"
    """`pixels`, or `fractions` of the picture's width and height."""
    from_scratch: detectors.Scratch | None = None
    """No pretrained model, but a random one of these sizes; then `model`: `rt_detr` or another.

    The families are `conditional_detr`, `detr`, `rt_detr`, which learns the soonest, and `yolos`.
    """


class Known(Spec):
    """What is known of the training data."""

    boxes: str
    units: str
    from_scratch: dict[str, int] | None
    labels: list[str] = Field(default_factory=list)


TEMPLATE = Template(
    model="PekingU/rtdetr_r18vd",
    train="pictures.json",
    output="runs/objects",
    examples={"data.group": "scene"},
    hidden=(*shared.HIDDEN, "framework", "train.dropout", "report.mistakes", "report.right"),
    comments=shared.COMMENTS
    | {
        "data.columns.objects": '`[{"label": "cat", "box": [10, 20, 30, 40]}, ...]`',
        "report.attention": "Pictures that are drawn with their boxes and where these look",
    },
    additions={
        "model": "a pretrained detector with its image processor: DETR, YOLOS, RT-DETR and others of transformers",
        "data.train": "or COCO's JSON, or a folder with YOLO's images/ and labels/",
        "train.epochs": "detectors learn slowly: tens of them for labels that the checkpoint does not know",
        "train.keep": BY_LOSS,
        "report.baselines": "each class's mean box, as sure as it is frequent",
    },
)


def parts(path: Path) -> dict[str, Part]:
    """Find the parts that data sets in COCO's or in YOLO's way name their own."""
    return boxing.own_parts(path) or yolo.own_parts(path)


def strata(table: Dataset, config: Config) -> list[list[str]]:
    """Return the labels of each picture's objects."""
    train = classes.where("train", config)
    rows = enumerate(table["objects"], start=1)
    return [
        sorted({each["label"] for each in boxing.objects_of(cell, config.options["boxes"], f"{train}, row {number}")})
        for number, cell in rows
    ]


def inspect(splits: dict[str, Dataset], config: Config) -> tuple[Known, list[Finding]]:
    """Name the labels, and look for boxes that cannot be meant."""
    spec = Known(**config.options)
    rows = {name: _rows(split, classes.where(name, config), spec) for name, split in splits.items()}
    train = classes.where("train", config)
    labels = sorted({each["label"] for _, objects in rows["train"] for each in objects})
    spec = spec.model_copy(update={"labels": labels})
    if not labels:
        raise DataError(f"{train}: need objects to learn; got {len(rows['train'])} pictures without any; add some.")
    findings: list[Finding] = []
    for name, found in rows.items():
        _require_known(found, labels, classes.where(name, config), train)
        findings += [_told(name, found), *boxing.cut_to_pictures(name, found)[1]]
    findings += _crowded(rows["train"], spec)
    keys = {name: shared.digests(split["image"]) for name, split in splits.items()}
    return spec, findings + duplicates.leaks(keys, "picture")


def _rows(split: Dataset, path: str, spec: Known) -> list[boxing.Row]:
    """Return the size and the objects of each picture, once they are known to fit."""
    shared.require_files(split["image"], path)
    rows = []
    for number, (file, cell) in enumerate(zip(split["image"], split["objects"], strict=True), start=1):
        size = picture_size(file)
        scale = size if spec.units == "fractions" else (1, 1)
        rows.append((size, boxing.objects_of(cell, spec.boxes, f"{path}, row {number}", scale)))
    boxing.require_fitting(rows, path)
    return rows


def _require_known(rows: Sequence[boxing.Row], labels: list[str], path: str, train: str) -> None:
    for number, (_, objects) in enumerate(rows, start=1):
        unknown = next((each["label"] for each in objects if each["label"] not in labels), None)
        if unknown is not None:
            raise DataError(
                f"{path}: need labels that are in {train} too ({classes.quoted(labels)}); got '{unknown}' in row "
                f"{number}; correct it, or add training rows of it."
            )


def _told(name: str, rows: Sequence[boxing.Row]) -> Finding:
    counts = Counter(each["label"] for _, objects in rows for each in objects)
    shown = ", ".join(f"{label} {count}" for label, count in counts.most_common(10))
    more = f" and {len(counts) - 10} labels more" if len(counts) > 10 else ""
    empty = sum(not objects for _, objects in rows)
    none = f", {empty} of them without any" if empty else ""
    return Finding("ok", f"{name}: {len(rows)} pictures{none}, {counts.total()} objects: {shown}{more}")


def _crowded(rows: Sequence[boxing.Row], spec: Known) -> list[Finding]:
    """Find pictures with more objects than a model from scratch can find."""
    limit, most = (spec.from_scratch or {}).get("queries"), max(len(objects) for _, objects in rows)
    if limit is None or most <= limit:
        return []
    told = f"train: a picture shows {most} objects, and the model finds {limit} at most"
    return [Finding("warning", f"{told}; raise options.from_scratch.queries")]


def loss(rows: Dataset, spec: Known, config: Config) -> None:
    """Leave the loss to the model, which matches its queries to the objects."""


def metric(spec: Known) -> str:
    """Return what chooses the best checkpoint."""
    return "loss"


def inspect_held_out(split: Dataset, path: str, spec: Known) -> None:
    """Require files, boxes that fit, and labels that the model knows."""
    _require_known(_rows(split, path, spec), spec.labels, path, "the training data")


def load_processor(source: str, config: Config, train: Dataset | None = None) -> Any:
    """Load the image processor, or make one for a model from scratch."""
    if config.options["from_scratch"] and not Path(source).is_dir():
        return detectors.make_processor(source, config.options["from_scratch"])
    return shared.load_processor(source)


def load_model(source: str, spec: Known, dropout: float | None = None) -> tuple[Any, list[str]]:
    """Load or make the detector, with a fresh head for the labels if the checkpoint has none that fits."""
    import torch
    from transformers import AutoModelForObjectDetection

    labels = bases.head_options(spec.labels)
    if spec.from_scratch and not Path(source).is_dir():
        return detectors.make_model(source, spec.from_scratch, dropout or 0.0, labels), ["everything"]
    with quiet_transformers():
        try:
            model, info = AutoModelForObjectDetection.from_pretrained(
                source,
                trust_remote_code=False,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **labels,
            )
        except ImportError as error:
            raise ConfigError(
                f"model: need the packages of its backbone; got '{source}' without them "
                f"({str(error).strip().splitlines()[-1][:100]}); install them, or name another detector."
            ) from None
    return model, bases.newly_initialised(source, model, info)


def encode(name: str, split: Dataset, processor: Any, spec: Known, config: Config) -> Encoded:
    """Look into every picture once; they are read again when they are trained on, since all of them may not fit."""
    from datasets import Dataset

    number = {label: n for n, label in enumerate(spec.labels)}
    objects, _ = boxing.cut_to_pictures(name, _rows(split, classes.where(name, config), spec))
    targets = [[[float(number[each["label"]]), *each["box"]] for each in listed] for listed in objects]
    # By the names of what the collator makes of them: the Trainer drops columns that are no input of the model.
    rows = {"pixel_values": split["image"], "labels": targets}
    return Encoded(Dataset.from_dict(rows), shared.look_through(name, split["image"], processor))


def collator(processor: Any) -> Any:
    """Read the files of a batch."""

    def collate(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        pictures = [open_picture(row["pixel_values"])[0] for row in rows]
        return dict(processor(images=pictures, annotations=[_annotated(row) for row in rows], return_tensors="pt"))

    return collate


def _annotated(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row's objects as transformers' processors read them, which is COCO's way."""
    return {
        "image_id": 0,
        "annotations": [
            {"category_id": int(label), "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for label, *box in row["labels"]
        ],
    }


def respond(model: Any, processor: Any, inputs: Sequence[Any], display: Display) -> list[Prediction]:
    """Find the objects of each picture, the surest first."""
    import torch

    model.eval()
    found: list[Prediction] = []
    finite: list[bool] = []
    with display.bar("predict", len(inputs)) as advance, torch.inference_mode():
        for start in range(0, len(inputs), BATCH):
            files = [
                input_files.text_of(file, f"input {start + n}") for n, file in enumerate(inputs[start : start + BATCH])
            ]
            pictures = [open_picture(file)[0] for file in files]
            answers = _answers(model, processor, pictures)
            found += [_prediction(model, *pair) for pair in zip(answers, pictures, strict=True)]
            finite += [answer["finite"] for answer in answers]
            advance(len(files))
    require_all(finite)
    return found


def _answers(model: Any, processor: Any, pictures: Sequence[Any]) -> list[dict[str, Any]]:
    """What is found in each picture; those of one size together, since a backbone sees the padding beside a picture."""
    import torch

    prepared = [processor(images=[picture], return_tensors="pt").to(model.device) for picture in pictures]
    alike: dict[Any, list[int]] = {}
    for number, each in enumerate(prepared):
        alike.setdefault(each["pixel_values"].shape, []).append(number)
    found: dict[int, dict[str, Any]] = {}
    for numbers in alike.values():
        batch = {name: torch.cat([prepared[n][name] for n in numbers]) for name in prepared[numbers[0]]}
        sizes = [pictures[n].size[::-1] for n in numbers]
        output = model(**batch)
        numeric = torch.cat([output.logits.flatten(1), output.pred_boxes.flatten(1)], 1).isfinite().all(1).tolist()
        answers = processor.post_process_object_detection(output, threshold=FLOOR, target_sizes=sizes)
        for number, answer, finite in zip(numbers, answers, numeric, strict=True):
            found[number] = {**answer, "finite": finite}
    return [found[number] for number in range(len(pictures))]


def _prediction(model: Any, answer: dict[str, Any], picture: Any) -> Prediction:
    rows = zip(answer["scores"].tolist(), answer["labels"].tolist(), answer["boxes"].tolist(), strict=True)
    objects = [
        {
            "label": model.config.id2label[label],
            "score": round(score, 6),
            "box": [round(x, 2) for x in boxing.cut(boxing.FORMS["xyxy"](box), picture.size)],
        }
        for score, label, box in rows
    ]
    return {"objects": sorted(objects, key=lambda each: -each["score"])[: average_precision.MOST]}


def measure(split: Dataset, predictions: Sequence[Prediction], spec: Known) -> dict[str, Score]:
    """Score with COCO's mean average precision, over overlaps of 50 to 95 %, at 50 % and at 75 %."""
    return _measured(split, predictions, spec, average_precision.RESAMPLES).scores


def _measured(
    split: Dataset, predictions: Sequence[Prediction], spec: Known, resamples: int
) -> average_precision.Precision:
    truth, _ = boxing.cut_to_pictures("", _rows(split, "", spec))
    return average_precision.average_precision(truth, [p["objects"] for p in predictions], spec.labels, resamples)


def baselines(
    train: Dataset, test: Dataset, processor: Any, spec: Known, config: Config, display: Display
) -> dict[str, list[Prediction]]:
    """Predict each class's mean box in every picture, as sure as it is frequent."""
    boxes: dict[str, list[list[float]]] = {}
    for (width, height), objects in _rows(train, "train", spec):
        for each in objects:
            x, y, w, h = each["box"]
            boxes.setdefault(each["label"], []).append([x / width, y / height, w / width, h / height])
    means = {
        label: [sum(column) / len(column) for column in zip(*listed, strict=True)] for label, listed in boxes.items()
    }
    most = max(map(len, boxes.values()))

    def guess(file: str) -> Prediction:
        width, height = picture_size(file)
        scaled = {label: [x * width, y * height, w * width, h * height] for label, (x, y, w, h) in means.items()}
        return {"objects": [{"label": k, "score": len(boxes[k]) / most, "box": box} for k, box in scaled.items()]}

    return {"each class's mean box": [guess(file) for file in test["image"]]}


def illustrate(
    model: Any, processor: Any, split: Dataset, predictions: Sequence[Prediction], spec: Known, config: Config
) -> dict[str, Any]:
    """Return the precision for each label, and a few pictures with their boxes and where these look."""
    from regard.inspection import plots
    from regard.looking.transformers.boxes import look_for_boxes

    by_label = _measured(split, predictions, spec, 0).by_label
    rows = [[label, *map(digits, values)] for label, values in by_label.items()]
    table = Table("Average precision of each label", ["label", "50 to 95 %", "50 %"], rows)
    pictures = []
    truth = _rows(split, "", spec)
    for number in range(min(config.report.attention, len(split))):
        seen = look_for_boxes(model, processor, split["image"][number], SURE)
        png = io.BytesIO()
        plots.boxes(seen.picture, seen.found, path=png)
        told = ", ".join(each["label"] for each in truth[number][1]) or "nothing"
        title = f"{Path(split['image'][number]).name}: it shows {told}"
        pictures.append(
            Picture(title, png.getvalue(), "Each box, and where its query looks, as the mean of the heads.")
        )
    return {"tables": [table], "pictures": pictures}


def draw(given: Any, prediction: Prediction) -> Made:
    """Return a picture with the boxes that are sure enough to be shown."""
    from PIL import ImageDraw

    picture, _ = open_picture(given)
    pen, width = ImageDraw.Draw(picture), max(1, min(picture.size) // 200)
    for each in prediction["objects"]:
        if each["score"] >= SURE:
            x, y, w, h = each["box"]
            pen.rectangle((x, y, x + max(w - 1, 0), y + max(h - 1, 0)), outline="red", width=width)
            pen.text((x + 2, y + 1), f"{each['label']} {each['score']:.2f}", fill="red")
    file = io.BytesIO()
    picture.save(file, "PNG")
    return Made(file.getvalue(), ".png")


def tell(prediction: Prediction) -> str:
    """Return the objects that are sure enough to be shown, one a line."""
    sure = [each for each in prediction["objects"] if each["score"] >= SURE]
    lines = []
    for each in sure:
        left, top, width, height = (f"{number:.0f}" for number in each["box"])
        lines.append(f"{each['label']} {each['score']:.3f} at {left}, {top}, {width} x {height} pixels")
    return "\n".join(lines) or f"nothing with a probability of {SURE} or more"


def record(row: dict[str, Any], prediction: Prediction) -> dict[str, Any]:
    """Put the truth beside the prediction."""
    return {"image": row["image"], "truth": row["objects"], **prediction}
