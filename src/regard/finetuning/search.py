"""Search for hyperparameters with Optuna: train again and again, and keep what validates best."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regard._digits import digits
from regard._files import naming, read_json, write_text
from regard.errors import ConfigError, RegardError
from regard.finetuning.check import prepare
from regard.finetuning.config import Config, Range
from regard.finetuning.configure import load_config
from regard.finetuning.frameworks import get_framework
from regard.finetuning.locks import LOCK, alone
from regard.finetuning.progress import Display
from regard.finetuning.runs.run import CONFIG, STATE, drop_weights
from regard.finetuning.runs.seals import require_own
from regard.finetuning.tasks import get_task
from regard.finetuning.words import setting

STUDY, BEST = "study.log", "best.yaml"
SEARCHED = ("train.", "adapter.", "options.", "model")
"""What may be searched: nothing that changes the validation rows, or the scores would not be of the same."""


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        path: the configuration with the best values, ready for `regard finetune`.
        values: dotted key -> the best value.
        score: on the validation split, by the measure that chooses checkpoints; minus the loss, where that is it.
        trials: how many trainings were finished.
    """

    path: Path
    values: dict[str, Any]
    score: float
    trials: int


def search(config: Config | dict[str, Any] | str | Path, *, quiet: bool = False) -> Found:
    """Train with values drawn from `search.space`, and write the configuration that validates best.

    Trials are kept in `OUTPUT.search/`; a search that was interrupted goes on there.

    Args:
        config: a configuration with a section `search`, its values, or the YAML file that holds them.
        quiet: print nothing.

    Raises:
        ConfigError: there is nothing to search, or a value in the space cannot be.

    Source:
        Tree-structured Parzen estimator, Bergstra et al. 2011; Akiba et al. 2019, arXiv 1907.10902.
    """
    config, display = load_config(config), Display(quiet)
    _require_space(config)
    folder = Path(f"{config.output}.search")
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder, folder / LOCK), naming(folder):
        return _go_on(folder, config, display)


def _go_on(folder: Path, config: Config, display: Display) -> Found:
    """Try what is left to try."""
    require_own(folder)
    _require_same(folder, config)
    for left in folder.glob("trial-*"):  # of a search that was killed
        drop_weights(left)
    study = _study(folder, config)
    with display.bar("search", config.search.trials, _done(study)) as advance:
        while _done(study) < config.search.trials:
            trial = study.ask()
            values = {key: _draw(trial, key, choices) for key, choices in config.search.space.items()}
            told = ", ".join(f"{key} {setting(value)}" for key, value in values.items())
            score = _score(config, values, folder / f"trial-{trial.number}")
            study.tell(trial, score, state=None if score is not None else _failed())
            display.say(
                f"  trial {trial.number}: {'no finite loss' if score is None else digits(score, 4)} with {told}"
            )
            advance()
    return _keep(study, config, folder)


def _require_space(config: Config) -> None:
    """Try the ends of the space before any time is spent."""
    if not config.search.space:
        raise ConfigError("search.space: need keys to search, such as train.learning_rate; got none; add some.")
    for key, choices in config.search.space.items():
        if not key.startswith(SEARCHED):
            raise ConfigError(
                f"search.space: need keys of train, adapter or options, or model; got '{key}'; remove it."
            )
        for value in (choices.low, choices.high) if isinstance(choices, Range) else choices:
            load_config(config, {key: value})


def _require_same(folder: Path, config: Config) -> None:
    """Refuse to go on with a search of another configuration, but for the number of trials."""
    kept = folder / CONFIG
    if not kept.is_file():
        write_text(kept, config.dump())
    before, now = load_config(kept).flat(), config.flat()
    changed = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key) and key != "search.trials"]
    if changed:
        raise ConfigError(
            f"{folder}: need the configuration that the search began with; got another {', '.join(changed)}; undo the "
            "change, or name another output."
        )


def _study(folder: Path, config: Config) -> Any:
    try:
        import optuna
        from optuna.storages.journal import JournalFileBackend
    except ModuleNotFoundError:
        raise ConfigError("search: need Optuna; got an environment without it; pip install 'regard[search]'.") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / STUDY)))
    study = optuna.create_study(
        study_name="search", storage=storage, direction="maximize", load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=config.seed),
    )  # fmt: skip
    if study.trials:
        study.sampler.reseed_rng()  # or it draws its first values again
    return study


def _done(study: Any) -> int:
    return sum(trial.state.is_finished() for trial in study.trials)


def _failed() -> Any:
    import optuna

    return optuna.trial.TrialState.FAIL


def _draw(trial: Any, key: str, choices: Range | list[Any]) -> Any:
    if not isinstance(choices, Range):
        return trial.suggest_categorical(key, choices)
    whole = isinstance(choices.low, int) and isinstance(choices.high, int)
    draw = trial.suggest_int if whole else trial.suggest_float
    return draw(key, choices.low, choices.high, log=choices.log)


def _score(config: Config, values: dict[str, Any], folder: Path) -> float | None:
    """Train once, and return the best score of a validation; None if the loss became no number."""
    tried = load_config(config, {**values, "output": str(folder)})
    prepared = prepare(tried)
    try:
        get_framework(tried.framework).train_into(folder, prepared, False, Display(quiet=True))
    except RegardError as error:
        if "need a finite loss" not in str(error):
            raise
        return None
    finally:
        drop_weights(folder)
    metric = get_task(tried.task).metric(prepared.check.spec)
    scores = [e[f"eval_{metric}"] for e in read_json(folder / STATE)["history"] if f"eval_{metric}" in e]
    return -min(scores) if metric == "loss" else max(scores)


def _keep(study: Any, config: Config, folder: Path) -> Found:
    """Write the best configuration, which searches no more."""
    done = [trial for trial in study.trials if trial.value is not None]
    if not done:
        raise RegardError(
            "search: need a trial with a finite loss; got none; lower the learning rates in search.space."
        )
    best = study.best_trial
    chosen = load_config(config, {**best.params, "search.space": {}})
    write_text(folder / BEST, chosen.dump())
    return Found(folder / BEST, dict(best.params), best.value, len(done))
