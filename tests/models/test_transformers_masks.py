"""`"regard"` takes each mask, and each keyword of an attention, for what eager attention takes it."""

import pytest
import torch
import transformers
from transformers import masking_utils
from transformers.utils import logging

import regard
import regard.models.transformers as interface
from models.families import GROUPED, PAIR, TEXT, make, spread, text
from regard.errors import DtypeError, UnsupportedError

VISION = {"hidden_size": 24, "intermediate_size": 30, "num_hidden_layers": 1, "num_attention_heads": 4}
SMALL = {**GROUPED, "head_dim": 8}
EVEN = {**SMALL, "hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 4}  # as products in groups want it
EXPERTS = {"moe_intermediate_size": 16, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1}


@pytest.fixture(autouse=True)
def _quiet():
    logging.set_verbosity_error()
    yield
    logging.set_verbosity_warning()


def apart(model, **inputs):
    """By how much weights and outputs differ from eager attention's, where the mask is not 0."""
    found = []
    with torch.no_grad():
        for implementation in ("eager", "regard"):
            model.set_attn_implementation(implementation)
            found.append(model(**inputs, output_attentions=True))
    eager, lazy = found
    rows = inputs.get("attention_mask")
    rows = rows.bool() if rows is not None and rows.ndim == 2 else torch.ones(2, 1, dtype=torch.bool)
    assert len(lazy.attentions) == len(eager.attentions) > 0
    differences = [
        (dense_of(ours) - theirs).abs().transpose(1, 2)[rows.expand(2, theirs.shape[-2])].max()
        for ours, theirs in zip(lazy.attentions, eager.attentions, strict=True)
    ]
    differences.append((lazy[0] - eager[0]).abs()[rows.expand(eager[0].shape[:2])].max())
    return float(max(differences))


@pytest.mark.parametrize("name", ["Splinter", "Bert", "Llama"])
def test_no_mask_given_is_eagers(name):
    options = {**SMALL, "question_token_id": 3} if name == "Splinter" else SMALL if name == "Llama" else TEXT
    assert apart(spread(make(name, options)), input_ids=text()[0]) < 1e-5


def test_an_attention_that_is_called_without_a_mask_sees_all_keys():
    module = torch.nn.Module()
    module.is_causal = True  # what PyTorch's kernel would be told
    query, key, value = torch.randn(3, 2, 4, 5, 8).unbind()
    output, weights = interface.attend(module, query, key, value, None)
    expected = (query @ key.mT / 8**0.5).softmax(-1)
    torch.testing.assert_close(weights.dense(), expected)
    torch.testing.assert_close(output, (expected @ value).transpose(1, 2))
    _, weights = interface.attend(module, query, key, value, None, is_causal=True)
    assert (weights.dense().triu(1) == 0).all()


def test_a_text_as_prefix():
    text_config = {**GROUPED, "model_type": "gemma", "num_key_value_heads": 1, "head_dim": 8}
    vision_config = {
        **VISION, "model_type": "siglip_vision_model", "image_size": 8, "patch_size": 4, "vision_use_head": False,
    }  # fmt: skip
    config = transformers.PaliGemmaConfig(
        text_config=text_config, vision_config=vision_config, projection_dim=24, image_token_id=49
    )
    model = spread(transformers.PaliGemmaModel(config).eval())
    ids = text()[0].clamp(max=48)
    kinds = torch.zeros_like(ids)
    kinds[:, 14:] = 1  # the answer, which is causal
    assert apart(model, input_ids=ids, attention_mask=torch.ones_like(ids), token_type_ids=kinds) < 1e-5


# Models that compute with the mask they made: slice, repeat, pad, add to it or look at its type.
COMPUTING = {
    "Doge": {**SMALL, "keep_window_size": 4, "pad_token_id": 0},
    "Git": {**TEXT, "vision_config": {**VISION, "image_size": 8, "patch_size": 4}},
    "DeepseekV4": {
        **EVEN, "num_key_value_heads": 1, "sliding_window": 6, "q_lora_rank": 8, "o_lora_rank": 8,
        "o_groups": 2, "index_n_heads": 2, "index_head_dim": 8, "index_topk": 4, "moe_intermediate_size": 16,
        "n_routed_experts": 4, "num_experts_per_tok": 2,
    },
    "HYV4": {
        **TEXT, **EXPERTS, "q_lora_rank": 8, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8,
        "v_head_dim": 8, "index_n_heads": 2, "index_head_dim": 16, "index_topk": 4, "num_key_value_heads": 6,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", COMPUTING)
@pytest.mark.parametrize("side", ["right", "left"])
def test_models_that_compute_with_their_mask(name, side):
    ids, mask = text()
    mask = mask if side == "right" else mask.flip(1)
    assert apart(spread(make(name, COMPUTING[name])), input_ids=ids, attention_mask=mask) < 1e-5


def test_a_mask_that_is_repeated_for_heads():
    config = transformers.Siglip2VisionConfig(**VISION, num_patches=16, patch_size=2, num_channels=1)
    model = spread(transformers.Siglip2VisionModel(config).eval())
    mask = torch.tensor([[1] * 16, [1] * 12 + [0] * 4])
    inputs = {"pixel_values": torch.randn(2, 16, 4), "pixel_attention_mask": mask}
    inputs["spatial_shapes"] = torch.tensor([[4, 4], [4, 3]])
    pooled = []
    for implementation in ("eager", "regard"):
        model.set_attn_implementation(implementation)
        pooled.append(model(**inputs).pooler_output)
    torch.testing.assert_close(*pooled, atol=1e-5, rtol=0)


def made(**options):
    padding = torch.ones(2, 7, dtype=torch.bool)
    padding[1, :2] = False
    given = {"batch_size": 2, "q_length": 7, "kv_length": 7, "attention_mask": padding, **options}
    return interface.make_mask(**given), masking_utils.eager_mask(**given)


OPERATIONS = {
    "slice of keys": lambda mask: mask[:, :, :, :5],
    "slice of queries": lambda mask: mask[..., -1:, :],
    "example": lambda mask: mask[1],
    "sum": lambda mask: mask + 1.0,
    "sum from the left": lambda mask: torch.ones(7) + mask,
    "repeat": lambda mask: mask.repeat(1, 4, 1, 1),
    "expand": lambda mask: mask.expand(2, 4, 7, 7),
    "whether seen": lambda mask: mask == 0,
    "hidden ones filled": lambda mask: mask.masked_fill(mask < 0, -1.0),
    "padded": lambda mask: torch.nn.functional.pad(mask, (0, 2)),
    "joined": lambda mask: torch.cat([mask, mask], -1),
    "chosen by": lambda mask: torch.where(mask == 0, 1.0, 2.0),
    "boolean": lambda mask: mask.bool(),
    "half": lambda mask: mask.half() * 1,
    "moved": lambda mask: mask.to("cpu", torch.float64) * 1,
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_prepared_mask_is_the_tensor_that_eager_adds(operation):
    mask, expected = made()
    torch.testing.assert_close(OPERATIONS[operation](mask), OPERATIONS[operation](expected), rtol=0, atol=0)
    assert mask.rule is not None or operation.startswith(("slice", "example", "expand"))  # which share its memory


def test_a_prepared_mask_looks_like_that_tensor():
    mask, expected = made(dtype=torch.bfloat16)
    assert isinstance(mask, torch.Tensor)
    assert torch.is_tensor(mask)
    for name in ("shape", "dtype", "device", "ndim", "is_cuda", "requires_grad"):
        assert getattr(mask, name) == getattr(expected, name)
    assert (mask.size(), mask.size(-1), mask.dim(), mask.numel()) == (expected.size(), 7, 4, 98)


def test_what_is_written_into_a_prepared_mask_counts():
    mask, expected = made()
    for each in (mask, expected):
        each[0, :, :, 3] = -5.0
        each.masked_fill_(torch.eye(7, dtype=torch.bool), 0.5)
    query, key, value = torch.randn(3, 2, 4, 7, 8).unbind()
    _, weights = interface.attend(torch.nn.Module(), query, key, value, mask)
    real = torch.ones(2, 7, dtype=torch.bool)
    real[1, :2] = False
    plain = (query @ key.mT / 8**0.5 + expected).softmax(-1)
    torch.testing.assert_close(weights.dense().transpose(1, 2)[real], plain.transpose(1, 2)[real])


def test_handed_on_it_stays_a_rule():
    mask, _ = made()
    for each in (mask.to(torch.bfloat16), mask.contiguous(), mask.detach(), mask.clone(), mask.to("cpu"), mask[:]):
        assert isinstance(each, interface.Prepared)
        assert "causal()" in repr(each)


def test_masks_with_four_axes_are_taken_as_they_are():
    model = spread(make("Llama", SMALL))
    ids, _ = text()
    seen = torch.rand(2, 1, 23, 23, generator=torch.Generator().manual_seed(0)) < 0.5
    seen |= torch.eye(23, dtype=torch.bool)
    numbers = torch.where(seen, 0.0, torch.finfo(torch.float32).min)
    assert apart(model, input_ids=ids, attention_mask=numbers) < 1e-5
    model.set_attn_implementation("regard")
    with torch.no_grad():
        of_numbers, of_truth = (
            model(input_ids=ids, attention_mask=mask, output_attentions=True) for mask in (numbers, seen)
        )
    torch.testing.assert_close(of_truth[0], of_numbers[0], atol=1e-5, rtol=0)
    assert (of_truth.attentions[0].dense()[~seen.expand(2, 6, 23, 23)] == 0).all()
    with pytest.raises(DtypeError, match="need a boolean mask, True = may see; got int64; compare it first"):
        model(input_ids=ids, attention_mask=seen.long())


def prefix(batch, head, query, key):
    return key < 5


def scalars(batch, head, query, key):  # for one position alone, as those who write such a function may expect
    return torch.stack([query, key]).amax() < 6


@pytest.mark.parametrize("function", [prefix, scalars])
@pytest.mark.parametrize("kind", ["causal", "sliding_window_causal", "chunked_causal", "bidirectional"])
@pytest.mark.parametrize("junction", ["or", "and"])
def test_functions_that_somebody_adds_to_a_mask(function, kind, junction):
    config = transformers.LlamaConfig(**SMALL)
    config.sliding_window, config.attention_chunk_size = 4, 4
    _, padding = text()
    make_mask = getattr(masking_utils, f"create_{kind}_mask")
    options = {"inputs_embeds": torch.randn(2, 23, 8), "attention_mask": padding, "past_key_values": None}
    found = []
    for implementation in ("eager", "regard"):
        config._attn_implementation = implementation
        found.append(make_mask(config=config, **options, **{f"{junction}_mask_function": function}))
    dense, rule = found
    array = torch.randn(2, 6, 23, 4)
    _, weights = interface.attend(torch.nn.Module(), array, array, array, rule)
    plain = (array @ array.mT / 2 + dense).softmax(-1)
    some = (dense == 0).any(-1)[:, 0]
    torch.testing.assert_close(weights.dense().transpose(1, 2)[some], plain.transpose(1, 2)[some])


@pytest.mark.parametrize("function", [prefix, scalars])
def test_a_mask_with_such_a_function_is_a_tensor_too(function):
    mask, expected = made(
        mask_function=masking_utils.and_masks(masking_utils.causal_mask_function, function), use_vmap=True
    )
    torch.testing.assert_close(mask + 0.0, expected, rtol=0, atol=0)


def test_packed_sequences_by_position():
    ids = text()[0][:1].expand(2, -1)
    places = torch.cat([torch.arange(9), torch.arange(14)])[None].expand(2, -1)
    model = spread(make("Mistral", {**SMALL, "sliding_window": 4}))
    assert apart(model, input_ids=ids, position_ids=places) < 1e-5


def test_keywords_that_say_who_sees_whom():
    query, key, value = torch.randn(3, 1, 4, 6, 8).unbind()
    scores = query @ key.mT / 8**0.5

    def check(seen, module=None, **keywords):
        _, weights = interface.attend(module or torch.nn.Module(), query, key, value, None, **keywords)
        torch.testing.assert_close(weights.dense(), scores.masked_fill(~seen, -torch.inf).softmax(-1))

    documents = torch.tensor([0, 0, 1, 1, 1, 2])
    alone = documents[:, None] == documents
    ends = torch.tensor([0, 2, 5, 6])
    check(alone, cu_seq_lens_q=ends, cu_seq_lens_k=ends, max_length_q=3, max_length_k=3)
    check(alone, seq_idx=documents[None].int())
    chosen = torch.tensor([[[0, 1], [1, 0], [2, 5], [3, 0], [0, 4], [5, 1]]])
    seen = torch.zeros(1, 6, 6, dtype=torch.bool)
    for row, keys in enumerate(chosen[0]):
        seen[0, row, keys] = True
    check(seen[:, None], indices=chosen)
    indexer = torch.nn.Module()
    indexer.block_size = 4
    module = torch.nn.Module()
    module.indexer = indexer
    blocks = torch.tensor([[[[0, -1]] * 3 + [[1, 0]] * 3, [[1, -1]] * 6]])  # (B, G, T, k)
    first = torch.arange(6) < 4
    seen = torch.stack([first.expand(6, 6) | (torch.arange(6) >= 3)[:, None], ~first.expand(6, 6)])
    check(seen.repeat_interleave(2, 0)[None], module, block_indices=blocks)


def test_sinks_of_each_query():
    query, key, value = torch.randn(3, 2, 4, 6, 8).unbind()
    sinks = torch.randn(2, 4, 6, 1)
    output, weights = interface.attend(torch.nn.Module(), query, key, value, None, sinks=sinks)
    expected = torch.cat([query @ key.mT / 8**0.5, sinks], -1).softmax(-1)[..., :-1]
    torch.testing.assert_close(weights.dense(), expected)
    torch.testing.assert_close(output, (expected @ value).transpose(1, 2))


@pytest.mark.parametrize("name", ["GraniteSWA", "GptOss"])
def test_sinks_of_each_head(name):
    options = {**EVEN, "sliding_window": 4, "num_local_experts": 4, "num_experts_per_tok": 2}
    model = spread(make(name, options))
    for parameter_name, parameter in model.named_parameters():
        if "sinks" in parameter_name:
            torch.nn.init.normal_(parameter)
    ids, mask = text()
    assert apart(model, input_ids=ids, attention_mask=mask) < 1e-5


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"temperature": 2.0}, "temperature; Linear gives it"),
        ({"input_mask": torch.ones(2, 3)}, "input_mask; Linear gives it"),
        ({"block_indices": torch.zeros(2, 1, 3, 1)}, "block_indices; Linear gives it"),  # without an indexer
        ({"cu_seq_lens_q": torch.tensor([0, 3])}, "cu_seq_lens_q; Linear gives it"),
    ],
)
def test_keywords_that_are_not_known_are_refused(keywords, message):
    query = torch.randn(2, 4, 3, 8)
    with pytest.raises(UnsupportedError) as caught:
        interface.attend(torch.nn.Linear(2, 2), query, query, query, None, use_cache=True, unheard_of=None, **keywords)
    assert str(caught.value) == (
        f'set_attn_implementation("regard"): need an attention without {message}; '
        "use another implementation of attention."
    )


@pytest.mark.parametrize("name", ["input_ids", "inputs_embeds", "input_features", "pixel_values", "image_grid_thw"])
def test_what_a_model_reads_changes_no_attention(name):
    """Some models hand their own inputs on to every attention."""
    query, given = torch.randn(2, 4, 3, 8), torch.randint(9, (2, 3))
    expected = interface.attend(torch.nn.Linear(2, 2), query, query, query, None)
    for keyword in (name, f"decoder_{name}"):
        found = interface.attend(torch.nn.Linear(2, 2), query, query, query, None, **{keyword: given})
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1].dense(), expected[1].dense())


GENERATING = {
    "dynamic": {},
    "static": {"cache_implementation": "static"},
    "beams": {"num_beams": 3},
    "beams, static": {"num_beams": 3, "cache_implementation": "static"},
    "prompt lookup": {"prompt_lookup_num_tokens": 2},
    "no cache": {"use_cache": False},
}


@pytest.mark.parametrize("way", GENERATING)
@pytest.mark.parametrize("name", ["Llama", "Mistral", "Gemma2"])
def test_generating(name, way):
    model = spread(make(name, {**SMALL, "sliding_window": 6}, "ForCausalLM"))
    ids, mask = text()
    ids, mask = (ids[1:], mask[1:]) if way == "prompt lookup" else (ids, mask.flip(1))
    found = []
    for implementation in ("eager", "regard"):
        model.set_attn_implementation(implementation)
        options = {"max_new_tokens": 8, "do_sample": False, "output_attentions": True, "return_dict_in_generate": True}
        found.append(model.generate(ids, attention_mask=mask, **options, **GENERATING[way]))
    eager, lazy = found
    assert torch.equal(eager.sequences, lazy.sequences)
    assert len(lazy.attentions) > 3
    for step, (theirs, ours) in enumerate(zip(eager.attentions, lazy.attentions, strict=True)):
        for dense, weights in zip(theirs, ours, strict=True):
            differences = (dense_of(weights) - dense).abs().amax((1, 3))
            if differences.shape[1] == 23 + step:  # what padding itself attends to means nothing
                rows = torch.nn.functional.pad(mask, (0, step), value=1).bool()
                differences = differences[rows.repeat_interleave(len(differences) // len(rows), 0)]
            assert float(differences.max()) < 1e-5


def dense_of(weights):
    return weights.dense() if isinstance(weights, regard.AttentionWeights) else weights


def test_whisper_generates_with_attentions():
    options = {
        **PAIR, "encoder_layers": 1, "decoder_layers": 1, "max_source_positions": 30, "max_target_positions": 40,
        "num_mel_bins": 8, "decoder_start_token_id": 3, "suppress_tokens": None, "begin_suppress_tokens": None,
    }  # fmt: skip
    model = spread(make("Whisper", options, "ForConditionalGeneration"))
    features = torch.randn(2, 8, 60)
    found = []
    for implementation in ("eager", "regard"):
        model.set_attn_implementation(implementation)
        found.append(model.generate(features, max_new_tokens=4, output_attentions=True, return_dict_in_generate=True))
    eager, lazy = found
    assert torch.equal(eager["sequences"], lazy["sequences"])
    for kind in ("decoder_attentions", "cross_attentions"):
        for theirs, ours in zip(eager[kind], lazy[kind], strict=True):
            for dense, weights in zip(theirs, ours, strict=True):
                torch.testing.assert_close(dense_of(weights), dense, atol=1e-5, rtol=0)
