"""Programs that use a run's model without Regard, for its card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from regard.finetuning.config import Config
from regard.finetuning.tasks import Spec, get_task

TEXTS = """\
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{model}")
model = AutoModelForSequenceClassification.from_pretrained("{model}").eval()
with torch.inference_mode():
    logits = model(**tokenizer(["a text of your own"], truncation=True, return_tensors="pt")).logits
"""
PICTURES = """\
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification

processor = AutoImageProcessor.from_pretrained("{model}")
model = AutoModelForImageClassification.from_pretrained("{model}").eval()
with torch.inference_mode():
    logits = model(**processor(Image.open("picture.png").convert("RGB"), return_tensors="pt")).logits
"""
TEMPERED = """\
logits = logits / model.config.calibration["temperature"]  # fitted on validation rows
"""
SINGLE = """\
probabilities = logits.softmax(-1)[0]
print({{model.config.id2label[n]: p.item() for n, p in enumerate(probabilities)}})
"""
SEVERAL = """\
probabilities = {{model.config.id2label[n]: p.item() for n, p in enumerate(logits.sigmoid()[0])}}
"""
HALF = """\
print([label for label, p in probabilities.items() if p > 0.5])
"""
THRESHOLDS = """\
thresholds = model.config.calibration["thresholds"]  # fitted on validation rows
print([label for label, p in probabilities.items() if p > thresholds[label]])
"""
NUMBER = """\
scale = model.config.label_scale
print(logits[0, 0].item() * scale["deviation"] + scale["mean"])
"""
WRITING = """\
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{model}")
model = AutoModelForSeq2SeqLM.from_pretrained("{model}").eval()
text = (getattr(model.config, "prefix", None) or "") + "a text of your own"
read = tokenizer([text], truncation=True, return_tensors="pt")
written = model.generate(input_ids=read["input_ids"], attention_mask=read["attention_mask"])
print(tokenizer.batch_decode(written, skip_special_tokens=True)[0])
"""
OTHERS = {
    "translation": WRITING,
    "summarization": WRITING,
    "masked-language-modeling": """\
from transformers import pipeline

fill = pipeline("fill-mask", model="{model}")
print(fill(f"a text with a {{fill.tokenizer.mask_token}} in it"))
""",
    "object-detection": """\
from transformers import pipeline

find = pipeline("object-detection", model="{model}")
print(find("picture.png"))
""",
    "speech-recognition": """\
from scipy.io import wavfile
from scipy.signal import resample_poly
from transformers import pipeline

hear = pipeline("automatic-speech-recognition", model="{model}")
rate, sound = wavfile.read("sound.wav")  # 16-bit, one channel
wanted = hear.feature_extractor.sampling_rate
sound = resample_poly(sound / 32768, wanted, rate, padtype="symmetric")
print(hear({{"raw": sound, "sampling_rate": wanted}})["text"])
""",
}
KERAS = """\
from pathlib import Path

import keras
import keras_hub  # which knows the layers
from huggingface_hub import snapshot_download

name = "{model}"
folder = Path(name if Path(name).is_dir() else snapshot_download(name))
model = keras.saving.load_model(folder / "model.keras", compile=False)
"""
KERAS_TEXTS = """\
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(folder)
read = tokenizer(["a text of your own"], truncation=True, return_token_type_ids=True, return_tensors="np")
names = {{"token_ids": "input_ids", "padding_mask": "attention_mask", "segment_ids": "token_type_ids"}}
logits = model.predict({{name: read[names[name]] for name in model.input}}, verbose=0)
"""
KERAS_PICTURES = """\
from PIL import Image
from transformers import AutoImageProcessor

processor = AutoImageProcessor.from_pretrained(folder)
pixels = processor(Image.open("picture.png").convert("RGB"), return_tensors="np")["pixel_values"]
logits = model.predict(pixels.transpose(0, 2, 3, 1), verbose=0)
"""
KERAS_TEMPERED = """\
import json

logits = logits / json.loads((folder / "calibration.json").read_text())["temperature"]  # fitted on validation rows
"""
KERAS_SINGLE = """\
labels = {labels}
probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(logits))[0]
print(dict(zip(labels, probabilities.tolist())))
"""
OURS = """\
import regard

print(regard.predict("{run}", [{input}]))
"""
OURS_MADE = """\
from pathlib import Path

import regard

[made] = regard.predict("{run}", [{input}])
made["{key}"].save(Path("made{ending}"))
"""
MADE = {"speech-synthesis": ("sound", ".wav"), "image-generation": ("picture", ".png")}
"""What a prediction calls the file that is made, and what its name ends in."""
OWN = {"image": "picture.png", "audio": "sound.wav"}
"""What programs ask about, where it is no text."""


def programs(config: Config, spec: Spec, fitted: dict[str, Any], model: Path) -> list[str]:
    """Return a program without Regard, where one is known, and one with it.

    Args:
        fitted: what was fitted on validation rows, such as a temperature.
        model: the folder of the model.
    """
    plain = (_plain if config.framework == "torch" else _plain_keras)(config.task, spec, fitted)
    role, labels = get_task(config.task).INPUT, list(getattr(spec, "labels", ()))
    own = OWN.get(role, labels[0] if role == "label" and labels else f"a {role} of your own")
    names = {"model": model.as_posix(), "run": model.parent.as_posix(), "input": repr(own), "labels": repr(labels)}
    names |= dict(zip(("key", "ending"), MADE.get(config.task, ()), strict=False))
    ours = OURS_MADE if config.task in MADE else OURS
    return [program.format(**names) for program in (plain, ours) if program]


def _plain(task: str, spec: Spec, fitted: dict[str, Any]) -> str:
    tempered = TEMPERED if "temperature" in fitted else ""
    if task == "image-classification":
        return PICTURES + tempered + SINGLE
    if task != "text-classification":
        return OTHERS.get(task, "")
    kind = getattr(spec, "kind", "single")
    if kind == "multi":
        return TEXTS + tempered + SEVERAL + (THRESHOLDS if "thresholds" in fitted else HALF)
    return TEXTS + (NUMBER if kind == "regression" else tempered + SINGLE)


def _plain_keras(task: str, spec: Spec, fitted: dict[str, Any]) -> str:
    read = KERAS_PICTURES if task == "image-classification" else KERAS_TEXTS
    return KERAS + read + (KERAS_TEMPERED if "temperature" in fitted else "") + KERAS_SINGLE


def license_of(config: Config) -> str | None:
    """Return the licence that the configuration states, or the base model's card, if it is on this machine."""
    if config.report.license:
        return config.report.license
    from huggingface_hub import ModelCard, try_to_load_from_cache

    source = config.source
    card: Any = Path(source) / "README.md"
    if not Path(source).is_dir():
        card = try_to_load_from_cache(source, "README.md") if source.count("/") <= 1 else None
    if not isinstance(card, str | Path) or not Path(card).is_file():
        return None
    try:
        found = ModelCard.load(card, ignore_metadata_errors=True).data.get("license")
    except (ValueError, OSError, yaml.YAMLError):  # a card whose header is no YAML states nothing
        return None
    return found if isinstance(found, str) else None
