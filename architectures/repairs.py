"""Inputs that a model takes, from what it says against others: each refusal changes them in one place."""

from __future__ import annotations

import inspect
import math
import re
import traceback
from collections.abc import Callable
from typing import Any

import torch
from inputs import BATCH, BINS, LENGTH, find, ids_of

MOST = 4000
OTHERWISE = re.compile(
    r"(.*_)?inputs_embeds|image_embeds|image_embeddings|.*_outputs|past_key_values"
)  # given as ids, pixels
Inputs = dict[str, Any]


def repaired(inputs: Inputs, error: Exception, model: torch.nn.Module) -> Inputs | None:
    """The same inputs after what an error said about them, or None."""
    for repair in (_placed, _named, _channelled, _resized):
        changed = repair(inputs, error, model)
        if changed is not None:
            return changed
    return None


def _placed(inputs: Inputs, error: Exception, model: torch.nn.Module) -> Inputs | None:
    """As many placeholders as there are features."""
    message = str(error)
    token = find(model.config, ("image_token_id", "image_token_index"), None)
    if "`mm_token_type_ids` is missing" in message and "input_ids" in inputs:
        return inputs | {"mm_token_type_ids": (inputs["input_ids"] == token).long()}
    numbers = [int(number) for number in re.findall(r"\d+", message)]
    if "do not match" in message and "tokens" in message and len(numbers) >= 2 and "input_ids" in inputs:
        kind = "video" if "ideo" in message else "audio" if "udio" in message else "image"
        token = find(model.config, (f"{kind}_token_id", f"{kind}_token_index"), None)
        if token is not None and numbers[-1] % BATCH == 0 and 0 < numbers[-1] < MOST:
            return _with_placeholders(inputs, token, numbers[-1] // BATCH)
    return None


def _with_placeholders(inputs: Inputs, token: int, count: int) -> Inputs:
    """So many placeholders in each text, behind what may be padding at the left."""
    placeholders = torch.full((BATCH, count), token)
    changed = dict(inputs)
    for name, between in (("input_ids", placeholders), ("attention_mask", torch.ones_like(placeholders))):
        if name in inputs:
            changed[name] = torch.cat([inputs[name][:, :4], between, inputs[name][:, 4:]], 1)
    return changed


def _named(inputs: Inputs, error: Exception, model: torch.nn.Module) -> Inputs | None:
    """Beside them what the message names, or else the line that failed for a None."""
    names = {
        name for name in inspect.signature(model.forward).parameters if not OTHERWISE.fullmatch(name)
    } - inputs.keys()
    found = [name for name in re.findall(r"\w+", str(error)) if name in names]
    if not found and "None" in str(error):
        lines = reversed(traceback.extract_tb(error.__traceback__))
        found = next(
            (
                said
                for each in lines
                if (said := [name for name in re.findall(r"\w+", each.line or "") if name in names])
            ),
            [],
        )
    given: Inputs = {}
    for name in dict.fromkeys(found):
        value = by_name(name, model, inputs | given)
        if value is not None:
            given[name] = value
    return inputs | given if given else None


def _channelled(inputs: Inputs, error: Exception, model: torch.nn.Module) -> Inputs | None:
    """Features of the width that a linear layer or a convolution takes."""
    said = str(error)
    product = re.search(r"shapes cannot be multiplied \(\d+x(\d+) and (\d+)x\d+\)", said)
    convolution = re.search(r"to have (\d+) channels, but got (\d+) channels", said)
    if product:
        return _changed(inputs, int(product[1]), int(product[2]))
    return _changed(inputs, int(convolution[2]), int(convolution[1])) if convolution else None


def _resized(inputs: Inputs, error: Exception, model: torch.nn.Module) -> Inputs | None:
    """A length that something else has, or a multiple of a number."""
    said = str(error)
    sizes = re.search(r"tensor a \((\d+)\) must match the size of tensor b \((\d+)\)", said)
    if sizes:
        first, second = int(sizes[1]), int(sizes[2])
        return _changed(inputs, first, second) or _changed(inputs, second, first)
    if "multiple" in said:
        numbers = [int(number) for number in re.findall(r"\d+", said)]
        for given in numbers:
            for number in numbers:
                if given % number if number > 1 else False:
                    changed = _changed(inputs, given, number * math.ceil(given / number))
                    if changed is not None:
                        return changed
    return None


def _changed(inputs: Inputs, old: int, new: int) -> Inputs | None:
    """With axes of one size as long as another, but for texts."""
    if not 0 < new < MOST * 10 or old == new:
        return None
    changed = dict(inputs)
    for name, value in inputs.items():
        if isinstance(value, torch.Tensor) and old in value.shape[1:] and "ids" not in name and "text" not in name:
            if "input_ids" in inputs and name == "attention_mask":
                continue
            shape = [value.shape[0], *(new if size == old else size for size in value.shape[1:])]
            changed[name] = torch.randn(shape) if value.is_floating_point() else torch.ones(shape, dtype=value.dtype)
    return changed if any(changed[name] is not inputs[name] for name in inputs) else None


def by_name(name: str, model: torch.nn.Module, inputs: Inputs) -> Any:
    """What an argument may be, by its name."""
    for pattern, make in NAMED:
        if re.fullmatch(pattern, name):
            return make(model, inputs)
    return None


Maker = Callable[[torch.nn.Module, Inputs], Any]


def _wide(*names: str, length: int = LENGTH) -> Maker:
    return lambda model, _: torch.randn(BATCH, length, find(model.config, names, 32))


def _like(name: str, rest: Callable[[torch.Tensor], torch.Tensor]) -> Maker:
    """Made of another input, or of nothing where that is not given."""
    return lambda _, inputs: rest(inputs[name]) if name in inputs else None


def _past(model: torch.nn.Module, _: Inputs) -> torch.Tensor:
    length = find(model.config, ("context_length", "prediction_length"), 12)
    channels = find(model.config, ("num_input_channels", "input_size"), 1)
    patch = find(model.config, ("patch_length",), 0)
    if "patch" in type(model).__name__.lower() or channels > 1:
        return torch.randn(BATCH, length, channels)
    return torch.randn(BATCH, 4 * patch if patch else 14)


def _flattened(model: torch.nn.Module, _: Inputs) -> torch.Tensor:
    """Patches behind their row and column."""
    patches = torch.randn(BATCH, LENGTH, find(model.config, ("patch_embed_hidden_size",), 768))
    places = torch.arange(1, LENGTH + 1).float().expand(BATCH, -1)
    return torch.cat([places[..., None], places[..., None], patches], -1)


def _grid_places(pixels: torch.Tensor) -> torch.Tensor:
    """Where the patches of a square picture are."""
    side = math.isqrt(pixels.shape[1])
    return torch.cartesian_prod(torch.arange(side), torch.arange(side)).expand(pixels.shape[0], -1, -1)


def _session(model: torch.nn.Module, _: Inputs) -> Any:
    """A video in which one object is pointed at."""
    space = vars(inspect.getmodule(type(model)))
    kind = next(value for name, value in space.items() if name.endswith("InferenceSession"))
    size = find(model.config, ("image_size",), 64)
    session = kind(video=torch.randn(2, 3, size, size), video_height=size, video_width=size, dtype=torch.float32)
    number = session.obj_id_to_idx(1)
    points = {"point_coords": torch.full((1, 1, 1, 2), size / 2), "point_labels": torch.ones(1, 1, 1).int()}
    session.add_point_inputs(number, 0, points)
    session.obj_with_new_inputs = [1]
    return session


# The first pattern that fits the whole name.
NAMED: list[tuple[str, Maker]] = [
    (r"(.*_)?input_ids|task_inputs", lambda model, _: ids_of(model, LENGTH)),
    (r"decoder_input_ids", lambda model, _: ids_of(model, LENGTH)),
    (r"input_values", lambda *_: torch.randn(BATCH, 1, 1920)),
    (r"input_features", lambda model, _: torch.randn(BATCH, 64, find(model.config, BINS, 80))),
    (r"inference_session", _session),
    (r"frame_idx", lambda *_: 0),
    (r"encoder_hidden_states", _wide("encoder_hidden_size", "hidden_size", "d_model")),
    (r"states", _wide("state_dim")),
    (r"actions", _wide("act_dim")),
    (r"rewards|returns_to_go", lambda *_: torch.randn(BATCH, LENGTH, 1)),
    (r"timesteps", lambda *_: torch.arange(LENGTH).expand(BATCH, -1)),
    (r"state", lambda model, _: torch.randn(BATCH, find(model.config, ("max_state_dim",), 32))),
    (r"visual_feats", _wide("visual_feat_dim", length=5)),
    (r"visual_pos", lambda *_: torch.rand(BATCH, 5, 4)),
    (r"flattened_patches", _flattened),
    (r"past_values|future_values", _past),
    (r"past_values_padding", _like("past_values", lambda values: torch.zeros_like(values).long())),
    (r"freq", lambda *_: torch.zeros(BATCH, 1).long()),
    (r"past_time_features", lambda model, _: torch.randn(BATCH, 14, find(model.config, ("num_time_features",), 0))),
    (r"past_.*mask", lambda *_: torch.ones(BATCH, 14)),
    (r"audio_mel", lambda model, _: torch.randn(BATCH, 64, find(model.config, ("input_feat_size",), 128))),
    (r"audio_mel_mask", lambda *_: torch.zeros(BATCH, 64, dtype=torch.bool)),
    (r"audio_feature_lengths", _like("input_features", lambda sound: torch.full((BATCH,), sound.shape[-1]))),
    (r"feature_attention_mask", _like("input_features", lambda sound: torch.ones(BATCH, sound.shape[-1]).long())),
    (r"latents", lambda model, _: torch.randn(BATCH, find(model.config, ("latent_dim", "hidden_size"), 32), LENGTH)),
    (r"prompt_(pixel_values|masks)", _like("pixel_values", torch.randn_like)),
    (r"pixel_position_ids", _like("pixel_values", _grid_places)),
    (r"image_attention_mask", _like("pixel_values", lambda pixels: torch.ones(BATCH, LENGTH, pixels.shape[1]).long())),
    (r"video_grid_thw|image_grid_thw|grid_thw", lambda *_: torch.tensor([[1, 4, 4]] * BATCH)),
    (r"image_sizes", _like("pixel_values", lambda pixels: torch.tensor([pixels.shape[-2:]] * BATCH))),
    (r"classes_structure", lambda *_: torch.ones(BATCH).long()),
    (r"marks|num_options", lambda *_: torch.tensor([[LENGTH - 1]] * BATCH)),
    (r"question_type_ids", lambda *_: torch.zeros(BATCH, 1).long()),
    (r".*mask", lambda *_: torch.ones(BATCH, LENGTH).long()),
    (r".*embeds|inputs|.*hidden_states", _wide("hidden_size", "d_model")),
]
