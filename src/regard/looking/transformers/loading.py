"""Open a checkpoint of transformers: the model with its own head, and what prepares its inputs."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import transformers

from regard.errors import ConfigError
from regard.looking.transformers.watching import silent


def load(name: str) -> tuple[Any, Any]:
    """A model with the head that its checkpoint has, and what prepares its inputs, by directory or hub name.

    Raises:
        ConfigError: There is no such checkpoint, its weights do not load, or nothing prepares inputs for it.
    """
    with silent():
        try:
            config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
        except Exception as error:  # also of a config.json that holds other things
            if "trust_remote_code" in str(error):
                raise ConfigError(
                    f"{name}: need a model whose code is part of transformers; got one that brings code of its own, "
                    "and that is not run; choose another model."
                ) from None
            raise ConfigError(
                f"{name}: need a run, the directory of a checkpoint or a name on the hub; got none of these"
                f"{_why_not(name, error)}; check the spelling, and the network for a name on the hub."
            ) from None
        kind = _kind(name, config)
        try:
            model, info = kind.from_pretrained(name, trust_remote_code=False, output_loading_info=True)
        except Exception as error:  # whatever a library raises for weights that are damaged or of other shapes
            raise ConfigError(
                f"{name}: need weights that load; got a checkpoint whose do not ({_briefly(error)}); "
                "save or fetch it again."
            ) from None
        lacking, there = len(info["missing_keys"]), sum(1 for _ in model.parameters())
        if lacking > there // 2:
            raise ConfigError(
                f"{name}: need weights that load; got a checkpoint without {lacking} of its {there}; save it again."
            )
        for prepare in (transformers.AutoProcessor, transformers.AutoTokenizer, transformers.AutoImageProcessor,
                        transformers.AutoFeatureExtractor):  # fmt: skip
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, ImportError):
                return model.eval(), prepare.from_pretrained(name, trust_remote_code=False)
    raise ConfigError(f"{name}: need a tokenizer, image processor or feature extractor beside the model; found none.")


def _kind(name: str, config: Any) -> Any:
    """The class of a checkpoint's model, without a head where nobody knows it."""
    named = config.architectures
    first = named[0] if isinstance(named, list) and named else None
    kind = getattr(transformers, first, transformers.AutoModel) if isinstance(first, str) else transformers.AutoModel
    fits = isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)
    if kind is not transformers.AutoModel and not fits:
        raise ConfigError(
            f"{name}: need the name of a model in 'architectures' of config.json; got '{first}'; correct it."
        )
    return kind


def _why_not(name: str, error: Exception) -> str:
    """What a library says of a name; of a path that is not there, it only tells how names on the hub are spelled."""
    path = Path(name).expanduser()
    return "" if path.is_absolute() and not path.exists() else f" ({_briefly(error)})"


def _briefly(error: Exception) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:120]
