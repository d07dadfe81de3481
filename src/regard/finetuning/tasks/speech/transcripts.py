"""Words as they were said and as they were heard: how both are written before they are compared, and how far apart."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from regard import _language
from regard.finetuning.tasks import Prediction, Score
from regard.finetuning.tasks.targets import intervals
from regard.inspection.report.content import Finding, Table

NORMALIZER = """How words are written before they are compared: `basic`, `english` (also numbers), or `none`.

`basic` is for any language, `english` also knows numbers and contractions.
"""
Normalizer = Annotated[Literal["basic", "english", "none"], Field(description=NORMALIZER)]

NOTES: dict[Normalizer, str] = {
    "basic": "Before words are compared, both sides are written in lower case, without punctuation and without what "
    "stands in brackets (Whisper's basic normaliser, arXiv 2212.04356, appendix C, but marks on letters, which are "
    "vowels in many scripts, stay).",
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
    if kind == "english":
        english = EnglishTextNormalizer({})
        return lambda text: english(text).strip()
    basic = BasicTextNormalizer()
    basic.clean = _without_signs  # its own takes the vowels of Thai and Hindi for signs
    return lambda text: basic(unicodedata.normalize("NFKC", text)).strip()


def _without_signs(s: str) -> Any:
    return "".join(" " if unicodedata.category(sign)[0] in "SP" else sign for sign in s)


def language_of(named: str | None, said: Sequence[str]) -> str:
    """Return the language of recordings, as a model of many languages is told it, or by the letters of what is said."""
    return (_language.code(named) if named else None) or _language.found(said)


def told(name: str, named: str | None, texts: Sequence[str]) -> Finding:
    """Say which language is said, and what is counted of it."""
    language = language_of(named, texts)
    how = "as options.language says" if named else "by their letters; options.language corrects that"
    first = "the word error rate, then the character error rate"
    if language == _language.KOREAN:
        first = "the character error rate, then the word error rate"
    elif _units(language) == "characters":
        first = "the character error rate alone, for no spaces part its words"
    return Finding("ok", f"{name}: the words are in {_language.told(language)}, {how}; measured is {first}")


def _units(language: str) -> str:
    return "characters" if language in _language.SPACELESS else "words"


def notes(kind: Normalizer, language: str) -> list[str]:
    """Say how words are written before they are compared, and what is counted of a language."""
    if _units(language) == "words":
        return [NOTES[kind]]
    told = f"No spaces part the words of {_language.told(language)}: errors are counted in characters, spaces left out"
    return [NOTES[kind], f"{told}, and there is no word error rate."]


def error_rates(
    said: Sequence[str], heard: Sequence[str], kind: Normalizer, language: str | None = None
) -> dict[str, Score]:
    """Return the word and the character error rate, with intervals bootstrapped over the recordings.

    The character error rate comes first in Korean, whose spaces are put in several ways, and is alone in languages
    without spaces between words. All insertions, deletions and replacements, divided by all words (characters) that
    were said; it can be above one.
    Recordings in which nothing is said, or nothing that is compared, are counted apart: how many words are heard in
    one, all of them false. Libraries give such a recording a rate of their own, from infinity to the number of words.
    """
    language = language or _language.found(said)
    counts, units = count_errors(said, heard, kind, language), _units(language)
    spoken = counts[:, 1] > 0
    rates = {"character_error_rate": (2, 3)}
    if language == _language.KOREAN:
        rates["word_error_rate"] = (0, 1)
    elif units == "words":
        rates = {"word_error_rate": (0, 1), **rates}
    scores = {name: _rate(counts[spoken][:, columns]) for name, columns in rates.items()} if spoken.any() else {}
    if not spoken.all():
        false = np.stack([counts[~spoken, 0], np.ones((~spoken).sum(), int)], 1)
        scores[f"false_{units}_in_silence"] = _rate(false)
    return scores


def _rate(counts: np.ndarray) -> Score:
    """All of the first column over all of the second, with an interval over the rows."""
    (some, of), draws = counts.sum(0), intervals.resampled_sums(counts)
    return intervals.drawn(float(some / of), draws[:, 0] / np.maximum(draws[:, 1], 1), higher_is_better=False)


def count_errors(said: Sequence[str], heard: Sequence[str], kind: Normalizer, language: str) -> np.ndarray:
    """Count for each pair the word errors, words, character errors and characters, `(n, 4)`.

    Where no spaces part words, spaces are left out, and each character is a word.
    """
    import jiwer

    plain, counts = get_normalizer(kind), []
    spaceless = _units(language) == "characters"

    def write(text: str) -> str:
        return _language.unspaced(plain(text)) if spaceless else plain(text)

    for reference, hypothesis in zip(map(write, said), map(write, heard), strict=True):
        signs = jiwer.process_characters(reference, hypothesis)
        words = signs if spaceless else jiwer.process_words(reference, hypothesis)
        counts.append([number for found in (words, signs) for number in _errors(found)])
    return np.array(counts)


def _errors(found: Any) -> tuple[int, int]:
    wrong = found.substitutions + found.deletions
    return wrong + found.insertions, wrong + found.hits


def samples(
    names: Sequence[str],
    said: Sequence[str],
    predictions: Sequence[Prediction],
    kind: Normalizer,
    most: int,
    language: str | None = None,
) -> Table:
    """Show what was misheard, the worst first, and what was not, if there is room."""
    heard = [prediction["text"] for prediction in predictions]
    language = language or _language.found(said)
    errors = count_errors(said, heard, kind, language)[:, 0]
    chosen = np.argsort(-errors, kind="stable")[:most]
    rows = [[names[n], said[n], heard[n], str(errors[n])] for n in chosen]
    wrong = int((errors > 0).sum())
    title = f"What was said and heard: {wrong} of {len(said)} recordings have errors"
    return Table(title, ["recording", "said", "heard", f"{_units(language).removesuffix('s')} errors"], rows)
