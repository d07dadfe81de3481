"""A small vision transformer on scanned digits: what it looks at, and how far that explains what it decides.

python examples/digits/look.py [FOLDER]        # default: runs/digits; about half a minute on two cores
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from transformers import ViTConfig, ViTForImageClassification

import regard
from regard.inspection import plots
from regard.inspection.faithfulness import Faithfulness, faithfulness
from regard.inspection.patches import patch_map

PATCHES = 16
EPOCHS = 60


def main(folder: Path) -> None:
    torch.manual_seed(0)
    digits = load_digits()
    train, test, truth, wanted = train_test_split(
        digits.images.astype(np.float32) / 16, digits.target, test_size=0.25, random_state=0, stratify=digits.target
    )
    baseline = LogisticRegression(max_iter=2000).fit(train.reshape(len(train), -1), truth)
    model = trained(torch.tensor(train)[:, None], torch.tensor(truth))
    with torch.no_grad():
        found = model(pixel_values=torch.tensor(test)[:, None]).logits.argmax(-1).numpy()
    known = baseline.score(test.reshape(len(test), -1), wanted)
    print(f"accuracy {np.mean(found == wanted):.3f}; logistic regression {known:.3f}")
    shown = torch.tensor(test[:20])[:, None]
    rankings = explanations(model, shown)
    print("Mean over 20 digits: how far the probability falls without the most important patches, and by how much")
    print("further than with random ones (above 0: better than random, on average).")
    for name, scores in rankings.items():
        measured = [measure(model, picture, score) for picture, score in zip(shown, scores, strict=True)]
        gains = [each.beyond_random()["comprehensiveness"] for each in measured]
        beyond, better = np.mean([mean for mean, _, _ in gains]), sum(mean > 0 for mean, _, _ in gains)
        mean = np.mean([each.comprehensiveness for each in measured])
        print(
            f"{name:10} comprehensiveness {mean:.3f}, beyond random {beyond:+.3f}; better than random in {better} of 20"
        )
    folder.mkdir(parents=True, exist_ok=True)
    picture = folder / "digits-look.png"
    plots.image_overlay(test[0], patch_map(rankings["relevance"][0]), f"a {found[0]}: relevance", path=picture)
    print(f"Written: {picture}")


def trained(pictures: torch.Tensor, labels: torch.Tensor) -> ViTForImageClassification:
    config = ViTConfig(
        image_size=8, patch_size=2, num_channels=1, num_labels=10, hidden_size=48, num_hidden_layers=4,
        num_attention_heads=4, intermediate_size=96,
    )  # fmt: skip
    model = ViTForImageClassification(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    steps = EPOCHS * -(-len(labels) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for epoch in range(EPOCHS):
        for batch in torch.randperm(len(labels)).split(64):
            loss = model(pixel_values=pictures[batch], labels=labels[batch]).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        if epoch % 20 == 19:
            print(f"epoch {epoch + 1} of {EPOCHS}, loss {loss.item():.3f}", flush=True)
    return model.eval()


def explanations(model: ViTForImageClassification, pictures: torch.Tensor) -> dict[str, np.ndarray]:
    """One number for each key of each picture, `(20, 17)`."""
    with regard.watch(model, values=True) as seen:
        logits = model(pixel_values=pictures).logits
    logits.amax(-1).sum().backward()
    return {
        "received": seen.received()[-1].mean(1).detach().numpy(),
        "rollout": seen.rollout(0).detach().numpy(),
        "relevance": seen.relevance(0).detach().numpy(),
    }


def measure(model: ViTForImageClassification, picture: torch.Tensor, scores: np.ndarray) -> Faithfulness:
    """By the probability of what the model sees, with patches painted over in the picture's mean."""
    with torch.no_grad():
        decided = int(model(pixel_values=picture[None]).logits.argmax())

    def score(kept: np.ndarray) -> np.ndarray:
        grid = torch.tensor(kept.reshape(-1, 1, 4, 4)).repeat_interleave(2, -1).repeat_interleave(2, -2)
        with torch.no_grad():
            logits = model(pixel_values=torch.where(grid, picture[None], picture.mean())).logits
        return logits.softmax(-1)[:, decided].numpy()

    return faithfulness(score, scores[-PATCHES:], shares=(0.1, 0.2, 0.3, 0.5))


if __name__ == "__main__":
    main(Path(*sys.argv[1:2] or ["runs/digits"]))
