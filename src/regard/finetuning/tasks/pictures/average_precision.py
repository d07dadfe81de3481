"""How well boxes are found: COCO's average precision, by faster-coco-eval, with intervals over resampled pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regard.errors import UnsupportedError
from regard.finetuning.tasks import Score
from regard.finetuning.tasks.pictures.boxes import Object
from regard.finetuning.tasks.targets import intervals

RESAMPLES = 200
MOST = 100
"""Boxes of a picture that count, the surest first."""


@dataclass(frozen=True)
class Precision:
    """Average precisions.

    Attributes:
        scores: `map` (the mean over overlaps of 50 to 95 %), `map_50` and `map_75`.
        by_label: the label -> the same two first ones; NaN for labels that no picture shows.
    """

    scores: dict[str, Score]
    by_label: dict[str, tuple[float, float]]


def average_precision(
    truth: Sequence[list[Object]], found: Sequence[list[Object]], labels: Sequence[str], resamples: int = RESAMPLES
) -> Precision:
    """Measure boxes that were found, each with its `score`, against those that are there.

    Args:
        truth: the objects of each picture.
        found: what was found in each.
        labels: all there are.
        resamples: pictures are drawn again so often for the intervals; 0 makes none.

    Source: Lin et al. 2014, arXiv 1405.0312; 101 recalls, the mean over the labels that occur.
    """
    evaluation = _evaluate(truth, found, labels)
    precisions = _precisions(evaluation, np.arange(len(truth)))
    point, rng = _means(precisions), np.random.default_rng(0)
    draws = [_means(_precisions(evaluation, rng.integers(len(truth), size=len(truth)))) for _ in range(resamples)]
    columns = np.array(draws).T if resamples else [None] * 3
    scores = {
        name: Score(value) if column is None else intervals.drawn(value, column)
        for name, value, column in zip(("map", "map_50", "map_75"), point, columns, strict=True)
    }
    each = [_means(precisions[:, :, [number]]) for number in range(len(labels))]
    return Precision(scores, {label: (p[0], p[1]) for label, p in zip(labels, each, strict=True)})


def _evaluate(truth: Sequence[list[Object]], found: Sequence[list[Object]], labels: Sequence[str]) -> Any:
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        raise UnsupportedError(
            "object-detection: need faster-coco-eval to measure boxes; got an environment without it; pip install "
            "'regard[finetune-vision]'."
        ) from error
    numbers = {label: number for number, label in enumerate(labels, start=1)}
    known = COCO(
        {
            "images": [{"id": picture} for picture in range(len(truth))],
            "categories": [{"id": number, "name": label} for label, number in numbers.items()],
            "annotations": _annotations(truth, numbers),
        }
    )
    guessed = COCO({**known.dataset, "annotations": _annotations(found, numbers)})
    evaluation = COCOeval_faster(known, guessed, iouType="bbox", print_function=lambda *_: None, separate_eval=True)
    evaluation.params.maxDets, evaluation.params.areaRng = [MOST], [[0, 1e10]]
    evaluation.params.areaRngLbl = ["all"]
    evaluation.evaluate()
    return evaluation


def _annotations(pictures: Sequence[list[Object]], numbers: dict[str, int]) -> list[dict[str, Any]]:
    listed = [(picture, each) for picture, objects in enumerate(pictures) for each in objects]
    return [
        {
            "id": number,
            "image_id": picture,
            "category_id": numbers[each["label"]],
            "bbox": each["box"],
            "area": each["box"][2] * each["box"][3],
            "iscrowd": 0,
            "score": each.get("score", 1.0),
        }
        for number, (picture, each) in enumerate(listed, start=1)
    ]


def _precisions(evaluation: Any, pictures: np.ndarray) -> np.ndarray:
    """Precision by overlap, recall and label, `(10, 101, K)`, over some pictures; -1 for labels that none shows."""
    import faster_coco_eval.faster_eval_api_cpp as compiled

    each, whole = evaluation._evalImgs_cpp, len(evaluation.params.imgIds)
    labels = range(len(evaluation.params.catIds))
    chosen = [each[label * whole + int(picture)] for label in labels for picture in pictures]
    found = compiled.COCOevalAccumulate(evaluation._paramsEval, chosen)
    return np.array(found["precision"]).reshape(found["counts"])[:, :, :, 0, 0]


def _means(precisions: np.ndarray) -> tuple[float, float, float]:
    """Return the mean precision over all overlaps, at 50 % and at 75 %."""
    valid = np.where(precisions > -1, precisions, np.nan)
    parts = (valid, valid[0], valid[5])
    return tuple(float(np.nanmean(part)) if not np.isnan(part).all() else float("nan") for part in parts)  # type: ignore[return-value]
