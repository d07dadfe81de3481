"""What a measure's name means, in half a sentence, and how its values are written."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from regard._digits import digits
from regard.inspection.report.content import ClassScore

_SHARE = "share"
_PLAIN = "plain"

# Normalised name -> (how its values are written, explanation). Names absent here are shown without an explanation.
_MEASURES: dict[str, tuple[str, str]] = {
    "accuracy": (_SHARE, "the share of examples that get the right answer"),
    "balanced accuracy": (
        _SHARE,
        "the share of right answers within each label, averaged over the labels",
    ),
    "top 1": (_SHARE, "the share of examples whose right answer comes first"),
    "top 5": (_SHARE, "the share of examples whose right answer is among the first five"),
    "top 5 accuracy": (_SHARE, "the share of examples whose right answer is among the first five"),
    "exact match": (_SHARE, "the share of outputs that equal the reference word for word"),
    "f1": (_PLAIN, "the harmonic mean of precision and recall; 1 is perfect"),
    "macro f1": (
        _PLAIN,
        "F1 joins precision and recall; macro: rare labels count as much as others; 1 is perfect",
    ),
    "micro f1": (_PLAIN, "F1 joins precision and recall; micro: every example counts the same; 1 is perfect"),
    "weighted f1": (_PLAIN, "F1 joins precision and recall; each label counts as often as it occurs; 1 is perfect"),
    "subset accuracy": (_SHARE, "how often all labels of an example are right, none missing and none too many"),
    "precision": (_SHARE, "of what the model reports, the share that is right"),
    "macro precision": (_SHARE, "of what the model reports, the share that is right, averaged over the labels"),
    "recall": (_SHARE, "of what is there to find, the share that the model finds"),
    "macro recall": (_SHARE, "of what is there to find, the share that the model finds, averaged over the labels"),
    "mcc": (
        _PLAIN,
        "Matthews correlation of prediction and truth: 1 is perfect, 0 is chance, −1 is always wrong",
    ),
    "cohen kappa": (_PLAIN, "agreement with the truth beyond chance: 1 is perfect, 0 is chance"),
    "roc auc": (_PLAIN, "how often a positive example is ranked above a negative one: 1 is always, 0.5 is chance"),
    "average precision": (_PLAIN, "precision averaged over all recalls; 1 is perfect"),
    "log loss": (_PLAIN, "the surprise at the truth, in nats: confident mistakes cost most, 0 is perfect"),
    "brier score": (_PLAIN, "the mean squared distance of the stated probabilities from the truth; 0 is perfect"),
    "calibration error": (_SHARE, "how far the stated confidence is from the share of right answers, on average"),
    "guessed right": (_SHARE, "the share of hidden tokens that the model guesses"),
    "agreement": (_SHARE, "the share of pictures that a classifier takes for what was asked for"),
    "pseudo perplexity": (
        _PLAIN,
        "among how many equally likely tokens the model hesitates at each hidden one; 1 is perfect",
    ),
    "perplexity": (_PLAIN, "among how many equally likely tokens the model hesitates, on average; 1 is perfect"),
    "bleu": (_PLAIN, "overlap of word sequences with the reference translation, 0 to 100"),
    "chrf": (_PLAIN, "overlap of character sequences with the reference, 0 to 100"),
    "rouge 1": (_PLAIN, "overlap of single words with the reference summary"),
    "rouge 2": (_PLAIN, "overlap of word pairs with the reference summary"),
    "rouge l": (_PLAIN, "the longest word sequence in common with the reference summary, as a share"),
    "word error rate": (_SHARE, "words to insert, delete or replace for each word of the reference; 0 is perfect"),
    "character error rate": (
        _SHARE,
        "characters to insert, delete or replace for each one of the reference; 0 is perfect",
    ),
    "mel cepstral distortion": (_PLAIN, "how far the sounds are from the recordings, in dB; 0 is identical"),
    "diagonality": (_SHARE, "the attention that goes along the text as it is said, of the head that does so most"),
    "pearson": (_PLAIN, "how closely the predictions follow the truth on a line: 1 is perfectly, 0 is not at all"),
    "spearman": (_PLAIN, "how well the predictions keep the order of the truth: 1 is perfectly, 0 is not at all"),
    "mean absolute error": (_PLAIN, "the mean distance from the truth, in its own unit"),
    "mean squared error": (_PLAIN, "the mean squared distance from the truth"),
    "root mean squared error": (
        _PLAIN,
        "the typical distance from the truth, in its own unit; large ones weigh more",
    ),
    "r2": (_PLAIN, "the share of the truth's variance that is predicted: 1 is perfect, 0 is as good as the mean"),
    "mean average precision": (_PLAIN, "precision over all recalls, averaged over labels and overlaps; 1 is perfect"),
    "iou": (_PLAIN, "overlap of the predicted and the true region, divided by their union; 1 is perfect"),
    "frechet distance": (_PLAIN, "distance between the statistics of generated and of real images; 0 is identical"),
    "kernel distance": (
        _PLAIN,
        "distance between generated and real images, whatever their statistics; 0 is identical",
    ),
    "fid": (_PLAIN, "distance between the statistics of generated and of real images; 0 is identical"),
}

_ALIASES = {
    "acc": "accuracy",
    "f1 macro": "macro f1",
    "f1 micro": "micro f1",
    "f1 weighted": "weighted f1",
    "f1 score": "f1",
    "precision macro": "macro precision",
    "recall macro": "macro recall",
    "matthews": "mcc",
    "matthews correlation": "mcc",
    "matthews corrcoef": "mcc",
    "matthews correlation coefficient": "mcc",
    "kappa": "cohen kappa",
    "auc": "roc auc",
    "auroc": "roc auc",
    "loss": "log loss",
    "cross entropy": "log loss",
    "negative log likelihood": "log loss",
    "brier": "brier score",
    "ece": "calibration error",
    "expected calibration error": "calibration error",
    "sacrebleu": "bleu",
    "chrf++": "chrf",
    "rouge1": "rouge 1",
    "rouge2": "rouge 2",
    "rougel": "rouge l",
    "rougelsum": "rouge l",
    "wer": "word error rate",
    "cer": "character error rate",
    "pearson correlation": "pearson",
    "spearman correlation": "spearman",
    "mae": "mean absolute error",
    "mse": "mean squared error",
    "rmse": "root mean squared error",
    "map": "mean average precision",
}


def _known(name: str) -> tuple[str, str]:
    key = re.sub(r"[\s_\-]+", " ", name).strip().lower()
    return _MEASURES.get(_ALIASES.get(key, key), (_PLAIN, ""))


def explain(name: str) -> str:
    """Half a sentence about the measure `name`, or nothing where the name is unknown."""
    return _known(name)[1]


def is_share(name: str) -> bool:
    """Whether values of the measure `name` are shares of a whole, to be written in per cent."""
    return _known(name)[0] == _SHARE


def number(value: float) -> str:
    """`value` for reading: three decimals below 10, more where these would hide it, fewer above, thousands apart."""
    if not math.isfinite(value):
        return "undefined"
    decimals = 2 if abs(value) < 100 else 1 if abs(value) < 1000 else 0
    written = digits(value) if abs(value) < 10 else f"{value:,.{decimals}f}"
    return written.replace(",", "\u202f").replace("-", "\u2212")


def percent(share: float) -> str:
    """`share` in per cent."""
    return f"{points(share)}\u00a0%" if math.isfinite(share) else "undefined"


def weakest(classes: Sequence[ClassScore], most: int = 100) -> list[ClassScore]:
    """All labels, or so many with the lowest F1, those first of which rows were measured; in their order."""
    if len(classes) <= most:
        return list(classes)
    order = sorted(range(len(classes)), key=lambda n: (not classes[n].support, classes[n].f1))
    return [classes[n] for n in sorted(order[:most])]


def points(share: float) -> str:
    """`share` in points of a hundred: one decimal, more where that would hide it."""
    return digits(100 * share, 1).replace("-", "\u2212")


def write(name: str, value: float) -> str:
    """`value` of the measure `name` for reading: shares in per cent, the rest as numbers."""
    return percent(value) if is_share(name) else number(value)
