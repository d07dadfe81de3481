"""The training loop on Keras: the same steps, batches, rates, validations and checkpoints as on PyTorch."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import keras
import numpy as np
import torch
from transformers import get_scheduler
from transformers.trainer_utils import set_seed

from regard._digits import digits
from regard._files import whole
from regard._spoken import tell
from regard.finetuning.config import in_steps
from regard.finetuning.frameworks.keras import models
from regard.finetuning.frameworks.keras.batches import as_inputs
from regard.finetuning.frameworks.keras.checkpoints import Checkpoints
from regard.finetuning.runs.beginning import begin
from regard.finetuning.runs.run import MODEL
from regard.finetuning.tasks import get_task
from regard.finetuning.tasks.targets import classes
from regard.finetuning.training.interrupts import Interrupted, saving_on_interrupt
from regard.finetuning.training.padding import reads_padding
from regard.finetuning.training.reload import require_same_answers
from regard.finetuning.training.sampler import LengthSampler
from regard.finetuning.training.saving import close_training
from regard.finetuning.training.watcher import require_finite

if TYPE_CHECKING:
    from regard.finetuning.config import Config
    from regard.finetuning.prepared import Prepared
    from regard.finetuning.progress import Advance, Display

LOGGED = 0.02
"""Fraction of the steps between two entries of the loss in the history."""


def train_into(path: Path, prepared: Prepared, resume: bool, display: Display) -> None:
    """Train a KerasHub classifier, and leave it in `path / "model"`."""
    config, spec = prepared.config, prepared.check.spec
    set_seed(config.seed)
    keras.utils.set_random_seed(config.seed)
    model, described, fresh = models.build(config, spec, half=_half(config))
    models.adapt(model, config.adapter)
    if not resume:
        begin(path, prepared, fresh)
    loop = Loop(path, prepared, model, display)
    with display.bar("train", loop.plan.steps, loop.step) as loop.advance, saving_on_interrupt(loop):
        loop.run()
    _save(path, prepared, model, described, loop)


def _half(config: Config) -> bool:
    """Whether to compute in bfloat16: only if told to, for on a CPU a step of TensorFlow took 2.5 times as long."""
    return config.train.precision == "bfloat16"


class Plan:
    """How many steps there are, and what is due at which.

    Args:
        config: the configuration.
        rows: rows to learn from.
    """

    def __init__(self, config: Config, rows: int) -> None:
        train = config.train
        self.per_step = train.batch_size * train.accumulate
        self.per_epoch = math.ceil(rows / self.per_step)
        self.steps = train.max_steps or math.ceil(self.per_epoch * train.epochs)
        self.evaluate_every = in_steps(train.evaluate_every, self.steps)
        self.log_every = math.ceil(self.steps * LOGGED)
        warm_up = math.ceil(self.steps * train.warmup)
        stand_in = torch.optim.SGD([torch.zeros(1)], lr=train.learning_rate)
        schedule: Any = get_scheduler(train.schedule, stand_in, warm_up, self.steps)
        self.rates = [train.learning_rate * schedule.lr_lambdas[0](step) for step in range(self.steps)]


class Loop:
    """Trains step by step; all that it knows between two steps is in a checkpoint.

    Attributes:
        step: optimizer steps done.
        history: what was measured, as transformers' Trainer logs it.
        interrupted: someone asked to save and stop.
    """

    def __init__(self, path: Path, prepared: Prepared, model: Any, display: Display) -> None:
        self.path, self.prepared, self.model, self.display = path, prepared, model, display
        self.task, self.config = get_task(prepared.config.task), prepared.config
        self.rows = prepared.encoded["train"].rows
        self.plan = Plan(self.config, len(self.rows))
        self.collate = self.task.collator(prepared.processor)
        spec = cast(classes.Labelled, prepared.check.spec)
        weights = classes.class_weights(self.rows, spec, self.config)
        self.label_weights = np.ones(len(spec.labels), np.float32) if weights is None else weights
        self.optimizer = _compile(model, self.config)
        self.checkpoints = Checkpoints(path, model, self.optimizer)
        self.interrupted = False
        self.advance: Advance = lambda *_, **__: None
        state = self.checkpoints.load_last() or {}
        self.step: int = state.get("step", 0)
        self.history: list[dict[str, float]] = state.get("history", [])
        self.recent: list[float] = state.get("recent", [])
        self.best: int | None = state.get("best")
        self.score: float = state.get("score", -math.inf)
        self.worse: int = state.get("worse", 0)

    def run(self) -> None:
        """Train to the end, or save and raise `Interrupted` on Ctrl-C."""
        while self.step < self.plan.steps and not self._patience_is_over():
            self._train(self._numbers())
            last = self.step == self.plan.steps
            if self.interrupted and not last:
                self.display.say("  interrupted: saving a checkpoint; press Ctrl-C again to stop without")
                self._save()
                raise Interrupted(self.path, self.step, self.plan.steps)
            if last or self.step % self.plan.evaluate_every == 0:
                self._evaluate()
                self._save()
        if self.interrupted:
            raise Interrupted(self.path, self.step, self.plan.steps)
        if self.config.train.keep == "best" and self.best is not None:
            self.checkpoints.load_best(self.best)

    def _patience_is_over(self) -> bool:
        return self.config.train.patience is not None and self.worse >= self.config.train.patience

    def _numbers(self) -> np.ndarray:
        """Return the rows of the next step; they depend on seed and step alone."""
        epoch, place = divmod(self.step, self.plan.per_epoch)
        lengths = self.rows["length"] if "length" in self.rows.column_names else None
        sampler = LengthSampler(lengths, len(self.rows), self.plan.per_step, self.config.seed)
        sampler.set_epoch(epoch)
        return np.array(list(sampler))[place * self.plan.per_step :][: self.plan.per_step]

    def _train(self, numbers: np.ndarray) -> None:
        """Take one optimizer step: the mean over all its rows, in as many batches as the optimizer accumulates."""
        self.optimizer.learning_rate = self.plan.rates[self.step]
        parts = np.array_split(numbers, self.config.train.accumulate)
        loss = sum(self._gradient(part, len(numbers)) for part in parts)
        self.step += 1
        require_finite(loss, self.step, _half(self.config))
        self.recent.append(loss)
        if self.step % self.plan.log_every == 0:
            mean = float(np.mean(self.recent))
            self.history.append({"loss": mean, "learning_rate": self.plan.rates[self.step - 1], "step": self.step})
            self.recent = []
            self.advance(0, remark=f"loss {digits(mean)}")
        self.advance()

    def _gradient(self, numbers: np.ndarray, total: int) -> float:
        """Add a batch's gradient; rows that fill it up weigh nothing. Returns its part of the step's mean loss."""
        size, accumulate = self.config.train.batch_size, self.config.train.accumulate
        chosen = numbers if len(numbers) else np.zeros(1, int)  # a short last step leaves batches without rows
        batch = self.collate([self.rows[int(number)] for number in chosen])
        labels = np.zeros(size, np.int32)
        weights = np.zeros(size, np.float32)
        if len(numbers):
            labels[: len(numbers)] = batch["labels"].numpy()
            weights[: len(numbers)] = self.label_weights[labels[: len(numbers)]] * accumulate / total
        inputs = as_inputs(self.model, batch, size)
        _trace_for_any_length(self.model, (inputs, labels, weights))
        logs = self.model.train_on_batch(inputs, labels, weights, return_dict=True)
        return float(logs["loss"]) / accumulate

    def _evaluate(self) -> None:
        """Measure on the validation split, and remember whether it was the best so far."""
        rows = self.prepared.encoded["validation"].rows
        logits = self._logits(rows)
        labels = np.array(rows["labels"])
        task, spec = cast(Any, self.task), self.prepared.check.spec
        scores = task.validate(task.tally(SimpleNamespace(predictions=logits, label_ids=labels), spec), spec)
        scores = {"loss": _cross_entropy(logits, labels, self.label_weights), **scores}
        self.history.append({f"eval_{name}": value for name, value in scores.items()} | {"step": self.step})
        told = ", ".join(f"{tell(name.replace('_', ' '), word=True)} {digits(value)}" for name, value in scores.items())
        self.display.say(f"  step {self.step:>5}: validation {told}")
        score = scores[task.metric(spec)]
        if score > self.score:
            self.best, self.score, self.worse = self.step, score, 0
        else:
            self.worse += 1

    def _logits(self, rows: Any) -> np.ndarray:
        from regard.finetuning.frameworks.keras.batches import logits

        size = self.config.train.batch_size
        lengths = np.array(rows["length"] if "length" in rows.column_names else np.ones(len(rows)))
        order = np.argsort(lengths, kind="stable")

        def answer(numbers: Any) -> np.ndarray:
            return logits(self.model, self.collate([rows[int(number)] for number in numbers]))

        parts = [order[start : start + size] for start in range(0, len(rows), size)]
        if lengths[order[0]] < lengths[order[-1]] and reads_padding(answer, order[0], order[-1]):
            parts = [one for part in parts for one in np.split(part, np.flatnonzero(np.diff(lengths[part])) + 1)]
        return np.concatenate([answer(part) for part in parts])[np.argsort(order)]

    def _save(self) -> None:
        state = {name: getattr(self, name) for name in ("step", "history", "recent", "best", "score", "worse")}
        self.checkpoints.save(self.step, state, keep=self.best)


def _compile(model: Any, config: Config) -> Any:
    """Give the model AdamW as PyTorch's Trainer sets it up: no decay of biases and normalisations."""
    train = config.train
    optimizer = keras.optimizers.AdamW(
        train.learning_rate,
        weight_decay=train.weight_decay,
        epsilon=1e-8,
        global_clipnorm=train.max_gradient_norm,
        gradient_accumulation_steps=train.accumulate if train.accumulate > 1 else None,
    )
    norms = [layer for layer in model._flatten_layers() if "norm" in type(layer).__name__.lower()]
    undecayed = {id(v) for layer in norms for v in layer._trainable_variables}
    optimizer.exclude_from_weight_decay(
        [v for v in model.trainable_variables if v.name == "bias" or id(v) in undecayed]
    )
    optimizer.build(model.trainable_variables)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
    # XLA on TensorFlow took longer here than without; PyTorch's compiler needs a C++ compiler.
    jit = keras.backend.backend() == "jax"
    model.compile(optimizer=optimizer, loss=loss, metrics=[], jit_compile=jit)
    return optimizer


def _trace_for_any_length(model: Any, sample: Any) -> None:
    """Have TensorFlow trace the step once, for every length.

    Keras' own step is traced for the first length alone, and again for any once a second is seen. The two graphs round
    differently, and a resumed run would take other steps in the first of them than a run that was never interrupted.
    """
    if keras.backend.backend() != "tensorflow" or model.train_function is not None:
        return
    import tensorflow as tf

    def spec(array: np.ndarray) -> Any:
        shape = array.shape if array.ndim != 2 else (array.shape[0], None)
        return tf.TensorSpec(shape, array.dtype)

    step = tf.function(model.train_step, input_signature=[tf.nest.map_structure(spec, sample)])
    model.train_function = lambda batches: step(next(batches))


def _cross_entropy(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    shifted = logits - logits.max(-1, keepdims=True)
    each = np.log(np.exp(shifted).sum(-1)) - shifted[np.arange(len(labels)), labels]
    return float((each * weights[labels]).mean())


def _save(path: Path, prepared: Prepared, model: Any, described: Any, loop: Loop) -> None:
    """Save the model whole or not at all, and make sure that it loads as it was."""
    config = prepared.config
    learned = {
        "steps": loop.step,
        "planned": loop.plan.steps,
        "history": loop.history,
        "precision": "bfloat16 with float32 weights" if _half(config) else "float32",
        "trained": sum(int(np.prod(v.shape)) for v in model.trainable_variables),
    }
    with whole(path / MODEL) as aside:
        described.save_pretrained(aside)  # what the tokenizer's limits are read from
        prepared.processor.save_pretrained(aside)
        plain = models.save(model, aside)
        require_same_answers(plain, aside, prepared)
        close_training(path, aside, learned)
