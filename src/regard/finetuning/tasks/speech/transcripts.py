"""Words as they were said and as they were heard: how both are written before they are compared, and how far apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from regard.finetuning.tasks import Prediction, Score
from regard.finetuning.tasks.targets import intervals
from regard.inspection.report.content import Table

NORMALIZER = """How words are written before they are compared: `basic`, `english` (also numbers), or `none`.

`basic` is for any language, `english` also knows numbers and contractions.
"""
Normalizer = Annotated[Literal["basic", "english", "none"], Field(description=NORMALIZER)]

NOTES: dict[Normalizer, str] = {
    "basic": "Before words are compared, both sides are written in lower case, without punctuation and without what "
    "stands in brackets (Whisper's basic normaliser, arXiv 2212.04356, appendix C).",
    "english": "Before words are compared, both sides are written in lower case, without punctuation, numbers in "
    "digits and contractions in full (Whisper's English normaliser, arXiv 2212.04356, appendix C, without its table "
    "of British spellings).",
    "none": "Words are compared as they are written, capitals and punctuation included.",
}


def get_normalizer(kind: Normalizer) -> Callable[[str], str]:
    """Return what writes a text as it is compared."""
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

    if kind == "none":
        return lambda text: " ".join(text.split())
    normalizer = EnglishTextNormalizer({}) if kind == "english" else BasicTextNormalizer()
    return lambda text: normalizer(text).strip()


def error_rates(said: Sequence[str], heard: Sequence[str], kind: Normalizer) -> dict[str, Score]:
    """Return the word and the character error rate, with intervals bootstrapped over the recordings.

    All insertions, deletions and replacements, divided by all words (characters) that were said; it can be above one.
    Recordings in which nothing is said, or nothing that is compared, are counted apart: how many words are heard in
    one, all of them false. Libraries give such a recording a rate of their own, from infinity to the number of words.
    """
    counts = count_errors(said, heard, kind)
    spoken = counts[:, 1] > 0
    rates = {"word_error_rate": (0, 1), "character_error_rate": (2, 3)} if spoken.any() else {}
    scores = {name: _rate(counts[spoken][:, columns]) for name, columns in rates.items()}
    if not spoken.all():
        false = np.stack([counts[~spoken, 0], np.ones((~spoken).sum(), int)], 1)
        scores["false_words_in_silence"] = _rate(false)
    return scores


def _rate(counts: np.ndarray) -> Score:
    """All of the first column over all of the second, with an interval over the rows."""
    (some, of), draws = counts.sum(0), intervals.resampled_sums(counts)
    return intervals.drawn(float(some / of), draws[:, 0] / np.maximum(draws[:, 1], 1), higher_is_better=False)


def count_errors(said: Sequence[str], heard: Sequence[str], kind: Normalizer) -> np.ndarray:
    """Count for each pair the word errors, words, character errors and characters, `(n, 4)`."""
    import jiwer

    write = get_normalizer(kind)
    counts = []
    for reference, hypothesis in zip(map(write, said), map(write, heard), strict=True):
        words = jiwer.process_words(reference, hypothesis)
        signs = jiwer.process_characters(reference, hypothesis)
        counts.append([number for found in (words, signs) for number in _errors(found)])
    return np.array(counts)


def _errors(found: Any) -> tuple[int, int]:
    wrong = found.substitutions + found.deletions
    return wrong + found.insertions, wrong + found.hits


def samples(
    names: Sequence[str], said: Sequence[str], predictions: Sequence[Prediction], kind: Normalizer, most: int
) -> Table:
    """Show what was misheard, the worst first, and what was not, if there is room."""
    heard = [prediction["text"] for prediction in predictions]
    errors = count_errors(said, heard, kind)[:, 0]
    chosen = np.argsort(-errors, kind="stable")[:most]
    rows = [[names[n], said[n], heard[n], str(errors[n])] for n in chosen]
    wrong = int((errors > 0).sum())
    title = f"What was said and heard: {wrong} of {len(said)} recordings have errors"
    return Table(title, ["recording", "said", "heard", "word errors"], rows)
