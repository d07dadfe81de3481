"""Any model of transformers, shown one text, picture or sound: what it attends to while it runs."""

from __future__ import annotations

import contextlib
import fnmatch
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers.utils import logging

from regard._digits import digits
from regard.errors import ConfigError, DataError, RegardError, UnsupportedError
from regard.models.alignment import align
from regard.models.pictures import PICTURES, in_unit_range, open_picture, place_labels
from regard.models.seen import Seen
from regard.models.sounds import OTHER_SOUNDS, SOUNDS, read_sound
from regard.models.transformers_boxes import Found, is_detector, look_for_boxes
from regard.models.transformers_speech import is_speaker, look_for_frames
from regard.models.transformers_writing import begun_with, time_tokens, write_down
from regard.models.watch import watch


@dataclass(frozen=True)
class Looked:
    """What one input made a model attend to.

    Attributes:
        kind: "text", "image" or "audio".
        labels: one for each position that is attended to: tokens, patches by row and column, or seconds.
        seen: the self-attentions, one for each layer, of the part that reads the input.
        answer: what the model says of the input, if it has a head that says something.
        decides: the position that it decides by, 0 or -1.
        cut: tokens of the text that the model did not read.
        picture: the picture as the model saw it, `(height, width, 3)` in 0..1.
        grid: its rows and columns of patches.
        moment: how long each position of a sound is, in seconds.
        score: takes which positions are kept, booleans `(cases, n)`, and gives the probability of the answer in each
            case; None for a model that decides nothing.
        removable: which positions may be taken away, `(n,)`.
        words: the words of a recogniser, each with its first and last second.
        found: the objects of a detector, the surest first.
        written: the tokens that a model with a decoder writes.
        across: the decoder's attentions to the input, one for each layer, each with a query for each token written.
    """

    kind: str
    labels: list[str]
    seen: Seen
    answer: str = ""
    decides: int = 0
    cut: int = 0
    picture: np.ndarray | None = None
    grid: tuple[int, int] | None = None
    moment: float = 0.0
    score: Callable[[np.ndarray], np.ndarray] | None = None
    removable: np.ndarray | None = None
    words: list[tuple[str, float, float]] = field(default_factory=list)
    found: list[Found] | None = None
    written: list[str] = field(default_factory=list)
    across: Seen | None = None


def load(name: str) -> tuple[Any, Any]:
    """A model with the head that its checkpoint has, and what prepares its inputs, by directory or hub name.

    Raises:
        ConfigError: There is no such checkpoint, its weights do not load, or nothing prepares inputs for it.
    """
    with _silent():
        try:
            config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
        except Exception as error:  # also of a config.json that holds other things
            if "trust_remote_code" in str(error):
                raise ConfigError(
                    f"{name}: need a model whose code is part of transformers; got one that brings code of its own, "
                    "and that is not run; choose another model."
                ) from None
            raise ConfigError(
                f"{name}: need a run, the directory of a checkpoint or a name on the hub; got none of these "
                f"({_briefly(error)}); check the spelling, and the network for a name on the hub."
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


def _briefly(error: Exception) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:120]


def look(model: Any, processor: Any, given: str, gradients: bool = False) -> Looked:
    """Shows a model a text, or the file of a picture or a sound.

    Args:
        model, processor: as `load` gives them.
        given: a text, or the path of a picture or of a WAV file.
        gradients: keep what `seen.relevance` needs: the most likely answer is differentiated.

    Raises:
        DataError: A file that does not decode, or is not there.
        UnsupportedError: No attention can be seen, or there is nothing to differentiate.
    """
    ending = Path(given).suffix.lower() if len(given) < 500 else ""
    if ending in PICTURES:
        return _look_at_picture(model, processor, given, gradients)
    if ending in (*SOUNDS, *OTHER_SOUNDS):
        if gradients:
            raise UnsupportedError("relevance: need a text or a picture; got a sound; use --method rollout.")
        return _listen(model, processor, given)
    if is_speaker(model):
        return look_for_frames(model, processor, given)
    return read(model, processor, given, gradients)


def _watched(model: Any, batch: Any, gradients: bool, **options: Any) -> tuple[Seen, Any]:
    with torch.set_grad_enabled(gradients), watch(model, values=gradients) as seen:
        output = model(**batch, **options)
    if gradients:
        _decision(model, output).amax(-1).sum().backward()
    return seen, output


def _decision(model: Any, output: Any) -> torch.Tensor:
    """The logits of what a model decides by one position of its input, `(1, answers)`."""
    logits = getattr(output, "logits", None)
    if logits is not None and logits.ndim == 2:
        return logits
    if logits is not None and logits.ndim == 3 and _is_causal(model, output):
        return logits[:, -1]
    raise _undecided(model)


def _undecided(model: Any) -> UnsupportedError:
    return UnsupportedError(
        "relevance: need a model that decides something by one position of its input; got "
        f"{type(model).__name__}; use --method rollout."
    )


def _is_causal(model: Any, output: Any) -> bool:
    return not model.config.is_encoder_decoder and getattr(output, "past_key_values", None) is not None


def _tower(model: Any, kind: str) -> Any:
    """The part that reads texts or images, of a model that reads both apart, such as CLIP; else the model."""
    towers = [getattr(model, f"{name}_model", None) for name in ("text", "vision")]
    return model if None in towers else towers[kind == "image"]


def _taken(model: Any, batch: Any) -> dict[str, torch.Tensor]:
    """What the model takes of what a tokenizer makes: some make token types for models that have none."""
    known = inspect.signature(model.forward).parameters
    return {name: array.to(model.device) for name, array in batch.items() if name in known}


def _start(model: Any) -> torch.Tensor:
    """What a decoder begins with, `(1, 1)`."""
    return torch.full((1, 1), model.config.decoder_start_token_id or 0, device=model.device)


def _answer(model: Any, output: Any) -> str:
    logits = getattr(output, "logits", None)
    if logits is None or logits.ndim != 2:
        return ""
    found, scale = logits[0].detach().float(), getattr(model.config, "label_scale", None)
    if not found.isfinite().all():
        raise RegardError(
            "look: need finite numbers for an answer; got NaN or infinity from the model; look at another input, or "
            "train again with a lower train.learning_rate or train.precision float32."
        )
    if scale:
        return digits(float(found[0]) * scale["deviation"] + scale["mean"])
    several = getattr(model.config, "problem_type", None) == "multi_label_classification"
    chances = found.sigmoid() if several else found.softmax(-1)
    best = int(chances.argmax())
    return f"{model.config.id2label.get(best, best)} {digits(float(chances[best]))}"


def read(model: Any, processor: Any, text: str, gradients: bool = False) -> Looked:
    """Shows a model a text; see `look`."""
    tokenizer = getattr(processor, "tokenizer", processor)
    if not callable(getattr(tokenizer, "convert_ids_to_tokens", None)):
        raise DataError("look: need the file of a picture or a sound for this model; got a text; name the file.")
    model = _tower(model, "text")
    if gradients and model.config.is_encoder_decoder:
        raise _undecided(model)
    text = f"{getattr(model.config, 'prefix', None) or ''}{text}"
    most = min(tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", 10**9))
    whole = tokenizer(text, verbose=False)["input_ids"]
    batch = _taken(model, tokenizer(text, return_tensors="pt", truncation=True, max_length=most, verbose=False))
    options, written = {}, None
    if model.config.is_encoder_decoder and model.can_generate():
        written = _write(model, batch)
        options["decoder_input_ids"] = written[:, :-1]
    seen, output = _watched(model, batch, gradients, **options)
    length = batch["input_ids"].shape[1]
    return Looked(
        "text",
        _tokens(tokenizer, batch["input_ids"][0]),
        _reading(seen).over(length),
        _answer(model, output) if written is None else tokenizer.decode(written[0], skip_special_tokens=True).strip(),
        -1 if _is_causal(model, output) else 0,
        max(len(whole) - length, 0),
        score=_score_without_tokens(model, batch, output) if _decides(output) else None,
        removable=~np.isin(batch["input_ids"][0].numpy(force=True), tokenizer.all_special_ids),
        written=[] if written is None else _tokens(tokenizer, written[0, 1:]),
        across=None if written is None else _across(seen),
    )


def _tokens(tokenizer: Any, ids: torch.Tensor) -> list[str]:
    """Each as it is written; some vocabularies are smaller than their models'."""
    found = tokenizer.convert_ids_to_tokens(ids.tolist())
    return [f"[{number}]" if token is None else token for token, number in zip(found, ids.tolist(), strict=True)]


def _write(model: Any, batch: Any) -> torch.Tensor:
    """What a decoder writes, `(1, T + 1)`, what it begins with included."""
    with torch.no_grad(), _silent():
        return model.generate(**batch)


_DECODER, _ACROSS = "*decoder.*", ("*encoder_attn*", "*EncDecAttention*", "*crossattention*")


def _reading(seen: Seen) -> Seen:
    """Those of the part that reads, where there is one that writes."""
    read = [name for name in seen.names if not fnmatch.fnmatchcase(name, _DECODER)]
    return seen.only("*encoder.*") if 0 < len(read) < len(seen) else seen


def _across(seen: Seen) -> Seen:
    """Those of a decoder to what was read."""
    fitting = [pattern for pattern in _ACROSS if fnmatch.filter(seen.names, pattern)]
    if not fitting:
        raise UnsupportedError(f"look: need a decoder that attends to what was read; saw {seen!r}.")
    return seen.only(fitting[0])


_CASES = 64  # inputs that are scored at once


def _decides(output: Any) -> bool:
    logits = getattr(output, "logits", None)
    return logits is not None and logits.ndim == 2


def _score_without_tokens(model: Any, batch: Any, output: Any) -> Callable[[np.ndarray], np.ndarray]:
    """The probability of what was decided, where tokens that are not kept are hidden from all others."""
    decided = int(output.logits[0].argmax())

    def score(kept: np.ndarray) -> np.ndarray:
        mask = torch.tensor(kept, dtype=torch.long, device=model.device)
        found = []
        with torch.no_grad():
            for some in mask.split(_CASES):
                inputs = {name: array.expand(len(some), -1) for name, array in batch.items()}
                found.append(model(**{**inputs, "attention_mask": some}).logits.softmax(-1)[:, decided])
        return torch.cat(found).float().cpu().numpy()

    return score


def _score_without_patches(model: Any, pixels: Any, output: Any, grid: tuple[int, int], prefix: int) -> Any:
    """The probability of what was decided, where patches that are not kept have the picture's mean colour."""
    decided = int(output.logits[0].argmax())
    mean = pixels.mean((-2, -1), keepdim=True)

    def score(kept: np.ndarray) -> np.ndarray:
        shown = torch.tensor(kept[:, prefix:].reshape(-1, 1, *grid), device=model.device)
        found = []
        with torch.no_grad():
            for some in shown.split(_CASES):
                large = torch.nn.functional.interpolate(some.float(), pixels.shape[-2:]).bool()
                pictures = torch.where(large, pixels, mean)
                found.append(model(pixel_values=pictures).logits.softmax(-1)[:, decided])
        return torch.cat(found).float().cpu().numpy()

    return score


def _look_at_picture(model: Any, processor: Any, path: str, gradients: bool) -> Looked:
    processor = getattr(processor, "image_processor", processor)
    if not hasattr(processor, "image_mean") and not hasattr(processor, "do_rescale"):
        raise DataError(f"{path}: need a model that reads pictures; got one that does not; give it a text.")
    if is_detector(model):
        if gradients:
            raise _undecided(model)
        return _look_at_boxes(model, processor, path)
    model = _tower(model, "image")
    picture, _ = open_picture(path)
    pixels = processor(images=picture, return_tensors="pt")["pixel_values"].to(model.device)
    seen, output = _watched(model, {"pixel_values": pixels}, gradients)
    length = seen[0].shape[-1]
    grid = _grid(model, pixels)
    prefix = length - grid[0] * grid[1]
    if prefix < 0 or 0 in grid:
        raise UnsupportedError(
            f"look: need a model that attends over all patches of a picture at once; saw {length} positions for "
            f"{grid[0]} x {grid[1]} patches, as in windows; use regard.watch in Python."
        )
    return Looked(
        "image",
        place_labels(*grid, prefix),
        seen.over(length),
        _answer(model, output),
        picture=in_unit_range(pixels[0].permute(1, 2, 0).float().cpu().numpy(), processor),
        grid=grid,
        score=_score_without_patches(model, pixels, output, grid, prefix) if _decides(output) else None,
        removable=np.arange(length) >= prefix,
    )


def _grid(model: Any, pixels: torch.Tensor) -> tuple[int, int]:
    """Rows and columns of patches; none where the model does not say how large they are."""
    patch = getattr(model.config, "patch_size", None)
    if patch is None:
        return 0, 0
    height, width = (patch, patch) if isinstance(patch, int) else patch
    return pixels.shape[-2] // height, pixels.shape[-1] // width


def _look_at_boxes(model: Any, processor: Any, path: str) -> Looked:
    """What a detector finds; its positions are the patches, and what comes before and after them."""
    boxes = look_for_boxes(model, processor, path)
    length = boxes.seen[0].shape[-1]
    grid = boxes.grid or (1, length)
    more = length - grid[0] * grid[1]  # the class token, then patches, then box queries, of YOLOS
    labels = place_labels(grid[0], grid[1], min(more, 1)) + [f"[box {number}]" for number in range(more - 1)]
    answer = ", ".join(f"{each.label} {digits(each.score)}" for each in boxes.found) or "nothing found"
    seen = boxes.seen.over(length)
    return Looked("image", labels, seen, answer, picture=boxes.picture, grid=grid, found=boxes.found)


def _listen(model: Any, processor: Any, path: str) -> Looked:
    extractor = getattr(processor, "feature_extractor", processor)
    if not hasattr(extractor, "sampling_rate"):
        raise DataError(f"{path}: need a model that listens; got one that does not; give it a text.")
    rate = extractor.sampling_rate
    sound = read_sound(path, rate)
    batch = extractor(sound, sampling_rate=rate, return_tensors="pt")
    batch = {name: batch[name].to(model.device) for name in ("input_features", "input_values") if name in batch}
    words: list[tuple[str, float, float]] = []
    if model.config.is_encoder_decoder and model.can_generate():
        words = transcribe(model, processor, batch, len(sound) / rate)
    if "decoder_input_ids" in inspect.signature(model.forward).parameters:
        batch["decoder_input_ids"] = _start(model)
    with torch.no_grad(), watch(model) as seen:
        model(**batch)
    length = next(weights.shape[-1] for weights in seen if weights.shape[-2] == weights.shape[-1] > 1)
    whole = getattr(extractor, "chunk_length", None) if "input_features" in batch else None
    seconds = (whole or len(sound) / rate) / length
    labels = [f"{place * seconds:.2f} s" for place in range(length)]
    said = " ".join(word for word, *_ in words)
    return Looked("audio", labels, seen.over(length), said, moment=seconds, words=words)


def transcribe(model: Any, processor: Any, batch: Any, seconds: float) -> list[tuple[str, float, float]]:
    """What a recogniser that writes hears, word by word, each with its seconds from the cross-attention.

    The words are those of a prediction. A model that knows tokens for times adds those that it would write between
    them: they are aligned like words, so a word ends before the silence behind it. Without them a word ends where the
    next begins.

    Source: Radford et al. 2022, arXiv 2212.04356: the heads named in the generation configuration (else all of the
    upper half of the layers) are averaged and warped.
    """
    tokenizer = processor.tokenizer
    with torch.no_grad(), _silent():
        said = [each for each in write_down(model, batch, [seconds])[0] if _is_text(model, tokenizer, each)]
        if not said:
            return []
        ids, begun = begun_with(model, batch, said)
    with torch.no_grad(), watch(model) as seen:
        model(**batch, decoder_input_ids=ids)
    cross = [weights for weights in seen if weights.shape[-2] == ids.shape[1] != weights.shape[-1]]
    heads = getattr(model.generation_config, "alignment_heads", None)
    if not heads:
        heads = [(layer, head) for layer in range(len(cross) // 2, len(cross)) for head in range(cross[0].shape[-3])]
    frames = cross[0].shape[-1]
    step = processor.feature_extractor.chunk_length / frames
    used = max(min(round(seconds / step), frames), 1)
    texts, rows = _written(model, tokenizer, ids[0].tolist(), begun)
    maps = [weights[0].dense()[:, :, :used] for weights in cross]
    writing = [row - 1 for row in rows]  # a token is written where the one before it is read
    ended = [*writing, rows[-1]]  # where the text's end is written, which takes the silence behind the last word
    found = align([part[:, ended] for part in maps], heads=[tuple(pair) for pair in heads])
    spans = found.spans()[:-1] * step
    ends = [*(float(first) for first, _ in spans[1:]), float(spans[-1][1])]  # a token ends where the next begins
    words: list[tuple[list[int], float, float]] = []
    for place, (first, _), last in zip(rows, spans, ends, strict=True):
        if place not in texts:
            continue
        token = int(ids[0, place])
        if words and not tokenizer.decode([token]).startswith(" "):
            tokens, began, _ = words[-1]
            words[-1] = ([*tokens, token], began, last)
        else:
            words.append(([token], float(first), last))
    return [(tokenizer.decode(tokens).strip(), began, ended) for tokens, began, ended in words]  # some split a letter


def _written(model: Any, tokenizer: Any, ids: list[int], begun: int) -> tuple[list[int], list[int]]:
    """Where text stands behind the beginning; and where text or a time does, but for a time before all text.

    A time that the model writes between sentences takes the silence there.
    """
    texts = [row for row in range(begun, len(ids)) if _is_text(model, tokenizer, ids[row])]
    times = time_tokens(model)
    return texts, [row for row in range(begun, len(ids)) if row in texts or (row > begun and ids[row] in times)]


def _is_text(model: Any, tokenizer: Any, number: int) -> bool:
    """Whether a token is part of a text, and no mark or time."""
    token = tokenizer.convert_ids_to_tokens(number)
    special = number in tokenizer.all_special_ids or number in time_tokens(model)
    return not special and not re.fullmatch(r"<\|.*\|>", token)


@contextlib.contextmanager
def _silent() -> Any:
    """Without transformers' remarks and bars."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        logging.enable_progress_bar()
