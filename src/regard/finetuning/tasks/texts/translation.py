"""Translation: each text of one language gets one of another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from regard.errors import ConfigError
from regard.finetuning.config import Config
from regard.finetuning.progress import Display
from regard.finetuning.tasks import Prediction, Score, Template
from regard.finetuning.tasks.targets import intervals
from regard.finetuning.tasks.texts import languages, pairs, sequences
from regard.inspection.report.content import Finding

if TYPE_CHECKING:
    from datasets import Dataset

COLUMNS = {"source": "the text to translate", "target": "its translation"}
INPUT = "source"
FORMATS = {"": pairs.read_aligned, ".tmx": pairs.read_tmx}
LANGUAGES = ("source_language", "target_language")


class Options(sequences.Options):
    """Keys of this task, beside those of all that write."""

    source_language: Annotated[str | None, Field(examples=["eng_Latn"])] = None
    """For models of many languages, such as NLLB and mBART: the code that the model has for it."""
    target_language: Annotated[str | None, Field(examples=["deu_Latn"])] = None
    """Likewise."""
    tokenize: Literal["auto", "13a", "intl", "zh", "char", "ja-mecab", "ko-mecab"] = "auto"
    """What BLEU counts as words, as sacreBLEU names it; `auto` goes by the language.

    Of Chinese `zh`, of Japanese and Korean MeCab's words if that is installed (`pip install 'regard[mecab]'`), of other
    languages without spaces characters, else `13a`.
    """


class Known(sequences.Known):
    """What is known of the training data."""

    tokenize: str | None = None
    source_language: str | None
    target_language: str | None


TEMPLATE = Template(
    model="Helsinki-NLP/opus-mt-en-de",
    train="pairs.tsv",
    output="runs/translation",
    hidden=sequences.HIDDEN,
    comments=sequences.COMMENTS,
    additions=sequences.ADDITIONS
    | {
        "model": "Marian, NLLB, mBART, T5 or BART with its tokenizer",
        "data.train": "also .tmx, or a folder with two files, aligned by lines",
        "data.columns": "in .tmx the languages, such as en and de",
        "options.prefix": '"translate English to German: " for T5',
        "report.baselines": "the source itself, and the translation of the nearest training source",
    },
)


def _quality(language: str) -> tuple[str, Any]:
    name, measure = _chrf(language)
    return {"chrf": "chrF", "chrf++": "chrF++"}[
        name
    ], lambda output, reference: measure.sentence_score(output, [reference]).score


_task = sequences.TextToText("source", "target", _quality, Known)
alike = pairs.likeness
parts = pairs.own_parts
strata = reading = read = None
inspect_held_out, encode, record = _task.inspect_held_out, _task.encode, _task.record
metric, loss, collator = sequences.metric, sequences.loss, sequences.collator
tally = validate = None
respond, tell = sequences.respond, sequences.tell


def inspect(splits: dict[str, Dataset], config: Config) -> tuple[Known, list[Finding]]:
    """Look for rows that teach nothing or too much, and for pairs that are none."""
    spec, findings = _task.inspect(splits, config)
    uneven = [finding for name, split in splits.items() for finding in pairs.uneven(name, split, "source", "target")]
    spec = spec.model_copy(update={"tokenize": languages.choose(config.options["tokenize"], spec.language)})
    return spec, findings + uneven + _told(spec, config)


def _told(spec: Known, config: Config) -> list[Finding]:
    language, tokenizer = str(spec.language), str(spec.tokenize)
    counted = f"BLEU parts it by sacreBLEU's '{tokenizer}'"
    if not languages.has_spaces(language):
        counted += ", and chrF takes the place of chrF++, which counts words between spaces too"
    given = bool(config.options["language"])
    return [
        languages.told("train", "target", language, given, counted),
        *languages.told_of_mecab(tokenizer, language),
    ]


def load_processor(source: str, config: Config, train: Dataset | None = None) -> Any:
    """Load the tokenizer, and tell it the languages; from scratch, make one of both sides of the training rows."""
    named = {option: config.options[option] for option in LANGUAGES}
    languages = {key: code for key, code in zip(("src_lang", "tgt_lang"), named.values(), strict=True) if code}
    try:
        processor = sequences.load_processor(source, config, train, list(COLUMNS), **languages)
    except KeyError as error:  # of a tokenizer with a table of languages
        raise _unknown_language(source, error.args[0], []) from None
    for code in filter(None, named.values()):
        _require_language(source, processor, code)
    return processor


def _require_language(source: str, processor: Any, code: str) -> None:
    known = _languages(processor)
    if code not in known:
        raise _unknown_language(source, code, known)


def _languages(processor: Any) -> list[str]:
    """Return the codes that a tokenizer has tokens for."""
    special = [str(token) for token in processor.all_special_tokens] + list(processor.get_added_vocab())
    return sorted({token.strip("_") for token in special if not token.startswith(("<", "["))})


def _unknown_language(source: str, code: str, known: list[str]) -> ConfigError:
    has = ", ".join(known[:8]) + (f" and {len(known) - 8} more" if len(known) > 8 else "") if known else "none by name"
    return ConfigError(
        f"options: need languages that '{source}' knows ({has}); got '{code}'; write the code as the model has it, or "
        "leave source_language and target_language out."
    )


def load_model(source: str, spec: Known, dropout: float | None = None) -> tuple[Any, list[str]]:
    """Load or make the model; of several languages it begins each text with the one to write."""
    model, fresh = sequences.load_model(source, spec, dropout)
    if spec.target_language:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        [token] = [t for t in (spec.target_language, f"__{spec.target_language}__") if t in tokenizer.get_vocab()]
        model.generation_config.forced_bos_token_id = tokenizer.convert_tokens_to_ids(token)
    return model, fresh


def measure(split: Dataset, predictions: Sequence[Prediction], spec: Known) -> dict[str, Score]:
    """Score with BLEU and chrF++, each with its bootstrapped interval (Koehn 2004).

    Without spaces between words, chrF takes the place of chrF++, and BLEU's tokenizer parts them.
    """
    outputs = [p["output"] for p in predictions]
    measures = _measures(spec, split["target"])
    return {name: _score(measure, outputs, split["target"]) for name, measure in measures.items()}


def _measures(spec: Known, references: Sequence[str]) -> dict[str, Any]:
    from sacrebleu.metrics import BLEU

    language = languages.of(spec.language, references)
    tokenizer = spec.tokenize or languages.choose("auto", language)
    languages.require_installed(tokenizer)
    return {"bleu": BLEU(tokenize=tokenizer), **dict([_chrf(language)])}


def _chrf(language: str) -> tuple[str, Any]:
    """Return chrF++, or chrF where no spaces part the words that it counts, with its name."""
    from sacrebleu.metrics import CHRF

    return ("chrf++", CHRF(word_order=2)) if languages.has_spaces(language) else ("chrf", CHRF())


def _score(measure: Any, outputs: list[str], references: Sequence[str]) -> Score:
    """Score, and draw other rows; sacreBLEU's own bootstrap fails where one of its samples scores 0 (2.6.0)."""
    counts = np.array(measure._extract_corpus_statistics(outputs, [list(references)]))
    draws = intervals.resampled_sums(counts).astype(int).tolist()
    scores = [measure._compute_score_from_stats(drawn).score for drawn in draws]
    return intervals.drawn(float(measure.corpus_score(outputs, [list(references)]).score), np.array(scores))


def baselines(
    train: Dataset, test: Dataset, processor: Any, spec: Known, config: Config, display: Display
) -> dict[str, list[Prediction]]:
    """Leave the text as it is, and take the translation of the nearest training text."""
    return {
        "source as it is": sequences.answers(test["source"]),
        "nearest training pair (TF-IDF)": sequences.nearest(train, test, "source", "target", config),
    }


def illustrate(
    model: Any, processor: Any, split: Dataset, predictions: Sequence[Prediction], spec: Known, config: Config
) -> dict[str, Any]:
    """Return samples, alignments, and how exactly it was measured."""
    measures = _measures(spec, split["target"])
    outputs, references = [p["output"] for p in predictions[:1]], [split["target"][:1]]
    for measure in measures.values():
        measure.corpus_score(outputs, references)  # which completes the signature
    signatures = [f"{name}: sacreBLEU signature {found.get_signature()}" for name, found in measures.items()]
    shown = _task.illustrate(model, processor, split, predictions, spec, config)
    return {**shown, "notes": [*signatures, *shown["notes"]]}
