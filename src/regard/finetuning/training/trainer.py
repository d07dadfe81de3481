"""transformers' Trainer with steps that are fixed: which examples, in which order, and how they weigh in the loss."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from typing import Any, cast

import torch

from regard.finetuning.training.checkpoints import CheckpointTrainer
from regard.finetuning.training.padding import as_configured
from regard.finetuning.training.precision import ShortAttention
from regard.finetuning.training.rates import apply_rates
from regard.finetuning.training.sampler import LengthSampler, SharedBatches, batches_by_length


class StepTrainer(CheckpointTrainer):
    """A Trainer whose steps are a function of seed and lengths, and whose gradient is that of the step's mean loss.

    A step has `batch_size` times `accumulate` examples, however many forward passes it takes: passes hold at most
    `max_tokens` tokens, the longest texts first. Each pass weighs by its share of the step's items (labels that count),
    so that the gradient is the same as in one pass.

    Args:
        max_tokens: tokens in a forward pass; a longer text has a pass of its own. Without padding they are the real
            ones.
        unpadded: whether the model computes real tokens only.
        layer_decay: what the learning rate is multiplied by from each layer to the one below.
    """

    def __init__(self, *, max_tokens: int, unpadded: bool, layer_decay: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.max_tokens, self.unpadded, self.layer_decay = max_tokens, unpadded, layer_decay
        self.validated: list[tuple[float, int]] = []
        self.model_accepts_loss_kwargs = True  # so that items are counted; not every model that says so uses them

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        rows: Any = self.train_dataset  # with its lengths, which the model does not take and Trainer leaves out
        lengths = rows["length"] if "length" in rows.column_names else None
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        sampler = LengthSampler(lengths, len(rows), batch, self.args.seed)
        if hasattr(self.data_collator, "follow"):  # one that changes its rows from epoch to epoch
            self.data_collator.follow(sampler)
        return sampler

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        """By length, which Trainer takes of the processor's first input; where rows have others, as they are."""
        first: Any = self.processing_class
        if first is None or first.model_input_names[0] in eval_dataset.column_names:
            return super()._get_eval_sampler(eval_dataset)
        return torch.utils.data.SequentialSampler(eval_dataset)

    def get_train_dataloader(self) -> Any:
        """All rows, or this process's of several; accelerate would repeat some to fill up."""
        if self.args.world_size == 1:
            return super().get_train_dataloader()
        rows: Any = self._remove_unused_columns(cast(Any, self.train_dataset))
        process, processes = self.args.process_index, self.args.world_size
        batches = SharedBatches(self._get_train_sampler(), self.args.train_batch_size, process, processes)
        return _Loader(rows, batch_sampler=cast(Any, batches), collate_fn=self.data_collator)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW, with a learning rate for each layer if they differ."""
        made = self.optimizer is None
        optimizer = super().create_optimizer(model)
        if made and self.layer_decay < 1:
            whole: Any = model or self.model
            names = {id(parameter): name for name, parameter in whole.named_parameters() if parameter.requires_grad}
            apply_rates(optimizer, names, self.layer_decay)
        return optimizer

    def get_decay_parameter_names(self, model: Any) -> list[str]:
        """All but biases and what normalises, which Trainer knows by what a model calls it."""
        kept = {
            f"{name}.{each}" for name, module in model.named_modules() if _normalises(module) for each in _own(module)
        }
        names = (name for name, _ in model.named_parameters())
        return [name for name in names if name not in kept and "bias" not in " ".join(name.split(".")[-2:])]

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Forward and backward of a batch, in as many passes as its tokens take."""
        passes = [inputs]
        if num_items_in_batch is not None:
            passes = list(split(inputs, self.max_tokens, padded=not self.unpadded))
        losses = []
        for part in passes:
            last = part is passes[-1]
            with nullcontext() if last else self.accelerator.no_sync(model):
                losses.append(super().training_step(as_configured(model), part, num_items_in_batch))
        return torch.stack(losses).sum()

    def prediction_step(self, model: Any, inputs: dict[str, Any], *args: Any, **options: Any) -> Any:
        """A batch of a validation; its loss is remembered with its items."""
        found = super().prediction_step(as_configured(model), inputs, *args, **options)
        if found[0] is not None:
            self.validated.append((float(found[0]), self._items(inputs["labels"])))
        return found

    def _items(self, labels: Any) -> int:
        """What a model's loss is the mean over: tokens that have a label, or rows."""
        whole = self.accelerator.unwrap_model(self.model)
        spelled = hasattr(getattr(whole, "config", None), "ctc_loss_reduction")
        if not isinstance(labels, torch.Tensor) or labels.ndim != 2 or labels.is_floating_point() or spelled:
            return len(labels)
        return int(labels.ne(-100).sum())

    def evaluation_loop(self, *args: Any, **options: Any) -> Any:
        """A validation, whose loss is the mean over all its items, however its rows share batches.

        Trainer's is a mean over rows of the means of their batches; among several processes, whose last batches repeat
        rows, it is left at that.
        """
        self.validated = []
        found: Any = super().evaluation_loop(*args, **options)
        name, total = f"{options.get('metric_key_prefix', 'eval')}_loss", sum(items for _, items in self.validated)
        if name in found.metrics and self.args.world_size == 1 and total:
            found.metrics[name] = sum(loss * items for loss, items in self.validated) / total
        return found

    def compute_loss_context_manager(self) -> ExitStack:
        """What forward passes run in."""
        contexts = super().compute_loss_context_manager()
        if self.args.bf16 and self.args.use_cpu:
            contexts.enter_context(ShortAttention())
        return contexts

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The sum over the items of this pass, divided by the items of the whole step."""
        if self.compute_loss_func is not None or num_items_in_batch is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        outputs = model(**inputs)
        items = inputs["labels"].ne(-100).sum()
        loss = outputs["loss"] * (items / num_items_in_batch) if items else 0 * outputs["logits"].sum()
        if self.args.average_tokens_across_devices:
            loss = loss * self.accelerator.num_processes  # whose gradients are averaged
        return (loss, outputs) if return_outputs else loss


def _normalises(module: Any) -> bool:
    """Tell whether a module is a normalisation, by its class: PyTorch's have no base, and transformers has its own."""
    return "norm" in type(module).__name__.lower()


def _own(module: Any) -> list[str]:
    return [name for name, _ in module.named_parameters(recurse=False)]


class _Loader(torch.utils.data.DataLoader):
    """A loader that tells its batches which epoch it is."""

    def set_epoch(self, epoch: int) -> None:
        cast(Any, self.batch_sampler).set_epoch(epoch)


def split(inputs: dict[str, Any], max_tokens: int, padded: bool) -> Iterator[dict[str, Any]]:
    """Yield a batch in parts of at most `max_tokens` tokens, the longest texts first, each cut to its longest text.

    Inputs without `input_ids` and `attention_mask` `(B, T)` are not texts, and stay together.
    """
    mask = inputs.get("attention_mask") if "input_ids" in inputs else None
    if mask is None or mask.ndim != 2:
        yield inputs
        return
    lengths = mask.sum(1).tolist()
    ends = (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).amax(1)
    parts = batches_by_length(lengths, max_tokens, padded)
    if len(parts) == 1:
        yield inputs
        return
    for rows in parts:
        yield {name: _take(value, mask.shape, rows, int(ends[rows].max()), name) for name, value in inputs.items()}


def _take(value: Any, shape: tuple[int, int], rows: list[int], end: int, name: str) -> Any:
    if not isinstance(value, torch.Tensor) or not value.ndim or value.shape[0] != shape[0]:
        return value
    taken = value[rows]
    if value.shape[:2] != shape or (name == "labels" and bool(taken[:, end:].ne(-100).any())):  # a decoder's
        return taken
    return taken[:, :end].contiguous()
