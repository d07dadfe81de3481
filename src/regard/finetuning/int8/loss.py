"""What quantising costs: the run's own measures, on its validation rows, before and after."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from regard._digits import digits
from regard._files import read_json, write_json
from regard.errors import ConfigError, DataError, RegardError, UnsupportedError
from regard.finetuning.int8 import MOST
from regard.finetuning.progress import Display
from regard.finetuning.runs.run import Run
from regard.finetuning.tasks.targets.intervals import percentiles

if TYPE_CHECKING:
    from regard.finetuning.tasks import Score

KINDS = ("int8",)
FILE = "int8.json"
"""Where a run keeps what was measured; measured again when its model is another."""


@dataclass(frozen=True)
class Loss:
    """The first measure of a task, of the model as it was trained and of the quantised one.

    Attributes:
        measure: its name.
        before: its value as trained.
        after: its value quantised.
        difference: the 95 % interval of after less before, over resamples of the same rows; None if it has none.
        higher_is_better: whether more of it is.
        rows: the validation rows that it was measured on.
    """

    measure: str
    before: float
    after: float
    difference: tuple[float, float] | None
    higher_is_better: bool
    rows: int

    @property
    def share(self) -> float:
        """How much worse it is, as a share of what it was; below 0 where it is better."""
        worse = self.before - self.after if self.higher_is_better else self.after - self.before
        return worse / abs(self.before) if self.before else math.inf * worse if worse else 0.0

    def __str__(self) -> str:
        told = f"{self.measure.replace('_', ' ')} {digits(self.after)} on {self.rows:,} validation rows"
        told = f"{told}, {digits(self.before)} as trained"
        bounds = " to ".join(map(digits, self.difference or ()))
        return told + (f" (95 % interval of the difference {bounds})" if bounds else "")


def require_kind(who: str, kind: Any, most: Any) -> None:
    """Raise ConfigError unless there is such a kind of quantising, and a limit that is one."""
    if kind not in KINDS:
        raise ConfigError(f"{who}: need quantize to be {' or '.join(KINDS)}, or left out; got {kind!r}; correct it.")
    if isinstance(most, bool) or not isinstance(most, int | float) or not most >= 0:
        raise ConfigError(f"{who}: need max_loss to be a number from 0 on; got {most!r}; correct it.")


def quantized(
    run: Run, kind: str = "int8", *, max_loss: float = MOST, who: str = "predict", progress: bool = False
) -> tuple[Run, Loss | None]:
    """Return a run with a quantised model, and what that costs, measured once for a model.

    Args:
        run: a run.
        kind: `int8`.
        max_loss: how much worse the first measure may become, as a share of what it was; inf measures nothing.
        who: asks for it, as errors shall name it.
        progress: show progress bars.

    Raises:
        ConfigError: there is no such kind, or the limit is none.
        UnsupportedError: the run is not on PyTorch, or has nothing to quantise.
        DataError: the rows to measure on are not there.
        RegardError: it costs more than `max_loss`.
    """
    from regard.finetuning.int8.linear import quantize

    require_kind(who, kind, max_loss)
    require_torch(run, who)
    made = Run(run.path)
    quantize(made.model, who)
    if math.isinf(max_loss):
        return made, None
    loss = _remembered(run)
    if loss is None:
        loss = _measured(run, made, who, Display(quiet=not progress))
        _remember(run, loss)
    require_little(loss, max_loss, who)
    return made, loss


def require_torch(run: Run, who: str) -> None:
    """Raise UnsupportedError for a run whose layers are not PyTorch's."""
    if run.config.framework != "torch":
        raise UnsupportedError(
            f"{who}: need a run of framework torch for int8; got '{run.config.framework}'; leave out quantize."
        )


def require_little(loss: Loss, most: float, who: str) -> None:
    """Raise RegardError for a loss beyond the limit."""
    if not loss.share <= most:
        raise RegardError(
            f"{who}: need int8 to lose at most {most:g} of the {loss.measure.replace('_', ' ')}; got {loss}; leave out "
            "quantize, or raise max_loss."
        )


def _measured(run: Run, made: Run, who: str, display: Display) -> Loss:
    from regard.finetuning.check import read_splits

    try:
        split = read_splits(run.config).tables["validation"]
    except RegardError as error:
        raise DataError(
            f"{who}: need the run's validation rows, to measure what int8 loses; got none ({str(error).rstrip('.')}); "
            "put them back, or set max_loss to inf."
        ) from error
    before, after = (_scored(each, split, display) for each in (run, made))
    name, first = next(iter(before.items()))
    then = after[name]
    drawn = (first.draws, then.draws)
    interval = None if drawn[0] is None or drawn[1] is None else percentiles(drawn[1] - drawn[0])
    return Loss(name, first.value, then.value, interval, first.higher_is_better, len(split))


def _scored(run: Run, split: Any, display: Display) -> dict[str, Score]:
    return run.task.measure(split, run.respond(split[run.task.INPUT], display), run.spec)


def _remembered(run: Run) -> Loss | None:
    """What was measured of this model before."""
    with suppress(DataError, TypeError, KeyError):
        known = read_json(run.path / FILE) if (run.path / FILE).is_file() else {}
        if run.state.get("files") and known.get("files") == run.state["files"]:
            found = known["loss"]
            return Loss(**found | {"difference": found["difference"] and tuple(found["difference"])})
    return None


def _remember(run: Run, loss: Loss) -> None:
    with suppress(OSError):  # a run that cannot be written to is measured each time
        write_json(run.path / FILE, {"files": run.state.get("files"), "loss": asdict(loss)})
