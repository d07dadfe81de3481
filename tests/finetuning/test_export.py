"""What is exported answers as the run's model, and anything else is refused."""

import json

import numpy as np
import pytest
import torch

from models.families import ENCODERS, make, spread
from regard.errors import ConfigError, RegardError, UnsupportedError
from regard.finetuning import export as exporting
from regard.finetuning.export import compare, export
from regard.finetuning.probes import probes
from regard.finetuning.training.saving import in_order


def refusal(function, *args, error=ConfigError, **options):
    with pytest.raises(error) as caught:
        function(*args, **options)
    return str(caught.value)


def test_the_probes_have_several_lengths_and_paddings(finished):
    batches = list(probes(finished.model, finished.processor))
    real = [tuple(batch["attention_mask"].sum(1).tolist()) for batch in batches]
    assert real == [
        (7,), (7, 4, 1), (1,), (1, 1, 1), (2,), (2, 1, 1), (31,), (31, 16, 1), (32,), (32, 16, 1),
    ]  # fmt: skip
    for batch in batches:
        assert ((batch["input_ids"] == finished.processor.pad_token_id) == (batch["attention_mask"] == 0)).all()


def test_safetensors(finished, tmp_path):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    done = export(finished, tmp_path / "out")
    assert (done.path, done.format, done.inputs, done.lengths) == (
        tmp_path / "out", "safetensors", 20, [1, 2, 4, 7, 16, 31, 32],
    )  # fmt: skip
    assert done.difference == 0
    model = AutoModelForSequenceClassification.from_pretrained(done.path)
    tokens = AutoTokenizer.from_pretrained(done.path)(["a superb film"], return_tensors="pt")
    answer = finished.predict("a superb film")[0]["probabilities"]["positive"]
    assert model(**tokens).logits.softmax(-1)[0, 1].item() == pytest.approx(answer, abs=1e-5)


def test_onnx_gives_the_logits_of_the_model_for_any_batch_and_length(finished, tmp_path):
    """Computed here once more, by a session of its own and by transformers alone."""
    import onnxruntime
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    done = export(finished.path, str(tmp_path / "out"), format="onnx")
    assert 0 <= done.difference < 1e-4
    session = onnxruntime.InferenceSession(done.path / "model.onnx", providers=["CPUExecutionProvider"])
    assert {tuple(each.shape) for each in session.get_inputs()} == {("batch", "sequence")}
    assert session.get_outputs()[0].shape == ["batch", 2]
    model = AutoModelForSequenceClassification.from_pretrained(finished.path / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(done.path)
    for texts in (["film"], ["a superb film", "dull", "the plot and the music of the story"]):
        tokens = tokenizer(texts, padding=True, return_tensors="pt")
        with torch.inference_mode():
            expected = model(**tokens).logits.numpy()
        found = session.run(["logits"], {name: array.numpy() for name, array in tokens.items()})[0]
        assert np.abs(found - expected).max() < 1e-4
    assert json.loads((done.path / "config.json").read_text())["id2label"] == {"0": "negative", "1": "positive"}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Bert", ENCODERS["Bert"]),
        pytest.param("DistilBert", ENCODERS["DistilBert"], marks=pytest.mark.slow),
        pytest.param("ModernBert", ENCODERS["ModernBert"], marks=pytest.mark.slow),
    ],
)
def test_onnx_gives_the_states_of_padding_too(name, options, tmp_path):
    """Of scores of unit size: guesses at padding, beside a text and where there is no text."""
    model = spread(make(name, options, "ForMaskedLM")).eval()
    ids = np.random.default_rng(0).integers(3, 50, (3, 9)).astype(np.int64)
    mask = (np.arange(9) < np.array([9, 4, 9])[:, None]).astype(np.int64)
    with exporting._silence():
        answer = exporting._write_onnx(model, [{"input_ids": ids, "attention_mask": mask}], tmp_path)
    mask[2] = 0
    with torch.inference_mode():
        expected = model(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask)).logits.numpy()
    found = answer({"input_ids": ids, "attention_mask": mask})["logits"]
    assert np.ptp(expected[2], 0).max() > 0.1
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_a_text_of_padding_alone_is_compared_where_the_model_has_numbers(finished, tmp_path, monkeypatch):
    write = exporting._write_safetensors

    def spoiled(*args):
        answer = write(*args)
        return lambda batch: {"logits": answer(batch)["logits"] + (batch["attention_mask"].sum(1) == 0)[:, None]}

    monkeypatch.setattr(exporting, "_write_safetensors", spoiled)
    assert refusal(export, finished, tmp_path / "out", error=RegardError) == (
        f"{tmp_path / 'out'}: need the exported model to answer as the trained one; got logits that differ by 1 for "
        "inputs of shape (3, 7); nothing was written: export to another format."
    )
    answer = exporting._answer

    def without_numbers(model, batch):
        emptied = (batch["attention_mask"].sum(1) == 0)[:, None]
        return {"logits": np.where(emptied, np.nan, answer(model, batch)["logits"])}

    monkeypatch.setattr(exporting, "_answer", without_numbers)
    assert export(finished, tmp_path / "out").inputs == 20


def test_a_model_that_answers_otherwise_is_an_error_and_leaves_nothing(finished, tmp_path, monkeypatch):
    write = exporting._write_safetensors

    def spoiled(*args):
        answer = write(*args)
        return lambda batch: {"logits": answer(batch)["logits"] + 0.01 * (batch["input_ids"].shape[1] == 31)}

    monkeypatch.setattr(exporting, "_write_safetensors", spoiled)
    assert refusal(export, finished, tmp_path / "out", error=RegardError) == (
        f"{tmp_path / 'out'}: need the exported model to answer as the trained one; got logits that differ by 0.01 for "
        "inputs of shape (1, 31); nothing was written: export to another format."
    )
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_cannot_be_traced_is_refused_and_leaves_nothing(finished, tmp_path, monkeypatch):
    from transformers.exporters.exporter_onnx import OnnxExporter

    def failed(*args, **options):
        raise ValueError("symbols")

    monkeypatch.setattr(OnnxExporter, "export", failed)
    assert refusal(export, finished, tmp_path / "out", format="onnx", error=UnsupportedError) == (
        "export: need a model that transformers' exporter can trace; got BertForSequenceClassification, and ValueError "
        "from it; export to safetensors."
    )
    assert list(tmp_path.iterdir()) == []


def test_an_answer_that_is_no_number_is_an_error(tmp_path):
    batches = [{"input_ids": np.zeros((1, 2))}]
    with pytest.raises(RegardError, match="differ by nan"):
        compare(lambda _: {"logits": np.ones((1, 2))}, lambda _: {"logits": np.full((1, 2), np.nan)}, batches, tmp_path)


class Reader:
    """The processor of a text model, as far as probes need it."""

    model_max_length, all_special_ids, pad_token_id = 24, [0, 1, 2], 0

    def __init__(self, model):
        self.model_input_names = ["input_ids", "attention_mask"]
        if getattr(model.config, "type_vocab_size", 0) > 1:
            self.model_input_names.append("token_type_ids")

    def __len__(self):
        return 50


class Shower:
    """The processor of a picture model, as far as probes need it."""

    def __init__(self, side):
        self.side = side

    def __call__(self, images, return_tensors):
        return {"pixel_values": [np.zeros((3, self.side, self.side))]}


def exported(family, tmp_path):
    """A small model of a family, with weights large enough for its logits to tell: what it answers, and onnxruntime."""
    from test_adapters import CASES

    name, options, head, *_ = CASES.get(family) or ("Albert", ENCODERS["Albert"], "ForSequenceClassification")
    model = make(name, options, head)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3 if parameter.ndim > 1 else 1)
    pictures = model.main_input_name == "pixel_values"
    processor = Shower(32 if "detr" in family else 16) if pictures else Reader(model)
    batches = list(probes(model, processor))
    with exporting._silence():
        written = exporting._write_onnx(model, batches, tmp_path / "out")
    return lambda batch: exporting._answer(model, batch), written, batches


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(family, marks=SLOW)
        for family in (
            "distilbert", "roberta", "electra", "albert", "modernbert", "eurobert", "deberta-v2", "vit", "dinov2",
            "yolos", "detr", "bart", "marian", "t5",
        )
    ],
)  # fmt: skip
def test_families_in_onnxruntime(family, tmp_path):
    model, written, batches = exported(family, tmp_path)
    assert compare(model, written, batches, tmp_path) < 1e-4
    largest = max(float(np.abs(model(batch)["logits"]).max()) for batch in batches)
    assert largest > 0.01
    assert ("pred_boxes" in model(batches[0])) == (family in ("yolos", "detr"))


@SLOW
def test_a_graph_that_answers_otherwise_is_found(tmp_path):
    """RT-DETR's, with the exporter of today: it answers otherwise, or fails for another number of pictures."""
    refused = "need the exported model to answer as the trained one; got logits|need a model that onnxruntime can run"
    with pytest.raises(RegardError, match=refused):
        compare(*exported("rt_detr", tmp_path), tmp_path)


def test_what_others_cannot_do_is_told_in_a_sentence(finished):
    with pytest.raises(UnsupportedError) as caught, exporting._refusing("onnxruntime can load", finished.model):
        raise KeyError("a node")
    assert str(caught.value) == (
        "export: need a model that onnxruntime can load; got BertForSequenceClassification, and KeyError from it; "
        "export to safetensors."
    )


def test_boxes_are_compared_too(tmp_path):
    ours, theirs = ({"logits": np.ones(3), "pred_boxes": np.full(4, value)} for value in (0.5, 0.6))
    with pytest.raises(RegardError, match=r"got pred_boxes that differ by 0\.1 for inputs of shape \(1, 2\)"):
        compare(lambda _: ours, lambda _: theirs, [{"input_ids": np.zeros((1, 2))}], tmp_path)


def test_what_cannot_be_exported(finished, tmp_path, monkeypatch):
    expected = "export: need a format, one of safetensors, onnx, openvino; got 'pickle'; choose one."
    assert refusal(export, finished, tmp_path / "out", format="pickle") == expected
    expected = f"{finished.path}: need a new or empty directory to write; got one with files; choose another."
    assert refusal(export, finished, finished.path) == expected
    out = tmp_path / "no" / "out"
    expected = f"{out}: need a folder to write into; got none at '{out.parent}'; make it."
    assert refusal(export, finished, out) == expected
    monkeypatch.setitem(finished.__dict__, "config", finished.config.model_copy(update={"framework": "jax"}))
    assert refusal(export, finished, tmp_path / "out", error=UnsupportedError) == (
        f"export: need a run of framework torch; got 'jax', whose {finished.path / 'model'} Keras loads as it is; use "
        "that."
    )


def test_axes_have_names_in_inputs_outputs_and_between(tmp_path):
    from onnx import TensorProto, helper, load, save

    def value(name, *shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    inputs = [
        value("input_ids", "s0", "s1"),
        value("decoder_input_ids", "s0", "s7"),
        value("pixel_values", "s0", 3, "s9"),
    ]
    between = [value("a", "s0*s1", "s1 + 1")]
    graph = helper.make_graph([], "g", inputs, [value("logits", "s0", "s7", 5)], value_info=between)
    save(helper.make_model(graph), tmp_path / "m.onnx")
    exporting._name_axes(tmp_path / "m.onnx")
    graph = load(tmp_path / "m.onnx").graph
    named = {
        each.name: [dim.dim_param or dim.dim_value for dim in each.type.tensor_type.shape.dim]
        for each in (*graph.input, *graph.output, *graph.value_info)
    }
    assert named == {
        "input_ids": ["batch", "sequence"],
        "decoder_input_ids": ["batch", "decoder_sequence"],
        "pixel_values": ["batch", 3, "s9"],
        "a": ["batch*sequence", "sequence + 1"],
        "logits": ["batch", "decoder_sequence", 5],
    }


def test_weights_that_lie_in_another_order_are_saved_as_they_are(tmp_path):
    """Transposed and sliced, as what is merged or cut may be; transformers cannot write some of them."""
    from safetensors.torch import load_file

    model = make("Bert", ENCODERS["Bert"], "ForMaskedLM")
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            if parameter.ndim == 2:
                wider = torch.cat([parameter, parameter], 1)[:, : parameter.shape[1]]
                parameter.data = parameter.data.T.contiguous().T if number % 2 else wider
    assert not all(parameter.is_contiguous() for parameter in model.parameters())
    kept = {name: array.clone() for name, array in model.state_dict().items()}
    in_order(model).save_pretrained(tmp_path)
    written = load_file(tmp_path / "model.safetensors")
    assert written
    assert all(torch.equal(array, kept[name]) for name, array in written.items())
