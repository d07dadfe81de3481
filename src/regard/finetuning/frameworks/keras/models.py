"""KerasHub's classifiers with the weights that transformers would begin with, and back from a run directory."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
from keras_hub import models as hub

from regard._files import read_json
from regard.errors import ConfigError
from regard.finetuning.frameworks.keras import same
from regard.finetuning.loading import loading
from regard.finetuning.progress import quiet_transformers
from regard.finetuning.runs.run import CALIBRATION
from regard.finetuning.tasks import get_task
from regard.finetuning.tasks.bases import require_model

if TYPE_CHECKING:
    from regard.finetuning.config import Adapter, Config

FILE = "model.keras"
CLASSIFIERS: dict[str, dict[str, Any]] = {
    "text-classification": {
        "bert": hub.BertTextClassifier,
        "distilbert": hub.DistilBertTextClassifier,
        "roberta": hub.RobertaTextClassifier,
        "xlm-roberta": hub.XLMRobertaTextClassifier,
    },
    "image-classification": {"vit": hub.ViTImageClassifier},
}
"""A task's families of models: transformers' name -> KerasHub's class."""
HEADS = {
    "bert": {"classifier": "logits"},
    "distilbert": {"pre_classifier": "pooled_dense", "classifier": "logits"},
    "roberta": {"classifier.dense": "pooled_dense", "classifier.out_proj": "logits"},
    "xlm-roberta": {"classifier.dense": "pooled_dense", "classifier.out_proj": "logits"},
    "vit": {"classifier": "predictions"},
}
"""A family's layers behind the backbone: transformers' name -> KerasHub's."""


def require_family(config: Config) -> str:
    """Return the family of a configuration's model.

    Raises:
        ConfigError: KerasHub has no classifier for it, or none for the task.
    """
    families = CLASSIFIERS.get(config.task)
    if families is None:
        raise ConfigError(
            f"framework: need a task of {', '.join(CLASSIFIERS)} on {config.framework}; got '{config.task}'; set "
            "framework: torch."
        )
    scratch = config.options.get("from_scratch")
    family = config.model if scratch else require_model(config.source).model_type
    if family not in families:
        raise ConfigError(
            f"model: need one of the families that KerasHub reads for {config.task} ({', '.join(families)}); got "
            f"'{family}'; choose another model, or set framework: torch."
        )
    return family


def build(config: Config, spec: Any, half: bool = False) -> tuple[Any, Any, list[str]]:
    """Make the classifier to train.

    transformers loads it first, as on PyTorch: the same weights, and the same new ones where the checkpoint has none.

    Raises:
        ConfigError: KerasHub's model of it answers otherwise than transformers'.

    Returns:
        The model, transformers' configuration of it, and the names of its newly initialised parameters.
    """
    with loading("a model", config.source):
        theirs, fresh = get_task(config.task).load_model(config.source, spec, config.train.dropout)
    with tempfile.TemporaryDirectory() as folder, quiet_transformers():
        theirs.save_pretrained(folder)
        model = _read(theirs, folder, CLASSIFIERS[config.task][theirs.config.model_type], "float32")
        same.require_same_logits(theirs, model, config.source)
        if half:
            model = _read(theirs, folder, type(model), "mixed_bfloat16")
    _set_dropout(model, theirs.config)
    model.label_names = spec.labels
    return model, theirs.config, fresh


def _read(theirs: Any, folder: str, kind: Any, policy: str) -> Any:
    """Make KerasHub's classifier of what transformers' wrote into a folder, and with its head."""
    family = theirs.config.model_type
    epsilon = {"layer_norm_epsilon": theirs.config.layer_norm_eps} if family == "vit" else {}  # others take none
    backbone = kind.backbone_cls.from_preset(folder, dtype=policy, **epsilon)
    model = kind(backbone, num_classes=theirs.config.num_labels, preprocessor=None)
    if family == "roberta":
        _add_segment(theirs, backbone)
    _copy_head(theirs, model, HEADS[family])
    return model


def _add_segment(theirs: Any, backbone: Any) -> None:
    """Add the embedding of the one kind of token to every position's: KerasHub's RoBERTa leaves it out."""
    positions = backbone.embeddings.position_embedding.position_embeddings
    positions.assign(positions + theirs.base_model.embeddings.token_type_embeddings.weight[0].detach().numpy())


def _copy_head(theirs: Any, model: Any, layers: dict[str, str]) -> None:
    for source, target in layers.items():
        dense = theirs.get_submodule(source)
        weight, bias = (array.detach().numpy() for array in (dense.weight, dense.bias))
        model.get_layer(target).set_weights([weight.T, bias])


def _set_dropout(model: Any, config: Any) -> None:
    """Give every dropout the probability of the hidden states': KerasHub does not read them all from a checkpoint."""
    rate = getattr(config, "hidden_dropout_prob", getattr(config, "dropout", 0.0))
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = rate
        elif isinstance(layer, keras.layers.MultiHeadAttention):
            layer._dropout = rate


def adapt(model: Any, adapter: Adapter) -> None:
    """Freeze the backbone but for what is new in it, and train low-rank products beside its queries and values."""
    if adapter.kind == "none":
        return
    adapted = model.backbone.default_lora_layer_names()
    for layer in model.backbone._flatten_layers(include_self=False):
        if not layer.weights or layer.name == "pooled_dense" or list(layer._flatten_layers(include_self=False)):
            continue
        if layer.name in adapted and hasattr(layer, "enable_lora"):
            layer.enable_lora(adapter.rank, lora_alpha=adapter.alpha)
            if layer.bias is not None:
                layer.bias.trainable = False
        else:
            layer.trainable = False


def save(model: Any, folder: Path) -> Any:
    """Write `model.keras`: an ordinary float32 model of KerasHub without adapters and optimizer; return that model."""
    backbone = type(model.backbone).from_config({**model.backbone.get_config(), "dtype": "float32"})
    plain = type(model)(backbone, num_classes=model.num_classes, preprocessor=None)
    plain.label_names = model.label_names
    merged = {id(layer._kernel): layer.kernel for layer in model._flatten_layers() if _adapted(layer)}
    kept = [weight for weight in model.weights if weight.name not in ("lora_kernel_a", "lora_kernel_b")]
    plain.set_weights([merged.get(id(weight), weight) for weight in kept])
    plain.save(folder / FILE)
    return plain


def _adapted(layer: Any) -> bool:
    return getattr(layer, "lora_enabled", False)


def load(folder: Path, config: Config, spec: Any) -> tuple[Any, list[str]]:
    """Load `model.keras`; Keras itself raises where a weight is missing."""
    with loading("a model", folder):
        model = keras.saving.load_model(folder / FILE, compile=False)
    model.label_names = spec.labels
    model.calibration = read_json(folder / CALIBRATION) if (folder / CALIBRATION).is_file() else {}
    return model, []
