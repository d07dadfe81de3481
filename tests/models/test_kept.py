"""Weights and what was seen, written into a file and read again, by every framework."""

import copy
import json
import pickle
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import cases
import frameworks
import regard
from models.families import ENCODERS, PAIRS, make, spread, text
from regard import masks
from regard.errors import ConfigError, DataError, DtypeError, UnsupportedError

KINDS = [
    "wide", "tall-causal", "axes-2-causal", "broadcast-both", "window-2-1", "lengths-of-queries", "segments", "prefix",
    "not-pairs-and-lengths", "boolean-2x6x1x7", "and-or-not", "cosine-scale", "softcap-scale-bias", "alibi", "relative",
    "sinks-causal-tall", "everything", "wide-as-float64", "everything-as-float16", "tall-causal-as-bfloat16",
    "size-0-keys",
]  # fmt: skip


def weights_of(backend, name):
    positional, keywords = cases.ALL[name].arguments(backend)
    return regard.attention(*positional, **keywords).weights


@pytest.mark.parametrize("name", KINDS)
def test_what_is_read_is_what_was_written(backend, name, tmp_path):
    weights = weights_of(backend, name)
    regard.save(weights, tmp_path / "weights.safetensors")
    again = regard.load(tmp_path / "weights.safetensors", backend.name)
    assert again.shape == weights.shape
    assert again.dtype == weights.dtype
    np.testing.assert_array_equal(backend.numpy(again.dense()), backend.numpy(weights.dense()))
    np.testing.assert_array_equal(backend.numpy(again.entropy()), backend.numpy(weights.entropy()))
    assert str(again).split("kernel")[0] == str(weights).split("kernel")[0]


@pytest.mark.parametrize("name", ["everything", "tall-causal-as-bfloat16", "segments"])
@pytest.mark.parametrize("other", frameworks.ALL)
def test_another_framework_reads_it(backend, other, name, tmp_path):
    weights, reader = weights_of(backend, name), frameworks.ALL[other]
    regard.save(weights, tmp_path / "weights.safetensors")
    again = regard.load(tmp_path / "weights.safetensors", other)
    assert reader.owns(again.received())
    tolerance = 1e-2 if "bfloat16" in name else 2e-6
    expected = backend.numpy(weights.dense()).astype(np.float64)
    np.testing.assert_allclose(reader.numpy(again.dense()).astype(np.float64), expected, atol=tolerance)


@pytest.fixture(scope="module")
def seen():
    model, (ids, mask) = spread(make("Bert", ENCODERS["Bert"])), text()
    with torch.no_grad(), regard.watch(model, values=True) as seen:
        model(ids, attention_mask=mask)
    seen.remarks.append("a remark")
    return seen


def same(one, other):
    assert one.names == other.names
    assert one.remarks == other.remarks
    assert one.unseen == other.unseen
    for first, second in zip(one, other, strict=True):
        assert torch.equal(first.dense(), second.dense())
    assert torch.allclose(one.received(by_value=True), other.received(by_value=True))
    assert torch.equal(one.rollout(), other.rollout())


def test_what_was_seen_is_read_with_its_values(seen, tmp_path):
    seen.save(tmp_path / "seen.safetensors")
    again = regard.load(tmp_path / "seen.safetensors")
    same(again, seen)
    assert str(again.summary()) == str(seen.summary())
    with pytest.raises(UnsupportedError, match="need the gradient of the output"):
        again.relevance()


def test_a_mask_that_layers_share_is_written_once(tmp_path):
    model = spread(make("Bert", {**ENCODERS["Bert"], "num_hidden_layers": 4}))
    ids, mask = text()
    with torch.no_grad(), regard.watch(model) as seen:
        model(ids, attention_mask=mask)
    seen.save(tmp_path / "seen.safetensors")
    header = json.loads(read_header(tmp_path / "seen.safetensors")["__metadata__"]["regard"])
    masks_of = {tuple(each["weights"]["arrays"])[-2] for each in header["seen"]}
    assert len(masks_of) == 1
    assert len(header["seen"]) == 4


def read_header(path):
    with open(path, "rb") as file:
        [length] = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(length))


def test_the_attentions_of_transformers(tmp_path):
    import regard.models.transformers

    model, (ids, mask) = spread(make("Bart", PAIRS["Bart"])), text()
    model.set_attn_implementation("regard")
    with torch.no_grad():
        found = model(ids, attention_mask=mask, decoder_input_ids=ids[:, :7], output_attentions=True)
    regard.save(found.cross_attentions, tmp_path / "a.safetensors")
    again = regard.load(tmp_path / "a.safetensors")
    assert isinstance(again, tuple)
    assert len(again) == 2
    assert all(torch.equal(a.dense(), b.dense()) for a, b in zip(again, found.cross_attentions, strict=True))


def test_edited_weights_with_a_levelled_bias(tmp_path):
    model, (ids, mask) = spread(make("T5", PAIRS["T5"])), text()
    with torch.no_grad(), regard.edit(model, heads=1, weights="uniform"), regard.watch(model) as seen:
        model(ids, attention_mask=mask, decoder_input_ids=ids[:, :7])
    seen.save(tmp_path / "seen.safetensors")
    for first, second in zip(seen, regard.load(tmp_path / "seen.safetensors"), strict=True):
        assert torch.equal(first.dense(), second.dense())


def test_copied_pickled_moved_and_detached(seen):
    for again in (copy.copy(seen), copy.deepcopy(seen), pickle.loads(pickle.dumps(seen))):
        same(again, seen)
    for again in (seen.cpu(), seen.detach(), seen.to("cpu")):
        same(again, seen)
    assert seen.to(torch.float64)[0].dtype == torch.float64
    meta = seen.to("meta")
    assert meta[0].device.type == "meta"
    assert seen[0].device.type == "cpu"


def test_gradients_end_there():
    model, (ids, mask) = spread(make("Bert", ENCODERS["Bert"])), text()
    with regard.watch(model) as seen:
        model(ids, attention_mask=mask)
    assert seen[0].entropy().requires_grad
    assert not seen.detach()[0].entropy().requires_grad


def test_without_any_framework(tmp_path):
    _, weights = regard.attention(*(torch.randn(2, 3, 7, 4) for _ in "qkv"), mask=masks.causal())
    regard.save(weights, tmp_path / "weights.safetensors")
    code = f"""
import sys, numpy as np, regard
weights = regard.load({str(tmp_path / "weights.safetensors")!r})
assert isinstance(weights.entropy(), np.ndarray) and weights.shape == (2, 3, 7, 7)
assert not {{"torch", "tensorflow", "jax"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def write(path, **metadata):
    save_file({"0": np.zeros(3, np.float32)}, path, metadata=metadata)


def test_what_is_no_such_file(seen, tmp_path):
    path = tmp_path / "seen.safetensors"
    seen.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(DataError, match="load: need a file that save wrote; got one that is no"):
        regard.load(path)
    path.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
    with pytest.raises(DataError, match="got one that was changed"):
        regard.load(path)
    path.write_bytes(whole.replace(b"encoder.layer.0", b"encoder.layer.7", 1))
    with pytest.raises(DataError, match="got one that was changed"):
        regard.load(path)
    write(path, format="pt")
    with pytest.raises(DataError, match="got one of another program"):
        regard.load(path)
    write(path, regard="{}", digest="0")
    with pytest.raises(DataError, match="got one that was changed"):
        regard.load(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="no safetensors"):
        regard.load(path)
    with pytest.raises(DataError, match="load: need a file that save wrote; there is none at"):
        regard.load(tmp_path / "nothing")
    with pytest.raises(ConfigError, match=r"load: need a framework of .*; got 'mxnet'"):
        regard.load(path, "mxnet")


def test_another_version_is_told(seen, tmp_path, monkeypatch):
    from regard.models import kept

    monkeypatch.setattr(kept, "VERSION", 2)
    seen.save(tmp_path / "seen.safetensors")
    monkeypatch.undo()
    with pytest.raises(DataError, match="got version 2, where this Regard reads 1"):
        regard.load(tmp_path / "seen.safetensors")


def test_what_cannot_be_saved(tmp_path):
    path = tmp_path / "nothing.safetensors"
    with pytest.raises(DtypeError, match=r"save: need an AttentionWeights, a list of them, or what watch has"):
        regard.save(torch.zeros(3), path)
    with pytest.raises(DtypeError, match="got tuple"):
        regard.save((torch.zeros(3),), path)
    from regard.models.transformers.attention import Called

    rule = masks.Mask(Called(lambda b, h, q, k: q >= k, 0, 0, False))
    _, weights = regard.attention(*(torch.randn(2, 3, 7, 4) for _ in "qkv"), mask=rule)
    with pytest.raises(UnsupportedError, match="save: need masks and biases of Regard's own; got called"):
        regard.save(weights, path)
    assert not path.exists()
    assert not list(tmp_path.iterdir())
