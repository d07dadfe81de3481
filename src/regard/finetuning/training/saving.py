"""What training leaves: the model, its adapter, what was learned, and fingerprints of all of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import Trainer

from regard._files import read_json, whole, write_json
from regard.finetuning.prepared import Prepared
from regard.finetuning.progress import quiet_transformers
from regard.finetuning.runs.run import ADAPTER, ATTENTION, MODEL, STATE
from regard.finetuning.runs.seals import describe
from regard.finetuning.training import adapters
from regard.finetuning.training.precision import without_autocast
from regard.finetuning.training.reload import require_same_answers


def save(path: Path, trainer: Trainer, prepared: Prepared) -> None:
    """Save the model whole or not at all, and make sure that it loads as it was."""
    model, merged = without_autocast(trainer.accelerator.unwrap_model(trainer.model)), None
    if adapters.is_adapted(model):
        _save_adapter(path, model, prepared)
        merged = adapters.merge(model)
    with whole(path / MODEL) as aside:
        with quiet_transformers():
            in_order(merged or model).save_pretrained(aside)
            prepared.processor.save_pretrained(aside)
        _share(aside)
        require_same_answers(model, aside, prepared)
        close_training(path, aside, _learned(trainer))


def in_order(model: Any) -> Any:
    """Lay out weights one after the other, as files hold them: some that are cut or transposed cannot be written."""
    for parameter in model.parameters():
        parameter.data = parameter.data.contiguous()
    return model


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
