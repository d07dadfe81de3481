"""Fine-tune: check, train, save, measure, report."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import set_seed

from regard._files import read_json, whole, write_json
from regard.errors import RegardError
from regard.finetuning import adapters, processes
from regard.finetuning.beginning import begin, has_begun, only_writer, replacing, require_free, require_resumable
from regard.finetuning.check import Prepared, prepare
from regard.finetuning.checkpoints import last_checkpoint, room_on_disk
from regard.finetuning.config import Config
from regard.finetuning.frameworks import get_framework
from regard.finetuning.inputs import describe_data, describe_named, require_same_rows
from regard.finetuning.loading import loading
from regard.finetuning.measure import finish
from regard.finetuning.monitor import as_for_predictions, watch_training
from regard.finetuning.padding import rows_touch, without_padding
from regard.finetuning.precision import choose_precision, without_autocast
from regard.finetuning.progress import Advance, Display, quiet_transformers
from regard.finetuning.reload import require_same_answers
from regard.finetuning.repeats import train_others
from regard.finetuning.run import ADAPTER, ATTENTION, MODEL, STATE, Run, require_unchanged
from regard.finetuning.seals import describe
from regard.finetuning.tasks import Spec, Task, get_task
from regard.finetuning.trainer import StepTrainer
from regard.finetuning.words import digits


class Interrupted(KeyboardInterrupt):
    """Training was interrupted and saved; it can be resumed.

    Attributes:
        path: the run directory.
        step: the optimizer steps done.
        steps: the optimizer steps planned.
    """

    def __init__(self, path: Path, step: int, steps: int) -> None:
        super().__init__(f"{path}: interrupted after step {step} of {steps}; saved, and ready to be resumed")
        self.path, self.step, self.steps = path, step, steps


def finetune(
    config: Config | dict[str, Any] | str | Path, *, resume: bool = False, overwrite: bool = False, quiet: bool = False
) -> Run:
    """Check the data, fine-tune a model on it, measure it beside baselines, and write a report.

    Args:
        config: a configuration, its values, or the YAML file that holds them.
        resume: go on with the run that was interrupted in the output directory.
        overwrite: delete the run in the output directory, once all checks have passed.
        quiet: print nothing.

    Returns:
        The run: `run.predict(texts)`, `run.metrics`, `run.path / "report.html"`.

    Raises:
        ConfigError: the configuration names what does not exist, or the output directory is taken.
        DataError: the data cannot be trained on.
        Interrupted: on Ctrl-C during training, after a checkpoint is saved.
    """
    config = Config.load(config)
    processes.join(config.framework)
    path, display = Path(config.output), Display(quiet or not processes.is_first())
    require_free(path, config, resume, overwrite)
    with only_writer(path):
        require_free(path, config, resume, overwrite)  # again, now that nobody else begins there
        if resume:
            require_resumable(path, config)
        _conduct(path, config, resume and has_begun(path), overwrite, display)
    return Run(path)


def _conduct(path: Path, config: Config, resume: bool, overwrite: bool, display: Display) -> None:
    """Do what is left to do of a run."""
    clock = Clock(read_json(path / STATE).get("seconds") if resume else None)
    with clock("check"):
        prepared = _prepare(config, resume)
        if resume and processes.is_first():
            require_same_rows(path, read_json(path / STATE).get("rows", {}), prepared.splits)
        _announce(prepared, display)
    processes.wait()  # until all have looked, before anything is written
    if not (path / MODEL).is_dir() or overwrite:
        with replacing(path), _remembering(path, clock), clock("train"), room_on_disk(path):
            get_framework(config.framework).train_into(path, prepared, resume, display)
    elif processes.is_first():
        _require_as_trained(path)
    if config.repeats > 1:
        with _remembering(path, clock), clock("repeats"), room_on_disk(path):
            train_others(path, prepared, display)
    if processes.is_first():
        with room_on_disk(path):
            finish(path, prepared, display, clock)
    processes.wait()


def _prepare(config: Config, resume: bool) -> Prepared:
    """Prepare the data, and describe the files before they are read, unless the run that is resumed did so."""
    if resume or not processes.is_first():
        return prepare(config)
    inputs = describe_data(config)
    prepared = prepare(config)
    return replace(prepared, inputs=inputs | describe_named(prepared.splits.values(), inputs))


def _require_as_trained(path: Path) -> None:
    """Make sure that what is measured is what was trained."""
    described = read_json(path / STATE).get("files", {})
    for part in (MODEL, ADAPTER, ATTENTION):
        require_unchanged(path, described, part)


@contextmanager
def _remembering(path: Path, clock: Clock) -> Iterator[None]:
    """Remember how long a run took so far, if it is to go on later."""
    interrupt = None
    try:
        yield
    except Interrupted as error:
        interrupt = error
    if processes.is_first():
        write_json(path / STATE, read_json(path / STATE) | {"seconds": clock.seconds})
    if interrupt:
        raise interrupt


class Clock:
    """Measures the seconds of each phase, on top of those of an earlier part of the run."""

    def __init__(self, before: dict[str, float] | None = None) -> None:
        self.seconds = dict(before or {})

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Add the time of the block to a phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] = round(self.seconds.get(phase, 0.0) + time.perf_counter() - start, 1)


def _announce(prepared: Prepared, display: Display) -> None:
    for finding in prepared.check.findings:
        display.say(f"  {finding.message}", style="yellow" if finding.level == "warning" else None)


def train_into(path: Path, prepared: Prepared, resume: bool, display: Display) -> None:
    """Train with transformers' Trainer, and leave the model in `path / "model"`."""
    config, spec = prepared.config, prepared.check.spec
    task = get_task(config.task)
    set_seed(config.seed)
    with loading("a model", config.source):
        model, fresh = task.load_model(config.source, spec, config.train.dropout)
    _require_trainable(model, fresh)
    base = adapters.describe_base(model, fresh, config.model) if config.adapter.kind != "none" else None
    if base:
        model = _adapt(model, fresh, config, display)
    if not resume and processes.is_first():
        begin(path, prepared, fresh)
    processes.wait()
    if base:
        _require_base(path, base)
    trainer = _trainer(path, prepared, model, display)
    _run(trainer, path, resume, display)
    if processes.is_first():
        _save(path, trainer, prepared)
    processes.wait()


def _adapt(model: Any, fresh: list[str], config: Config, display: Display) -> Any:
    model = adapters.adapt(model, fresh, config.adapter)
    trained, total = model.get_nb_trainable_parameters()
    display.say(f"  training {trained:,} of {total:,} parameters ({trained / total:.2%}, {config.adapter.kind})")
    return model


def _require_base(path: Path, base: dict[str, str]) -> None:
    """Remember what is adapted; if a run is resumed, require that it still is."""
    state = read_json(path / STATE)
    adapters.require_base(path, state.get("base", base), base)
    if processes.is_first():
        write_json(path / STATE, state | {"base": base})


def _require_trainable(model: Any, fresh: list[str]) -> None:
    """Make sure that what starts at random does not stay random."""
    parameters = dict(model.named_parameters())
    frozen = [name for name in fresh if name in parameters and not parameters[name].requires_grad]
    if frozen:
        raise RegardError(f"finetune: need every new parameter trained; got {', '.join(frozen)} frozen; unfreeze them.")


def _trainer(path: Path, prepared: Prepared, model: Any, display: Display) -> Trainer:
    config, spec, task = prepared.config, prepared.check.spec, get_task(prepared.config.task)
    rows, held_out = (prepared.encoded[name].rows for name in ("train", "validation"))
    collate = task.collator(prepared.processor)
    unpadded = without_padding(model, config.train.unpad)
    with quiet_transformers():
        with as_for_predictions(model):
            alone = rows_touch(model, collate, held_out)
        trainer = StepTrainer(
            max_tokens=config.train.max_tokens,
            layer_decay=config.train.layer_decay,
            unpadded=unpadded,
            model=model,
            args=_arguments(path, config, task.metric(spec), 1 if alone else config.train.batch_size),
            train_dataset=rows,
            eval_dataset=held_out,
            processing_class=prepared.processor,
            data_collator=collate,
            compute_metrics=Tally(task, spec) if task.tally else None,
            preprocess_logits_for_metrics=_logits_alone,
            compute_loss_func=task.loss(rows, spec, config),
            callbacks=[_Watcher(display, task.metric(spec))],
        )
    trainer.remove_callback(PrinterCallback)
    if config.train.patience:
        trainer.add_callback(EarlyStoppingCallback(config.train.patience))
    watch_training(trainer, path, config, held_out, display)
    return trainer


class Tally:
    """Measures a validation as Trainer goes through it, so that no outputs are kept."""

    def __init__(self, task: Task, spec: Spec) -> None:
        self.task, self.spec = task, spec
        self.total: Any = 0

    def __call__(self, outputs: Any, compute_result: bool) -> dict[str, float]:
        """Count a batch; behind the last one, return the measures and start anew."""
        task: Any = self.task
        arrays = SimpleNamespace(predictions=_array(outputs.predictions), label_ids=_array(outputs.label_ids))
        self.total = self.total + task.tally(arrays, self.spec)
        if not compute_result:
            return {}
        total, self.total = self.total, 0
        return task.validate(total, self.spec)


def _array(tensor: torch.Tensor) -> np.ndarray:
    return np.asarray((tensor.float() if tensor.is_floating_point() else tensor).cpu())  # NumPy has no bfloat16


def _logits_alone(outputs: Any, labels: Any) -> Any:
    """Leave the hidden states and caches that some models return too: a validation would keep them all."""
    return outputs[0] if isinstance(outputs, tuple) else outputs


def _arguments(path: Path, config: Config, metric: str, validated_at_once: int) -> TrainingArguments:
    train = config.train
    every = train.evaluate_every
    if isinstance(every, float):
        every = min(every, math.nextafter(1, 0))  # which Trainer takes for a fraction, and 1.0 for a step
    return TrainingArguments(
        output_dir=str(path / "checkpoints"),
        num_train_epochs=train.epochs,
        max_steps=train.max_steps or -1,
        per_device_train_batch_size=train.batch_size,
        per_device_eval_batch_size=validated_at_once,
        gradient_accumulation_steps=train.accumulate,
        learning_rate=train.learning_rate,
        lr_scheduler_type=train.schedule,
        warmup_steps=train.warmup,
        weight_decay=train.weight_decay,
        max_grad_norm=train.max_gradient_norm,
        use_cpu=not torch.accelerator.is_available(),
        bf16=choose_precision(train.precision) == "bfloat16",
        train_sampling_strategy="group_by_length",
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,  # the best and the last; with 1, Trainer deletes the last one when training stops
        load_best_model_at_end=train.keep == "best",
        batch_eval_metrics=True,
        metric_for_best_model=metric,
        greater_is_better=metric != "loss",
        restore_callback_states_from_checkpoint=True,
        logging_steps=0.02,
        logging_nan_inf_filter=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=True,
        ddp_timeout=int(processes.PATIENCE.total_seconds()),
        report_to=config.monitor.report_to or "none",
        seed=config.seed,
    )


class _Watcher(TrainerCallback):
    """Shows progress, stops on Ctrl-C after a checkpoint, and stops at once when the loss is no number."""

    def __init__(self, display: Display, metric: str) -> None:
        self.display, self.metric = display, metric
        self.advance: Advance = lambda *_, **__: None
        self.interrupted = self.told = False

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        self.advance()
        self.interrupted = processes.anyone(self.interrupted)
        self._tell_of_interruption()
        if self.interrupted:
            control.should_save = control.should_training_stop = True
        elif state.global_step >= state.max_steps:
            control.should_evaluate = True
        return control

    def on_prediction_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._tell_of_interruption()

    def _tell_of_interruption(self) -> None:
        """Say what happens now; not in the signal's handler, which may come in the middle of another line."""
        if self.interrupted and not self.told:
            self.told = True
            self.display.say("  interrupted: saving a checkpoint; press Ctrl-C again to stop without")

    def on_log(self, args: Any, state: Any, control: Any, **events: Any) -> None:
        logs = events["logs"]
        if "loss" not in logs:
            return
        require_finite(logs["loss"], state.global_step, args.bf16)
        self.advance(0, remark=f"loss {digits(logs['loss'])}, rate {logs['learning_rate']:.2g}")

    def on_evaluate(self, args: Any, state: Any, control: Any, **events: Any) -> None:
        metrics = events["metrics"]
        scores = ", ".join(
            f"{name.removeprefix('eval_').replace('_', ' ')} {digits(metrics[name])}"
            for name in metrics
            if name == "eval_loss" or not name.endswith(("_runtime", "_per_second", "epoch"))
        )
        self.display.say(f"  step {state.global_step:>5}: validation {scores}")


def require_finite(loss: float, step: int, half: bool) -> None:
    """Raise RegardError if a loss is no number."""
    if not math.isfinite(loss):
        more = ", or set train.precision to float32" if half else ""
        raise RegardError(f"finetune: need a finite loss; got {loss} at step {step}; lower train.learning_rate{more}.")


def _run(trainer: Trainer, path: Path, resume: bool, display: Display) -> None:
    """Train to the end, or save and raise `Interrupted` on Ctrl-C."""
    watcher = next(c for c in trainer.callback_handler.callbacks if isinstance(c, _Watcher))
    checkpoint = last_checkpoint(path, best=trainer.args.load_best_model_at_end)
    done = read_json(checkpoint / "trainer_state.json")["global_step"] if checkpoint else 0
    steps = _planned_steps(trainer)
    with (
        display.bar("train", steps, done) as watcher.advance,
        saving_on_interrupt(watcher),
        quiet_transformers(),
    ):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if watcher.interrupted:
        raise Interrupted(path, trainer.state.global_step, trainer.state.max_steps)


def _planned_steps(trainer: Trainer) -> int:
    if trainer.args.max_steps > 0:
        return trainer.args.max_steps
    steps = math.ceil(len(trainer.get_train_dataloader()) / trainer.args.gradient_accumulation_steps)
    return math.ceil(steps * trainer.args.num_train_epochs)


@contextmanager
def saving_on_interrupt(watcher: Any) -> Iterator[None]:
    """Turn the first Ctrl-C into `watcher.interrupted`, a request to save and stop; the second interrupts at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def request(number: int, frame: Any) -> None:
        if watcher.interrupted:
            raise KeyboardInterrupt
        watcher.interrupted = True

    previous = signal.signal(signal.SIGINT, request)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _save(path: Path, trainer: Trainer, prepared: Prepared) -> None:
    """Save the model whole or not at all, and make sure that it loads as it was."""
    model, merged = without_autocast(trainer.accelerator.unwrap_model(trainer.model)), None
    if adapters.is_adapted(model):
        _save_adapter(path, model, prepared)
        merged = adapters.merge(model)
    with whole(path / MODEL) as aside:
        with quiet_transformers():
            (merged or model).save_pretrained(aside)
            prepared.processor.save_pretrained(aside)
        _share(aside)
        require_same_answers(model, aside, prepared)
        close_training(path, aside, _learned(trainer))


def close_training(path: Path, model: Path, learned: dict[str, Any]) -> None:
    """Write down what was learned and what files it is in, before the model has its name."""
    files = describe(path, [*_files(path / ADAPTER), *_files(path / ATTENTION)])
    files |= {f"{MODEL}/{name}": each for name, each in describe(model, _files(model)).items()}
    write_json(path / STATE, read_json(path / STATE) | learned | {"files": files})


def _files(path: Path) -> list[Path]:
    """The files of a folder, or the one that it is."""
    return [each for each in (path, *sorted(path.rglob("*"))) if each.is_file()]


def _save_adapter(path: Path, model: Any, prepared: Prepared) -> None:
    base = read_json(path / STATE)["base"]
    with whole(path / ADAPTER) as aside, quiet_transformers():
        adapters.save_adapter(model, aside, base, prepared.config.task, prepared.check.spec)
        _share(aside)


def _share(folder: Path) -> None:
    """Let whoever may read the configuration read the weights too, which safetensors writes for their owner alone."""
    mode = next(folder.glob("*config.json")).stat().st_mode
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)


def _learned(trainer: Trainer) -> dict[str, Any]:
    model: Any = trainer.model
    return {
        "steps": trainer.state.global_step,
        "planned": trainer.state.max_steps,
        # Without the last line, which tells of the steps since the run was resumed.
        "history": [entry for entry in trainer.state.log_history if "train_runtime" not in entry],
        "precision": "bfloat16 with float32 weights" if trainer.args.bf16 else "float32",
        "trained": sum(p.numel() for p in model.parameters() if p.requires_grad),
    }
