"""What is known already, in a file, so that a run that was killed goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from regard._backends import to_numpy
from regard._files import whole
from regard.errors import DataError

VERSION = 1
EVERY = 5.0  # seconds, after which what is new is written


class Kept:
    """The scores of each batch with each edit so far.

    Args:
        path: Of a file, which is read if it is there; None keeps nothing.
        question: What is asked of which model: a file of another one is refused.
    """

    def __init__(self, path: Any, question: Mapping[str, Any]) -> None:
        self._path = None if path is None else Path(path)
        self._question = json.dumps({"version": VERSION, **question}, sort_keys=True)
        self._arrays: dict[str, np.ndarray] = {}
        self._written = time.monotonic()
        if self._path is not None and self._path.exists():
            self._arrays = _read(self._path)
            self._require(self._arrays.pop("question", None) == self._question, "model and question")

    def batch(self, number: int, batch: Any, plain: np.ndarray) -> list[np.ndarray]:
        """What is known of a batch: its scores `(B,)` with each of the first edits."""
        digest = "" if self._path is None else batch_digest(batch)
        before = self._arrays.get(_at("inputs", number))
        if before is not None:
            self._require(before == digest, "inputs")
            known = self._arrays[_at("plain", number)]
            same = known.shape == plain.shape and np.allclose(known, plain, rtol=1e-3, atol=1e-5)
            self._require(same, "score")
        self._arrays |= {_at("inputs", number): np.array(digest), _at("plain", number): plain}
        return list(self._arrays.get(_at("edited", number), ()))

    def estimates(self, number: int) -> np.ndarray | None:
        return self._arrays.get(_at("estimates", number))

    def keep(self, number: int, edited: list[np.ndarray], estimates: np.ndarray | None, now: bool = False) -> None:
        """Write what is known of a batch, if `now`, or if that was long ago."""
        if self._path is None or not (now or time.monotonic() - self._written > EVERY):
            return
        self._arrays[_at("edited", number)] = np.array(edited)
        if estimates is not None:
            self._arrays[_at("estimates", number)] = estimates
        with whole(self._path) as aside, open(aside, "wb") as file:
            np.savez(file, question=np.array(self._question), **self._arrays)  # type: ignore[arg-type]
        self._written = time.monotonic()

    def _require(self, same: bool, what: str) -> None:
        if not same:
            raise DataError(
                f"effects: need a file of the same {what} to resume; got another's, {self._path}; name another file, "
                "or delete it."
            )


def _at(what: str, number: int) -> str:
    """The name of what is known of a batch."""
    return f"{what}-{number}"


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with open(path, "rb") as given, np.load(given, allow_pickle=False) as file:
            return dict(file)
    except Exception as error:  # zipfile's, NumPy's, zlib's
        raise DataError(
            f"effects: need a file of effects to resume; got one that cannot be read, {path}; name another file, or "
            "delete it."
        ) from error


def batch_digest(batch: Any) -> str:
    """Of every array of a batch, by its name or place."""
    digest = hashlib.sha256()
    named = batch.items() if isinstance(batch, Mapping) else enumerate(batch if isinstance(batch, tuple) else (batch,))
    for name, value in sorted(named, key=lambda item: str(item[0])):
        array = to_numpy(value) if hasattr(value, "shape") else np.array(repr(value))
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
