"""Hand a run's model to others: transformers' own files, or ONNX, checked against the model before it has its name."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from regard._files import as_folder, require_no_link, sweep, whole
from regard.errors import ConfigError, RegardError, UnsupportedError
from regard.finetuning.frameworks import get_framework
from regard.finetuning.int8 import MOST
from regard.finetuning.int8.graph import quantize_graph
from regard.finetuning.int8.loss import Loss, quantized
from regard.finetuning.locks import alone
from regard.finetuning.probes import Batch, probes
from regard.finetuning.progress import quiet_transformers
from regard.finetuning.runs.run import CARD, Run
from regard.finetuning.tasks import get_task
from regard.finetuning.training.saving import in_order
from regard.models.unpad import pad

FORMATS = ("safetensors", "onnx", "openvino")
TOLERANCE = 1e-4
"""Largest difference between two logits, relative to the largest logit, or to 1 if that is more."""
ROUNDED = 0.2
"""The same of a model in int8, whose numbers are rounded to a 127th of their row's largest again and again."""
ANSWERS = ("logits", "pred_boxes")
"""What is compared, of what models answer."""

Answer = Callable[[Batch], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: the directory: the model, its processor, and the model card.
        format: `safetensors`, `onnx` or `openvino`.
        difference: the largest difference of a logit, or a side of a box, to that of the run's model.
        inputs: how many inputs they were compared on.
        lengths: of those inputs, in tokens; none where they all are alike.
        loss: what int8 costs on the validation rows, of the same arithmetic in PyTorch; None without, or not measured.
    """

    path: Path
    format: str
    difference: float
    inputs: int
    lengths: list[int]
    loss: Loss | None = None


def export(
    run: Run | str | Path,
    output: str | Path,
    *,
    format: Literal["safetensors", "onnx", "openvino"] = "safetensors",
    quantize: str | None = None,
    max_loss: float = MOST,
) -> Exported:
    """Write a run's model for use elsewhere, and compare what was written with the model.

    Args:
        run: a run, or its directory.
        output: the directory to make.
        format: `safetensors`, which transformers loads, or `onnx`, for onnxruntime: any number of inputs of any
            length that the model reads; pictures of the size that its processor makes. A model that writes is one
            graph, from its inputs and `decoder_input_ids` to the logits of the tokens that come next. `openvino` is the
            same graph as OpenVINO reads it.
        quantize: `int8` has products with constant weights in whole numbers of eight bits, for onnx and openvino.
        max_loss: how much worse the run's first measure may become by that, as `regard.predict` has it.

    Returns:
        The directory and the largest difference found, on batches of several lengths and paddings.

    Raises:
        ConfigError: the directory is taken, or there is no such format.
        UnsupportedError: the run is not of transformers on PyTorch, a package is missing, or the model cannot be had in
            this format.
        RegardError: what was written answers otherwise than the model; nothing is left of it.
    """
    run, output = Run.load(run), as_folder(output, "export", "a directory to make", ConfigError)
    _require_possible(run, output, format)
    loss = None
    if quantize is not None:
        _require_graph(format, quantize)
        _, loss = quantized(run, quantize, max_loss=max_loss, who="export")
    model, _ = get_framework(run.config.framework).load(run.folder, run.config, run.spec)
    if not hasattr(model, "config"):
        raise UnsupportedError(
            f"export: need a model of transformers; got a {type(model).__name__}, whose parts in {run.folder} "
            "diffusers loads as they are; use those."
        )
    if hasattr(model, "generate_speech"):
        raise UnsupportedError(
            f"export: need a model whose answers are logits or boxes, to compare them; got {type(model).__name__}, "
            f"which speaks; transformers loads {run.folder} as it is; use that."
        )
    model = pad(model)  # a plain model, as everybody else has it
    batches = list(probes(model, run.processor))
    with alone(output):
        _require_empty(output)  # again, now that nobody else writes there
        sweep(output)
        with whole(output) as aside:
            with _silence():
                if format == "safetensors":
                    answer = _write_safetensors(model, run, aside)
                else:
                    answer = _write_graph(model, batches, aside, format, quantize is not None)
                run.processor.save_pretrained(aside)
            if (run.folder / CARD).is_file():
                shutil.copy(run.folder / CARD, aside / CARD)
            tolerance = TOLERANCE if quantize is None else ROUNDED
            compared = batches if format == "openvino" else [*batches, *_with_padding_alone(model, batches)]
            difference = compare(lambda batch: _answer(model, batch), answer, compared, output, tolerance)
    lengths = sorted({int(n) for batch in batches if "input_ids" in batch for n in batch["attention_mask"].sum(1)})
    return Exported(output, format, difference, sum(len(_first(batch)) for batch in batches), lengths, loss)


def _require_graph(format: str, quantize: str) -> None:
    if format == "safetensors":
        raise ConfigError(
            f"export: need format onnx or openvino for {quantize}; got safetensors, which transformers reads in "
            "floating point; choose another."
        )


def _require_possible(run: Run, output: Path, format: str) -> None:
    if format not in FORMATS:
        raise ConfigError(f"export: need a format, one of {', '.join(FORMATS)}; got '{format}'; choose one.")
    if run.config.framework != "torch":
        raise UnsupportedError(
            f"export: need a run of framework torch; got '{run.config.framework}', whose {run.folder} Keras "
            "loads as it is; use that."
        )
    _require_empty(output)
    if not output.absolute().parent.is_dir():
        raise ConfigError(f"{output}: need a folder to write into; got none at '{output.parent}'; make it.")


def _require_empty(output: Path) -> None:
    require_no_link(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(f"{output}: need a new or empty directory to write; got one with files; choose another.")


def compare(model: Answer, written: Answer, batches: list[Batch], output: Path, tolerance: float = TOLERANCE) -> float:
    """Return the largest difference between two models' answers.

    Raises:
        RegardError: it is more than rounding can explain.
    """
    worst = 0.0
    for batch in batches:
        expected, found = model(batch), written(batch)
        for name, array in expected.items():
            difference = float(np.abs(found[name] - array).max())
            if not difference <= tolerance * max(1.0, float(np.abs(array).max())):
                raise RegardError(
                    f"{output}: need the exported model to answer as the trained one; got {name} that differ by "
                    f"{difference:.2g} for inputs of shape {np.shape(_first(batch))}; nothing was written: export to "
                    "another format."
                )
            worst = max(worst, difference)
    return worst


def _with_padding_alone(model: Any, batches: list[Batch]) -> list[Batch]:
    """Return a batch of texts, the last of which is padding alone, if the model has numbers for that.

    What hides padding, a Boolean, minus infinity or the least number, differs there from runtime to runtime; OpenVINO
    has no numbers for it.
    """
    texts = [batch for batch in batches if "input_ids" in batch and len(batch["attention_mask"]) > 1][:1]
    for batch in texts:
        mask = batch["attention_mask"].copy()
        mask[-1] = 0
        emptied = {**batch, "attention_mask": mask}
        if all(np.isfinite(array).all() for array in _answer(model, emptied).values()):
            return [emptied]
    return []


def _first(batch: Batch) -> np.ndarray:
    return next(iter(batch.values()))


def _answer(model: Any, batch: Batch) -> dict[str, np.ndarray]:
    import torch

    inputs = {name: torch.from_numpy(array).to(model.device) for name, array in batch.items()}
    with torch.inference_mode():
        outputs = model.eval()(**inputs)
    return {name: outputs[name].float().cpu().numpy() for name in ANSWERS if outputs.get(name) is not None}


def _write_safetensors(model: Any, run: Run, folder: Path) -> Answer:
    in_order(model).save_pretrained(folder)
    loaded, _ = get_task(run.config.task).load_model(str(folder), run.spec)
    return lambda batch: _answer(loaded, batch)


def _write_graph(model: Any, batches: list[Batch], folder: Path, format: str, int8: bool) -> Answer:
    """Write a graph for onnxruntime or OpenVINO, and have it answer."""
    openvino = _openvino() if format == "openvino" else None
    answer = _write_onnx(model, batches, folder, int8, by_row=openvino is None)
    return answer if openvino is None else _write_openvino(openvino, model, folder)


def _openvino() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise UnsupportedError(
            f"export: need openvino; got an environment without it ({error}); pip install 'regard[openvino]'."
        ) from None
    return openvino


def _write_openvino(openvino: Any, model: Any, folder: Path) -> Answer:
    """Have OpenVINO write the graph in the folder as its own, in place of it."""
    file, core = folder / "model.onnx", openvino.Core()
    with _refusing("OpenVINO can read", model):
        openvino.save_model(core.read_model(str(file)), str(folder / "openvino_model.xml"), compress_to_fp16=False)
        for path in (file, folder / "model.onnx.data", folder / "export.json"):
            path.unlink(missing_ok=True)
        exact = {"INFERENCE_PRECISION_HINT": "f32"}  # else it computes in bfloat16 where that is faster
        compiled = core.compile_model(core.read_model(str(folder / "openvino_model.xml")), "CPU", exact)
    known = {each.get_any_name() for each in compiled.inputs}
    places = {name: n for n, each in enumerate(compiled.outputs) for name in each.get_names() if name in ANSWERS}

    def answer(batch: Batch) -> dict[str, np.ndarray]:
        with _refusing(f"OpenVINO can run on inputs of shape {np.shape(_first(batch))}", model):
            found = compiled({name: array for name, array in batch.items() if name in known})
        return {name: np.array(found[place]) for name, place in places.items()}

    return answer


def _write_onnx(model: Any, batches: list[Batch], folder: Path, int8: bool = False, by_row: bool = True) -> Answer:
    """Export by transformers' exporter; every axis but those of pixels may vary."""
    import torch

    try:
        import onnxruntime
        from transformers.exporters.exporter_onnx import OnnxConfig, OnnxExporter

        exporter = OnnxExporter()
    except ImportError as error:
        raise UnsupportedError(
            f"export: need onnxruntime and onnxscript for onnx; got an environment without one ({error}); pip install "
            "'regard[onnx]'."
        ) from None
    # An axis of one is taken for a constant of the graph.
    sample = next(batch for batch in batches if all(min(array.shape[:2]) > 1 for array in batch.values()))
    tensors: dict[str, Any] = {name: torch.from_numpy(array) for name, array in sample.items()}
    axes = {name: {0: torch.export.Dim.AUTO} for name in tensors}
    axes |= {name: {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO} for name, t in tensors.items() if t.ndim == 2}
    with _refusing("transformers' exporter can trace", model):
        exported = exporter.export(model, tensors, config=OnnxConfig(dynamic_shapes=axes))
    exported.save_pretrained(folder)
    if int8:
        quantize_graph(folder / "model.onnx", by_row)
    _name_axes(folder / "model.onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is told in a sentence
    with _refusing("onnxruntime can load", model):
        session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    known = {each.name for each in session.get_inputs()}
    names = [each.name for each in session.get_outputs() if each.name in ANSWERS]

    def answer(batch: Batch) -> dict[str, np.ndarray]:
        with _refusing(f"onnxruntime can run on inputs of shape {np.shape(_first(batch))}", model):
            found = cast(list[np.ndarray], session.run(names, {n: a for n, a in batch.items() if n in known}))
        return dict(zip(names, found, strict=True))

    return answer


AXES = {
    "input_ids": "sequence",
    "attention_mask": "sequence",
    "token_type_ids": "sequence",
    "decoder_input_ids": "decoder_sequence",
    "input_values": "samples",
}
"""What the second axis of an input counts, if it may vary; the first is the batch."""


def _name_axes(file: Path) -> None:
    """Give the axes that may vary names to read, in place of the exporter's `s0`, in inputs, outputs and between."""
    import onnx

    model = onnx.load(str(file), load_external_data=False)
    sounds = any(each.name == "input_values" for each in model.graph.input)
    names: dict[str, str] = {}
    for given in model.graph.input:
        second = "samples" if sounds and given.name == "attention_mask" else AXES.get(given.name)
        for dim, name in zip(given.type.tensor_type.shape.dim, ("batch", second), strict=False):
            if name and dim.dim_param:
                names.setdefault(dim.dim_param, name)
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = re.sub(r"\w+", lambda found: names.get(found[0], found[0]), dim.dim_param)
    onnx.save(model, str(file))


@contextmanager
def _refusing(what: str, model: Any) -> Iterator[None]:
    """Tell in a sentence what others cannot do with a model, whatever they raise."""
    try:
        yield
    except Exception as error:
        raise UnsupportedError(
            f"export: need a model that {what}; got {type(model).__name__}, and {type(error).__name__} from it; export "
            "to safetensors."
        ) from error


@contextmanager
def _silence() -> Iterator[None]:
    """Keep PyTorch's exporter from telling how far it is, on whichever way it does."""
    with (
        quiet_transformers(),
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        before = logging.root.manager.disable
        logging.disable(logging.ERROR)
        try:
            yield
        finally:
            logging.disable(before)
