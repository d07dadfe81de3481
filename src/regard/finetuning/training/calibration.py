"""What is fitted on the validation rows once training is over, and saved with the model."""

from __future__ import annotations

from typing import Any

from regard._escapes import as_json
from regard._files import read_json
from regard.finetuning.prepared import Prepared
from regard.finetuning.progress import Display
from regard.finetuning.runs.run import CALIBRATION, MODEL, Run, rewrite
from regard.finetuning.tasks import get_task


def settle(run: Run, prepared: Prepared, display: Display) -> dict[str, Any]:
    """Fit what the task fits on the validation rows, and save it with the model: its predictions go by it from now on.

    For transformers' models it is `calibration` in `config.json`, which transformers reads and leaves alone; for Keras'
    a file beside the model.

    Returns:
        What was fitted, such as `temperature` and `thresholds`; nothing where nothing is.
    """
    fit = getattr(get_task(prepared.config.task), "fit", None)
    if fit is None:
        return {}
    _keep(run, {})  # a model that training began with may have brought its own
    found = fit(run.model, run.processor, prepared.splits["validation"], prepared.check.spec, prepared.config, display)
    _keep(run, found)
    return found


def _keep(run: Run, found: dict[str, Any]) -> None:
    folder = run.path / MODEL
    if hasattr(run.model, "config") and (folder / "config.json").is_file():
        vars(run.model.config).pop("calibration", None)
        vars(run.model.config).update({"calibration": found} if found else {})
        values = {key: value for key, value in read_json(folder / "config.json").items() if key != "calibration"}
        values |= {"calibration": found} if found else {}
        rewrite(run.path, f"{MODEL}/config.json", as_json(values, indent=2) + "\n")
    else:
        run.model.calibration = found
        rewrite(run.path, f"{MODEL}/{CALIBRATION}", as_json(found, indent=2) + "\n" if found else None)
