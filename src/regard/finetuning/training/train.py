"""Train with transformers' Trainer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from transformers import EarlyStoppingCallback, Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import set_seed

from regard._files import read_json, write_json
from regard.errors import RegardError
from regard.finetuning.config import Config
from regard.finetuning.loading import loading
from regard.finetuning.prepared import Prepared
from regard.finetuning.progress import Display, quiet_transformers
from regard.finetuning.runs import processes
from regard.finetuning.runs.beginning import begin
from regard.finetuning.runs.run import STATE
from regard.finetuning.tasks import get_task
from regard.finetuning.training import adapters
from regard.finetuning.training.checkpoints import last_checkpoint
from regard.finetuning.training.interrupts import Interrupted, saving_on_interrupt
from regard.finetuning.training.monitor import as_for_predictions, watch_training
from regard.finetuning.training.padding import rows_touch, without_padding
from regard.finetuning.training.precision import choose_precision
from regard.finetuning.training.saving import save
from regard.finetuning.training.trainer import StepTrainer
from regard.finetuning.training.validation import Tally, logits_alone
from regard.finetuning.training.watcher import Watcher


def train_into(path: Path, prepared: Prepared, resume: bool, display: Display) -> None:
    """Train with transformers' Trainer, and leave the model in `path / "model"`."""
    config, spec = prepared.config, prepared.check.spec
    task = get_task(config.task)
    set_seed(config.seed)
    with loading("a model", config.source):
        model, fresh = task.load_model(config.source, spec, config.train.dropout)
    _require_trainable(model, fresh)
    base = None
    if config.adapter.kind != "none":
        base = adapters.describe_base(model, fresh, config.model) | adapters.stored_in_half(config.source)
        model = _adapt(model, fresh, config, display)
    if not resume and processes.is_first():
        begin(path, prepared, fresh)
    processes.wait()
    if base:
        _require_base(path, base)
    trainer = _trainer(path, prepared, model, display)
    _run(trainer, path, resume, display)
    if processes.is_first():
        save(path, trainer, prepared)
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
            preprocess_logits_for_metrics=logits_alone,
            compute_loss_func=task.loss(rows, spec, config),
            callbacks=[Watcher(display, task.metric(spec))],
        )
    trainer.remove_callback(PrinterCallback)
    if config.train.patience:
        trainer.add_callback(EarlyStoppingCallback(config.train.patience))
    watch_training(trainer, path, config, held_out, display)
    return trainer


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


def _run(trainer: Trainer, path: Path, resume: bool, display: Display) -> None:
    """Train to the end, or save and raise `Interrupted` on Ctrl-C."""
    watcher = next(c for c in trainer.callback_handler.callbacks if isinstance(c, Watcher))
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
