"""Speech synthesis: a text, said."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field, PositiveFloat

from regard import _language
from regard.errors import DataError
from regard.finetuning.config import Config, Section, find_model
from regard.finetuning.data import duplicates
from regard.finetuning.data.columns import normalize
from regard.finetuning.finite import require_all
from regard.finetuning.frameworks import framework_of
from regard.finetuning.progress import Display, quiet_transformers
from regard.finetuning.tasks import Encoded, Made, Prediction, Score, Template, bases, input_files
from regard.finetuning.tasks.speech import measures, recordings, speakers, transcripts, vocoders
from regard.finetuning.tasks.texts import tokenizing, wording
from regard.inspection.report.content import Finding, Picture, Sound

if TYPE_CHECKING:
    from datasets import Dataset

COLUMNS = {"text": "what is said", "audio": "the file of a recording of it"}
INPUT = "text"
FORMATS = {"": recordings.in_folder}
BATCH = 16
"""Texts that are said at once, of like length."""
KEPT = 2048
"""Spectrograms that are kept in memory while a model learns."""
SAME_VOICE = "the recordings, through the vocoder"
OTHER_WORDS = "recordings of other words"
CEILINGS = (SAME_VOICE,)
"""Baselines that no model can better."""

alike, parts = wording.likeness, recordings.own_parts
strata = reading = read = None


class Options(Section):
    """Keys of this task."""

    vocoder: Annotated[str | None, Field(examples=["microsoft/speecht5_hifigan"])] = None
    """Makes sounds of spectrograms; without it Griffin and Lim's method does.

    A SpeechT5HifiGan.
    """
    longest: Annotated[PositiveFloat | None, Field(examples=[10])] = None
    """Seconds of the longest recording to learn from; what the model can say if left out."""
    guide: Annotated[float, Field(ge=0)] = 10.0
    """How much the loss asks the decoder to read along the text; 0 leaves it out.

    Guided attention.
    """
    scheduled_sampling: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the frames it goes on from that are its own while it learns, as when it speaks.

    When it speaks, all are. A step takes a third longer then.
    """
    recognizer: Annotated[str | None, Field(examples=["openai/whisper-tiny"])] = None
    """Listens to the result, for its word error rate.

    As `model` of speech recognition.
    """
    normalizer: transcripts.Normalizer = "basic"
    from_scratch: speakers.Scratch | None = None
    """No pretrained model, but a random one of these sizes; then `model`: `speecht5`."""


Known = speakers.Known

TEMPLATE = Template(
    model="microsoft/speecht5_tts",
    train="recordings",
    output="runs/voice",
    examples={"data.group": "session"},
    hidden=recordings.HIDDEN,
    comments=recordings.COMMENTS
    | {
        "data.too_long": "`cut`: leave pairs out of training that are longer than is learned; `refuse`: do not start",
        "report.mistakes": "Texts and what was heard, to show",
        "report.attention": "Texts whose attention is drawn, with their sounds",
    },
    additions=recordings.ADDITIONS
    | {
        "model": "a SpeechT5; the recordings are those of one speaker",
        "train.dropout": "the prenet keeps its own",
        "report.baselines": "the recordings through the vocoder, which no model can better, and recordings of other "
        "words",
    },
)


def inspect(splits: dict[str, Dataset], config: Config) -> tuple[Known, list[Finding]]:
    """Look for pairs that spoil a voice, and learn how many tokens and frames there are."""
    options = dict(config.options)
    speakers.require_family(config.source, options["from_scratch"])
    findings = recordings.inspect_pairs(splits, config)
    findings += duplicates.leaks(
        {name: [normalize(t) for t in split["text"]] for name, split in splits.items()}, "text"
    )
    processor = load_processor(config.source, config, splits["train"])
    if options["vocoder"]:
        vocoders.require_fit(find_model(options["vocoder"]), processor.feature_extractor)
    if options["recognizer"]:
        measures.require_recognizer(options["recognizer"])
    slowest = _slowest(splits["train"], processor)
    return Known(**options, tokens=len(processor.tokenizer), frames_per_token=slowest), findings


def _slowest(train: Dataset, processor: Any) -> float:
    """Return how many frames a token takes in the slowest pair, and a quarter more: where to stop at the latest."""
    step = processor.feature_extractor.hop_length / 1000
    seconds = [recording.seconds for recording in recordings.look_into("train", train["audio"])]
    tokens = [len(ids) for ids in processor.tokenizer(list(train["text"]), verbose=False)["input_ids"]]
    return round(1.25 * max(s / step / n for s, n in zip(seconds, tokens, strict=True)), 2)


def metric(spec: Known) -> str:
    """Return what chooses the best checkpoint."""
    return "loss"


def inspect_held_out(split: Dataset, path: str, spec: Known) -> None:
    """Require recordings and words."""
    recordings.require_pairs(split, path)


def load_processor(source: str, config: Config, train: Dataset | None = None) -> Any:
    """Load what prepares texts and sounds, or make it by the training rows."""
    return speakers.load_processor(source, config.options["from_scratch"], list(train["text"]) if train else [])


def load_model(source: str, spec: Known, dropout: float | None = None) -> tuple[Any, list[str]]:
    """Load or make the speaker."""
    model, fresh = speakers.load_model(source, spec, dropout)
    model.config.vocoder = spec.vocoder
    return model, fresh


def encode(name: str, split: Dataset, processor: Any, spec: Known, config: Config) -> Encoded:
    """Look into every recording, write its words as tokens, and leave out what is longer than is learned."""
    from datasets import Dataset

    texts, extractor, tokenizer = split["text"], processor.feature_extractor, processor.tokenizer
    heard = recordings.look_into(name, split["audio"])
    findings = recordings.sound_findings(name, heard, extractor.sampling_rate) + _unknown(name, texts, tokenizer)
    ids, lengths = tokenizing.tokenize(tokenizer, texts, tokenizer.model_max_length)
    longest = spec.longest or _most_frames(config.source, spec) * extractor.hop_length / 1000
    kept = [
        number
        for number, recording in enumerate(heard)
        if recording.seconds <= longest and lengths[number] == len(ids[number])
    ]
    findings += _too_long(name, [r.seconds for r in heard], longest, len(kept), config)
    # By the name of what the collator makes of a file: the Trainer drops columns that are no input of the model.
    rows = {"input_ids": [ids[n] for n in kept], "labels": [split["audio"][n] for n in kept]}
    rows["length"] = [round(heard[n].seconds * 1000 / extractor.hop_length) for n in kept]
    return Encoded(Dataset.from_dict(rows), findings)


def _most_frames(source: str, spec: Known) -> int:
    """Return how many frames a model can say at once: its decoder's positions, of several frames each."""
    from transformers import SpeechT5Config

    sizes = spec.from_scratch
    new = sizes and speakers.is_new(source, sizes)
    described = SpeechT5Config(reduction_factor=sizes["reduction"]) if sizes and new else bases.require_model(source)
    return described.max_speech_positions * described.reduction_factor


def _unknown(name: str, texts: Sequence[str], tokenizer: Any) -> list[Finding]:
    found = speakers.unknown_characters(tokenizer, texts)
    if not found:
        return []
    shown = ", ".join(f"'{sign}' in {count} rows" for sign, count in found.most_common(10))
    told = f"{name}: the tokenizer lacks {len(found)} characters of the texts: {shown}"
    return [Finding("warning", f"{told}; all of them are read as one that is unknown: write them otherwise")]


def _too_long(name: str, seconds: Sequence[float], longest: float, kept: int, config: Config) -> list[Finding]:
    if kept == len(seconds):
        return []
    told = f"{len(seconds) - kept} of {len(seconds)} are longer (the longest has {max(seconds):.1f} s)"
    if config.data.too_long == "refuse" or not kept:
        raise DataError(
            f"{name}: need recordings of at most {longest:g} seconds, and texts that fit the model; got {told}; cut "
            "them between sentences, or raise options.longest."
        )
    used = "said and measured all the same, though the model has learned none so long" if name == "test" else "left out"
    return [Finding("warning", f"{name}: recordings of at most {longest:g} seconds are learned; {told}; {used}")]


def collator(processor: Any) -> Any:
    """Make spectrograms of the files of a batch, and pad them and the tokens."""
    import torch

    pad, extractor = torch.nn.utils.rnn.pad_sequence, processor.feature_extractor

    @lru_cache(KEPT)
    def read(file: str) -> Any:
        return torch.from_numpy(speakers.spectrogram(file, extractor))

    def collate(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        ids = [torch.tensor(row["input_ids"]) for row in rows]
        mask = pad([torch.ones_like(each) for each in ids], True)
        labels = pad([read(row["labels"]) for row in rows], True, -100.0)
        return {"input_ids": pad(ids, True, processor.tokenizer.pad_token_id), "attention_mask": mask, "labels": labels}

    return collate


def loss(rows: Dataset, spec: Known, config: Config) -> None:
    """Leave it to the model: the error of spectrograms, where to stop, and attention along the text."""


def tally(outputs: Any, spec: Known) -> np.ndarray:
    """Add up the steps of the decoder, and how much of their attention is on the diagonal, by layer and head."""
    return np.asarray(outputs.predictions, np.float64).sum(0)


def validate(tally: np.ndarray, spec: Known) -> dict[str, float]:
    """Return the share of attention on the diagonal, of the head that has the most, told what was really said."""
    return {"diagonality": float(tally[1:].max() / tally[0])}


def respond(model: Any, processor: Any, inputs: Sequence[Any], display: Display) -> list[Prediction]:
    """Say each text; the same again, whatever else is said with it."""
    import torch

    from regard.looking.transformers.voices import speak

    texts = [input_files.text_of(text, f"input {number}") for number, text in enumerate(inputs, start=1)]
    _require_words(texts)
    tokenizer = processor.tokenizer
    ids, lengths = tokenizing.tokenize(tokenizer, texts, tokenizer.model_max_length)
    order = sorted(range(len(texts)), key=lambda n: -len(ids[n]))
    found: dict[int, Prediction] = {}
    model.eval()
    with display.bar("speak", len(texts)) as advance, quiet_transformers():
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            batch = tokenizer.pad({"input_ids": [ids[n] for n in places]}, return_tensors="pt").to(model.device)
            with torch.inference_mode():
                spoken = speak(model, batch["input_ids"], batch["attention_mask"])
            for n, said in zip(places, spoken, strict=True):
                if not said.spectrogram.isfinite().all():
                    continue
                found[n] = _prediction(said, processor, model.config.vocoder) | {"tokens_cut": lengths[n] - len(ids[n])}
            advance(len(places))
    require_all([n in found for n in range(len(texts))])
    return [found[n] for n in range(len(texts))]


def _require_words(texts: Sequence[str]) -> None:
    for number, text in enumerate(texts, start=1):
        if not any(map(str.isalnum, text)):
            raise DataError(f"input {number}: need words to say; got '{text}'; write some.")


def _prediction(said: Any, processor: Any, vocoder: str | None) -> Prediction:
    from regard.finetuning.tasks.speech.synthesizer import masses

    across = said.across
    steps, tokens = across.shape[-2:]
    near = masses(across[:, None], across.new_ones(1, tokens), across.new_full((1,), steps))[0]
    made = _made(said.spectrogram.float().cpu().numpy(), processor.feature_extractor, vocoder)
    return made | {"diagonality": float(near[1:].max() / near[0]), "finished": said.finished}


def _made(spectrogram: np.ndarray, extractor: Any, vocoder: str | None) -> Prediction:
    """Return the sound of a spectrogram, its length, and what tells it from others: the means of eight moments.

    They are told in hundreds, for answers are compared to within 1e-4, and a hundredth of a decade is rounding here.
    """
    sound = vocoders.to_sound(spectrogram, extractor, find_model(vocoder) if vocoder else None)
    sketch = tuple(float(part.mean()) / 100 for part in np.array_split(spectrogram, 8) if len(part))
    wav = vocoders.as_wav(sound, extractor.sampling_rate)
    return {"sound": Made(wav, ".wav", sketch), "seconds": round(len(sound) / extractor.sampling_rate, 3)}


def measure(split: Dataset, predictions: Sequence[Prediction], spec: Known) -> dict[str, Score]:
    """Score with mel cepstral distortion, diagonality, and the errors of a recogniser if one listens."""
    return measures.measure(split["audio"], split["text"], predictions, spec)


def baselines(
    train: Dataset, test: Dataset, processor: Any, spec: Known, config: Config, display: Display
) -> dict[str, list[Prediction]]:
    """Give the recordings through the vocoder, which is as good as can be, and training recordings of other words."""
    extractor, vocoder = processor.feature_extractor, spec.vocoder
    order = np.argsort([len(text) for text in train["text"]], kind="stable")
    lengths = np.array([len(train["text"][int(n)]) for n in order])
    places = np.searchsorted(lengths, [len(text) for text in test["text"]]).clip(max=len(order) - 1)
    others = [train["audio"][int(order[place])] for place in places]

    def through(files: Sequence[str]) -> list[Prediction]:
        return [_made(speakers.spectrogram(file, extractor), extractor, vocoder) for file in files]

    return {SAME_VOICE: through(test["audio"]), OTHER_WORDS: through(others)}


def illustrate(
    model: Any, processor: Any, split: Dataset, predictions: Sequence[Prediction], spec: Known, config: Config
) -> dict[str, Any]:
    """Return what was said and heard, sounds beside their recordings, and what each moment attends to."""
    texts, files = split["text"], split["audio"]
    drawn = range(min(len(texts), config.report.attention))
    sounds = []
    for n in drawn:
        sounds.append(Sound(f"Said: {texts[n]}", predictions[n]["sound"].content))
        sounds.append(Sound(f"Recorded: {texts[n]}", Path(files[n]).read_bytes()))
    found = {
        "sounds": sounds,
        "pictures": [_drawn(model, processor, texts[n]) for n in drawn],
        "notes": _notes(spec, texts),
    }
    if spec.recognizer:
        heard = [{"text": text} for text in measures.heard(spec.recognizer, predictions)]
        names = [Path(file).name for file in files]
        found["tables"] = [transcripts.samples(names, texts, heard, spec.normalizer, config.report.mistakes)]
    return found


def _drawn(model: Any, processor: Any, text: str) -> Picture:
    """Draw what each moment of the speech attends to in the text."""
    from regard.inspection.look import Look

    png = io.BytesIO()
    Look(framework_of(model).look(model, processor, text), "alignment", given=text).draw(png)
    told = "Rows are moments of what the model says, columns the tokens of the text; the mean of all heads."
    return Picture(text, png.getvalue(), told, inside=True)


def _notes(spec: Known, texts: Sequence[str]) -> list[str]:
    known = spec.vocoder or "Griffin and Lim's method"
    notes = [
        f"Sounds are made of spectrograms by {known}.",
        "Mel cepstral distortion compares 13 coefficients without the loudness, of frames that are warped in time; it "
        "depends on the rate of the sound and on how the cepstra are made: compare it with the baselines here alone.",
        "Diagonality is the share of attention that lies within a tenth of the text from where evenly spoken words "
        "would be, of the head that has the most (Chen et al. 2020, arXiv 2006.04664): 0.2 if it looks everywhere.",
    ]
    return notes + (transcripts.notes(spec.normalizer, _language.found(texts)) if spec.recognizer else [])


def record(row: dict[str, Any], prediction: Prediction) -> dict[str, Any]:
    """Return what was said, and beside which recording; sounds are in the report."""
    return {"text": row["text"], "beside": row["audio"]} | {k: v for k, v in prediction.items() if k != "sound"}


def tell(prediction: Prediction) -> str:
    """Say how long it took, and whether it came to an end."""
    ended = "" if prediction["finished"] else ", cut off: the model did not stop by itself"
    return f"{prediction['seconds']:.2f} s of speech{ended}"
