"""What tasks share that read one text and write another: encoding, generating, samples, and what is attended to."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field, PositiveInt

from regard import _language
from regard.errors import ConfigError, UnsupportedError
from regard.finetuning.config import Config, Section
from regard.finetuning.finite import Witness, require_all
from regard.finetuning.progress import Display, quiet_transformers
from regard.finetuning.tasks import BY_LOSS, Encoded, Prediction, Spec, bases, input_files
from regard.finetuning.tasks.texts import languages, pairs, scratch, tokenizing, wording
from regard.finetuning.training.padding import as_configured, batches, is_rounded
from regard.inspection.report.content import Finding, Picture, Table

if TYPE_CHECKING:
    from datasets import Dataset

GENERATED_TOKENS = 4096
"""Tokens of source texts that are answered at once, padding and beams included."""
READABLE = 24
"""Tokens of the longest source whose attention is drawn, unless all are longer."""
SHOWN = 400
"""Characters of a text that a sample shows."""


class Options(Section):
    """Keys of every task that writes a text."""

    prefix: str = ""
    """Put before each text, for models that were trained so, such as T5."""
    beams: PositiveInt = 4
    """Continuations kept while a text is written; 1 takes the likeliest token each time."""
    max_output: PositiveInt = 128
    """Tokens to write of a text at most.

    Targets that are longer are cut for training.
    """
    language: Annotated[languages.Language | None, Field(examples=["zh"])] = None
    """Of what is written, by which its words are counted; found by its letters if left out.

    As ISO 639 names it, such as `zh`, or in English, `Chinese`.
    """
    from_scratch: scratch.Sizes | None = None
    """No pretrained model, but a random one of these sizes; then `model`: `marian`, `bart` or `t5`.

    With a tokenizer made of the training rows.
    """


class Known(Spec):
    """What is known of the training data."""

    prefix: str
    beams: int
    max_output: int
    from_scratch: dict[str, int] | None
    language: str | None = None


HIDDEN = ("framework", "report.right")
COMMENTS = {"report.mistakes": "Samples to show", "report.attention": "Texts whose alignment is drawn"}
ADDITIONS = {"train.keep": BY_LOSS}
"""What templates of these tasks say of keys, and which they leave out; see `Template`."""


@dataclass(frozen=True)
class TextToText:
    """A task with two columns of texts.

    Attributes:
        source: the column that is read.
        target: the column that is written.
        quality: says of a language what one number tells of an output and its reference, higher is better, and how
            that is computed: the samples show it.
        known: what is known of the training data.
    """

    source: str
    target: str
    quality: Callable[[str], tuple[str, Callable[[str, str], float]]]
    known: type[Known] = Known

    def inspect(self, splits: dict[str, Dataset], config: Config) -> tuple[Any, list[Finding]]:
        """Look for rows that teach nothing or too much."""
        findings = pairs.inspect(splits, config, self.source, self.target)
        language = languages.of(config.options["language"], splits["train"][self.target])
        return self.known(**{**config.options, "language": language}), findings

    def inspect_held_out(self, split: Dataset, path: str, spec: Known) -> None:
        """Require two texts in each row."""
        pairs.require_pairs(split, path, self.source, self.target)

    def encode(self, name: str, split: Dataset, processor: Any, spec: Known, config: Config) -> Encoded:
        """Turn both texts into token numbers."""
        from datasets import Dataset

        limit, most, targets = processor.model_max_length, spec.max_output, split[self.target]
        sources = _prefixed(split[self.source], spec.prefix)
        read, lengths = tokenizing.tokenize(processor, sources, limit)
        written, counts = tokenizing.tokenize(processor, targets, most, as_target=True)
        findings = wording.length_findings(name, lengths, limit, refuse=config.data.too_long == "refuse")
        findings += _cut_targets(name, counts, most)
        findings += wording.reading_findings(f"{name}, {self.source}", sources, read, processor)
        findings += wording.reading_findings(f"{name}, {self.target}", targets, written, processor)
        findings += tokenizing.padding_findings(name, processor)
        if not spec.from_scratch:
            tokenizing.require_embeddings(processor, [*read, *written], config.source)
        total = [len(one) + len(other) for one, other in zip(read, written, strict=True)]
        return Encoded(Dataset.from_dict({"input_ids": read, "labels": written, "length": total}), findings)

    def illustrate(
        self, model: Any, processor: Any, split: Dataset, predictions: Sequence[Prediction], spec: Known, config: Config
    ) -> dict[str, Any]:
        """Return samples drawn at random, and which source tokens some short ones attend to."""
        order = np.random.default_rng(config.seed).permutation(len(split)).tolist()
        rows = [[split[self.source][n], split[self.target][n], predictions[n]["output"]] for n in order]
        measured, quality = self.quality(languages.of(spec.language, split[self.target]))
        shown = [
            [*(text[:SHOWN] for text in row), f"{quality(row[2], row[1]):.2f}"]
            for row in rows[: config.report.mistakes]
        ]
        table = Table("Samples, drawn at random", [self.source, "reference", "output", measured], shown)
        short = sorted(rows, key=lambda row: len(processor(row[0], verbose=False)["input_ids"]) > READABLE)
        try:
            pictures = [self._draw(model, processor, row) for row in short[: config.report.attention]]
        except UnsupportedError as error:
            return {"tables": [table], "notes": [f"Attention is not shown: {error}"]}
        return {"tables": [table], "pictures": pictures, "notes": []}

    def _draw(self, model: Any, processor: Any, row: list[str]) -> Picture:
        """Draw the soft alignment of what the model writes."""
        from regard.inspection.look import Look
        from regard.looking.transformers.texts import read

        png = io.BytesIO()
        Look(read(model, processor, row[0]), "alignment", given=row[0]).draw(png)
        told = "Rows are the tokens written, columns those read; the mean of the decoder's attention to the source."
        return Picture(row[2][:SHOWN], png.getvalue(), f"{told} Reference: {row[1][:SHOWN]}", inside=True)

    def record(self, row: dict[str, Any], prediction: Prediction) -> dict[str, Any]:
        """Put source and truth beside the output."""
        return {self.source: row[self.source], "truth": row[self.target], **prediction}


def metric(spec: Known) -> str:
    """Return what chooses the best checkpoint: to write the texts at each validation would take too long."""
    return "loss"


def loss(rows: Dataset, spec: Known, config: Config) -> None:
    """Leave it at the model's own: cross-entropy of each token."""


def collator(processor: Any) -> Any:
    """Pad each batch to its own longest source and its longest target."""
    from transformers import DataCollatorForSeq2Seq

    return DataCollatorForSeq2Seq(processor)


def load_processor(source: str, config: Config, train: Dataset | None, columns: Sequence[str], **languages: str) -> Any:
    """Load the tokenizer; from scratch, make one of the training rows."""
    if config.options["from_scratch"] and train is not None:
        return scratch.make_tokenizer(source, config, [train[column] for column in columns], scratch.SEQUENCES)
    _require_writer(source)
    return tokenizing.load_tokenizer(source, config.data.max_length, **languages)


def _require_writer(source: str) -> None:
    """Raise ConfigError unless a model has an encoder, and a decoder that knows how to begin."""
    known = bases.require_model(source)
    if not known.is_encoder_decoder:
        raise ConfigError(
            f"model: need an encoder with a decoder, such as Marian, NLLB, T5 or BART; got '{source}', which only "
            "reads or only writes; name another."
        )
    if getattr(known, "decoder_start_token_id", None) is None:
        raise ConfigError(
            f"model: need decoder_start_token_id in config.json, the token that the decoder begins with; got "
            f"'{source}' without it; add it."
        )


def load_model(source: str, spec: Known, dropout: float | None = None) -> tuple[Any, list[str]]:
    """Load or make the encoder with its decoder, and tell it how to write."""
    if sizes := scratch.wanted(source, spec.from_scratch):
        model, fresh = scratch.make_model(source, sizes, dropout), ["everything"]
    else:
        model, fresh = _loaded(source, dropout)
    model.config.prefix = spec.prefix
    model.generation_config.update(
        num_beams=spec.beams, max_new_tokens=spec.max_output, max_length=None, early_stopping=spec.beams > 1
    )
    return model, fresh


def _loaded(source: str, dropout: float | None) -> tuple[Any, list[str]]:
    import torch
    from transformers import AutoModelForSeq2SeqLM

    with quiet_transformers():
        model, info = AutoModelForSeq2SeqLM.from_pretrained(
            source,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
            **bases.dropouts(source, dropout),
        )
    return model, bases.newly_initialised(source, model, info)


def respond(model: Any, processor: Any, inputs: Sequence[Any], display: Display) -> list[Prediction]:
    """Write a text for each, in the order of the inputs; texts of like length are written together."""
    import torch

    texts = [input_files.text_of(text, f"input {number}") for number, text in enumerate(inputs, start=1)]
    encodings, lengths = tokenizing.tokenize(
        processor, _prefixed(texts, getattr(model.config, "prefix", None)), processor.model_max_length
    )
    model.eval()
    found: dict[int, Prediction] = {}
    finite: dict[int, bool] = {}
    batch_tokens = max(GENERATED_TOKENS // (model.generation_config.num_beams or 1), 1)

    def batch(numbers: list[int]) -> Any:
        return processor.pad({"input_ids": [encodings[n] for n in numbers]}, return_tensors="pt").to(model.device)

    def begin(numbers: list[int]) -> np.ndarray:
        start = torch.full((len(numbers), 1), getattr(model.config, "decoder_start_token_id", None) or 0)
        logits = as_configured(model)(**batch(numbers), decoder_input_ids=start.to(model.device)).logits
        return logits.float().numpy(force=True)

    with torch.inference_mode(), quiet_transformers(), display.bar("write", len(texts)) as advance:
        for numbers in batches(begin, [len(ids) for ids in encodings], batch_tokens, is_rounded(model)):
            witness = Witness(len(numbers))
            ids = as_configured(model).generate(**batch(numbers), logits_processor=[witness])
            finite |= dict(zip(numbers, witness.finite, strict=True))
            for n, output in zip(numbers, processor.batch_decode(ids, skip_special_tokens=True), strict=True):
                found[n] = {"output": output.strip(), "tokens_cut": lengths[n] - len(encodings[n])}
            advance(len(numbers))
    require_all([finite[n] for n in range(len(texts))])
    return [found[n] for n in range(len(texts))]


def tell(prediction: Prediction) -> str:
    """Return the text."""
    return prediction["output"]


def answers(texts: Sequence[str]) -> list[Prediction]:
    """Return texts as predictions."""
    return [{"output": text} for text in texts]


def nearest(train: Dataset, test: Dataset, source: str, target: str, config: Config) -> list[Prediction]:
    """Answer with the target of the training row whose source is nearest, by the cosine of TF-IDF."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.neighbors import NearestNeighbors

    shown = train.shuffle(config.seed).select(range(min(len(train), config.report.baseline_rows)))
    words = TfidfVectorizer(sublinear_tf=True, analyzer=_language.terms)
    index = NearestNeighbors(n_neighbors=1, metric="cosine").fit(words.fit_transform(shown[source]))
    rows = index.kneighbors(words.transform(test[source]), return_distance=False)[:, 0]
    targets = shown[target]
    return answers([targets[int(row)] for row in rows])


def _prefixed(texts: Sequence[str], prefix: str | None) -> list[str]:
    return [f"{prefix or ''}{text}" for text in texts]


def _cut_targets(name: str, counts: Sequence[int], most: int) -> list[Finding]:
    long = sum(count > most for count in counts)
    if not long:
        return [Finding("ok", f"{name}: every target fits; the longest has {max(counts, default=0)} tokens of {most}")]
    told = f"{name}: {long} of {len(counts)} targets are longer than the {most} tokens written at most"
    return [Finding("warning", f"{told}; their ends are not learned: raise options.max_output")]
