"""The conformance suite of ONNX's Attention operator (opsets 23 to 25): every one of its cases, in every framework.

The adapter below says in our words what the operator means: its causal corner and windows are counted from an offset
(the keys in the cache), its float masks are biases, its 3-D arrays hold the heads side by side.
"""

import functools
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import onnx
import onnx.backend.test.case.node.attention as suite
import pytest

import checks
import frameworks
import oracle
import regard

# Cases that are not attention as we define it, by name, with the reason.
NOT_OURS: dict[str, str] = {}


class Exported(NamedTuple):
    """A case of the suite: arrays by name, attributes, and the arrays that must come out."""

    arrays: dict[str, np.ndarray]
    attributes: dict[str, Any]
    expected: dict[str, np.ndarray]


@functools.cache
def exported():
    """All cases, their random inputs drawn from one seed each."""
    found = {}

    def keep(node, inputs, outputs, name, **_):
        given, made = ([name for name in names if name] for names in (node.input, node.output))
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        arrays, expected = (dict(zip(*pair, strict=True)) for pair in ((given, inputs), (made, outputs)))
        found[name.removeprefix("test_")] = Exported(arrays, attributes, expected)

    state = np.random.get_state()
    with mock.patch.object(suite, "expect", keep), np.errstate(all="ignore"):
        for name in sorted(vars(suite.Attention)):
            if name.startswith("export"):
                np.random.seed(0)
                getattr(suite.Attention, name)()
    np.random.set_state(state)
    return found


NAMES = sorted(exported())


class Call(NamedTuple):
    """What the operator asks for, as arguments of attention: NumPy arrays, a rule and a bias."""

    query: np.ndarray
    key: np.ndarray
    value: np.ndarray
    keywords: dict[str, Any]
    visible: np.ndarray  # (B, 1, T, S), of the operator's causal corner, its windows and its lengths
    bias: np.ndarray | None


def heads_apart(x, heads):
    """(B, T, heads x D) -> (B, heads, T, D)."""
    return x if x.ndim == 4 else np.swapaxes(x.reshape(*x.shape[:2], heads, -1), 1, 2)


def adapted(case):
    """The operator's arguments in our words."""
    arrays, attributes = case.arrays, case.attributes
    query = heads_apart(arrays["Q"], attributes.get("q_num_heads"))
    key, value = (heads_apart(arrays[name], attributes.get("kv_num_heads")) for name in "KV")
    if "past_key" in arrays:
        key = np.concatenate([arrays["past_key"], key], axis=2)
        value = np.concatenate([arrays["past_value"], value], axis=2)
    keywords = {name: attributes[name] for name in ("scale", "softcap") if attributes.get(name)}
    queries, keys = query.shape[-2], key.shape[-2]
    i, j = np.arange(queries)[:, None], np.arange(keys)
    offset = np.zeros((1, 1, 1, 1), int)  # keys before the first query
    visible = np.ones((1, 1, queries, keys), bool)
    if "past_key" in arrays:
        offset += arrays["past_key"].shape[2]
    elif "nonpad_kv_seqlen" in arrays:
        lengths = arrays["nonpad_kv_seqlen"].reshape(-1, 1, 1, 1)
        offset = lengths - queries
        visible = visible & (j < lengths)
    if attributes.get("is_causal"):
        visible = visible & (j <= i + offset)
    left, right = (attributes.get(f"{side}_window_size", -1) for side in ("left", "right"))
    if left >= 0:
        visible = visible & (j >= i + offset - left)
    if right >= 0:
        visible = visible & (j <= i + offset + right)
    bias, given = None, arrays.get("attn_mask")
    if given is not None:
        missing = keys - given.shape[-1]
        fill = False if given.dtype == bool else -np.inf
        given = np.pad(given, [(0, 0)] * (given.ndim - 1) + [(0, missing)], constant_values=fill)
        if given.dtype == bool:
            visible = visible & given
        else:
            bias = given
    return Call(query, key, value, keywords, visible, bias)


def rules_of(case, call):
    """The operator's masks as our rules where its offset is our corner, else None: then they are an array."""
    arrays, attributes = case.arrays, case.attributes
    rule = regard.masks.prefix(call.key.shape[-2])
    bounded = any(attributes.get(name, 0) > 0 for name in ("is_causal", "left_window_size", "right_window_size"))
    before = arrays["past_key"].shape[2] if "past_key" in arrays else 0
    if bounded and before != call.key.shape[-2] - call.query.shape[-2]:
        return None
    if "nonpad_kv_seqlen" in arrays:
        if attributes.get("is_causal"):
            return None
        rule &= regard.masks.lengths(arrays["nonpad_kv_seqlen"].tolist())
    if attributes.get("is_causal"):
        rule &= regard.masks.causal()
    sides = [attributes.get(f"{side}_window_size", -1) for side in ("left", "right")]
    rule &= regard.masks.window(*(None if side < 0 else side for side in sides))
    mask = arrays.get("attn_mask")
    if mask is not None and mask.dtype == bool:
        return None if mask.shape[-1] != call.key.shape[-2] else rule & regard.masks.boolean(mask)
    return rule


def attend(backend, call, mask):
    """The library's answer to the call."""
    dtype = str(call.query.dtype)
    bias = None if call.bias is None else backend.array(call.bias.astype(np.float64), dtype)
    arrays = (backend.array(x, dtype) for x in (call.query, call.key, call.value))
    return regard.attention(*arrays, mask=mask, bias=bias, **call.keywords)


def close_to_theirs(actual, theirs, dtype):
    """The suite's own tolerance; a half-width number has a coarser last place."""
    rtol = {"float32": 1e-3, "float16": 8e-3, "bfloat16": 6e-2}[dtype]
    np.testing.assert_allclose(actual, theirs.astype(np.float64), rtol=rtol, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("backend", "form"),
    [
        pytest.param(framework, form, marks=[pytest.mark.slow] if (framework, form) == ("jax", "rules") else [])
        for framework in frameworks.ALL
        for form in ("array", "rules")
    ],
    indirect=["backend"],
)
def test_output(backend, name, form):
    """The masks as one boolean array, and as rules where the corner is ours."""
    case = exported()[name]
    call = adapted(case)
    dtype = str(call.query.dtype)
    mask = backend.array(call.visible)
    if form == "rules":
        mask = rules_of(case, call)
        if mask is None:
            return  # counted in test_as_many_as_can_are_rules
    output, _ = attend(backend, call, mask)
    theirs = heads_apart(case.expected["Y"], case.attributes.get("q_num_heads"))
    checks.assert_like(backend, output, dtype, theirs.shape)
    close_to_theirs(backend.numpy(output), theirs, dtype)
    arrays = (x.astype(np.float64) for x in (call.query, call.key, call.value))
    bias = None if call.bias is None else call.bias.astype(np.float64)
    truth = oracle.attention(*arrays, mask=call.visible, bias=bias, **call.keywords).output
    close_to_theirs(truth, theirs, dtype)
    checks.assert_values(backend.numpy(output), truth, theirs.astype(np.float64), dtype=dtype, what=name)


SCORES = [name for name in NAMES if "qk_matmul_output" in exported()[name].expected]


@pytest.mark.parametrize("name", SCORES)
def test_scores(backend, name):
    """The score matrix: raw, after the softcap, after mask and bias, or after the softmax: then it is the weights.

    Before the softmax it is log(weights) + logsumexp, of a call without what comes after.
    """
    case = exported()[name]
    call = adapted(case)
    mode = case.attributes.get("qk_matmul_output_mode", 0)
    dtype = str(call.query.dtype)
    visible = call.visible
    if mode < 2:
        visible = np.ones_like(visible)
        call = call._replace(bias=None)
    if mode < 1:
        call = call._replace(keywords={k: v for k, v in call.keywords.items() if k != "softcap"})
    _, weights = attend(backend, call, backend.array(visible))
    dense = backend.numpy(weights.dense())
    theirs = case.expected["qk_matmul_output"].astype(np.float64)
    if mode == 3:
        close_to_theirs(dense, theirs, dtype)
    else:
        logsumexp = backend.numpy(weights.logsumexp)[..., None]
        np.testing.assert_array_equal(dense == 0, np.isneginf(theirs))
        seen = dense != 0
        with np.errstate(divide="ignore"):
            close_to_theirs((np.log(dense) + logsumexp)[seen], theirs[seen], dtype)


def test_all_cases_are_there():
    """93 cases, 18 with the score matrix, and none left out without a reason."""
    assert len(NAMES) == 93
    assert len(SCORES) == 18
    assert sum(exported()[name].attributes.get("qk_matmul_output_mode") == 3 for name in SCORES) == 6
    assert not NOT_OURS


def test_as_many_as_can_are_rules():
    """The others count their corner from an offset that is not ours, or mask with an array."""
    as_rules = [name for name in NAMES if rules_of(exported()[name], adapted(exported()[name])) is not None]
    assert len(as_rules) == AS_RULES


AS_RULES = 63


def test_the_adapter_can_be_wrong():
    """Without its masks, its bias or its scale the suite's outputs are not reached."""
    for name, without in (
        ("attention_4d_causal", {"visible": np.ones((1, 1, 4, 6), bool)}),
        ("attention_4d_attn_mask", {"bias": None}),
        ("attention_4d_scaled", {"keywords": {}}),
        ("attention_4d_softcap", {"keywords": {}}),
    ):
        case = exported()[name]
        call = adapted(case)._replace(**without)
        found = oracle.attention(call.query, call.key, call.value, mask=call.visible, bias=call.bias, **call.keywords)
        with pytest.raises(AssertionError):
            close_to_theirs(found.output, case.expected["Y"], "float32")
