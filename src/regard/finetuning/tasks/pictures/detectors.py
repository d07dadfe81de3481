"""Detectors that begin at random: the sizes of DETR, Conditional DETR, RT-DETR and YOLOS, and their processors."""

from __future__ import annotations

from typing import Any

from pydantic import PositiveInt

from regard.errors import ConfigError
from regard.finetuning.config import Section
from regard.finetuning.progress import quiet_transformers
from regard.finetuning.tasks.pictures import shared

PROCESSORS = {"conditional_detr": "ConditionalDetr", "detr": "Detr", "rt_detr": "RTDetr", "yolos": "Yolos"}
"""Families -> what the names of their image processors begin with."""


class Scratch(Section):
    """The sizes of a model that begins at random, of the family that `model` names."""

    layers: PositiveInt = 2
    """Of the decoder, and of the encoder but for `rt_detr`, which has one there.

    Before the encoders of `detr` and `conditional_detr` is a small ConvNeXt, before that of `rt_detr` a small ResNet,
    and `yolos` has no decoder.
    """
    width: PositiveInt = 96
    """Of the hidden states; a multiple of `heads`."""
    heads: PositiveInt = 4
    """Of each layer's attention."""
    image: PositiveInt = 64
    """Pixels of a side of what the model reads; a multiple of `patch`, of twice the patch for `rt_detr`."""
    patch: PositiveInt = 8
    """Pixels of a side of what becomes one position: 4, 8, 16 or 32, but for `yolos`.

    `rt_detr` also has positions of twice the side.
    """
    queries: PositiveInt = 8
    """Objects that can be found in a picture; more than there are learn sooner."""


def make_processor(family: str, scratch: dict[str, int]) -> Any:
    """Make the image processor of a family, for pictures of the size that the model will read."""
    import transformers

    shared.require_sizes(family, tuple(PROCESSORS), scratch)
    with quiet_transformers():
        made = getattr(transformers, f"{PROCESSORS[family]}ImageProcessor")
        return made(size={"height": scratch["image"], "width": scratch["image"]}, do_pad=False)


def make_model(family: str, scratch: dict[str, int], dropout: float, labels: dict[str, Any]) -> Any:
    """Make a detector of a family, for these labels; all of it learns, its backbone too."""
    from transformers import AutoConfig, AutoModelForObjectDetection

    sizes = {"yolos": _yolos, "rt_detr": _rt_detr}.get(family, _detr)(scratch, dropout)
    with quiet_transformers():  # RT-DETR's advice on widths is for its CUDA kernel
        described = AutoConfig.for_model(family, **sizes, **labels)
        model = AutoModelForObjectDetection.from_config(described, trust_remote_code=False)
    return model.requires_grad_()


def _yolos(scratch: dict[str, int], dropout: float) -> dict[str, Any]:
    return {
        "hidden_size": scratch["width"],
        "num_hidden_layers": scratch["layers"],
        "num_attention_heads": scratch["heads"],
        "intermediate_size": 4 * scratch["width"],
        "image_size": (scratch["image"], scratch["image"]),
        "patch_size": scratch["patch"],
        "num_detection_tokens": scratch["queries"],
        "use_mid_position_embeddings": False,
        "hidden_dropout_prob": dropout,
    }


def _detr(scratch: dict[str, int], dropout: float) -> dict[str, Any]:
    """Sizes for DETR and its relatives, which read the last stage of a ConvNeXt.

    Not a ResNet's: these families freeze its batch normalisations, which from scratch would be none. Boxes weigh less
    in the loss than is usual, since transformers counts names once where Meng et al. 2021 count them twice.
    """
    from transformers import AutoConfig

    stages = _halvings(scratch) - 1
    return {
        "backbone_config": AutoConfig.for_model(
            "convnext",
            num_stages=stages,
            hidden_sizes=_widths(scratch["width"], stages),
            depths=[2] * stages,
            layer_scale_init_value=1.0,  # its own, 1e-6, is for hundreds of thousands of steps
            out_features=[f"stage{stages}"],
        ),
        "use_timm_backbone": False,
        "d_model": scratch["width"],
        "num_queries": scratch["queries"],
        "dropout": dropout,
        "auxiliary_loss": True,
        "bbox_loss_coefficient": 2,
        "giou_loss_coefficient": 1,
        **{f"{part}_layers": scratch["layers"] for part in ("encoder", "decoder")},
        **{f"{part}_attention_heads": scratch["heads"] for part in ("encoder", "decoder")},
        **{f"{part}_ffn_dim": 2 * scratch["width"] for part in ("encoder", "decoder")},
    }


def _rt_detr(scratch: dict[str, int], dropout: float) -> dict[str, Any]:
    """Sizes for RT-DETR, which reads the last two stages of a ResNet: positions of `patch` and of twice its pixels."""
    from transformers import AutoConfig

    stages, width = _halvings(scratch), scratch["width"]
    if scratch["image"] % (2 * scratch["patch"]):
        raise ConfigError(
            f"options.from_scratch: need image to be a multiple of twice the patch with rt_detr; got "
            f"{scratch['image']} and {scratch['patch']}; change one."
        )
    widths = _widths(2 * width, stages)
    return {
        "backbone_config": AutoConfig.for_model(
            "rt_detr_resnet",
            embedding_size=widths[0],
            hidden_sizes=widths,
            depths=[1] * stages,
            layer_type="basic",
            out_features=[f"stage{stages - 1}", f"stage{stages}"],
        ),
        "freeze_backbone_batch_norms": False,
        "encoder_hidden_dim": width,
        "encoder_in_channels": widths[-2:],
        "feat_strides": [scratch["patch"], 2 * scratch["patch"]],
        "encode_proj_layers": [1],
        "encoder_attention_heads": scratch["heads"],
        "encoder_ffn_dim": 2 * width,
        "d_model": width,
        "num_queries": scratch["queries"],
        "num_feature_levels": 2,
        "decoder_in_channels": [width, width],
        "decoder_layers": scratch["layers"],
        "decoder_attention_heads": scratch["heads"],
        "decoder_ffn_dim": 2 * width,
        "num_denoising": 20,
        "dropout": dropout,
    }


def _halvings(scratch: dict[str, int]) -> int:
    """How often a backbone halves the picture until a position is a patch."""
    if scratch["patch"] not in (4, 8, 16, 32):
        raise ConfigError(
            f"options.from_scratch: need a patch of 4, 8, 16 or 32 with a backbone; got {scratch['patch']}; change it, "
            "or take model: yolos."
        )
    return scratch["patch"].bit_length() - 1


def _widths(last: int, stages: int) -> list[int]:
    """Channels of each stage, which double up to the last."""
    return [max(last >> (stages - 1 - stage), 16) for stage in range(stages)]
