"""`set_attn_implementation("regard")` against eager attention, in every family that fits a small configuration."""

import pytest
import torch
import transformers
from transformers.utils import logging

import regard
import regard.models.transformers
from models.families import ENCODERS, GROUPED, IMAGES, PAIRS, TEXT, WAV2VEC2, WHISPER, difference, make, text


@pytest.fixture(autouse=True)
def _quiet():
    logging.set_verbosity_error()
    yield
    logging.set_verbosity_warning()


def both(model, **inputs):
    found = []
    with torch.no_grad():
        for implementation in ("eager", "regard"):
            model.set_attn_implementation(implementation)
            found.append(model(**inputs, output_attentions=True))
    return found


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_and_decoders(name):
    ids, mask = text()
    real = mask.bool()
    eager, lazy = both(make(name, ENCODERS[name]), input_ids=ids, attention_mask=mask)
    assert all(isinstance(each, regard.AttentionWeights) for each in lazy.attentions)
    assert len(lazy.attentions) == len(eager.attentions) > 0
    assert max(map(lambda a, b: difference(a, b, real), lazy.attentions, eager.attentions)) < 2e-6
    assert float((lazy.last_hidden_state - eager.last_hidden_state)[real].abs().max()) < 1e-5


@pytest.mark.parametrize("name", PAIRS)
def test_encoder_decoders(name):
    ids, mask = text()
    eager, lazy = both(
        make(name, PAIRS[name]), input_ids=ids, attention_mask=mask, decoder_input_ids=ids[:, :7]
    )  # fmt: skip
    for kind, rows in (("encoder_attentions", mask.bool()), ("decoder_attentions", None), ("cross_attentions", None)):
        ours, theirs = getattr(lazy, kind), getattr(eager, kind)
        assert len(ours) == len(theirs) == 2
        assert max(difference(a, b, rows) for a, b in zip(ours, theirs, strict=True)) < 2e-6
    assert (lazy.cross_attentions[0].received()[0][:, 15:] == 0).all()
    assert float((lazy.last_hidden_state - eager.last_hidden_state).abs().max()) < 1e-5


@pytest.mark.parametrize("name", IMAGES)
def test_image_encoders(name):
    pixels = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    eager, lazy = both(make(name, IMAGES[name]), pixel_values=pixels)
    assert max(map(difference, lazy.attentions, eager.attentions)) < 2e-6
    assert float((lazy.last_hidden_state - eager.last_hidden_state).abs().max()) < 1e-5


def test_whisper():
    features = torch.rand(2, 8, 40, generator=torch.Generator().manual_seed(0))
    ids, _ = text()
    eager, lazy = both(make("Whisper", WHISPER), input_features=features, decoder_input_ids=ids[:, :5])
    for kind in ("encoder_attentions", "decoder_attentions", "cross_attentions"):
        assert max(map(difference, getattr(lazy, kind), getattr(eager, kind))) < 2e-6


def test_wav2vec2():
    sound = torch.randn(2, 400, generator=torch.Generator().manual_seed(0))
    eager, lazy = both(make("Wav2Vec2", WAV2VEC2), input_values=sound)
    assert max(map(difference, lazy.attentions, eager.attentions)) < 2e-6


@pytest.mark.parametrize("cache", [None, "static"])
def test_generating_with_a_cache_that_changes_in_place(cache):
    ids, mask = text()
    model = make("Llama", GROUPED, "ForCausalLM")
    options = {} if cache is None else {"cache_implementation": cache}
    found = []
    for implementation in ("eager", "regard"):
        model.set_attn_implementation(implementation)
        found.append(
            model.generate(
                ids,
                attention_mask=mask.flip(1),
                max_new_tokens=6,
                do_sample=False,
                output_attentions=True,
                return_dict_in_generate=True,
                **options,
            )
        )
    eager, lazy = found
    assert torch.equal(eager.sequences, lazy.sequences)
    assert len(lazy.attentions) > 3
    for theirs, ours in zip(eager.attentions, lazy.attentions, strict=True):
        for dense, weights in zip(theirs, ours, strict=True):
            assert float((weights.dense() - dense)[1:].abs().max()) < 2e-6


def test_training_is_the_same():
    ids, mask = text()
    model = make(
        "Bert", {**TEXT, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}, "ForMaskedLM"
    ).train()
    gradients = []
    for implementation in ("eager", "regard"):
        model.set_attn_implementation(implementation)
        model.zero_grad()
        model(input_ids=ids, attention_mask=mask, labels=ids).loss.backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert max(float((a - b).abs().max()) for a, b in zip(*gradients, strict=True)) < 1e-6


def test_what_expects_tensors_gets_them():
    ids, mask = text()
    model = make("Bert", TEXT)
    eager, lazy = both(model, input_ids=ids, attention_mask=mask)
    ours, theirs = lazy.attentions, eager.attentions
    torch.testing.assert_close(torch.stack(ours), torch.stack(theirs), atol=2e-6, rtol=0)
    torch.testing.assert_close(torch.cat(list(ours), dim=1), torch.cat(theirs, dim=1), atol=2e-6, rtol=0)
    torch.testing.assert_close(torch.mean(ours[0], dim=1), theirs[0].mean(1), atol=2e-6, rtol=0)
    torch.testing.assert_close(ours[0][:, [3, 1]].dense(), theirs[0][:, [3, 1]], atol=2e-6, rtol=0)


@pytest.mark.parametrize("kernel", ["auto", "compiled"])
def test_a_mask_function_that_we_do_not_know_is_called(kernel):
    left_padding = torch.tensor([0, 2])
    chunked = transformers.masking_utils.chunked_causal_mask_function(4, left_padding)
    rule = regard.models.transformers.make_mask(2, 23, 23, mask_function=chunked)
    assert "called(chunked_overlay" in repr(rule)
    dense = transformers.masking_utils.sdpa_mask(2, 23, 23, mask_function=chunked, allow_is_causal_skip=False)
    array = torch.randn(2, 6, 23, 4)
    weights = regard.attention(array, array, array, mask=rule, kernel=kernel).weights
    expected = regard.attention(array, array, array, mask=dense).weights
    torch.testing.assert_close(weights.dense(), expected.dense())
    torch.testing.assert_close(weights.entropy(), expected.entropy())


def test_word_timestamps_of_whisper_are_eagers():
    options = {**WHISPER, "decoder_start_token_id": 1, "max_target_positions": 20}
    model = make("Whisper", options, "ForConditionalGeneration")
    for parameter in model.parameters():
        parameter.data.mul_(3)
    settings = model.generation_config
    settings.alignment_heads = [[0, 0], [1, 2]]
    settings.no_timestamps_token_id, settings.is_multilingual, settings.return_timestamps = 45, False, False
    features = torch.rand(2, 8, 40, generator=torch.Generator().manual_seed(0))
    found = {}
    for implementation in ("eager", "regard"):
        model.set_attn_implementation(implementation)
        found[implementation] = model.generate(
            features, return_token_timestamps=True, max_new_tokens=10, return_dict_in_generate=True
        )
    assert torch.equal(found["eager"]["sequences"], found["regard"]["sequences"])
    assert torch.equal(found["eager"]["token_timestamps"], found["regard"]["token_timestamps"])
    assert float(found["regard"]["token_timestamps"].max()) > 0


@pytest.mark.parametrize("name", ["Bert", "Llama", "T5", "ViT"])
def test_weights_come_where_the_configuration_asks_for_them(name):
    options = {**ENCODERS, **PAIRS, **IMAGES}[name]
    config = getattr(transformers, f"{name}Config")(**options, output_attentions=True)
    kind = getattr(transformers, f"{name}Model")
    ids, pixels = text()[0], torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    inputs = {"pixel_values": pixels} if name == "ViT" else {"input_ids": ids}
    inputs |= {"decoder_input_ids": ids[:, :7]} if name == "T5" else {}
    made, set_later = kind._from_config(config, attn_implementation="regard"), kind(config)
    set_later.set_attn_implementation("regard")
    for model in (made, set_later):
        outputs = model.eval()(**inputs)
        kinds = [each for name, each in outputs.items() if "attentions" in name and each]
        assert [len(each) for each in kinds] == [2] * (3 if name == "T5" else 1)
        assert all(isinstance(weights, regard.AttentionWeights) for each in kinds for weights in each)
