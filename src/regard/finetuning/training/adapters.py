"""Adapters: a few parameters are trained in place of all, and become part of the model at the end."""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from transformers import AutoConfig, AutoModel
from transformers.pytorch_utils import Conv1D

from regard._files import read_json, write_json
from regard.errors import ConfigError, DataError
from regard.finetuning.config import Adapter, find_model
from regard.finetuning.progress import quiet_transformers
from regard.finetuning.runs.seals import describe, fault
from regard.finetuning.tasks import Spec, get_task, load_spec

BASE = "base.json"
"""What an adapter was trained on, beside it."""

TARGETS: dict[str, tuple[str, ...]] = {
    "bert": ("query", "value"),
    "roberta": ("query", "value"),
    "xlm-roberta": ("query", "value"),
    "electra": ("query", "value"),
    "distilbert": ("q_lin", "v_lin"),
    "modernbert": ("Wqkv",),
    "eurobert": ("q_proj", "v_proj"),
    "deberta": ("in_proj",),
    "deberta-v2": ("query_proj", "value_proj"),
    "vit": ("q_proj", "v_proj"),
    "dinov2": ("q_proj", "v_proj"),
    "whisper": ("q_proj", "v_proj"),
    "wav2vec2": ("q_proj", "v_proj"),
    "hubert": ("q_proj", "v_proj"),
    "moonshine": ("q_proj", "v_proj"),
    "t5": ("q", "v"),
    "bart": ("q_proj", "v_proj"),
    "marian": ("q_proj", "v_proj"),
    "detr": ("q_proj", "v_proj"),
    "conditional_detr": ("q_proj", "q_content_proj", "v_proj"),  # its decoder's queries have a content and a place
    "rt_detr": ("q_proj", "v_proj"),
    "yolos": ("query", "value"),
    "speecht5": ("q_proj", "v_proj"),
}
"""The family -> its projections of queries and values (Hu et al. 2021, section 7.1: the best two for a number of
parameters); where query, key and value are one projection, that one. For families that are not here, peft's table
holds."""


def adapt(model: Any, fresh: Iterable[str], adapter: Adapter) -> PeftModel:
    """Freeze a model, and add what is trained in its place.

    Args:
        model: a model of transformers.
        fresh: the names of its parameters that start at random: the layers they belong to are trained and saved whole.
        adapter: which kind, how wide, and where.

    Raises:
        ConfigError: the model has no such layers to adapt, or they start at random themselves.
    """
    targets = _targets(model, adapter)
    new = _layers_of(model, fresh)
    _require_pretrained(model, targets, new)
    _require_called(model, targets, new)
    alpha: Any = adapter.alpha  # peft declares a whole number and takes any
    config = LoraConfig(
        r=adapter.rank,
        lora_alpha=alpha,
        use_dora=adapter.kind == "dora",
        target_modules=targets,
        exclude_modules=[layer for layer in new if _adapted(layer, targets)] or None,
        modules_to_save=[*new, *_running(model, new)] or None,
    )
    with _quietly():
        adapted = get_peft_model(model, config)
    adapted.peft_config["default"].base_model_name_or_path = None  # or each checkpoint asks the hub for it
    return adapted


def require_targets(source: str, adapter: Adapter) -> None:
    """Refuse layers to adapt that a model does not have, before any of it is loaded.

    Raises:
        ConfigError: names a layer that is there.
    """
    if adapter.kind == "none" or not adapter.targets:
        return
    try:
        with torch.device("meta"), quiet_transformers():
            model = AutoModel.from_config(
                AutoConfig.from_pretrained(source, trust_remote_code=False), trust_remote_code=False
            )
    except (OSError, ValueError, KeyError):
        return  # what there is instead is told by those who load it
    _targets(model, adapter)


def _targets(model: Any, adapter: Adapter) -> list[str]:
    """Return the names that are asked for, or those of the family, once they are known to be in the model."""
    family = model.config.model_type
    known = TARGETS.get(family) or TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(family)
    targets = adapter.targets or (known if isinstance(known, list | tuple) else ())
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear | Conv1D)]
    have = ", ".join(sorted({name.rpartition(".")[2] for name in linear} - {str(n) for n in range(100)}))
    if not targets:
        raise ConfigError(f"adapter.targets: need layers to adapt in models of type '{family}'; name some of {have}.")
    for target in targets:
        if not any(_adapted(name, [target]) for name in linear):
            raise ConfigError(
                f"adapter.targets: need names of this model's linear layers; got '{target}'; choose of {have}."
            )
    return list(targets)


def _adapted(name: str, targets: list[str]) -> bool:
    """Tell whether a dotted name ends in one of the targets, as peft compares them."""
    return any(f".{name}".endswith(f".{target}") for target in targets)


def _layers_of(model: Any, parameters: Iterable[str]) -> list[str]:
    """Return the names of the layers that parameters belong to."""
    return sorted({name.rpartition(".")[0] for name in parameters if name in model.state_dict()})


def _running(model: Any, new: list[str]) -> list[str]:
    """Return the layers whose statistics change in training, frozen or not, so that they have to be saved."""
    kinds = torch.nn.modules.batchnorm._BatchNorm
    return [name for name, module in model.named_modules() if isinstance(module, kinds) and name not in new]


def _require_pretrained(model: Any, targets: list[str], new: list[str]) -> None:
    """Refuse to adapt what starts at random, and parameters outside of any layer that can be trained whole."""
    adapted = [name for name, _ in model.named_modules() if _adapted(name, targets)]
    if all(name in new for name in adapted):
        raise ConfigError(
            "adapter: need a pretrained model to adapt; got one whose attention starts at random; set adapter.kind to "
            "none, or name another model."
        )
    for layer in new:
        inside = [name for name in adapted if name not in new and (not layer or name.startswith(f"{layer}."))]
        if inside:
            raise ConfigError(
                f"adapter: need new parameters in layers of their own; got some in '{layer or 'the model itself'}', "
                f"which holds the adapted '{inside[0]}'; set adapter.kind to none."
            )


def _require_called(model: Any, targets: list[str], new: list[str]) -> None:
    """Refuse to adapt layers whose weights PyTorch's own modules read, in evaluation at least, without calling them."""
    read = [
        f"{name}.{part}"
        for name, module in model.named_modules()
        for kind, parts in READ.items()
        for part in parts
        if isinstance(module, kind)
    ]
    for name in read:
        if _adapted(name, targets) and name not in new:
            raise ConfigError(
                f"adapter.targets: need layers that are called; got '{name}', of which PyTorch's attention reads the "
                "weights, so that an adapter does nothing; name others, or more of their path."
            )


READ: dict[type, tuple[str, ...]] = {
    torch.nn.MultiheadAttention: ("out_proj",),
    torch.nn.TransformerEncoderLayer: ("linear1", "linear2"),
}


def require_gradients(model: Any) -> None:
    """Refuse, after a backward pass, adapters of which none had a part in it: some attention reads weights alone.

    One may be idle: some models leave layers out at random.

    Raises:
        ConfigError: names the first of them.
    """
    adapters = {name: each for name, each in model.named_parameters() if "lora_" in name and each.requires_grad}
    if adapters and all(each.grad is None for each in adapters.values()):
        idle = next(iter(adapters)).partition(".lora_")[0].removeprefix("base_model.model.")
        raise ConfigError(
            f"adapter.targets: need layers that are called; got '{idle}' and others, of which the model reads the "
            "weights, so that adapters had no part in the first step; name others."
        )


def is_adapted(model: Any) -> bool:
    """Tell whether `adapt` made a model."""
    return isinstance(model, PeftModel)


def merge(model: PeftModel) -> Any:
    """Return an ordinary model in float32 that computes the same; the adapted one stays as it is.

    In bfloat16 most entries of a sum of weights and small products would stay as they were.
    """
    return copy.deepcopy(model).float().merge_and_unload()


def describe_base(model: Any, fresh: Iterable[str], name: str) -> dict[str, str]:
    """Say what is adapted: its name, and a fingerprint of all that did not start at random."""
    fresh, digest = set(fresh), hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        if key not in fresh:
            digest.update(f"{key} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return {"model": name, "fingerprint": digest.hexdigest()[:16]}


def stored_in_half(source: str) -> dict[str, str]:
    """Say in which half precision a checkpoint is stored, if it is: what is merged with it is in float32."""
    kind = str(AutoConfig.from_pretrained(source, trust_remote_code=False).dtype).removeprefix("torch.")
    return {"stored": kind} if kind in ("bfloat16", "float16") else {}


def require_base(who: str | Path, wanted: dict[str, Any], got: dict[str, str]) -> None:
    """Raise ConfigError unless a model is the one that an adapter was trained on."""
    if wanted["fingerprint"] != got["fingerprint"]:
        raise ConfigError(
            f"{who}: need the model that the adapter was trained on, '{wanted['model']}' with fingerprint "
            f"{wanted['fingerprint']}; got '{got['model']}' with {got['fingerprint']}; name that one."
        )


def save_adapter(model: PeftModel, folder: Path, base: dict[str, str], task: str, spec: Spec) -> None:
    """Write the adapter alone, and what it was trained on."""
    config = model.peft_config["default"]
    config.base_model_name_or_path = base["model"]
    model.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # peft's model card, not filled in
    files = describe(folder, sorted(path for path in folder.iterdir() if path.name != BASE))
    write_json(folder / BASE, {**base, "task": task, "spec": spec.dump(), "files": files})


def load_adapter(folder: str | Path, model: str | None = None) -> Any:
    """Put the adapter of a run onto the pretrained model that it was trained on.

    Args:
        folder: the run's `adapter/`.
        model: where the pretrained model lies now; where it lay when the adapter was trained if left out.

    Returns:
        The whole model of transformers, the adapter merged, ready to predict.

    Raises:
        ConfigError: there is no adapter, or it was trained on another model.
        DataError: the adapter is not as it was written; says which file.
    """
    folder = Path(folder)
    if not (folder / BASE).is_file():
        raise ConfigError(
            f"{folder}: need the adapter of a run; got a folder without {BASE}; name RUN/adapter of a run with "
            "adapter.kind lora or dora."
        )
    wanted = read_json(folder / BASE)
    if found := fault(folder, wanted.get("files", {})):
        raise DataError(f"{folder}: need the adapter that the run wrote; got {found}; put it back, or train again.")
    name = model or wanted["model"]
    spec = load_spec(wanted["task"], wanted["spec"], folder)
    base, fresh = get_task(wanted["task"]).load_model(find_model(name), spec)
    require_base(folder, wanted, describe_base(base, fresh, name))
    return merge(read_adapter(base, folder)).eval()


def read_adapter(base: Any, folder: str | Path) -> PeftModel:
    """Put a saved adapter onto a model, whatever that is."""
    with _quietly():
        return PeftModel.from_pretrained(base, folder)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what peft says of transformers' old names."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        yield
