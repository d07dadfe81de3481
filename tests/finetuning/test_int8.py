"""Linear layers in int8: as near as rounding allows, each row alone as beside others, refused where it costs much."""

import json
import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from test_adapters import CASES, IDS, INPUTS
from torch import nn

import regard
from models.families import ENCODERS, make
from regard._compiled import store
from regard.errors import ConfigError, DataError, RegardError, UnsupportedError
from regard.finetuning.export import export
from regard.finetuning.int8 import linear, loss
from regard.finetuning.int8.graph import quantize_graph
from regard.finetuning.int8.linear import Int8Linear, quantize
from regard.finetuning.int8.loss import Loss
from regard.finetuning.runs.run import Run

HALF = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def refusal(function, *args, error=ConfigError, **options):
    with pytest.raises(error) as caught:
        function(*args, **options)
    return str(caught.value)


def layer(inputs=37, outputs=23, bias=True):
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs, bias=bias).requires_grad_(False)


def given(rows=19, inputs=37):
    """Rows of very unlike sizes, one of zeros."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(rows, inputs)) * 10.0 ** rng.uniform(-4, 4, size=(rows, 1))
    values[3] = 0
    return torch.from_numpy(values).float()


def steps(x, w, by_row=True):
    """How far products may be off: half a step of each number, which is its row's largest over 127."""
    s, t = np.abs(x).max(1, keepdims=True) / 127 * by_row, np.abs(w).max(1, keepdims=True) / 127
    sums = np.abs(x).sum(1, keepdims=True), np.abs(w).sum(1, keepdims=True)
    return (s / 2) @ sums[1].T + sums[0] @ (t / 2).T + x.shape[1] * s @ t.T / 4


def compiled(monkeypatch, wanted):
    monkeypatch.setattr(store, "ready", lambda dtype: wanted)


@pytest.mark.parametrize("kind", HALF)
@pytest.mark.parametrize("loops", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_is_as_near_as_its_rounding_allows(monkeypatch, kind, loops, bias):
    """Each number is off by half a step at most: a row's largest, and an output's largest weight, over 127."""
    compiled(monkeypatch, loops)
    plain, rows = layer(bias=bias), given().to(HALF[kind])
    found = Int8Linear(plain)(rows)
    x, w = rows.double().numpy(), plain.weight.double().numpy()
    exact = x @ w.T + (plain.bias.double().numpy() if bias else 0)
    s, t = np.abs(x).max(1, keepdims=True) / 127, np.abs(w).max(1, keepdims=True) / 127
    allowed = (
        (s / 2) @ np.abs(w).sum(1, keepdims=True).T + np.abs(x).sum(1, keepdims=True) @ (t / 2).T + 37 * s @ t.T / 4
    )
    last = {"float32": 1e-5, "bfloat16": 2**-8}[kind] * (np.abs(exact) + allowed)
    off = np.abs(found.double().numpy() - exact)
    assert found.dtype == HALF[kind]
    assert (off <= allowed + last).all()
    assert (off > last).any()  # it is rounded indeed


@pytest.mark.parametrize("kind", HALF)
def test_a_row_is_the_same_to_the_bit_whatever_is_beside_it(kind):
    quantized, rows = Int8Linear(layer()), given().to(HALF[kind])
    together = quantized(rows)
    assert all(torch.equal(quantized(row[None])[0], answer) for row, answer in zip(rows, together, strict=True))
    assert torch.equal(quantized(rows[:, None])[:, 0], together)
    assert quantized(rows[:0]).shape == (0, 23)


@pytest.mark.parametrize("kind", HALF)
def test_the_loops_round_as_plain_operations_do(monkeypatch, kind):
    quantized, rows = Int8Linear(layer()), given().to(HALF[kind])
    compiled(monkeypatch, True)
    by_loops = quantized(rows)
    compiled(monkeypatch, False)
    plain = quantized(rows)
    last = {"float32": 2**-22, "bfloat16": 2**-8}[kind]
    assert torch.allclose(by_loops.float(), plain.float(), rtol=last, atol=last * float(quantized.bias.abs().max()))


def test_threads_share_the_rows_and_change_nothing(monkeypatch):
    quantized, rows = Int8Linear(layer()), given()
    alone = quantized(rows)
    monkeypatch.setattr(linear, "SHARED", 0)
    monkeypatch.setattr(linear.backend, "threads", lambda: 3)
    assert torch.equal(quantized(rows), alone)


@pytest.mark.parametrize("loops", [True, False])
@pytest.mark.parametrize("kind", HALF)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_stays_none_and_in_its_row(monkeypatch, loops, kind, bad):
    compiled(monkeypatch, loops)
    quantized, rows = Int8Linear(layer()), given().to(HALF[kind])
    before = quantized(rows)
    rows[5, 7] = bad
    found = quantized(rows)
    assert not found[5].isfinite().any()
    others = torch.arange(len(rows)) != 5
    assert torch.equal(found[others], before[others])


def test_its_weights_can_be_looked_at():
    plain = layer()
    weight = Int8Linear(plain).weight
    step = plain.weight.abs().amax(1, keepdim=True) / 127
    assert weight.dtype == torch.float32
    assert ((weight - plain.weight).abs() <= step / 2 + 1e-7).all()


def spread(model):
    """Weights large enough for scores and logits to tell."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4 if parameter.ndim > 1 else 1)
    return model.eval()


ALONE = [name for name in ENCODERS if name not in ("GPT2", "Llama", "Qwen2", "Gemma2")]


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("family", ALONE)
def test_texts_answer_alone_as_beside_others_without_padding(monkeypatch, family, half):
    """In an unpadded model nothing else is rounded by what is beside, so that answers are the same to the bit."""
    monkeypatch.setattr(linear, "choose_precision", lambda wanted: "bfloat16" if half else "float32")
    model = spread(make(family, ENCODERS[family], "ForSequenceClassification"))
    before = torch.stack([parameter.float().abs().sum() for parameter in model.parameters()])
    quantize(regard.unpad(model))
    assert sum(isinstance(module, Int8Linear) for module in model.modules()) > 4
    assert len(before) > len(list(model.parameters()))
    rng = np.random.default_rng(0)
    lengths = [31, 1, 7, 20, 7, 3]
    ids = torch.zeros(len(lengths), 31, dtype=torch.long)
    for row, length in zip(ids, lengths, strict=True):
        row[:length] = torch.from_numpy(rng.integers(3, 50, length))
    mask = (torch.arange(31) < torch.tensor(lengths)[:, None]).long()
    with torch.inference_mode():
        together = model(input_ids=ids, attention_mask=mask).logits.float()
        for row, length, answer in zip(ids, lengths, together, strict=True):
            alone = model(input_ids=row[None, :length], attention_mask=torch.ones(1, length, dtype=torch.long)).logits
            torch.testing.assert_close(alone[0].float(), answer, rtol=2**-8 if half else 2e-6, atol=2e-6)
    assert together.std() > 0.01


@pytest.mark.parametrize("family", [family for family in CASES if family != "speecht5"])  # which speaks
def test_a_quantised_model_of_any_kind_answers_nearly_as_before(family):
    """Of texts, pictures and sounds, reading and writing; detectors by their boxes, too."""
    name, options, head, *_ = CASES[family]
    model = make(name, options, head).eval()
    inputs = INPUTS.get(family, {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)})
    with torch.inference_mode():
        expected = model(**inputs)
        found = quantize(deepcopy(model))(**inputs)
    for answer in ("logits", "pred_boxes"):
        if expected.get(answer) is not None:
            plain, rounded = expected[answer].float(), found[answer].float()
            assert answer != "logits" or not torch.equal(rounded, plain)
            assert (rounded - plain).norm() < 0.1 * plain.norm()


def test_nothing_to_quantise_is_told():
    assert refusal(quantize, nn.Conv1d(3, 3, 3), error=UnsupportedError) == (
        "predict: need a model with linear layers of 16 outputs or more for int8; got Conv1d without; leave out "
        "quantize."
    )


def texts_of(run, count=60):
    return [json.loads(line)["text"] for line in (run.path / "predictions.jsonl").read_text().splitlines()][:count]


@pytest.fixture
def copy(finished, tmp_path):
    """The finished run, to write into."""
    import shutil

    return Run.load(shutil.copytree(finished.path, tmp_path / "run"))


def test_predicting_in_int8_is_measured_once_and_each_row_is_alone(copy, monkeypatch):
    quantized, told = loss.quantized(copy)
    assert (told.measure, told.rows) == ("accuracy", 40)
    assert told.before > 0.9
    texts = texts_of(copy)
    found = quantized.predict(texts)
    assert found == [quantized.predict([text])[0] for text in texts]
    assert found == regard.predict(copy, texts, quantize="int8")
    plain = copy.predict(texts)
    assert found != plain
    assert sum(one["label"] == other["label"] for one, other in zip(found, plain, strict=True)) > 0.95 * len(texts)
    monkeypatch.setattr(loss, "_measured", None)  # which is not called again
    assert loss.quantized(Run.load(copy.path))[1] == told


def test_a_loss_that_is_told_is_that_of_the_validation_rows(copy, tables):
    """Counted here once more."""
    import csv

    with (tables / "validation.csv").open() as file:
        rows = list(csv.DictReader(file))
    quantized, told = loss.quantized(copy)
    for run, value in ((copy, told.before), (quantized, told.after)):
        labels = [prediction["label"] for prediction in run.predict([row["sentence"] for row in rows])]
        assert value == np.mean([label == row["sentiment"] for label, row in zip(labels, rows, strict=True)])


def test_a_loss_beyond_the_limit_is_refused(copy):
    kept = {"files": copy.state["files"], "loss": {
        "measure": "accuracy", "before": 0.9, "after": 0.8, "difference": [-0.15, -0.05], "higher_is_better": True,
        "rows": 40,
    }}  # fmt: skip
    (copy.path / "int8.json").write_text(json.dumps(kept))
    assert refusal(regard.predict, copy, "film", quantize="int8", max_loss=0.1, error=RegardError) == (
        "predict: need int8 to lose at most 0.1 of the accuracy; got accuracy 0.800 on 40 validation rows, 0.900 as "
        "trained (95 % interval of the difference -0.150 to -0.050); leave out quantize, or raise max_loss."
    )
    assert loss.quantized(copy, max_loss=0.12)[1].share == pytest.approx(1 / 9)
    kept["files"] = {"model/config.json": {"bytes": 1, "sha256": "0"}}
    (copy.path / "int8.json").write_text(json.dumps(kept))
    assert loss.quantized(copy, max_loss=0.12)[1].before > 0.9  # another model's, so measured


def test_what_a_loss_is_worth():
    def share(before, after, higher=True):
        return Loss("it", before, after, None, higher, 1).share

    assert share(0.8, 0.6) == pytest.approx(0.25)
    assert share(0.8, 0.9) < 0
    assert share(4.0, 5.0, higher=False) == pytest.approx(0.25)
    assert (share(0.0, 0.0), share(0.0, 0.1, higher=False)) == (0, math.inf)


def test_without_the_validation_rows_nothing_is_claimed(copy, tables):
    text = (copy.path / "config.yaml").read_text().replace(str(tables / "validation.csv"), "/nowhere.csv")
    (copy.path / "config.yaml").write_text(text)
    run = Run.load(copy.path)
    told = refusal(loss.quantized, run, error=DataError)
    assert told.startswith("predict: need the run's validation rows, to measure what int8 loses; got none (")
    assert told.endswith("put them back, or set max_loss to inf.")
    assert loss.quantized(run, max_loss=math.inf)[1] is None


def test_what_cannot_be_asked_for(copy):
    assert refusal(regard.predict, copy, "film", quantize="int4") == (
        "predict: need quantize to be int8, or left out; got 'int4'; correct it."
    )
    assert refusal(loss.quantized, copy, max_loss=-1) == (
        "predict: need max_loss to be a number from 0 on; got -1; correct it."
    )
    assert refusal(loss.quantized, copy, max_loss=math.nan) == (
        "predict: need max_loss to be a number from 0 on; got nan; correct it."
    )


def test_keras_is_refused(copy):
    vars(copy)["config"] = copy.config.model_copy(update={"framework": "jax"})
    assert refusal(loss.quantized, copy, error=UnsupportedError) == (
        "predict: need a run of framework torch for int8; got 'jax'; leave out quantize."
    )


def answers_of(folder, format):
    """What is exported, asked in a session of its own."""
    if format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
        return lambda inputs: session.run(["logits"], inputs)[0]
    import openvino

    compiled = openvino.Core().compile_model(folder / "openvino_model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda inputs: np.array(compiled(inputs)["logits"])


@pytest.mark.parametrize("format", ["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def test_an_exported_row_answers_alone_as_beside_others_and_padding(copy, tmp_path, format):
    done = export(copy, tmp_path / "out", format=format, quantize="int8")
    assert (done.format, done.loss.measure) == (format, "accuracy")
    assert {path.stat().st_mode for path in done.path.iterdir()} == {(done.path / "config.json").stat().st_mode}
    answer = answers_of(done.path, format)
    tokens = dict(
        copy.processor(["a superb film", "dull", "the plot and the music of"], padding=True, return_tensors="np")
    )
    expected = copy.model(**{name: torch.from_numpy(array) for name, array in tokens.items()}).logits.detach().numpy()
    together = answer(tokens)
    assert 0 < np.abs(together - expected).max() < 0.1 * np.abs(expected).max()
    for number, length in enumerate(tokens["attention_mask"].sum(1)):
        alone = answer({name: array[number : number + 1, :length] for name, array in tokens.items()})
        assert np.abs(alone[0] - together[number]).max() < {"onnx": 1e-5, "openvino": 5e-3}[format]


def test_openvino_gives_the_logits_of_the_model(finished, tmp_path):
    done = export(finished, tmp_path / "out", format="openvino")
    assert done.difference < 1e-4
    assert done.loss is None
    assert {path.name for path in done.path.iterdir()} >= {"openvino_model.xml", "openvino_model.bin", "config.json"}
    assert not list(done.path.glob("*.onnx*"))
    tokens = dict(finished.processor(["a superb film", "dull"], padding=True, return_tensors="np"))
    expected = finished.model(**{name: torch.from_numpy(array) for name, array in tokens.items()}).logits
    np.testing.assert_allclose(answers_of(done.path, "openvino")(tokens), expected.detach().numpy(), atol=1e-4)


def test_openvino_that_is_missing_is_told(finished, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    told = refusal(export, finished, tmp_path / "out", format="openvino", error=UnsupportedError)
    assert told.startswith("export: need openvino; got an environment without it (")
    assert told.endswith("pip install 'regard[openvino]'.")
    assert not (tmp_path / "out").exists()


def test_int8_in_safetensors_is_refused(finished, tmp_path):
    assert refusal(export, finished, tmp_path / "out", quantize="int8") == (
        "export: need format onnx or openvino for int8; got safetensors, which transformers reads in floating point; "
        "choose another."
    )


def test_a_loss_beyond_the_limit_is_not_exported(copy, tmp_path, monkeypatch):
    monkeypatch.setattr(loss, "_measured", lambda *_: Loss("accuracy", 0.9, 0.5, None, True, 40))
    told = refusal(export, copy, tmp_path / "out", format="onnx", quantize="int8", error=RegardError)
    assert told.startswith("export: need int8 to lose at most 0.02 of the accuracy; got accuracy 0.500 on 40")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("by_row", [True, False])
@pytest.mark.parametrize("kind", ["MatMul", "Gemm", "Gemm of the transposed"])
def test_a_graph_computes_products_of_whole_numbers(tmp_path, by_row, kind):
    """One product, with a row of zeros, against float64."""
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    plain, rows = layer(), given().numpy()
    weights = plain.weight.numpy() if "transposed" in kind else np.ascontiguousarray(plain.weight.numpy().T)
    bias = {"bias": plain.bias.numpy()} if "Gemm" in kind else {}
    turned = {"transB": 1} if "transposed" in kind else {}
    node = helper.make_node(kind.split()[0], ["given", "weights", *bias], ["found"], **turned)
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", size])
        for name, size in (("given", 37), ("found", 23))
    ]
    constants = [numpy_helper.from_array(array, name) for name, array in ({"weights": weights} | bias).items()]
    graph = helper.make_graph([node], "it", ends[:1], ends[1:], constants)
    file = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), file)
    quantize_graph(file, by_row)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    found = session.run(None, {"given": rows})[0]
    x, w = rows.astype(float), plain.weight.double().numpy()
    exact = x @ w.T + (plain.bias.double().numpy() if bias else 0)
    s, t = np.abs(x).max(1, keepdims=True) / 127 * by_row, np.abs(w).max(1, keepdims=True) / 127
    allowed = (
        (s / 2) @ np.abs(w).sum(1, keepdims=True).T + np.abs(x).sum(1, keepdims=True) @ (t / 2).T + 37 * s @ t.T / 4
    )
    off = np.abs(found - exact)
    assert (off <= allowed + 1e-5 * (np.abs(exact) + allowed)).all()
    assert (off > 1e-4 * np.abs(exact)).any()
    for number in range(len(rows)):
        np.testing.assert_allclose(
            session.run(None, {"given": rows[number : number + 1]})[0][0], found[number], rtol=1e-6
        )


def test_a_graph_without_products_by_constants_is_refused(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    end = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in ("given", "found")]
    graph = helper.make_graph([helper.make_node("Abs", ["given"], ["found"])], "it", end[:1], end[1:])
    onnx.save(helper.make_model(graph), tmp_path / "model.onnx")
    assert refusal(quantize_graph, tmp_path / "model.onnx", True, error=UnsupportedError) == (
        "export: need a graph with products of 16 outputs or more by constant weights for int8; got one without; leave "
        "out quantize."
    )
