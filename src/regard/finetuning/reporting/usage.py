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
from transformers import pipeline

hear = pipeline("automatic-speech-recognition", model="{model}")
rate, sound = wavfile.read("sound.wav")  # 16-bit, one channel
print(hear({{"raw": sound / 32768, "sampling_rate": rate}})["text"])
""",
}
KERAS = """\
import keras
import keras_hub  # which knows the layers

model = keras.saving.load_model("{model}/model.keras", compile=False)
"""
OURS = """\
import regard

regard.predict("{run}", ["{input} of your own"])
"""


def programs(config: Config, spec: Spec, fitted: dict[str, Any], model: Path) -> list[str]:
    """Return a program without Regard, where one is known, and one with it.

    Args:
        fitted: what was fitted on validation rows, such as a temperature.
        model: the folder of the model.
    """
    plain = KERAS if config.framework != "torch" else _plain(config.task, spec, fitted)
    names = {"model": model.as_posix(), "run": model.parent.as_posix(), "input": get_task(config.task).INPUT}
    return [program.format(**names) for program in (plain, OURS) if program]


def _plain(task: str, spec: Spec, fitted: dict[str, Any]) -> str:
    tempered = TEMPERED if "temperature" in fitted else ""
    if task == "image-classification":
        return PICTURES + tempered + SINGLE
    if task != "text-classification":
        return OTHERS.get(task, "")
    kind = spec.get("kind", "single")
    if kind == "multi":
        return TEXTS + tempered + SEVERAL + (THRESHOLDS if "thresholds" in fitted else HALF)
    return TEXTS + (NUMBER if kind == "regression" else tempered + SINGLE)


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
