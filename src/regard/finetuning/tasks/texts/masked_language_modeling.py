"""Masked language modeling: an encoder learns a language, or a domain, by guessing hidden words of plain texts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from regard import _language
from regard._digits import digits
from regard.errors import ConfigError, DataError
from regard.finetuning.config import Config, Section
from regard.finetuning.data import duplicates
from regard.finetuning.data.columns import take_columns
from regard.finetuning.data.lines import read_lines
from regard.finetuning.data.spreadsheets import told_of_sheets
from regard.finetuning.data.tables import Formats, read_table
from regard.finetuning.finite import require_finite
from regard.finetuning.progress import Display, quiet_transformers
from regard.finetuning.tasks import BY_LOSS, Encoded, Part, Prediction, Score, Spec, Template, bases, input_files
from regard.finetuning.tasks.targets import classes, intervals, one_label
from regard.finetuning.tasks.texts import masking, scratch, tokenizing, wording
from regard.finetuning.training.padding import as_configured
from regard.inspection.report.content import Finding, Table
from regard.looking.tokens import readable

if TYPE_CHECKING:
    from datasets import Dataset

COLUMNS = {"text": "a text to learn from"}
INPUT = "text"
FILLS = 5
"""Words that are named for each mask in an input."""

alike = wording.likeness
strata = reading = read = None
tally = validate = None


def read_paragraphs(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the paragraphs of a text file, which blank lines part."""
    lines: list[str] = []
    for line in (*read_lines(path), ""):
        if line.strip():
            lines.append(line.strip())
        elif lines:
            yield {"text": " ".join(lines)}
            lines = []


def read_folder(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the paragraphs of all text files in a folder and those in it.

    Raises:
        DataError: there is none.
    """
    files = sorted(path.rglob("*.txt"))
    if not files:
        raise DataError(f"{path}: need a folder with .txt files; got none in it; name their folder, or a table.")
    for file in files:
        yield from read_paragraphs(file)


def parts(path: Path) -> dict[str, Part]:
    """Find the folders train, validation and test with texts."""
    return input_files.own_parts(path, read_folder, "**/*.txt")


FORMATS: Formats = {"": read_folder, ".txt": read_paragraphs}


class Downstream(Section):
    """A classification that shows what the encoder is good for: logistic regression on its frozen embeddings."""

    train: Annotated[str, Field(examples=["rated.csv"])]
    """A table to fit the regression to."""
    test: Annotated[str, Field(examples=["held-out.csv"])]
    """A table to measure it on."""
    text: str = "text"
    """The column with the texts."""
    label: str = "label"
    """The column with their classes."""


class Options(Section):
    """Keys of this task."""

    mask: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of the tokens to guess; ModernBERT learned with 0.3, BERT with 0.15."""
    from_scratch: scratch.Sizes | None = None
    """No pretrained model, but a random one of these sizes; then `model`: `modernbert` or `bert`.

    With a tokenizer made of the training rows. `modernbert` learns the sooner.
    """
    downstream: Downstream | None = None
    """A classification by logistic regression on frozen embeddings, measured before and after."""


class Known(Spec):
    """What is known of the training data."""

    from_scratch: dict[str, int] | None


TEMPLATE = Template(
    model="answerdotai/ModernBERT-base",
    train="texts",
    output="runs/encoder",
    hidden=("framework", "report.right", "report.attention"),
    comments={"report.mistakes": "Texts to show, the most surprising first"},
    additions={
        "model": "a pretrained encoder with its tokenizer",
        "data.train": "or a folder with .txt files, or one .txt, whose blank lines part its texts",
        "train.keep": BY_LOSS,
        "report.baselines": "how frequent each token is, and the model before training",
    },
)


def inspect(splits: dict[str, Dataset], config: Config) -> tuple[Known, list[Finding]]:
    """Look for texts that are there twice, or in training too."""
    findings: list[Finding] = []
    for name, split in splits.items():
        wording.require_texts(split, classes.where(name, config))
        words = sum(len(_language.words(text)) for text in split["text"])
        findings.append(Finding("ok", f"{name}: {len(split):,} texts of {words:,} words"))
        findings += duplicates.repeats(name, wording.keys(split), [""] * len(split), "text")
        findings += wording.empty_findings(name, split)
    if config.options["downstream"]:
        for name in ("train", "test"):
            _rated(config.options["downstream"], name)
            if told := told_of_sheets(Path(config.options["downstream"][name])):
                findings.append(Finding("warning", f"options.downstream: {told}"))
    spec = Known(from_scratch=config.options["from_scratch"])
    return spec, findings + duplicates.leaks(wording.likenesses(splits), "text")


def _rated(downstream: dict[str, str], name: str) -> Dataset:
    columns = {role: downstream[role] for role in ("text", "label")}
    return take_columns(read_table(downstream[name]), columns, downstream[name])


def metric(spec: Known) -> str:
    """Return what chooses the best checkpoint."""
    return "loss"


def inspect_held_out(split: Dataset, path: str, spec: Known) -> None:
    """Require texts."""
    wording.require_texts(split, path)


def load_processor(source: str, config: Config, train: Dataset | None = None) -> Any:
    """Load the tokenizer; from scratch, make one of the training rows."""
    if config.options["from_scratch"] and train is not None:
        tokenizer = scratch.make_tokenizer(source, config, [train["text"]], scratch.ENCODERS)
    else:
        tokenizer = tokenizing.load_tokenizer(source, config.data.max_length)
    if tokenizer.mask_token_id is None:
        raise ConfigError(
            f"model: need a tokenizer with a mask, such as BERT's; got '{source}' without one; name an encoder that "
            "learned by guessing."
        )
    tokenizer.masked_share = config.options["mask"]
    return tokenizer


def load_model(source: str, spec: Known, dropout: float | None = None) -> tuple[Any, list[str]]:
    """Load or make the encoder with a head that guesses tokens."""
    import torch
    from transformers import AutoModelForMaskedLM

    if sizes := scratch.wanted(source, spec.from_scratch):
        return scratch.make_model(source, sizes, dropout), ["everything"]
    with quiet_transformers():
        model, info = AutoModelForMaskedLM.from_pretrained(
            source,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
            **bases.dropouts(source, dropout),
        )
    return model, bases.newly_initialised(source, model, info)


def encode(name: str, split: Dataset, processor: Any, spec: Known, config: Config) -> Encoded:
    """Turn texts into token numbers; those that are not trained on are masked once and for all."""
    from datasets import Dataset

    limit = processor.model_max_length
    encodings, lengths = tokenizing.tokenize(processor, split["text"], limit)
    findings = wording.length_findings(name, lengths, limit, refuse=config.data.too_long == "refuse")
    findings += wording.reading_findings(name, split["text"], encodings, processor)
    findings += tokenizing.padding_findings(name, processor)
    if not spec.from_scratch:
        tokenizing.require_embeddings(processor, encodings, config.source)
    rows = {"input_ids": encodings, "labels": [[0][:0]] * len(split), "length": [len(ids) for ids in encodings]}
    if name != "train":
        masked = [masking.mask(ids, processor, config.seed, masking.HELD_OUT) for ids in encodings]
        rows |= {"input_ids": [ids for ids, _ in masked], "labels": [labels for _, labels in masked]}
    return Encoded(Dataset.from_dict(rows), findings)


def collator(processor: Any) -> Any:
    """Mask the training rows anew in each epoch."""
    return masking.MaskingCollator(processor)


def loss(rows: Dataset, spec: Known, config: Config) -> None:
    """Leave it at the model's own: cross-entropy of the masked tokens."""


def respond(model: Any, processor: Any, inputs: Sequence[Any], display: Display) -> list[Prediction]:
    """Say how surprising each text is, or what may stand in place of its masks."""
    import torch

    texts = [input_files.text_of(text, f"input {number}") for number, text in enumerate(inputs, start=1)]
    encodings, lengths = tokenizing.tokenize(processor, texts, processor.model_max_length)
    model.eval()
    found = []
    with torch.inference_mode(), display.bar("guess", len(texts)) as advance:
        for ids, length in zip(encodings, lengths, strict=True):
            answer = _filled if processor.mask_token_id in ids else _surprise
            found.append({**answer(model, processor, ids), "tokens_cut": length - len(ids)})
            advance()
    require_finite([_numbers_of(prediction) for prediction in found])
    return found


def _numbers_of(prediction: Prediction) -> list[float]:
    filled = [chance for fill in prediction.get("fills", []) for chance in fill.values()]
    return [*filled, prediction.get("surprise", 0.0)]


def _surprise(model: Any, processor: Any, ids: list[int]) -> Prediction:
    if not len(masking.guessable(np.array(ids), processor)):
        return _guessed(np.zeros(0), np.zeros(0))
    return _guessed(*masking.guesses(model, processor, ids))


def _guessed(log_odds: np.ndarray, right: np.ndarray) -> Prediction:
    """Return the mean surprise in nats and the share of tokens guessed right."""
    count = len(log_odds)
    return {
        "surprise": round(float(-log_odds.mean()), 6) if count else 0.0,
        "right": round(float(right.mean()), 6) if count else 0.0,
        "tokens": count,
    }


def _filled(model: Any, processor: Any, ids: list[int]) -> Prediction:
    """Return the likeliest tokens for each mask."""
    import torch

    row = torch.tensor([ids])
    odds = as_configured(model)(input_ids=row.to(model.device)).logits[0].float().cpu().softmax(-1)
    tops = [odds[place].topk(FILLS) for place in (row[0] == processor.mask_token_id).nonzero()[:, 0].tolist()]
    return {"fills": [_named(processor, top.indices.tolist(), top.values.tolist()) for top in tops]}


def _named(processor: Any, numbers: list[int], chances: list[float]) -> dict[str, float]:
    pairs = zip(numbers, chances, strict=True)
    return {_named_one(processor, number): round(chance, 6) for number, chance in pairs}


def _named_one(processor: Any, number: int) -> str:
    """A token as a text; one that is a part of a character as its bytes."""
    text = processor.decode([number]).strip()
    return readable(processor, [number])[0] if _language.CUT in text else text


def measure(split: Dataset, predictions: Sequence[Prediction], spec: Known) -> dict[str, Score]:
    """Score with pseudo-perplexity (Salazar et al. 2020, arXiv 1910.14659) and the share of tokens guessed right."""
    rows = np.array([[p["surprise"] * p["tokens"], p["right"] * p["tokens"], p["tokens"]] for p in predictions])
    surprise, right, tokens = rows.sum(0)
    draws = intervals.resampled_sums(rows)
    return {
        "pseudo_perplexity": intervals.drawn(
            math.exp(surprise / tokens), np.exp(draws[:, 0] / draws[:, 2]), higher_is_better=False
        ),
        "guessed_right": intervals.drawn(right / tokens, draws[:, 1] / draws[:, 2]),
    }


def baselines(
    train: Dataset, test: Dataset, processor: Any, spec: Known, config: Config, display: Display
) -> dict[str, list[Prediction]]:
    """Guess each token by how frequent it is, and by the model before training."""
    limit = processor.model_max_length
    known, _ = tokenizing.tokenize(processor, train["text"], limit)
    counts = Counter(number for ids in known for number in np.array(ids)[masking.guessable(np.array(ids), processor)])
    shares = np.ones(len(processor))
    shares[list(counts)] += list(counts.values())
    log_odds, commonest = np.log(shares / shares.sum()), int(shares.argmax())
    encodings = map(np.array, tokenizing.tokenize(processor, test["text"], limit)[0])
    tokens = [ids[masking.guessable(ids, processor)].astype(int) for ids in encodings]
    found = {"frequency of each token": [_guessed(log_odds[each], each == commonest) for each in tokens]}
    if not spec.from_scratch:
        found["before training"] = respond(load_model(config.source, spec)[0], processor, test["text"], display)
    return found


def illustrate(
    model: Any, processor: Any, split: Dataset, predictions: Sequence[Prediction], spec: Known, config: Config
) -> dict[str, Any]:
    """Return the most surprising texts, and what frozen embeddings are good for before and after."""
    order = sorted(range(len(split)), key=lambda n: -predictions[n]["surprise"])[: config.report.mistakes]
    told = [[split["text"][n][:400], f"{math.exp(predictions[n]['surprise']):.1f}"] for n in order]
    tables = [Table("The most surprising texts", ["text", "pseudo-perplexity"], told)]
    if config.options["downstream"]:
        tables.append(_downstream(model, processor, spec, config))
    return {"tables": tables}


def _downstream(model: Any, processor: Any, spec: Known, config: Config) -> Table:
    """Measure logistic regression on frozen embeddings, of the model before training and after."""
    import torch

    splits = {name: _rated(config.options["downstream"], name) for name in ("train", "test")}
    torch.manual_seed(config.seed)
    models = {"before": load_model(config.source, spec)[0].eval(), "after": model}
    rows = []
    for when, each in models.items():
        vectors = {name: _embedded(each, processor, split["text"]) for name, split in splits.items()}
        train = classes.names_of(splits["train"])
        answers = classes.logistic_regression(vectors["train"], train, vectors["test"])
        scores = classes.measure(splits["test"], answers, one_label.Known(labels=sorted(set(train))))
        low, high = scores["accuracy"].interval or (math.nan, math.nan)
        rows.append([when, digits(scores["accuracy"].value), f"{digits(low)} to {digits(high)}"])
    told = f"Frozen embeddings with logistic regression on {Path(config.options['downstream']['test']).name}"
    return Table(told, ["", "accuracy", "95 % interval"], rows)


def _embedded(model: Any, processor: Any, texts: Sequence[str]) -> np.ndarray:
    """Return the mean of the last hidden states over each text's tokens."""
    import torch

    encodings, _ = tokenizing.tokenize(processor, texts, processor.model_max_length)

    def mean(batch: Any) -> np.ndarray:
        shares = batch["attention_mask"][..., None] / batch["attention_mask"].sum(1)[:, None, None]
        states = model.base_model(**batch.to(model.device)).last_hidden_state.cpu()
        return (states * shares).sum(1).float().numpy()

    with torch.inference_mode():
        return tokenizing.compute(mean, processor, encodings, Display(quiet=True), "embed")


def record(row: dict[str, Any], prediction: Prediction) -> dict[str, Any]:
    """Put the text beside how surprising it is."""
    return {"text": row["text"], **prediction}


def tell(prediction: Prediction) -> str:
    """Return what may stand in place of the masks, or how surprising the text is."""
    if "fills" in prediction:
        return "; ".join(
            ", ".join(f"{word} {digits(odds)}" for word, odds in fill.items()) for fill in prediction["fills"]
        )
    return f"pseudo-perplexity {math.exp(prediction['surprise']):.2f} over {prediction['tokens']} tokens"
