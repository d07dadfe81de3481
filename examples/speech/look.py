"""What a recogniser listens to as it writes: each word of ten sentences with its seconds, and a picture of one.

python examples/speech/get_model.py
python examples/speech/get_data.py
python examples/speech/look.py [FOLDER]        # default: runs/speech; half a minute on two cores
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import torch

import regard
from regard.inspection import plots
from regard.looking.sounds import read_sound
from regard.looking.transformers.loading import load
from regard.looking.transformers.look import look
from regard.models.alignment import Alignment, align

DATA = Path("data/speech")
RATE = 16_000  # samples a second
FRAMES = 50  # positions of the encoder a second


def main(folder: Path) -> None:
    if not (DATA / "whisper-tiny.en").is_dir() or not (DATA / "transcripts.csv").is_file():
        sys.exit(f"look: need a model and sounds in {DATA}; run get_model.py and get_data.py of this folder first.")
    model, processor = load(str(DATA / "whisper-tiny.en"))
    with (DATA / "transcripts.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        words = look(model, processor, str(DATA / row["audio"])).words
        print(f"said   {row['text']}\nheard  " + " ".join(f"{word}@{first:.1f}" for word, first, _ in words))
    found, tokens = listened(model, processor, DATA / rows[0]["audio"], rows[0]["text"])
    folder.mkdir(parents=True, exist_ok=True)
    plots.alignment(
        found, tokens, title="What each token listens to (keys: 50 a second)", path=folder / "alignment.png"
    )
    print(f"Written: {folder / 'alignment.png'}")


def listened(model: torch.nn.Module, processor: object, path: Path, text: str) -> tuple[Alignment, list[str]]:
    """Which part of a sound belongs to each token of a text, by all heads of the decoder's upper half."""
    sound = read_sound(str(path), RATE)
    batch = processor.feature_extractor(sound, sampling_rate=RATE, return_tensors="pt")
    ids = processor.tokenizer(text, return_tensors="pt").input_ids
    with torch.no_grad(), regard.watch(model) as seen:
        model(**batch, decoder_input_ids=ids)
    cross = [weights[0] for weights in seen if weights.shape[-2] == ids.shape[1] != weights.shape[-1]]
    last = round(len(sound) / RATE * FRAMES)
    maps = [
        weights[:, :-1, :last] for weights in cross[len(cross) // 2 :]
    ]  # tiles: behind the sound is silence; a token is written where the one before is read
    return align(maps), [processor.tokenizer.decode([token]).strip() for token in ids[0, 1:].tolist()]


if __name__ == "__main__":
    main(Path(*sys.argv[1:2] or ["runs/speech"]))
