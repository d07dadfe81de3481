"""Speech recognition: the words that are said in a recording."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, PositiveInt

from regard import _language
from regard.errors import DataError
from regard.finetuning.config import Config, Section
from regard.finetuning.finite import require_all
from regard.finetuning.frameworks import framework_of
from regard.finetuning.progress import Display
from regard.finetuning.tasks import Encoded, Prediction, Score, Template, input_files
from regard.finetuning.tasks.speech import recognizers, recordings, transcripts
from regard.inspection.report.content import Finding, Picture
from regard.looking.sounds import read_sound

if TYPE_CHECKING:
    from datasets import Dataset

COLUMNS = {"audio": "the file of a recording", "text": "the words that are said in it"}
INPUT = "audio"
FORMATS = {"": recordings.in_folder}
BATCH = 8
"""Sounds in a batch without gradients."""
BEFORE = "before fine-tuning"

alike, parts = input_files.alike, recordings.own_parts
strata = reading = read = None
tally = validate = None  # words are written one after the other, too slowly for a validation: the loss chooses


class Options(Section):
    """Keys of this task."""

    window: Annotated[PositiveInt | None, Field(examples=[10])] = None
    """Seconds read at once; fewer than Whisper's 30 make short recordings cheaper.

    Whisper reads 30, silence included, however short a recording is; made shorter, it costs so much less. Longer
    recordings are left out of training, and recognised in pieces.
    """
    language: Annotated[str | None, Field(examples=["de"])] = None
    """Of the recordings, for a model of many languages.

    As Whisper names it: `de` or `german`.
    """
    normalizer: transcripts.Normalizer = "basic"
    from_scratch: recognizers.Scratch | None = None
    """No pretrained model, but a random one of these sizes; then `model`: `wav2vec2` or `whisper`."""


Known = recognizers.Known

TEMPLATE = Template(
    model="openai/whisper-tiny",
    train="recordings",
    output="runs/recordings",
    examples={"data.group": "speaker"},
    hidden=(*recordings.HIDDEN, "train.max_tokens"),
    comments=recordings.COMMENTS
    | {
        "data.too_long": "`cut`: leave recordings out of training that are longer than the window; `refuse`: do not "
        "start",
        "report.attention": "Recordings whose words are drawn in time",
    },
    additions=recordings.ADDITIONS
    | {
        "model": "a pretrained recogniser (Whisper, Moonshine, wav2vec2, HuBERT, ...); one that only encodes speech, "
        "such as facebook/wav2vec2-base, learns to spell with the characters of the training rows",
        "report.baselines": "the model before fine-tuning, and the commonest words",
    },
)


def inspect(splits: dict[str, Dataset], config: Config) -> tuple[Known, list[Finding]]:
    """Look for what spoils a recogniser, and learn which characters there are if the model cannot spell."""
    options = config.options
    kind = recognizers.kind_of(config.source, options["from_scratch"])
    findings = recordings.inspect_pairs(splits, config)
    known = kind == "writer" or (not options["from_scratch"] and recognizers.has_tokenizer(config.source))
    characters = None if known else recognizers.characters(splits["train"]["text"])
    if characters:
        told = f"train: the model learns to spell with {len(characters)} characters: {' '.join(characters)}"
        findings.append(Finding("ok", told))
    findings.append(transcripts.told("train", options["language"], splits["train"]["text"]))
    chosen = {name: options[name] for name in ("window", "language", "normalizer", "from_scratch")}
    return Known(kind=kind, characters=characters, **chosen), findings


def metric(spec: Known) -> str:
    """Return what chooses the best checkpoint."""
    return "loss"


def inspect_held_out(split: Dataset, path: str, spec: Known) -> None:
    """Require recordings and words."""
    recordings.require_pairs(split, path)


def load_processor(source: str, config: Config, train: Dataset | None = None) -> Any:
    """Load what prepares sounds and words, or make it by the training rows."""
    return recognizers.load_processor(source, config.options, train["text"] if train else [])


def load_model(source: str, spec: Known, dropout: float | None = None) -> tuple[Any, list[str]]:
    """Load or make the recogniser; one that only encodes gets a head for the characters."""
    return recognizers.load_model(source, spec, dropout)


def encode(name: str, split: Dataset, processor: Any, spec: Known, config: Config) -> Encoded:
    """Look into every recording, spell its words, and leave out what is longer than the model reads."""
    from datasets import Dataset

    texts, extractor = split["text"], processor.feature_extractor
    heard = recordings.look_into(name, split["audio"])
    findings = recordings.sound_findings(name, heard, extractor.sampling_rate) + _unknown(name, texts, processor)
    window, ids = _window(processor, spec), recognizers.encode_texts(processor, texts)
    kept = [n for n, recording in enumerate(heard) if recording.seconds <= window]
    findings += _too_long(name, [r.seconds for r in heard], window, len(kept), config)
    # By the name of what the collator makes of a file: the Trainer drops columns that are no input of the model.
    rows = {
        extractor.model_input_names[0]: [split["audio"][n] for n in kept],
        "labels": [ids[n] for n in kept],
    }
    if spec.kind == "ctc":
        findings += _too_short(name, [(heard[n].seconds, ids[n]) for n in kept])
        rows["length"] = [round(heard[n].seconds * recognizers.PLACES) for n in kept]
    return Encoded(Dataset.from_dict(rows), findings)


def _window(processor: Any, spec: Known) -> int:
    """Return how many seconds are read at once."""
    return getattr(processor.feature_extractor, "chunk_length", None) or spec.window or recognizers.WINDOW


def _unknown(name: str, texts: Sequence[str], processor: Any) -> list[Finding]:
    found = recognizers.unknown_characters(processor, texts)
    if not found:
        return []
    shown = ", ".join(f"'{sign}' in {count} rows" for sign, count in found.most_common(10))
    told = f"{name}: the tokenizer lacks {len(found)} characters of the transcripts: {shown}"
    return [Finding("warning", f"{told}; they are learned as unknown: write them otherwise, or take another model")]


def _too_long(name: str, seconds: Sequence[float], window: int, kept: int, config: Config) -> list[Finding]:
    if kept == len(seconds):
        return []
    told = f"{len(seconds) - kept} of {len(seconds)} are longer (the longest has {max(seconds):.1f})"
    if config.data.too_long == "refuse" or not kept:
        raise DataError(
            f"{name}: need recordings of at most {window} seconds; got {told}; cut them between words, or raise "
            "options.window."
        )
    used = "recognised in pieces, cut at quiet moments" if name == "test" else "left out"
    return [Finding("warning", f"{name}: the model reads {window} seconds; {told}; those are {used}")]


def _too_short(name: str, rows: Sequence[tuple[float, list[int]]]) -> list[Finding]:
    """CTC needs a position for each character, and one more between two that are the same."""
    short = [n for n, (seconds, ids) in enumerate(rows, start=1) if len(ids) >= seconds * recognizers.PLACES]
    if not short:
        return []
    told = f"{name}: {len(short)} recordings are too short for their words (first in row {short[0]} of those used)"
    return [Finding("warning", f"{told}; nothing is learned from them: look whether the words are theirs")]


def collator(processor: Any) -> Any:
    """Read the files of a batch, and pad the words."""
    import torch

    extractor = processor.feature_extractor
    column, spelling = extractor.model_input_names[0], recognizers.is_spelling(processor)

    def padded(rows: Sequence[list[int]], value: int) -> Any:
        return torch.nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in rows], True, value)

    def collate(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        ids = [row["labels"] for row in rows]
        batch = dict(recognizers.prepare(processor, [read_sound(r[column], extractor.sampling_rate) for r in rows]))
        if spelling:
            return {**batch, "labels": padded(ids, -100)}
        before = padded([each[:-1] for each in ids], processor.tokenizer.eos_token_id)
        return {**batch, "decoder_input_ids": before, "labels": padded([each[1:] for each in ids], -100)}

    return collate


def loss(rows: Dataset, spec: Known, config: Config) -> None:
    """Leave it to the model: cross-entropy of each token, or CTC."""


def respond(model: Any, processor: Any, inputs: Sequence[Any], display: Display) -> list[Prediction]:
    """Write down what is said, in batches of recordings of like length; long ones in pieces."""
    rate = processor.feature_extractor.sampling_rate
    most = (getattr(processor.feature_extractor, "chunk_length", None) or recognizers.WINDOW) * rate
    files = [input_files.text_of(file, f"input {number}") for number, file in enumerate(inputs, start=1)]
    parts = [(n, part) for n, file in enumerate(files) for part in recordings.pieces(read_sound(file, rate), most)]
    order = sorted(range(len(parts)), key=lambda place: -len(parts[place][1]))
    written: dict[int, str | None] = {}
    with display.bar("predict", len(parts)) as advance:
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            texts = recognizers.hear(model, processor, [parts[place][1] for place in places])
            written |= dict(zip(places, texts, strict=True))
            advance(len(places))
    heard: list[list[str | None]] = [[] for _ in files]
    for place, (number, _) in enumerate(parts):
        heard[number].append(written[place])
    require_all([None not in texts for texts in heard])
    return [{"text": _language.joined(filter(None, texts))} for texts in heard]


def measure(split: Dataset, predictions: Sequence[Prediction], spec: Known) -> dict[str, Score]:
    """Score with word and character error rate, as the language has words."""
    language = transcripts.language_of(spec.language, split["text"])
    return transcripts.error_rates(split["text"], [p["text"] for p in predictions], spec.normalizer, language)


def baselines(
    train: Dataset, test: Dataset, processor: Any, spec: Known, config: Config, display: Display
) -> dict[str, list[Prediction]]:
    """Predict with the model as it was, reading all that it can at once, and by the commonest words."""
    texts = train["text"]
    found = {"commonest words": [{"text": max(texts, key=texts.count)}] * len(test)}
    if spec.from_scratch:
        return found
    whole = {**config.options, "window": None}
    model, fresh = recognizers.load_model(config.source, spec.model_copy(update={"window": None}), None)
    if not fresh:
        untouched = recognizers.load_processor(config.source, whole, texts)
        found = {BEFORE: respond(model.eval(), untouched, test["audio"], display), **found}
    return found


def illustrate(
    model: Any, processor: Any, split: Dataset, predictions: Sequence[Prediction], spec: Known, config: Config
) -> dict[str, Any]:
    """Return what was misheard, and the words of a few recordings in time."""
    files, texts, kind = split["audio"], split["text"], spec.normalizer
    language = transcripts.language_of(spec.language, texts)
    names = [Path(file).name for file in files]
    drawn = range(min(len(files), config.report.attention))
    return {
        "tables": [transcripts.samples(names, texts, predictions, kind, config.report.mistakes, language)],
        "pictures": [_drawn(model, processor, files[n], texts[n]) for n in drawn],
        "notes": transcripts.notes(kind, language),
    }


def _drawn(model: Any, processor: Any, file: str, said: str) -> Picture:
    """Draw when each word was heard, above what each moment's attention receives."""
    from regard.inspection.look import Look

    looked = framework_of(model).look(model, processor, file)
    png = io.BytesIO()
    Look(looked, given=file).draw(png)
    told = "When each word was heard, by the cross-attention, above how much attention each moment of the encoder gets."
    return Picture(f"{Path(file).name}: {said}", png.getvalue(), told, inside=True)


def record(row: dict[str, Any], prediction: Prediction) -> dict[str, Any]:
    """Put what was said beside what was heard."""
    return {"audio": row["audio"], "truth": row["text"], "predicted": prediction["text"]}


def tell(prediction: Prediction) -> str:
    """Return the words."""
    return prediction["text"]
