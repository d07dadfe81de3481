"""What a model attended to while it wrote, joined, against the same model that reads the whole text at once."""

import pytest
import torch
from transformers.utils import logging

import regard
import regard.models.transformers
from models.families import ENCODERS, GROUPED, PAIRS, make, spread, text
from regard.errors import UnsupportedError

OPTIONS = {"max_new_tokens": 9, "min_new_tokens": 9, "do_sample": False, "pad_token_id": 0}
DECODERS = {
    "GPT2": ("GPT2", ENCODERS["GPT2"], "LMHeadModel"),
    "Llama": ("Llama", GROUPED, "ForCausalLM"),
    "Mistral": ("Mistral", {**GROUPED, "sliding_window": 5}, "ForCausalLM"),
    "Qwen2": ("Qwen2", GROUPED, "ForCausalLM"),
}


@pytest.fixture(autouse=True)
def _quiet():
    logging.set_verbosity_error()
    yield
    logging.set_verbosity_warning()


def decoder(name):
    family, options, suffix = DECODERS[name]
    return spread(make(family, options, suffix))


def close(one, other, rows=slice(None)):
    assert one.shape == other.shape
    assert torch.allclose(one.dense()[:, :, rows], other.dense()[:, :, rows], atol=2e-6)


@pytest.mark.parametrize("implementation", ["sdpa", "regard"])
@pytest.mark.parametrize("name", DECODERS)
def test_as_if_it_had_read_the_whole_text(name, implementation):
    model = decoder(name)
    model.set_attn_implementation(implementation)
    ids, _ = text()
    with regard.watch(model) as seen:
        written = model.generate(ids, **OPTIONS)
    with torch.no_grad(), regard.watch(model) as whole:
        model(written[:, :-1])
    found = seen.joined()
    assert found.names == whole.names
    assert len(seen) == 9 * len(found)
    for one, other in zip(found, whole, strict=True):
        close(one, other)
        assert torch.allclose(one.entropy(), other.entropy(), atol=1e-5)
        assert torch.allclose(one.received(), other.received(), atol=1e-5)


@pytest.mark.parametrize("name", DECODERS)
def test_texts_padded_on_the_left(name):
    model = decoder(name)
    ids, mask = text()
    mask = mask.flip(1)
    with regard.watch(model) as seen:
        written = model.generate(ids, attention_mask=mask, **OPTIONS)
    mask = torch.cat([mask, mask.new_ones(2, 8)], 1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad(), regard.watch(model) as whole:
        model(written[:, :-1], attention_mask=mask, position_ids=positions)
    for one, other in zip(seen.joined(), whole, strict=True):
        close(one[:1], other[:1], slice(8, None))
        close(one[1:], other[1:])
        assert float(one.received()[0, :, :8].max()) == 0


def test_attention_to_an_encoder():
    model = spread(make("Bart", PAIRS["Bart"], "ForConditionalGeneration"))
    ids, mask = text()
    with regard.watch(model) as seen:
        written = model.generate(ids, attention_mask=mask, num_beams=1, **OPTIONS)
    with torch.no_grad(), regard.watch(model) as whole:
        model(ids, attention_mask=mask, decoder_input_ids=written[:, :-1])
    found = seen.joined()
    assert found.names == whole.names
    for one, other in zip(found, whole, strict=True):
        close(one, other, slice(0, 15) if one.shape[-2] == 23 else slice(None))


def test_what_is_no_text():
    model = spread(make("Bart", PAIRS["Bart"], "ForConditionalGeneration"))
    ids, mask = text()
    with regard.watch(model) as seen:
        model.generate(ids, attention_mask=mask, num_beams=3, **OPTIONS)
    with pytest.raises(UnsupportedError, match=r"each behind the one before; .* has keys that changed"):
        list(seen.joined().only("model.decoder.*.self_attn"))
    model = decoder("Llama")
    with torch.no_grad(), regard.watch(model) as seen:
        model(ids)
        model(ids[:, :5])
    with pytest.raises(UnsupportedError, match=r"has runs of \(2, 6, 23, 23\) then \(2, 6, 5, 5\); watch one text"):
        list(seen.joined())


def test_a_bias_that_prefers_keys_is_refused():
    """It is no mask: what is joined has none, and would be another attention."""

    class Biased(torch.nn.Module):
        def forward(self, query, key, bias):
            return torch.nn.functional.scaled_dot_product_attention(query, key, key, bias)

    model, x = Biased(), torch.randn(1, 2, 5, 8)
    hidden = torch.zeros(4, 4).masked_fill(torch.ones(4, 4).triu(1).bool(), -torch.inf)
    for preferred in (0.0, 0.5):
        with regard.watch(model) as seen:
            model(x[:, :, :4], x[:, :, :4], hidden + preferred)
            model(x[:, :, 4:], x, torch.zeros(1, 5))
        if preferred:
            with pytest.raises(UnsupportedError, match="has a bias that prefers some keys; ask each step"):
                list(seen.joined())
        else:
            assert seen.joined()[0].shape == (1, 2, 5, 5)
