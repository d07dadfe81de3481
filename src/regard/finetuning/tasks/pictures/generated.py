"""Pictures that were made: judged by a classifier of the real ones, and drawn."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from regard.finetuning.tasks import Made, Prediction
from regard.looking.pictures import open_picture

SIDE = 28
"""Pixels of a side of what the judge sees."""
HIDDEN = (256, 64)
"""Units of the judge's layers; the last are its features."""
COLUMNS = 10


class Judge:
    """A classifier of real pictures, a perceptron of two hidden layers, and its features.

    Args:
        pictures: of PIL.
        names: of their classes.
    """

    def __init__(self, pictures: Sequence[Any], names: Sequence[str]) -> None:
        from sklearn.model_selection import train_test_split

        self.real = self.pixels(pictures)
        self.classes = len(set(names))
        few = min(names.count(name) for name in set(names)) < 2
        parts = train_test_split(
            self.real, list(names), test_size=max(0.2, self.classes / len(names)), random_state=0,
            stratify=None if few else list(names),
        )  # fmt: skip
        self.accuracy = float(_perceptron(parts[0], parts[2]).score(parts[1], parts[3]))
        self._model = _perceptron(self.real, names)

    @staticmethod
    def pixels(pictures: Sequence[Any]) -> np.ndarray:
        """Pictures as it sees them, `(n, pixels)`."""
        return np.stack([np.asarray(p.resize((SIDE, SIDE)), np.float32).mean(-1).ravel() / 255 for p in pictures])

    def labels(self, pixels: np.ndarray) -> list[str]:
        """Its answers."""
        return list(self._model.predict(pixels))

    def features(self, pixels: np.ndarray) -> np.ndarray:
        """What its last hidden layer makes of pictures, `(n, features)`."""
        for weights, bias in zip(self._model.coefs_[:-1], self._model.intercepts_[:-1], strict=True):
            pixels = np.maximum(pixels @ weights + bias, 0)
        return pixels


def _perceptron(pixels: np.ndarray, names: Sequence[str]) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return MLPClassifier(HIDDEN, alpha=1e-3, max_iter=40, random_state=0).fit(pixels, list(names))


def distances(real: np.ndarray, made: np.ndarray) -> tuple[float, float]:
    """Return the Fréchet and the kernel distance between features.

    Source: Heusel et al. 2017, arXiv 1706.08500, equation 6; Binkowski et al. 2018, arXiv 1801.01401, section 3.
    """
    import torch
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    features = torch.nn.Identity()  # what is compared was made before
    features.num_features = real.shape[-1]  # type: ignore[assignment]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Metric `Kernel Inception Distance` will save")
        size = min(len(real), len(made), 500)
        measures = (
            FrechetInceptionDistance(features),
            KernelInceptionDistance(features, subsets=20, subset_size=size),
        )
    found = []
    for measure in measures:
        measure.update(torch.from_numpy(real).float(), real=True)
        measure.update(torch.from_numpy(made).float(), real=False)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            value = measure.compute()
        found.append(float(value[0] if isinstance(value, tuple) else value))
    return found[0], found[1]


def made(picture: np.ndarray) -> Made:
    """Return a picture `(height, width, 3)` of numbers in 0..1 as a file, and the means of its 16 parts.

    They are told in hundreds, for answers are compared to within 1e-4, and a hundredth of grey is rounding here.
    """
    parts = [part for rows in np.array_split(picture, 4) for part in np.array_split(rows, 4, axis=1)]
    return Made(as_png(picture), ".png", tuple(float(part.mean()) / 100 for part in parts if part.size))


def as_png(picture: np.ndarray) -> bytes:
    """Return a picture `(height, width, 3)` of numbers in 0..1 as a file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray((np.clip(picture, 0, 1) * 255).round().astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def mean_picture(files: Sequence[str]) -> bytes:
    """Return the mean of pictures, as large as the first."""
    size = open_picture(files[0])[0].size
    return as_png(np.mean([np.asarray(open_picture(file)[0].resize(size), np.float32) for file in files], 0) / 255)


def sheet(predictions: Sequence[Prediction], names: Sequence[str]) -> bytes:
    """Draw the first few pictures of each class, a row for each."""
    from regard.inspection import plots

    made: dict[str, list[bytes]] = {}
    for name, prediction in zip(names, predictions, strict=True):
        made.setdefault(name, []).append(prediction["picture"].content)
    labels = sorted(made)
    rows = [made[label][:COLUMNS] for label in labels]
    drawn = io.BytesIO()
    shown = [[np.asarray(open_picture(io.BytesIO(png))[0]) for png in row] for row in rows]
    plots.picture_rows(shown, labels, path=drawn)
    return drawn.getvalue()


def making(model: Any, label: int, seed: int, moments: int) -> bytes:
    """Draw a picture as it is made, with where one of its patches looks, at so many moments."""
    import torch

    from regard._backends import to_numpy
    from regard.inspection import plots
    from regard.models.watch import watch

    shown: list[np.ndarray] = []
    with watch(model) as seen:
        made = model.generate(torch.tensor([label]), [seed], lambda _, noisy: shown.append(_drawn(noisy)))
    layers, steps = len(seen) // len(shown), len(shown)
    chosen = np.linspace(0, steps - 1, moments).round().astype(int)
    picture = made[0].permute(1, 2, 0).cpu().numpy()
    side = round(seen[0].shape[-1] ** 0.5)
    start = _busiest(picture, side)
    maps = [
        np.mean([to_numpy(seen[int(step) * layers + layer][0][..., start, :]).mean(0) for layer in range(layers)], 0)
        for step in chosen
    ]
    drawn = io.BytesIO()
    pictures = np.stack([*(shown[step] for step in chosen), picture])
    plots.image_overlays(
        pictures,
        np.stack([*maps, np.eye(side * side)[start]]).reshape(-1, side, side),
        [*(f"step {step + 1} of {steps}" for step in chosen), "made; the patch"],
        path=drawn,
    )
    return drawn.getvalue()


def _drawn(noisy: Any) -> np.ndarray:
    """The first picture of what a step begins with, of three channels in 0..1."""
    array = noisy[0, :3].permute(1, 2, 0).cpu().numpy()
    return np.clip(np.broadcast_to(array.mean(-1, keepdims=True), (*array.shape[:2], 3)) / 4 + 0.5, 0, 1)


def _busiest(picture: np.ndarray, side: int) -> int:
    """The number of the patch, of `side` by `side`, with the most contrast."""
    height, width = (size // side * side for size in picture.shape[:2])
    parts = picture[:height, :width].mean(-1).reshape(side, height // side, side, width // side)
    return int(parts.std((1, 3)).argmax())
