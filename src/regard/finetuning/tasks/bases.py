"""The models that tasks begin with: what they run, what their heads need, and what of them is new."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from regard.errors import ConfigError
from regard.finetuning.progress import quiet_transformers

if TYPE_CHECKING:
    pass


def require_no_code(source: str) -> None:
    """Refuse a model that brings code of its own, which would run with all that whoever starts it may do.

    Raises:
        ConfigError: it does, and transformers has no code for it.
    """
    from transformers import AutoConfig

    with quiet_transformers():
        try:
            AutoConfig.from_pretrained(source, trust_remote_code=False)
        except Exception as error:
            if "trust_remote_code" in str(error):  # all else is told by those who need it
                raise ConfigError(
                    f"model: need a model whose code is part of transformers; got '{source}', which brings code of its "
                    "own, and that is not run; choose another model."
                ) from None


def require_model(source: str) -> Any:
    """Return the configuration of a model that must be there.

    Raises:
        ConfigError: it is not.
    """
    from transformers import AutoConfig

    with quiet_transformers():
        try:
            return AutoConfig.from_pretrained(source, trust_remote_code=False)
        except Exception as error:
            raise ConfigError(
                f"model: need a directory with a config.json, package:NAME/PATH, or a name on the hub that can be "
                f"reached; got '{source}'; correct the name or the path."
            ) from error


def head_options(labels: Sequence[str], problem: str = "single_label_classification") -> dict[str, Any]:
    """Return what transformers must know of the labels to make a head for them."""
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: number for number, label in enumerate(labels)},
        "problem_type": problem,
    }


def newly_initialised(source: str, model: Any, info: dict[str, Any]) -> list[str]:
    """Return the names of parameters that a checkpoint did not have, or not in that shape.

    Raises:
        ConfigError: It has less than half of them, so that it would be a model of random numbers that begins to learn.
    """
    lacking, there = len(info["missing_keys"]), sum(1 for _ in model.parameters())
    if lacking > there // 2:
        raise ConfigError(
            f"model: need a checkpoint with the model's weights; got '{source}' without {lacking} of its {there}; "
            "save or fetch it again, or name the family alone to begin at random, where the task can."
        )
    return sorted({*info["missing_keys"], *(entry[0] for entry in info["mismatched_keys"])})


def dropouts(source: str, wanted: float | None) -> dict[str, float]:
    """Return the dropouts in a model's configuration, all of them set to one probability."""
    if wanted is None:
        return {}
    values = require_model(source).to_dict().items()
    return {name: wanted for name, value in values if "dropout" in name and isinstance(value, float | int)}
