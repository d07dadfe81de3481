"""One architecture: `regard.watch` and `"regard"` against eager attention, on a small model of random weights."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import traceback
import warnings
from functools import partial
from typing import Any

import torch
import torchvision_apart  # noqa: F401 (before transformers)
from case import Case
from observed import Observed, Observer, eager_functions
from transformers import AttentionInterface
from transformers.utils import logging

import regard
import regard.models.transformers as interface
from regard.errors import RegardError
from regard.weights import AttentionWeights

CLOSE = 2e-4
ROWS = 1e-5
OUTPUT = 1e-3


def observed(model: Any, call: Any) -> tuple[Any, Observed]:
    with Observer(model) as observer, eager_functions(observer):
        result = call(model)
    return result, observer.found


def told(model: Any, call: Any) -> tuple[Any, list]:
    """What `"regard"` attended to, by module."""
    names = {id(module): name for name, module in model.named_modules()}
    found = []

    def attend(module: Any, *args: Any, **kwargs: Any) -> Any:
        output, weights = interface.attend(module, *args, **kwargs)
        found.append((names.get(id(module)), weights))
        return output, weights

    AttentionInterface.register(interface.NAME, attend)
    try:
        result = call(model)
    finally:
        AttentionInterface.register(interface.NAME, interface.attend)
    return result, found


def compare(model_type: str) -> dict[str, Any]:
    """What both ways give in each run of an architecture."""
    row: dict[str, Any] = {"type": model_type}
    try:
        cases = [Case(model_type, "right")]
    except Exception as error:
        return row | {"made": sentence(error)}
    row["class"], row["inputs"] = cases[0].kind.__name__, sorted(cases[0].inputs)
    if {"input_ids", "attention_mask"} <= cases[0].inputs.keys():
        with contextlib.suppress(ValueError):
            cases.append(Case(model_type, "left"))
    for case in cases:
        for name, how, inputs in case.calls():
            call = partial(_called, how, inputs)
            expected = observed(case.make("eager"), call)
            if not expected[1]:
                return row | {"attention": False}
            row.setdefault("attentions", len(expected[1]))
            for way, judge in (("watch", watched), ("regard", interfaced)):
                row.setdefault(way, {})[name] = judged(partial(judge, case, call, expected))
    return row


def _called(how: Any, inputs: dict[str, Any], model: Any) -> Any:
    return how(model, inputs)


def sentence(error: BaseException) -> str:
    """An error's sentence, without the list of the model's modules."""
    said = re.sub(r"saw no such call from its modules \(.*?\); ", "saw none; ", " ".join(str(error).split()))
    return said if isinstance(error, RegardError) else f"{type(error).__name__}: {said[:400]}"


def judged(call: Any) -> list[Any]:
    try:
        return call()
    except RegardError as error:
        return ["refused", sentence(error)]
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return ["crash", sentence(error) + f" ({where.filename.split('/')[-1]}:{where.lineno})"]


def watched(case: Case, call: Any, expected: tuple[Any, Observed]) -> list[Any]:
    """As the model is by default; where it is refused and told to run on `"regard"`, whether that helps."""
    try:
        return seen_in(case, None, call, expected)
    except RegardError as error:
        if 'set_attn_implementation("regard")' not in str(error):
            raise
        helped = judged(lambda: seen_in(case, "regard", call, expected))
        if helped[0] not in ("exact", "partial"):
            return ["wrong", f"{sentence(error)} There: {helped[0]}, {helped[1]}"]
        return ["refused", sentence(error)]


def seen_in(case: Case, implementation: str | None, call: Any, expected: tuple[Any, Observed]) -> list[Any]:
    alone, model = case.make(None), case.make(None)
    if implementation is not None:
        for each in (alone, model):
            each.set_attn_implementation(implementation)
    unwatched = call(alone)
    with regard.watch(model) as seen:
        result = call(model)
    if not same(unwatched, result):
        return ["wrong", "the output of the watched model differs"]
    found = list(zip(seen.names, seen, strict=True))
    verdict = weighed(found, expected[1], case)
    if verdict[0] == "wrong":
        verdict = _by_default(weighed(found, observed(case.make(None), call)[1], case))
    untold = {each.name for each in expected[1]} - set(seen.names) - set(getattr(seen, "unseen", ()))
    if verdict[0] == "partial" and untold:
        return ["partial", f"{verdict[1]}, and not told: {', '.join(sorted(untold)[:3])}"]
    return verdict


def interfaced(case: Case, call: Any, expected: tuple[Any, Observed]) -> list[Any]:
    model = case.make("eager")
    try:
        model.set_attn_implementation("regard")
    except Exception as error:
        return ["unsupported", sentence(error)]
    result, found = told(model, call)
    if not found:
        return ["none", "no attention goes through the interface"]
    names = {each.name for each in expected[1] if each.interface}
    verdict = against(result, found, expected, names, case)
    if any(bool(each.isnan().any()) for each in tensors(expected[0])):
        return ["partial", "eager attention itself gives NaN here: nothing to compare with"]
    if verdict[0] == "wrong":
        return _by_default(against(result, found, observed(case.make(None), call), names, case))
    return verdict


def against(result: Any, found: list, expected: tuple[Any, Observed], names: set[str], case: Case) -> list[Any]:
    """The output, and the attentions of these names."""
    verdict = weighed(found, [each for each in expected[1] if each.name in names], case)
    apart = distance(result, expected[0])
    if verdict[0] in ("exact", "partial") and apart > OUTPUT:
        return ["wrong", f"the output differs by {apart:.2g} of its size"]
    return verdict


def _by_default(verdict: list[Any]) -> list[Any]:
    """A verdict beside what the model does by default, where eager attention does something else."""
    if verdict[0] == "wrong":
        return verdict
    return [verdict[0], f"{verdict[1]}, beside what the model does by default; eager attention differs from that"]


def weighed(found: list, expected: Observed, case: Case) -> list[Any]:
    """Each attention against eager's of the same module and the same turn."""
    ours: dict[str, list] = {}
    for name, weights in found:
        ours.setdefault(name, []).append(weights)
    theirs: dict[str, list] = {}
    for each in expected:
        theirs.setdefault(each.name, []).append(each.weights)
    missing = sorted(set(theirs) - set(ours))
    alone = sorted(str(name) for name in set(ours) - set(theirs))
    worst, where = 0.0, ""
    for name in set(ours) & set(theirs):
        if len(ours[name]) != len(theirs[name]):
            return ["partial", f"{name} ran {len(theirs[name])} times eagerly and was seen {len(ours[name])} times"]
        for weights, dense in zip(ours[name], theirs[name], strict=True):
            apart = far(weights.dense(), dense, case.inputs.get("attention_mask"))
            if not apart <= worst:
                worst, where = apart, name
    if not worst <= CLOSE:
        return ["wrong", f"weights of {where} differ by {worst:.2g}"]
    if missing:
        return ["partial", f"not seen: {', '.join(missing[:3])} ({len(missing)} of {len(theirs)})"]
    if alone:
        return ["partial", f"not compared: {', '.join(alone[:3])} ({len(alone)})"]
    return ["exact", f"{worst:.1g}"]


def far(ours: torch.Tensor, theirs: torch.Tensor, mask: torch.Tensor | None) -> float:
    """The largest difference, without the rows of padding, and those that see nothing, where eager spreads evenly."""
    if ours.shape != theirs.shape:
        if ours.numel() == theirs.numel():
            ours = ours.reshape(theirs.shape)
        elif ours.shape[-2:] != theirs.shape[-2:]:
            return float("inf")
    ours, theirs = torch.broadcast_tensors(ours.double(), theirs.double())
    empty = (ours.sum(-1) == 0) & (theirs.amax(-1) - theirs.amin(-1) < ROWS)
    apart = (ours - theirs).abs().amax(-1).masked_fill(empty, 0.0)
    if mask is not None and mask.shape == (ours.shape[0], ours.shape[-2]):
        apart = apart.movedim(-1, 1)[mask.bool()]
    return float(apart.max()) if apart.numel() else 0.0


def tensors(result: Any) -> list[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, AttentionWeights):  # where a model puts them beside others of its own
        return [result.dense()]
    if isinstance(result, dict):
        return [each for value in result.values() for each in tensors(value)]
    if isinstance(result, (list, tuple)):
        return [each for value in result for each in tensors(value)]
    return []


def same(one: Any, other: Any) -> bool:
    pairs = zip(tensors(one), tensors(other), strict=True)
    return all(a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs)


def distance(ours: Any, theirs: Any) -> float:
    """The largest difference of an output by its size, at real tokens."""
    worst = 0.0
    for a, b in zip(tensors(ours), tensors(theirs), strict=True):
        if a.shape != b.shape:
            return float("inf")
        if not a.is_floating_point():
            worst = max(worst, 0.0 if torch.equal(a, b) else 1.0)
        elif a.numel():
            worst = max(worst, float((_real(a) - _real(b)).abs().max() / (b.nan_to_num().abs().max() + 1e-6)))
    return worst


def _real(array: torch.Tensor) -> torch.Tensor:
    """Without the second example's padding, where there may be some."""
    return array[:1].nan_to_num() if array.shape[0] == 2 else array.nan_to_num()


def main(chosen: list[str]) -> None:
    """A line of JSON for each architecture named."""
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    for model_type in chosen:
        try:
            row = compare(model_type)
        except Exception as error:
            row = {"type": model_type, "made": sentence(error)}
        print(json.dumps(row), file=OUT, flush=True)


if __name__ == "__main__":
    OUT, sys.stdout = sys.stdout, sys.stderr  # some models print
    main(sys.argv[1:])
