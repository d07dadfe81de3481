"""Inputs for a small model, by the names of what its `forward` takes."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from sizes import IMAGE, PATCH

BATCH, LENGTH, ANSWER = 2, 9, 5
PADDING = 3
BINS = ("num_mel_bins", "feature_size", "input_feat_per_channel", "n_mels", "feature_projection_input_dim")


def candidates(model: torch.nn.Module, side: str) -> list[dict[str, Any]]:
    """Inputs to try, the most complete first; `side` says where the texts are padded."""
    torch.manual_seed(1)
    takes = inspect.signature(model.forward).parameters
    text = _text(model, side) if "input_ids" in takes else {}
    text = {name: value for name, value in text.items() if name in takes}
    pictures = [{name: value for name, value in each.items() if name in takes} for each in _pictures(model)]
    sounds = [{name: value for name, value in each.items() if name in takes} for each in _sounds(model)]
    answer = {"decoder_input_ids": _answer(model)} if "decoder_input_ids" in takes else {}
    found: list[dict[str, Any]] = []
    for picture in [*pictures, {}]:
        for sound in [*sounds, {}]:
            for part in (*_several(model, text), {}):
                together = part | picture | sound
                if together and not any(_same(together, each) for each in found):
                    found.append(together)
    main = getattr(model, "main_input_name", "input_ids")
    names = {main} if isinstance(main, str) else {*main}
    found.sort(key=lambda each: not names <= each.keys())  # stable
    return [together for each in found for together in ([each | answer, each] if answer else [each])] + [{}]


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(one[name].shape == other[name].shape for name in one)


def ids_of(model: torch.nn.Module, length: int) -> torch.Tensor:
    return torch.randint(3, 90, (BATCH, length))


def _answer(model: torch.nn.Module) -> torch.Tensor:
    """Of a decoder of sounds, a row for each of its codebooks."""
    ids = ids_of(model, ANSWER)
    codebooks = find(getattr(model.config, "decoder", None), ("num_codebooks",), 1)
    return ids.repeat_interleave(codebooks, 0)


def _text(model: torch.nn.Module, side: str) -> dict[str, torch.Tensor]:
    ids = ids_of(model, LENGTH)
    mask = torch.ones_like(ids)
    if side == "right":
        mask[1, -PADDING:] = 0
    elif side == "left":
        mask[1, :PADDING] = 0
    end = find(model.config, ("eos_token_id",), 2)
    last = LENGTH - 1 - mask.flip(1).argmax(1)
    ids[torch.arange(BATCH), last] = end[0] if isinstance(end, (list, tuple)) else end  # whose state some models pool
    ids[mask == 0] = 0
    boxes = torch.tensor([10, 10, 20, 20]).expand(BATCH, LENGTH, 4).contiguous()
    pictured = torch.arange(LENGTH).lt(4).expand(BATCH, -1)
    return {"input_ids": ids, "attention_mask": mask, "bbox": boxes, "image_embeds_position_mask": pictured}


def _several(model: torch.nn.Module, text: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    """A text, and where a model reads several codebooks beside it, as many numbers at each place."""
    count = find(model.config, ("num_codebooks",), 0)
    ids = text.get("input_ids")
    if not count or ids is None:
        return [text]
    return [text, *(text | {"input_ids": ids[..., None].repeat(1, 1, each)} for each in (count, count + 1))]


def find(config: Any, names: tuple[str, ...], default: Any) -> Any:
    parts = [config]
    while parts:
        part = parts.pop(0)
        for name in names:
            value = getattr(part, name, None)
            if value is not None:
                return value
        parts += [held for name in getattr(part, "sub_configs", {}) if (held := getattr(part, name, None)) is not None]
    return default


def _vision(config: Any) -> Any:
    for name in ("vision_config", "encoder_config", "backbone_config", "image_encoder_config", "vision_encoder_config"):
        held = getattr(config, name, None)
        if held is not None and hasattr(held, "to_dict"):
            return _vision(held)
    return config


def _pictures(model: torch.nn.Module) -> list[dict[str, torch.Tensor]]:
    vision = _vision(model.config)
    channels = find(vision, ("num_channels", "in_channels", "in_chans"), 3)
    channels = channels if isinstance(channels, int) and channels < 10 else 3
    size = find(vision, ("image_size", "img_size"), IMAGE)
    size = size if not isinstance(size, dict) else tuple(size.values())
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    frames = find(vision, ("num_frames",), 4)
    takes = inspect.signature(model.forward).parameters
    found = []
    if takes.keys() & {"image_grid_thw", "grid_thw", "image_grid_hw", "target_sizes"}:
        found += grids(vision, channels)
    if "pixel_position_ids" in takes:
        places = torch.cartesian_prod(torch.arange(4), torch.arange(4)).expand(BATCH, -1, -1)
        found.append({"pixel_values": patches(channels)["pixel_values"], "pixel_position_ids": places})
    if "spatial_shapes" in takes:
        found.append(patches(channels))
    found.append({"pixel_values": torch.randn(BATCH, channels, height, width)})
    if "pixel_values_videos" in takes:
        found.insert(0, {"pixel_values_videos": torch.randn(BATCH, frames, channels, height, width)})
    found.append({"pixel_values": torch.randn(BATCH, frames, channels, height, width)})
    found.append({"pixel_values": torch.randn(BATCH, 2, channels, height, width)})
    found.append({"pixel_values": torch.randn(BATCH, channels, 128, 128)})
    return found


def grids(vision: Any, channels: int) -> list[dict[str, torch.Tensor]]:
    """Two pictures as one list of patches, row after row, or of pixels; or as one row of patches."""
    patch, frames = find(vision, ("patch_size",), PATCH), find(vision, ("temporal_patch_size",), 1)
    count, grid = 2 * 16, torch.tensor([[1, 4, 4], [1, 4, 4]])
    shapes = [
        (count, channels * frames * patch * patch), (count, channels * patch * patch),
        (count, channels, patch, patch), (count * patch * patch, channels), (1, channels, patch, count * patch),
    ]  # fmt: skip
    places = {
        "image_grid_thw": grid, "grid_thw": grid, "target_sizes": grid[:, 1:], "image_grid_hw": grid[:, 1:],
        "merge_sizes": torch.ones(2).long(),
    }  # fmt: skip
    pixels = [torch.randn(shape) for shape in dict.fromkeys(shapes)]
    return [{"pixel_values": each, "hidden_states": each} | places for each in pixels]


def patches(channels: int) -> dict[str, torch.Tensor]:
    """A picture as a list of patches, the second shorter."""
    mask = torch.ones(BATCH, 16, dtype=torch.long)
    mask[1, 12:] = 0
    return {
        "pixel_values": torch.randn(BATCH, 16, channels * PATCH * PATCH),
        "pixel_attention_mask": mask,
        "spatial_shapes": torch.tensor([[4, 4], [4, 3]]),
    }


def _sounds(model: torch.nn.Module) -> list[dict[str, torch.Tensor]]:
    bins = find(model.config, BINS, 80)
    frames = find(model.config, ("max_source_positions",), 32) * 2
    takes = inspect.signature(model.forward).parameters
    found = []
    for shape in ((BATCH, bins, frames), (BATCH, frames, bins), (BATCH, 1, frames, bins), (BATCH, frames, 128)):
        features = {"input_features": torch.randn(shape), "input_features_mask": torch.ones(BATCH, frames).long()}
        if "attention_mask" in takes and "input_ids" not in takes:
            mask = torch.ones(BATCH, frames, dtype=torch.long)
            mask[1, -frames // 4 :] = 0
            found.append(features | {"attention_mask": mask})
        found.append(features)
    longest = find(model.config, ("max_length",), frames)
    for shape in ((BATCH, 2000), (BATCH, 1, 2000), (BATCH, longest, bins)):
        values = torch.randn(shape)
        values = {"input_values": values, "audio_values": values}
        if "attention_mask" in takes and "input_ids" not in takes:
            mask = torch.ones(BATCH, shape[-1], dtype=torch.long)
            mask[1, 1500:] = 0
            found.append(values | {"attention_mask": mask})
        found.append(values)
    return [each for each in found if any(name in takes for name in each if "mask" not in name)]
