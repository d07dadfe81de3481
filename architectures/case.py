"""A small model of an architecture, and inputs that it takes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from catalogue import architectures
from inputs import candidates
from repairs import repaired
from sizes import TRIED
from small import completed, small

LARGE, LACKS, REPAIRS = 2e8, 5, 8


def spread(model: torch.nn.Module) -> None:
    """Scores of unit size: at their initial size, weights are all alike and hide every fault."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1 and parameter.numel():
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5, generator=generator)
        elif bool((parameter == 0).all()):
            torch.nn.init.normal_(parameter, std=0.1, generator=generator)


class Case:
    """A small model, and inputs that it takes."""

    def __init__(self, model_type: str, side: str) -> None:
        kind, self.kind = architectures()[model_type]
        self.side, errors = side, []
        for sizes in TRIED:
            try:
                self.config = small(kind, sizes)
                self._complete()
                return
            except Exception as error:
                errors.append(error)
        raise errors[0]

    def _complete(self) -> None:
        """The model and its inputs, with what its configuration lacks."""
        for _ in range(LACKS):
            try:
                self.eager = self._first()
                self.inputs = self._inputs()
                return
            except Exception as error:
                if not completed(self.config, error):
                    raise
        raise ValueError("its configuration lacks more and more")

    def make(self, implementation: str | None) -> Any:
        """A new model, of the same weights each time."""
        options = {} if implementation is None else {"attn_implementation": implementation}
        torch.manual_seed(0)  # some keep layers where no list of weights has them
        model = self.kind._from_config(copy.deepcopy(self.config), **options).eval()
        model.load_state_dict(self._weights, strict=False)
        return model

    def _first(self) -> Any:
        with torch.device("meta"):
            count = sum(each.numel() for each in self.kind._from_config(copy.deepcopy(self.config)).parameters())
        if count > LARGE:
            raise ValueError(f"{count / 1e6:.0f} million parameters are no small model")
        torch.manual_seed(0)
        model = self.kind._from_config(copy.deepcopy(self.config), attn_implementation="eager").eval()
        spread(model)
        self._weights = model.state_dict()
        return model

    def _inputs(self) -> dict[str, Any]:
        errors: list[str] = []
        for candidate in candidates(self.eager, self.side):
            inputs: dict[str, Any] | None = candidate
            for _ in range(REPAIRS):
                try:
                    run(self.eager, inputs)
                    return inputs
                except Exception as error:
                    errors.append(f"{'+'.join(inputs)}: {type(error).__name__} {str(error)[:150]}")
                    inputs = repaired(inputs, error, self.eager)
                if inputs is None:
                    break
        raise ValueError("no inputs: " + " | ".join(dict.fromkeys(errors[-40:])))

    def calls(self) -> Iterator[tuple[str, Any, dict[str, Any]]]:
        """Its runs by name: how to call a model, and with what; those that eager attention can do."""
        yield self.side, run, self.inputs
        if "input_ids" not in self.inputs or "attention_mask" not in self.inputs or self.side == "none":
            return
        bare = {name: value for name, value in self.inputs.items() if name != "attention_mask"}
        if self.side == "right":
            yield from self._tried("no mask", run, bare)
        elif self.eager.can_generate():
            yield from self._tried("generate", generate, self.inputs)

    def _tried(self, name: str, how: Any, inputs: dict[str, Any]) -> Iterator[tuple[str, Any, dict[str, Any]]]:
        try:
            how(self.make("eager"), inputs)
        except Exception:
            return
        yield name, how, inputs


def copied(inputs: dict[str, Any]) -> dict[str, Any]:
    return {name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}


def run(model: Any, inputs: dict[str, Any]) -> Any:
    torch.manual_seed(2)
    with torch.no_grad():
        return model(**copied(inputs))


def generate(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
    torch.manual_seed(2)
    given = copied({name: value for name, value in inputs.items() if name != "decoder_input_ids"})
    with torch.no_grad():
        return model.generate(**given, max_new_tokens=4, min_new_tokens=4, do_sample=False, num_beams=1)
