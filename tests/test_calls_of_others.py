"""`regard.masks.from_*`: the call of another library, and `regard.attention` with what its arguments become.

The oracle is the library's own operator, on random cases. Every query sees some key in them; what a query that sees
nothing gives is compared where the library has zeros, and named where it has something else.
"""

import types

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import transformers
from onnx.reference import ReferenceEvaluator
from torch.nn import functional
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward as gemma_attention
from transformers.models.gpt_oss.modeling_gpt_oss import eager_attention_forward as gpt_oss_attention
from transformers.models.llama.modeling_llama import eager_attention_forward as llama_attention

import frameworks
import regard
from regard.errors import DtypeError, ShapeError, UnsupportedError
from regard.masks import from_jax, from_keras, from_onnx, from_torch, from_transformers

jax = frameworks.jax
B, H, G, D = 2, 6, 2, 4
SEEDS = range(8)


class Case:
    """Random arrays of some queries and keys, T <= S, and masks in which query i sees at least key i + `own`."""

    def __init__(self, seed, heads=H, groups=G, own=0, dtype="float32"):
        self.rng = np.random.default_rng(seed)
        self.queries = int(self.rng.integers(2, 6))
        self.keys = self.queries + own + int(self.rng.integers(0, 3))
        self.own, self.heads, self.dtype = own, heads, dtype
        self.query, self.key, self.value = (
            self.numbers(B, count, length, D)
            for count, length in ((heads, self.queries), (groups, self.keys), (groups, self.keys))
        )

    def numbers(self, *shape):
        return (2 * self.rng.normal(size=shape)).astype(self.dtype)

    def some(self):
        """Whether a part of a call is there."""
        return bool(self.rng.integers(2))

    def mask(self, *lead):
        seen = self.rng.random((*lead, self.queries, self.keys)) < 0.5
        places = np.arange(self.queries)
        seen[..., places, places + self.own] = True
        return seen

    def additive(self, *lead):
        return np.where(self.mask(*lead), self.numbers(*lead, self.queries, self.keys), -np.inf).astype(self.dtype)

    def scale(self):
        return float(self.rng.uniform(0.2, 1.5)) if self.some() else None


def same(given, expected, case, tolerance=2e-5):
    """That an output, heads first, is the library's."""
    expected = np.asarray(expected)
    assert given.shape == expected.shape == (B, case.heads, case.queries, D)
    np.testing.assert_allclose(np.asarray(given), expected, rtol=tolerance, atol=tolerance)


def ours(case, said):
    return regard.attention(case.query, case.key, case.value, **said).output


def ours_of_torch(case, said):
    return regard.attention(*map(torch.from_numpy, (case.query, case.key, case.value)), **said)


@pytest.mark.parametrize("seed", SEEDS)
def test_torch_function(seed):
    case = Case(seed)
    masks = [None, case.mask(B, 1), case.mask(), case.additive(H), case.additive(B, H)]
    mask = masks[seed % len(masks)]
    call = {
        "attn_mask": None if mask is None else torch.from_numpy(mask),
        "is_causal": case.some(),
        "scale": case.scale(),
        "enable_gqa": True,
    }
    arrays = [torch.from_numpy(each) for each in (case.query, case.key, case.value)]
    expected = functional.scaled_dot_product_attention(*arrays, **call)
    same(regard.attention(*arrays, **from_torch(**call)).output, expected, case)
    same(ours(case, from_torch(**call | {"attn_mask": mask})), expected, case)  # NumPy takes them alike


def test_a_query_of_torch_that_sees_nothing_gives_zeros_alike():
    arrays = [torch.from_numpy(each) for each in (Case(0).query, Case(0).key, Case(0).value)]
    for mask in (torch.zeros(arrays[1].shape[2], dtype=torch.bool), torch.full((arrays[1].shape[2],), -torch.inf)):
        mask = mask.expand(arrays[0].shape[2], -1)
        expected = functional.scaled_dot_product_attention(*arrays, attn_mask=mask, enable_gqa=True)
        output = regard.attention(*arrays, **from_torch(attn_mask=mask)).output
        assert not expected.any()
        assert not output.any()


def plain_layer(heads):
    """A MultiheadAttention whose projections change nothing."""
    layer = torch.nn.MultiheadAttention(heads * D, heads, bias=False, batch_first=True).eval()
    with torch.no_grad():
        layer.in_proj_weight.copy_(torch.eye(heads * D).repeat(3, 1))
        layer.out_proj.weight.copy_(torch.eye(heads * D))
    return layer


def side_by_side(array):
    """`(B, H, T, D)` as `(B, T, H D)`."""
    return torch.from_numpy(array).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("seed", SEEDS)
def test_torch_layer(seed):
    case = Case(seed, groups=H)
    masks = [None, ~case.mask(), ~case.mask(B * H), case.additive(), case.additive(B * H)]
    mask = masks[seed % len(masks)]
    padding = None
    if seed % 2:
        padding = np.zeros((B, case.keys), bool)
        padding[0, case.queries :] = True
        if mask is not None and mask.dtype != bool:  # PyTorch wants them alike
            padding = np.where(padding, -np.inf, 0).astype("float32")
    call = {
        name: None if each is None else torch.from_numpy(each)
        for name, each in (("attn_mask", mask), ("key_padding_mask", padding))
    }
    with torch.no_grad():
        found, _ = plain_layer(H)(*map(side_by_side, (case.query, case.key, case.value)), need_weights=True, **call)
    said = from_torch("MultiheadAttention", num_heads=H, need_weights=True, **call)
    same(regard.attention(*map(torch.from_numpy, (case.query, case.key, case.value)), **said).output,
         found.unflatten(-1, (H, D)).transpose(1, 2), case)  # fmt: skip


def test_one_example_of_a_torch_layer():
    case = Case(3, groups=H)
    mask, padding = torch.from_numpy(~case.mask(H)), torch.zeros(case.keys, dtype=torch.bool)
    arrays = [torch.from_numpy(each[0]) for each in (case.query, case.key, case.value)]
    flat = [each.transpose(0, 1).flatten(1) for each in arrays]
    with torch.no_grad():
        found, _ = plain_layer(H)(*flat, attn_mask=mask, key_padding_mask=padding)
    said = from_torch("MultiheadAttention", attn_mask=mask, key_padding_mask=padding, num_heads=H)
    output = regard.attention(*arrays, **said).output.transpose(0, 1).flatten(1)
    np.testing.assert_allclose(output, found, atol=1e-5)


def test_a_text_of_padding_alone_has_nan_in_a_torch_layer_and_zeros_here():
    case = Case(0, groups=H)
    padding = torch.tensor([[True], [False]]).expand(B, case.keys)
    with torch.no_grad():
        found, _ = plain_layer(H)(*map(side_by_side, (case.query, case.key, case.value)), key_padding_mask=padding)
    output = ours(case, from_torch("MultiheadAttention", key_padding_mask=padding.numpy()))
    assert found[0].isnan().all()
    assert not output[0].any()


def test_dropout_of_torch_asks_for_a_seed():
    case = Case(0)
    said = from_torch(dropout_p=0.5)
    assert said == {"dropout": 0.5}
    with pytest.raises(DtypeError, match="need a seed with dropout"):
        ours(case, said)
    assert np.isfinite(ours(case, said | {"seed": 1})).all()


def heads_last(array):
    return keras.ops.convert_to_tensor(array.swapaxes(1, 2))


@pytest.mark.parametrize("seed", SEEDS)
def test_keras_function(seed):
    case = Case(seed)
    call = {
        "mask": [None, case.mask(B, 1), case.mask(1, H)][seed % 3],
        "bias": case.numbers(1, H, case.queries, case.keys) if case.some() else None,
        "is_causal": case.some(),
        "scale": case.scale(),
    }
    arrays = {"key": case.key, "value": case.value}
    if keras.backend.backend() == "tensorflow":  # refuses grouped heads in some releases
        arrays = {name: np.repeat(array, H // G, 1) for name, array in arrays.items()}
    expected = keras.ops.dot_product_attention(
        heads_last(case.query), **{name: heads_last(array) for name, array in arrays.items()}, **call
    )
    expected = keras.ops.convert_to_numpy(expected).swapaxes(1, 2)
    same(ours(case, from_keras("dot_product_attention", **call)), expected, case)


def keras_layer(grouped, window=None):
    """A layer whose projections change nothing."""
    if grouped:
        layer = keras.layers.GroupQueryAttention(D, H, G, use_bias=False)
    else:
        layer = keras.layers.MultiHeadAttention(H, D, use_bias=False, output_shape=H * D, sliding_window=window)
    groups = G if grouped else H
    layer.build((B, 3, H * D), (B, 3, groups * D), (B, 3, groups * D))
    kernels = [np.eye(n * D).reshape(n * D, n, D) for n in (H, groups, groups)] + [np.eye(H * D).reshape(H, D, H * D)]
    layer.set_weights([kernels[place].reshape(each.shape) for place, each in enumerate(layer.weights)])
    return layer


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("grouped", [False, True], ids=["heads", "groups"])
def test_keras_layers_of_several_heads(seed, grouped):
    case = Case(seed, groups=H)
    key, value = case.key, case.value
    if grouped:
        with_groups = Case(seed, groups=G)
        key, value = with_groups.key, with_groups.value
        if key.shape[2] != case.keys:
            pytest.fail("the cases have other lengths")
    window = 2 if seed % 2 and not grouped else None
    layer = keras_layer(grouped, window)
    call = {
        "attention_mask": [None, case.mask(), case.mask(B).astype("int32")][seed % 3],
        "value_mask": np.arange(case.keys) < np.array([[case.queries], [case.keys]]) if case.some() else None,
        "use_causal_mask": case.some(),
    }
    flat = [side_by_side(each).numpy() for each in (case.query, value, key)]
    found = keras.ops.convert_to_numpy(layer(*flat[:2], key=flat[2], **call)).reshape(B, case.queries, H, D)
    of = "GroupQueryAttention" if grouped else "MultiHeadAttention"
    said = from_keras(of, **call, **({} if grouped else {"sliding_window": window}))
    same(regard.attention(case.query, key, value, **said).output, found.swapaxes(1, 2), case)


@pytest.mark.parametrize("seed", SEEDS)
def test_keras_layer_of_one_head(seed):
    case = Case(seed, heads=1, groups=1)
    layer = keras.layers.Attention(use_scale=bool(seed % 2))
    query, key, value = (each[:, 0] for each in (case.query, case.key, case.value))
    layer.build([query.shape, value.shape, key.shape])
    mask = None
    if case.some():
        real_keys = np.arange(case.keys) < np.array([[case.queries], [case.keys]])
        mask = [np.arange(case.queries) < np.array([[1], [case.queries]]), real_keys]
    causal = case.some()
    given = [keras.ops.convert_to_tensor(each) for each in (query, value, key)]
    found = layer(given, mask=mask and [keras.ops.convert_to_tensor(each) for each in mask], use_causal_mask=causal)
    scale = None if layer.scale is None else layer.get_weights()[0].item()
    said = from_keras("Attention", mask=mask, use_causal_mask=causal, scale=scale)
    same(regard.attention(query, key, value, **said).output[:, None], keras.ops.convert_to_numpy(found)[:, None], case)


def test_padded_queries_of_keras_have_an_even_average_there_and_zeros_here():
    case = Case(0, groups=H)
    hidden = np.zeros((B, case.keys), bool)
    flat = [side_by_side(each).numpy() for each in (case.query, case.value, case.key)]
    found = keras.ops.convert_to_numpy(keras_layer(False)(*flat[:2], key=flat[2], value_mask=hidden))
    mean = np.broadcast_to(flat[1].mean(1, keepdims=True), found.shape)
    np.testing.assert_allclose(found, mean, atol=1e-5)
    assert not ours(case, from_keras(value_mask=hidden)).any()
    rows = regard.attention(case.query, case.key, case.value, **from_keras(query_mask=np.zeros((B, case.queries), int)))
    assert not rows.output.any()


@pytest.mark.parametrize("seed", [*SEEDS, 8, 9])
def test_jax(seed):
    case = Case(seed)
    windows = [None, 1, (2, 0), (0, 3)]
    call = {
        "mask": [None, case.mask(B, 1), case.mask(1, H)][seed % 3],
        "bias": case.numbers(1, H, case.queries, case.keys) if case.some() else None,
        "scale": case.scale(),
        "is_causal": case.some(),
        "local_window_size": windows[seed % 4],
        "key_value_seq_lengths": np.array([case.queries, case.keys], "int32") if case.some() else None,
        "query_seq_lengths": np.array([1, case.queries], "int32") if case.some() else None,
    }
    arrays = [jax.numpy.asarray(each.swapaxes(1, 2)) for each in (case.query, case.key, case.value)]
    expected = np.asarray(jax.nn.dot_product_attention(*arrays, **call)).swapaxes(1, 2)
    same(ours(case, from_jax(**call)), expected, case)


def test_queries_behind_the_end_give_zeros_in_jax_too_and_an_empty_row_the_average():
    case = Case(1)
    arrays = [jax.numpy.asarray(each.swapaxes(1, 2)) for each in (case.query, case.key, case.value)]
    said = from_jax(mask=np.zeros((1, 1, 1, case.keys), bool))
    found = np.asarray(jax.nn.dot_product_attention(*arrays, mask=np.zeros((1, 1, case.queries, case.keys), bool)))
    mean = case.value.mean(2).repeat(H // G, 1)[:, None]
    np.testing.assert_allclose(found, np.broadcast_to(mean, found.shape), atol=1e-5)
    assert not ours(case, said).any()
    lengths = np.zeros(B, "int32")
    assert not np.asarray(jax.nn.dot_product_attention(*arrays, query_seq_lengths=lengths)).any()
    assert not ours(case, from_jax(query_seq_lengths=lengths)).any()


def onnx_model(opset, fed, attributes):
    inputs = ["Q", "K", "V", "attn_mask", "past_key", "past_value", "nonpad_kv_seqlen"]
    while inputs[-1] not in fed:
        inputs.pop()
    outputs = ["Y", "present_key", "present_value"] if "past_key" in fed else ["Y"]
    node = onnx.helper.make_node("Attention", [name if name in fed else "" for name in inputs], outputs, **attributes)
    entries = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(each.dtype), each.shape)
        for name, each in fed.items()
    ]
    found = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs]
    graph = onnx.helper.make_graph([node], "attention", entries, found)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=11)


def run_onnx(how, opset, fed, attributes):
    model = onnx_model(opset, fed, attributes)
    if how == "reference":
        return ReferenceEvaluator(model).run(None, fed)[0]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(["Y"], fed)[0]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("how", "opset"), [("reference", 23), ("reference", 24), ("reference", 25), ("runtime", 23)])
def test_onnx(how, opset, seed):
    past = [0, 3][seed % 2]
    case = Case(seed, own=past)
    mask = [None, case.mask(), case.mask(B, 1), case.additive(1, H)][seed % 4]
    attributes = {"is_causal": int(case.some()), "softcap": float(case.some()) * 2.5}
    if (scale := case.scale()) is not None:
        attributes["scale"] = scale
    if opset == 25 and seed % 4 > 1:
        attributes |= {"left_window_size": 1, "right_window_size": seed % 3}
    fed = {"Q": case.query, "K": case.key[:, :, past:], "V": case.value[:, :, past:]}
    fed |= {} if mask is None else {"attn_mask": mask}
    fed |= {"past_key": case.key[:, :, :past], "past_value": case.value[:, :, :past]} if past else {}
    said = from_onnx(mask, past_key=fed.get("past_key"), Q=fed["Q"], K=fed["K"], **attributes)
    same(ours(case, said), run_onnx(how, opset, fed, attributes), case)


@pytest.mark.parametrize("seed", SEEDS)
def test_onnx_with_a_cache_outside(seed):
    case = Case(seed)
    counts = np.array([case.queries, case.keys], "int64")
    mask = case.mask()[:, : case.keys - seed % 2] if seed % 4 == 1 and case.keys > case.queries else None
    attributes = {"is_causal": seed % 2} | ({"left_window_size": 2, "right_window_size": -1} if seed > 4 else {})
    fed = {"Q": case.query, "K": case.key, "V": case.value, "nonpad_kv_seqlen": counts}
    fed |= {} if mask is None else {"attn_mask": mask}
    said = from_onnx(mask, Q=case.query, K=case.key, nonpad_kv_seqlen=counts, **attributes)
    same(ours(case, said), run_onnx("reference", 25, fed, attributes), case)  # empty rows are zeros in both


def test_a_query_of_onnx_that_sees_nothing_gives_zeros_alike():
    case = Case(2)
    for mask in (np.zeros((case.queries, case.keys), bool), np.full((case.queries, case.keys), -np.inf, "float32")):
        fed = {"Q": case.query, "K": case.key, "V": case.value, "attn_mask": mask}
        assert not run_onnx("reference", 23, fed, {}).any()
        assert not ours(case, from_onnx(mask)).any()


def module(**more):
    return types.SimpleNamespace(num_key_value_groups=H // G, training=False, is_causal=False, **more)


def from_module(function, case, mask, **call):
    arrays = [torch.from_numpy(each) for each in (case.query, case.key, case.value)]
    extra = {"sinks": call.pop("s_aux")} if function is gpt_oss_attention else {}
    return function(module(**extra), *arrays, mask, **call)[0].transpose(1, 2)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("function", [llama_attention, sdpa_attention_forward, gemma_attention, gpt_oss_attention],
                         ids=["llama", "sdpa", "gemma2", "gpt_oss"])  # fmt: skip
def test_functions_of_transformers(function, seed):
    case = Case(seed)
    mask = [None, torch.from_numpy(case.additive(B, 1)), torch.from_numpy(case.additive(B, H))][seed % 3]
    if function is sdpa_attention_forward and seed % 2:
        mask = torch.from_numpy(case.mask(B, 1))
    call = {"scaling": case.scale() or D**-0.5}
    if function is gemma_attention:
        call["softcap"] = 1.5
    if function is gpt_oss_attention:
        call["s_aux"] = torch.from_numpy(case.numbers(H))
    if function is sdpa_attention_forward:
        call["position_bias"] = torch.from_numpy(case.numbers(1, H, case.queries, case.keys))
        call["is_causal"] = mask is not None  # and the mask says all
    expected = from_module(function, case, mask, **call)
    same(ours_of_torch(case, from_transformers(mask, **call)).output, expected, case)


@pytest.mark.parametrize("length", [1, 5])
def test_causal_attention_of_transformers_without_a_mask(length):
    case = Case(0)
    case.queries, case.query = length, case.numbers(B, H, length, D)
    if length > 1:  # as many keys as queries: else transformers makes a mask
        case.key, case.value = case.numbers(B, G, length, D), case.numbers(B, G, length, D)
    expected = from_module(sdpa_attention_forward, case, None, is_causal=True)
    same(ours(case, from_transformers(is_causal=True)), expected, case)


@pytest.mark.parametrize("kind", ["causal", "window", "padded window", "bidirectional"])
def test_masks_that_transformers_makes_of_padding_and_windows(kind):
    case = Case(0)
    length = case.queries = case.keys = 7
    case.query, case.key, case.value = (case.numbers(B, count, length, D) for count in (H, G, G))
    padding = torch.ones(B, length, dtype=torch.long)
    if kind != "window":
        padding[0, 5:] = 0
    config = transformers.MistralConfig(sliding_window=3, attn_implementation="eager")
    made = {
        "causal": transformers.masking_utils.create_causal_mask,
        "bidirectional": transformers.masking_utils.create_bidirectional_mask,
    }.get(kind, transformers.masking_utils.create_sliding_window_causal_mask)
    options = {"past_key_values": None} if kind != "bidirectional" else {}
    mask = made(config, torch.zeros(B, length, 1), padding, **options)
    expected = from_module(llama_attention, case, mask, scaling=D**-0.5)
    window = 3 if "window" in kind else None
    said = from_transformers(padding, is_causal=kind != "bidirectional", sliding_window=window)
    output, weights = ours_of_torch(case, said)
    seeing = torch.isfinite(weights.logsumexp)
    assert seeing.float().mean() > 0.9
    assert not output[~seeing].any()  # where eager attention gives an even average
    np.testing.assert_allclose(output[seeing], expected[seeing], atol=2e-5)
    same(
        ours_of_torch(case, from_transformers(mask)).output, expected, case
    )  # its own mask, of finfo.min: alike in every row


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: from_torch(attn_mask=np.ones((2, 4), np.int64)), DtypeError,
            "masks.from_torch: need attn_mask of Booleans or of floating point; got int64 (2, 4); compare it first "
            "(mask != 0), or cast numbers to add.",
        ),
        (
            lambda: from_torch("MultiHeadAttention"), UnsupportedError,
            "masks.from_torch: need one of scaled_dot_product_attention, MultiheadAttention; got 'MultiHeadAttention'; "
            "did you mean 'MultiheadAttention'?",
        ),
        (
            lambda: from_torch(key_padding_mask=np.ones(4, bool)), UnsupportedError,
            "masks.from_torch: need arguments of scaled_dot_product_attention among attn_mask, dropout_p, is_causal, "
            "scale, enable_gqa; got 'key_padding_mask'; it is one of MultiheadAttention, to be named first.",
        ),
        (
            lambda: from_torch("MultiheadAttention", is_causal=True), UnsupportedError,
            "masks.from_torch: need attn_mask with is_causal, which is a hint about it in a MultiheadAttention; got "
            "none; give the mask.",
        ),
        (
            lambda: from_torch("MultiheadAttention", attn_mask=np.ones((4, 2, 2), bool)), ShapeError,
            "masks.from_torch: need num_heads of the layer, which divides the first axis of attn_mask (B H, T, S); got "
            "None for (4, 2, 2).",
        ),
        (
            lambda: from_keras("dot_product_attention", attn_logits_soft_cap=2.0), UnsupportedError,
            "masks.from_keras: need attn_logits_soft_cap=None, since Keras has it on TPUs alone and of another "
            "formula; got a number; softcap of regard.attention is c tanh(score / c).",
        ),
        (
            lambda: from_onnx(nonpad_kv_seqlen=[2], is_causal=1), ShapeError,
            "masks.from_onnx: need Q and K with nonpad_kv_seqlen where is_causal or a window is given; got none; give "
            "them, for their lengths.",
        ),
        (
            lambda: from_transformers(np.ones((2, 3, 3))), ShapeError,
            "masks.from_transformers: need attention_mask (B, S) or (B, H, T, S); got (2, 3, 3); add an axis for the "
            "heads.",
        ),
        (
            lambda: from_transformers(np.ones((1, 1, 3, 3), int)), DtypeError,
            "masks.from_transformers: need attention_mask of Booleans or of floating point; got int64 (1, 1, 3, 3); "
            "compare it first (mask != 0), or cast numbers to add.",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_refused(call, error, words):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == words
