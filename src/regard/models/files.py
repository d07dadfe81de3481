"""Weights, and what a watched model attended to, written into a file and read again."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from regard._backends import FRAMEWORKS, backend_named
from regard.errors import ConfigError, DtypeError
from regard.models import kept
from regard.models.seen import Seen
from regard.weights import AttentionWeights


def save(found: AttentionWeights | Seen | Sequence[AttentionWeights], path: str | os.PathLike[str]) -> None:
    """Write lazy weights, as lazy as they are, into a file that `load` reads into any framework.

    Args:
        found: An `AttentionWeights`, what `watch` has seen, or `outputs.attentions`.
        path: The file, of the format safetensors; what was there is replaced when the new one is whole.

    Raises:
        DtypeError: Something else, such as attentions that were not computed lazily.
        UnsupportedError: A mask that is a function of somebody's; or without safetensors.

    Cost: see `Seen.save`.
    """
    if isinstance(found, Seen):
        return found.save(path)
    several = [found] if isinstance(found, AttentionWeights) else found
    if not isinstance(several, (list, tuple)) or not all(isinstance(each, AttentionWeights) for each in several):
        raise DtypeError(
            f"save: need an AttentionWeights, a list of them, or what watch has seen; got {type(found).__name__}."
        )
    arrays = kept.Arrays()
    described: dict[str, Any] = {"weights": [kept.told(each, arrays) for each in several]}
    described["alone"] = several is not found
    kept.write(path, described, arrays, several[0]._xp.name if several else "numpy")


def load(path: str | os.PathLike[str], framework: str | None = None) -> Any:
    """What `save` wrote: an `AttentionWeights`, a tuple of them or a `Seen`, without gradients.

    Args:
        path: The file.
        framework: Whose arrays to make: `"numpy"`, `"torch"`, `"jax"` or `"tensorflow"`; default those of the one that
            wrote it if that is imported, else NumPy's. NumPy's and a framework's on a CPU share the compiled pass.

    Raises:
        ConfigError: There is no such framework.
        DataError: No such file, or one that was cut, changed or not written by `save`.

    Example:
        >>> import numpy as np, regard, tempfile, os
        >>> x = np.random.default_rng(0).normal(size=(2, 5, 4))
        >>> _, weights = regard.attention(x, x, x, causal=True)
        >>> path = os.path.join(tempfile.mkdtemp(), "weights.safetensors")
        >>> regard.save(weights, path)
        >>> bool((regard.load(path).dense() == weights.dense()).all())
        True
    """
    if framework not in (None, *FRAMEWORKS):
        raise ConfigError(f"load: need a framework of {', '.join(FRAMEWORKS)}; got {framework!r}.")
    described, arrays = kept.read(path)
    written = described["framework"] if described["framework"] in sys.modules else "numpy"
    xp = backend_named(framework or written)
    make = kept.maker(xp, described, arrays)
    if "weights" not in described:
        return Seen.restored(described, make, xp)
    several = [kept.weights_of(each, make, xp) for each in described["weights"]]
    return several[0] if described["alone"] else tuple(several)
