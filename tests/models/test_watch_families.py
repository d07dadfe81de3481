"""`watch` in every family against the weights that the same model computes eagerly."""

import pytest
import torch
import transformers
from transformers.utils import logging

import regard
from models.families import (
    ENCODERS,
    GROUPED,
    IMAGE,
    IMAGES,
    PAIRS,
    TEXT,
    TOKENS,
    WAV2VEC2,
    WHISPER,
    difference,
    make,
    text,
)
from regard.errors import UnsupportedError


@pytest.fixture(autouse=True)
def _quiet():
    logging.set_verbosity_error()
    yield
    logging.set_verbosity_warning()


def watched_and_eager(model, **inputs):
    """What is seen while the model runs as it does by default, and its outputs with eager attention."""
    with torch.no_grad():
        plain = model(**inputs)[0]
        with regard.watch(model) as seen:
            output = model(**inputs)[0]
        assert torch.equal(plain, output)
        model.set_attn_implementation("eager")
        return seen, model(**inputs, output_attentions=True)


# Gemma 2 caps its scores, which no kernel of PyTorch does: transformers runs it eagerly.
@pytest.mark.parametrize("name", sorted(ENCODERS.keys() - {"Gemma2"}))
def test_encoders_and_decoders(name):
    ids, mask = text()
    seen, eager = watched_and_eager(make(name, ENCODERS[name]), input_ids=ids, attention_mask=mask)
    assert len(seen) == len(eager.attentions) > 0
    assert max(difference(a, b, mask.bool()) for a, b in zip(seen, eager.attentions, strict=True)) < 2e-6


@pytest.mark.parametrize(
    ("name", "encoder", "decoder", "cross"),
    [
        ("Bart", "encoder.*", "decoder.*.self_attn", "*.encoder_attn"),
        ("Marian", "encoder.*", "decoder.*.self_attn", "*.encoder_attn"),
        ("T5", "encoder.*", "decoder.*.SelfAttention", "*.EncDecAttention"),
    ],
)
def test_encoder_decoders(name, encoder, decoder, cross):
    ids, mask = text()
    seen, eager = watched_and_eager(
        make(name, PAIRS[name]), input_ids=ids, attention_mask=mask, decoder_input_ids=ids[:, :7]
    )
    for pattern, expected, rows in (
        (encoder, eager.encoder_attentions, mask.bool()),
        (decoder, eager.decoder_attentions, None),
        (cross, eager.cross_attentions, None),
    ):
        assert max(difference(a, b, rows) for a, b in zip(seen.only(pattern), expected, strict=True)) < 2e-6


@pytest.mark.parametrize("name", IMAGES)
def test_image_encoders(name):
    pixels = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    seen, eager = watched_and_eager(make(name, IMAGES[name]), pixel_values=pixels)
    assert max(map(difference, seen, eager.attentions)) < 2e-6


def test_whisper():
    features = torch.rand(2, 8, 40, generator=torch.Generator().manual_seed(0))
    ids, _ = text()
    seen, eager = watched_and_eager(make("Whisper", WHISPER), input_features=features, decoder_input_ids=ids[:, :5])
    for pattern, expected in (
        ("encoder.*", eager.encoder_attentions),
        ("decoder.*.self_attn", eager.decoder_attentions),
        ("decoder.*.encoder_attn", eager.cross_attentions),
    ):
        assert max(map(difference, seen.only(pattern), expected)) < 2e-6


def test_wav2vec2():
    sound = torch.randn(2, 400, generator=torch.Generator().manual_seed(0))
    seen, eager = watched_and_eager(make("Wav2Vec2", WAV2VEC2), input_values=sound)
    assert max(map(difference, seen, eager.attentions)) < 2e-6


def test_clip_has_two_towers():
    ids, mask = text()
    config = transformers.CLIPConfig(
        text_config={**TEXT, "num_attention_heads": 4}, vision_config=IMAGE, projection_dim=12
    )
    model = transformers.CLIPModel(config).eval()
    pixels = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        with regard.watch(model) as seen:
            model(input_ids=ids, attention_mask=mask, pixel_values=pixels)
        model.set_attn_implementation("eager")
        output = model(input_ids=ids, attention_mask=mask, pixel_values=pixels, output_attentions=True)
    for pattern, expected, rows in (
        ("vision_model.*", output.vision_model_output.attentions, None),
        ("text_model.*", output.text_model_output.attentions, mask.bool()),
    ):
        assert max(difference(a, b, rows) for a, b in zip(seen.only(pattern), expected, strict=True)) < 2e-6


def test_detr():
    backbone = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], out_features=["stage2"], layer_type="basic"
    )
    config = transformers.DetrConfig(
        backbone_config=backbone, use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, d_model=24,
        encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=30,
        decoder_ffn_dim=30, num_queries=5,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.DetrModel(config).eval()
    pixels, mask = torch.rand(2, 3, 64, 64), torch.ones(2, 64, 64, dtype=torch.long)
    mask[0, :, 40:] = 0
    seen, eager = watched_and_eager(model, pixel_values=pixels, pixel_mask=mask)
    for pattern, expected in (
        ("encoder.*", eager.encoder_attentions),
        ("decoder.*.self_attn", eager.decoder_attentions),
        ("decoder.*.encoder_attn", eager.cross_attentions),
    ):
        assert max(map(difference, seen.only(pattern), expected)) < 2e-6


@pytest.mark.parametrize("cache", [None, "static"])
@pytest.mark.parametrize("name", ["Llama", "Qwen2"])
def test_grouped_heads_while_generating(name, cache):
    """transformers packs the heads that share a key while it generates; a static cache changes keys in place."""
    ids, mask = text()
    model = make(name, GROUPED, "ForCausalLM")
    options = {
        "attention_mask": mask.flip(1), "max_new_tokens": 5, "do_sample": False, "return_dict_in_generate": True,
        **({} if cache is None else {"cache_implementation": cache}),
    }  # fmt: skip
    with regard.watch(model) as seen:
        watched = model.generate(ids, **options)
    model.set_attn_implementation("eager")
    eager = model.generate(ids, output_attentions=True, **options)
    assert torch.equal(watched.sequences, eager.sequences)
    expected = [weights for step in eager.attentions for weights in step]
    assert len(seen) == len(expected) > 6
    for ours, theirs in zip(seen, expected, strict=True):
        dense = ours.dense()
        length = min(dense.shape[-1], theirs.shape[-1])  # a static cache's end, which nobody sees
        assert dense.shape[:-1] == theirs.shape[:-1]
        assert float((dense - theirs)[1:, ..., :length].abs().max()) < 2e-6


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("DebertaV2", {**TEXT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}),
        ("Longformer", {**TOKENS, **TEXT, "attention_window": 8, "sep_token_id": 2}),
    ],
)
def test_families_whose_scores_are_their_own_say_so(name, options):
    ids, mask = text()
    model = make(name, options)
    with pytest.raises(UnsupportedError, match="saw no such call from its modules"), regard.watch(model):
        model(input_ids=ids, attention_mask=mask)


def test_a_diffusion_transformer_of_diffusers():
    from diffusers import DiTTransformer2DModel
    from diffusers.models.attention_processor import AttnProcessor

    torch.manual_seed(0)
    model = DiTTransformer2DModel(
        num_attention_heads=3, attention_head_dim=8, in_channels=4, num_layers=2, sample_size=8, patch_size=2,
        num_embeds_ada_norm=10,
    ).eval()  # fmt: skip
    inputs = {"timestep": torch.tensor([1, 5]), "class_labels": torch.tensor([1, 2])}
    noise, expected = torch.randn(2, 4, 8, 8), []
    with torch.no_grad():
        plain = model(noise, **inputs).sample
        with regard.watch(model) as seen:
            assert torch.equal(model(noise, **inputs).sample, plain)
        assert seen.names == ["transformer_blocks.0.attn1", "transformer_blocks.1.attn1"]
        for block in model.transformer_blocks:
            block.attn1.set_processor(AttnProcessor())  # which computes the weights
            compute = block.attn1.get_attention_scores
            block.attn1.get_attention_scores = lambda *given, compute=compute: (
                expected.append(compute(*given)) or expected[-1]
            )
        model(noise, **inputs)
    for weights, dense in zip(seen, expected, strict=True):
        assert float((weights.dense().flatten(0, 1) - dense).abs().max()) < 2e-6
