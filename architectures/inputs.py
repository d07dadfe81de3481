"""Inputs for a small model, by the names of what its `forward` takes."""

from __future__ import annotations

import inspect
import re
from typing import Any

import torch
from small import IMAGE, PATCH

BATCH, LENGTH, ANSWER = 2, 9, 5
PADDING, MOST = 3, 4000


def candidates(model: torch.nn.Module, side: str) -> list[dict[str, Any]]:
    """Inputs to try, the most complete first; `side` says where the texts are padded."""
    torch.manual_seed(1)
    takes = inspect.signature(model.forward).parameters
    text = _text(model, side) if "input_ids" in takes else {}
    text = {name: value for name, value in text.items() if name in takes}
    pictures = [{name: value for name, value in each.items() if name in takes} for each in _pictures(model)]
    sounds = [{name: value for name, value in each.items() if name in takes} for each in _sounds(model)]
    answer = {"decoder_input_ids": _ids(model, ANSWER)} if "decoder_input_ids" in takes else {}
    found: list[dict[str, Any]] = []
    for picture in [*pictures, {}]:
        for sound in [*sounds, {}]:
            for part in (text, {}):
                together = part | picture | sound
                if together and not any(_same(together, each) for each in found):
                    found.append(together)
    main = getattr(model, "main_input_name", "input_ids")
    found.sort(key=lambda each: main not in each)  # stable
    return [together for each in found for together in ([each | answer, each] if answer else [each])] + [{}]


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(one[name].shape == other[name].shape for name in one)


def _ids(model: torch.nn.Module, length: int) -> torch.Tensor:
    return torch.randint(3, 90, (BATCH, length))


def _text(model: torch.nn.Module, side: str) -> dict[str, torch.Tensor]:
    ids = _ids(model, LENGTH)
    mask = torch.ones_like(ids)
    if side == "right":
        mask[1, -PADDING:] = 0
    elif side == "left":
        mask[1, :PADDING] = 0
    end = _find(model.config, ("eos_token_id",), 2)
    last = LENGTH - 1 - mask.flip(1).argmax(1)
    ids[torch.arange(BATCH), last] = end[0] if isinstance(end, (list, tuple)) else end  # whose state some models pool
    ids[mask == 0] = 0
    boxes = torch.tensor([10, 10, 20, 20]).expand(BATCH, LENGTH, 4).contiguous()
    return {"input_ids": ids, "attention_mask": mask, "bbox": boxes}


def _find(config: Any, names: tuple[str, ...], default: Any) -> Any:
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
    channels = _find(vision, ("num_channels", "in_channels", "in_chans"), 3)
    channels = channels if isinstance(channels, int) and channels < 10 else 3
    size = _find(vision, ("image_size", "img_size"), IMAGE)
    size = size if not isinstance(size, dict) else tuple(size.values())
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    frames = _find(vision, ("num_frames",), 4)
    takes = inspect.signature(model.forward).parameters
    found = []
    if "image_grid_thw" in takes or "grid_thw" in takes:
        found.append(_grid(vision, channels))
    if "spatial_shapes" in takes:
        found.append(patches(channels))
    found.append({"pixel_values": torch.randn(BATCH, channels, height, width)})
    if "pixel_values_videos" in takes:
        found.insert(0, {"pixel_values_videos": torch.randn(BATCH, frames, channels, height, width)})
    found.append({"pixel_values": torch.randn(BATCH, frames, channels, height, width)})
    found.append({"pixel_values": torch.randn(BATCH, channels, 128, 128)})
    return found


def _grid(vision: Any, channels: int) -> dict[str, torch.Tensor]:
    """Two pictures as one list of patches, row after row."""
    patch = _find(vision, ("patch_size",), PATCH)
    width = channels * _find(vision, ("temporal_patch_size",), 1) * patch * patch
    pixels, grid = torch.randn(2 * 16, width), torch.tensor([[1, 4, 4], [1, 4, 4]])
    return {"pixel_values": pixels, "hidden_states": pixels, "image_grid_thw": grid, "grid_thw": grid}


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
    names = ("num_mel_bins", "feature_size", "input_feat_per_channel", "n_mels", "feature_projection_input_dim")
    bins = _find(model.config, names, 80)
    frames = _find(model.config, ("max_source_positions",), 32) * 2
    takes = inspect.signature(model.forward).parameters
    found = []
    for shape in ((BATCH, bins, frames), (BATCH, frames, bins), (BATCH, 1, frames, bins)):
        features = {"input_features": torch.randn(shape), "input_features_mask": torch.ones(BATCH, frames).long()}
        if "attention_mask" in takes and "input_ids" not in takes:
            mask = torch.ones(BATCH, frames, dtype=torch.long)
            mask[1, -frames // 4 :] = 0
            found.append(features | {"attention_mask": mask})
        found.append(features)
    longest = _find(model.config, ("max_length",), frames)
    for shape in ((BATCH, 2000), (BATCH, 1, 2000), (BATCH, longest, bins)):
        values = torch.randn(shape)
        values = {"input_values": values, "audio_values": values}
        if "attention_mask" in takes and "input_ids" not in takes:
            mask = torch.ones(BATCH, shape[-1], dtype=torch.long)
            mask[1, 1500:] = 0
            found.append(values | {"attention_mask": mask})
        found.append(values)
    return [each for each in found if any(name in takes for name in each if "mask" not in name)]


def _by_name(name: str, model: torch.nn.Module) -> torch.Tensor | None:
    """What a required argument may be, by its name."""
    if name in ("qformer_input_ids", "input_ids", "decoder_input_ids"):
        return _ids(model, LENGTH)
    if "embeds" in name or name in ("inputs", "hidden_states"):
        return torch.randn(BATCH, LENGTH, _find(model.config, ("hidden_size", "d_model"), 32))
    if name in ("past_values", "future_values"):
        length = _find(model.config, ("context_length", "prediction_length"), 12)
        channels = _find(model.config, ("num_input_channels", "input_size"), 1)
        return (
            torch.randn(BATCH, length, channels)
            if channels > 1 or "patch" in type(model).__name__.lower()
            else torch.randn(BATCH, 14)
        )
    if name.startswith("past_") and "mask" in name:
        return torch.ones(BATCH, 14)
    if name == "past_time_features":
        return torch.randn(BATCH, 14, _find(model.config, ("num_time_features",), 0))
    if "mask" in name:
        return torch.ones(BATCH, LENGTH).long()
    if name == "visual_feats":
        return torch.randn(BATCH, 5, _find(model.config, ("visual_feat_dim",), 2048))
    if name == "visual_pos":
        return torch.rand(BATCH, 5, 4)
    return None


def repaired(inputs: dict[str, Any], error: Exception, model: torch.nn.Module) -> dict[str, Any] | None:
    """The same inputs after what an error said about them: as many placeholders as there are features."""
    message = str(error)
    if "missing" in message and "required positional" in message:
        given = {name: _by_name(name, model) for name in re.findall(r"'(\w+)'", message)}
        return None if any(value is None for value in given.values()) else inputs | given
    token = _find(model.config, ("image_token_id", "image_token_index"), None)
    if "`mm_token_type_ids` is missing" in message and "input_ids" in inputs:
        return inputs | {"mm_token_type_ids": (inputs["input_ids"] == token).long()}
    numbers = [int(number) for number in re.findall(r"\d+", message)]
    if "do not match" in message and "tokens" in message and len(numbers) >= 2 and "input_ids" in inputs:
        kind = "video" if "ideo" in message else "audio" if "udio" in message else "image"
        token = _find(model.config, (f"{kind}_token_id", f"{kind}_token_index"), None)
        if token is not None and numbers[-1] % BATCH == 0 and numbers[-1] < MOST:
            return _with_placeholders(inputs, token, numbers[-1] // BATCH)
    return None


def _with_placeholders(inputs: dict[str, Any], token: int, count: int) -> dict[str, Any]:
    """So many placeholders in each text, behind what may be padding at the left."""
    placeholders = torch.full((BATCH, count), token)
    changed = dict(inputs)
    for name, between in (("input_ids", placeholders), ("attention_mask", torch.ones_like(placeholders))):
        if name in inputs:
            changed[name] = torch.cat([inputs[name][:, :4], between, inputs[name][:, 4:]], 1)
    return changed
