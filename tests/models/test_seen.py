"""What is asked of all layers at once, against the formulas of the papers written out with dense weights."""

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, LlamaConfig, LlamaModel

import regard
from regard.errors import OutOfRangeError, ShapeError, UnsupportedError
from regard.inspection.history import Recorder
from regard.models.summary import COLUMNS, summarise

LAYERS, HEADS, LENGTH, WIDTH = 3, 3, 11, 24


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50, hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=31
    )
    model = BertForSequenceClassification(config).eval()
    for parameter in model.parameters():
        parameter.data.mul_(4)  # so that weights are far from uniform
    return model


@pytest.fixture(scope="module")
def inputs():
    torch.manual_seed(1)
    ids = torch.randint(3, 50, (2, LENGTH))
    mask = torch.ones_like(ids)
    mask[0, 8:] = 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.fixture(scope="module")
def seen(model, inputs):
    with regard.watch(model, values=True) as seen:
        output = model(**inputs)
    output.logits[:, 1].sum().backward()
    model.zero_grad()
    return seen


@pytest.fixture(scope="module")
def dense(model, inputs):
    """Eager weights and their gradients."""
    model.set_attn_implementation("eager")
    output = model(**inputs, output_attentions=True)
    for weights in output.attentions:
        weights.retain_grad()
    output.logits[:, 1].sum().backward()
    model.zero_grad()
    model.set_attn_implementation("sdpa")
    return output.attentions


def close(ours, theirs):
    torch.testing.assert_close(torch.as_tensor(ours).float(), theirs.float(), atol=2e-5, rtol=2e-4)


def test_rollout_is_the_product_of_half_identity_and_half_weights(seen, dense):
    product = torch.eye(LENGTH)
    for weights in dense:
        product = (0.5 * torch.eye(LENGTH) + 0.5 * weights.mean(1)) @ product
    close(seen.rollout(), product.mean(1))
    close(seen.rollout(3), product[:, 3])
    close(seen.rollout([1, -1]), product[:, [1, -1]])
    close(seen.rollout(slice(2, 5)), product[:, 2:5])
    kept = torch.eye(LENGTH)
    for weights in dense:
        kept = (0.25 * torch.eye(LENGTH) + 0.75 * weights.mean(1)) @ kept
    close(seen.rollout(0, residual=0.25), kept[:, 0])


def test_relevance_is_chefers(seen, dense):
    product = torch.eye(LENGTH).expand(2, LENGTH, LENGTH)
    for weights in dense:
        product = product + (weights.grad * weights).clamp(min=0).mean(1) @ product
    assert (
        float((product[:, 0] - torch.eye(LENGTH)[0]).detach().abs().max()) > 1e-3
    )  # there is something to be wrong about
    product = product.detach()
    close(seen.relevance().detach(), product[:, 0])
    close(seen.relevance([0, 4]).detach(), product[:, [0, 4]])


def test_relevance_is_that_of_the_last_backward_pass(model, inputs):
    def explained(*classes, zero=False):
        with regard.watch(model, values=True) as seen:
            logits = model(**inputs).logits
        for each in classes:
            if zero:
                torch.autograd.grad(logits[:, each].sum(), list(model.parameters()), retain_graph=True)
            else:
                logits[:, each].sum().backward(retain_graph=True)
        model.zero_grad()
        return seen.relevance()

    alone = explained(1)
    assert not alone.requires_grad
    assert torch.equal(explained(0, 1), alone)
    assert torch.equal(explained(1, 0, 1, zero=True), alone)
    assert not torch.allclose(explained(1, 0), alone)


def test_a_backward_pass_that_reaches_fewer_layers_leaves_nothing_of_the_one_before(model, inputs):
    with regard.watch(model, values=True) as seen:
        output = model(**inputs, output_hidden_states=True)
    output.logits[:, 1].sum().backward(retain_graph=True)
    output.hidden_states[1].sum().backward()
    model.zero_grad()
    with pytest.raises(UnsupportedError, match="need the gradient of the output of bert"):
        seen.relevance()


def test_norms_are_those_of_values_behind_the_projection(model, seen, inputs):
    states = model.bert(**inputs, output_hidden_states=True).hidden_states
    for number, layer in enumerate(model.bert.encoder.layer):
        value = layer.attention.self.value(states[number]).unflatten(-1, (HEADS, -1))
        matrix = layer.attention.output.dense.weight.unflatten(-1, (HEADS, -1))
        expected = torch.einsum("bshe,dhe->bhsd", value, matrix).norm(dim=-1)
        close(seen.norms()[number], expected)
        close(seen.received(by_value=True)[number], seen[number].received() * expected)


def test_received(seen, dense):
    close(seen.received(), torch.stack([weights.sum(-2) for weights in dense]))
    close(seen.received(queries=[0, 2]), torch.stack([weights[:, :, [0, 2]].sum(-2) for weights in dense]))


def test_summary(seen, dense, inputs):
    special, real = inputs["input_ids"] < 6, inputs["attention_mask"].bool()
    summary = seen.summary(special=special, real=real)
    positions = torch.arange(LENGTH)
    distances = (positions[:, None] - positions).abs().float()
    for layer, weights in enumerate(dense):
        rows = weights.detach().transpose(1, 2)[real]  # (queries that count, H, S)
        before = torch.nn.functional.pad(weights.detach().diagonal(-1, -2, -1), (1, 0))
        others = {
            "entropy": -(rows * rows.clamp(min=1e-30).log()).sum(-1).mean(0),
            "largest_weight": rows.amax(-1).mean(0),
            "distance": (weights.detach() * distances).sum(-1).transpose(1, 2)[real].mean(0),
            "first": rows[..., 0].mean(0),
            "special": (weights.detach() * special[:, None, None]).sum(-1).transpose(1, 2)[real].mean(0),
            "previous": before.transpose(1, 2)[real].mean(0),
        }
        for name, expected in others.items():
            close(getattr(summary, name)[layer], expected)
        flat = rows.transpose(0, 1).flatten(1)
        cosine = torch.nn.functional.cosine_similarity(flat[:, None], flat[None], dim=-1).fill_diagonal_(-1)
        close(summary.redundancy[layer], cosine.amax(-1))
    assert np.isnan(summary.separators).all()
    assert len(summary.rows()) == LAYERS * HEADS
    assert summary.rows()[-1]["name"] == "bert.encoder.layer.2.attention.self"
    lines = str(summary).splitlines()
    assert len(lines) == 1 + LAYERS * HEADS
    assert "largest score" in lines[0]
    assert "separators" not in lines[0]


@pytest.fixture(scope="module")
def short_and_padded():
    """A decoder's texts alone, and the same behind padding, which the model hides from them."""
    torch.manual_seed(0)
    model = LlamaModel(
        LlamaConfig(vocab_size=50, hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=31)
    ).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    ids, real = torch.randint(3, 50, (2, 6)), torch.zeros(2, 11, dtype=torch.long)
    real[:, 5:] = 1
    padded = torch.cat([torch.zeros(2, 5, dtype=torch.long), ids], 1)
    with torch.no_grad():
        with regard.watch(model) as alone:
            model(ids)
        with regard.watch(model) as behind:
            model(padded, attention_mask=real, position_ids=(real.cumsum(-1) - 1).clamp(min=0))
    return alone, behind, real


@pytest.mark.parametrize("column", COLUMNS)
def test_summary_does_not_count_padding(short_and_padded, column):
    alone, behind, real = short_and_padded
    for expected, found in zip(
        getattr(alone.summary(), column), getattr(behind.summary(real=real), column), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_first_and_the_previous_key_that_count():
    """Also where padding is not hidden, and each example has its own: against sums over the weights written out."""
    torch.manual_seed(0)
    query = torch.randn(2, 3, 7, 4, dtype=torch.float64)
    weights = regard.attention(query, query, query).weights
    real = torch.tensor([[0, 0, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0, 0]]).bool()
    found, dense = summarise(["one"], [weights], None, None, real), weights.dense()
    first = torch.cat([dense[0, :, 2:6, 2], dense[1, :, :3, 0]], 1)
    before = torch.cat([dense[0, :, [3, 4, 5], [2, 3, 4]], dense[1, :, [1, 2], [0, 1]]], 1)
    np.testing.assert_allclose(found.first[0], first.mean(1))
    np.testing.assert_allclose(found.previous[0], before.sum(1) / 7)


def test_summary_of_padding_that_is_not_a_number():
    """What a model makes of padding, NaN among it, says nothing of the rest."""
    torch.manual_seed(0)
    query, key = torch.randn(2, 2, 3, 7, 4, dtype=torch.float64)
    real = torch.tensor([[0, 0, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0, 0]]).bool()
    found = [
        summarise(["one"], [regard.attention(each, key, key).weights], None, None, real)
        for each in (query, query.masked_fill(~real[:, None, :, None], torch.nan))
    ]
    for column in COLUMNS:
        np.testing.assert_allclose(getattr(found[1], column)[0], getattr(found[0], column)[0])


def test_padding_asks_nothing_where_it_is_said_which_tokens_are_real(short_and_padded, model, inputs):
    alone, behind, real = short_and_padded
    close(behind.received(real=real)[..., 5:], alone.received())
    close(behind.rollout(real=real)[:, 5:], alone.rollout())
    assert not torch.allclose(behind.rollout()[:, 5:], alone.rollout())
    with pytest.raises(ShapeError) as error:
        behind.rollout(real=real[:, :4])
    assert str(error.value) == (
        "rollout: need real of shape (11,) or (2, 11); got (2, 4); say which tokens of each example are meant."
    )
    mask = inputs["attention_mask"]
    with regard.watch(model, values=True) as seen:
        output = model(**inputs)
    counted = torch.stack([(weights.dense() * mask[:, None, :, None]).sum(-2) for weights in seen])
    close(seen.received(real=mask), counted)
    assert not torch.allclose(seen.received(), counted)
    output.logits[:, 1].sum().backward()
    model.zero_grad()
    each = seen.relevance(queries=range(LENGTH))  # (B, T, S)
    close(seen.relevance(queries=None, real=mask), (each * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))


def test_summary_in_half_precision(model, inputs, seen):
    """Statistics of what the model computes under autocast, beside those in float32."""
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), regard.watch(model) as half:
        model(**inputs)
    assert half[0].dtype == torch.bfloat16
    for column in ("entropy", "largest_score", "first", "redundancy"):
        for ours, theirs in zip(getattr(half.summary(), column), getattr(seen.summary(), column), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0.05, atol=0.01)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_what_is_counted_in_half_precision_is_rounded_once(kind):
    """Weights of what the model hands over, in float64, beside what is recorded of it: only query and key are half."""
    query, other = torch.randn(2, 2, HEADS, LENGTH, 8, generator=torch.Generator().manual_seed(0)).to(kind)

    class Layer(torch.nn.Module):
        def forward(self, query):
            return torch.nn.functional.scaled_dot_product_attention(query, query, query)

    def weights(query):
        return (query.double() @ query.double().mT * 8**-0.5).softmax(-1).numpy()

    model = torch.nn.Sequential(Layer())

    def watched(query):
        with torch.no_grad(), regard.watch(model) as half:
            model(query)
        return half

    expected = weights(query)
    assert watched(query)[0].dtype == kind
    for example in range(2):
        np.testing.assert_allclose(watched(query).dense(example)[0], expected[example], atol=1e-6)
    entropy = -(expected * np.log(expected)).sum(-1).mean((0, 2))
    np.testing.assert_allclose(watched(query).summary().entropy[0], entropy, atol=1e-5)
    recorder = Recorder(None)
    recorder.record(0, watched(query))
    recorder.record(1, watched(other))
    drift = (0.5 * np.abs(weights(other) - expected).sum(-1)).mean((0, 2))
    np.testing.assert_allclose(recorder.history.drift[1][0], drift, atol=1e-6)


def test_only(seen):
    assert seen.only("*.layer.1.*").names == ["bert.encoder.layer.1.attention.self"]
    with pytest.raises(OutOfRangeError, match="need a pattern that fits a module seen"):
        seen.only("decoder.*")


def test_dense_and_over(model, inputs, seen, dense):
    np.testing.assert_allclose(seen.dense(1), torch.stack(dense)[:, 1].detach(), atol=2e-6)
    assert seen.over(LENGTH).names == seen.names
    with pytest.raises(UnsupportedError) as error:
        seen.over(LENGTH + 1)
    assert str(error.value).startswith(
        f"watch: need self-attentions over {LENGTH + 1} positions; saw Seen(3 attentions,"
    )


def test_relevance_of_other_shapes(seen):
    value, gradient, above = torch.ones(2, HEADS, 7, 5), torch.ones(2, HEADS, LENGTH, 5), torch.ones(LENGTH, 1)
    with pytest.raises(ShapeError) as error:
        seen[0].relevance(value, gradient, above)
    assert str(error.value) == (
        "AttentionWeights.relevance: need value (..., S, E) and gradient (..., T, E) with S = 11, T = 11; got "
        "(2, 3, 7, 5) and (2, 3, 11, 5)."
    )
    with pytest.raises(ShapeError, match="need value"):
        seen[0].relevance(gradient, gradient[..., :3], above)


class Windows(torch.nn.Module):
    """A picture of 8 x 8, then of 4 x 4 positions, attended within windows of 4 x 4, as vision transformers do."""

    def forward(self, pictures):
        for side in (8, 4):
            pictures = torch.nn.functional.adaptive_avg_pool2d(pictures, side)
            tiles = pictures.unflatten(2, (-1, 4)).unflatten(4, (-1, 4)).permute(0, 2, 4, 3, 5, 1)
            batch, rows, columns, *_ = tiles.shape
            queries = tiles.reshape(batch * rows * columns, 1, 16, -1)
            attended = torch.nn.functional.scaled_dot_product_attention(queries, queries, queries)
            tiles = attended.reshape(tiles.shape)
            pictures = tiles.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)
        return pictures


def test_windows_are_not_followed_from_layer_to_layer():
    torch.manual_seed(0)
    model, pictures = Windows(), torch.randn(2, 6, 8, 8, requires_grad=True)
    with regard.watch(model, values=True) as seen:
        model(pictures).sum().backward()
    assert [weights.shape for weights in seen] == [(8, 1, 16, 16), (2, 1, 16, 16)]
    needed = (
        "{}: need layers that all attend over the same batch; got 1 over 8 and 1 over 2, such as windows of a picture, "
        "or runs of several batches; ask each of them for its weights, or choose with seen.only or a slice those that "
        "see every position of an example."
    )
    for who in ("rollout", "relevance"):
        for queries in (None, 0):
            with pytest.raises(ShapeError) as error:
                getattr(seen, who)(queries)
            assert str(error.value) == needed.format(who)
    summary = seen.summary()
    assert summary.batches == [8, 2]
    assert str(summary).splitlines()[-1] == (
        "first axes differ (8, 2), as of windows: positions are counted within each"
    )
    close(summary.entropy[0], seen[0].entropy().mean((0, 2)))
    assert seen[1:].rollout().shape == (2, 16)  # which see the whole picture
    assert "first axes" not in str(seen[1:].summary())


def test_values_are_counted(model, inputs, seen):
    with torch.no_grad(), regard.watch(model) as without:
        model(**inputs)
    assert seen.nbytes - without.nbytes == 2 * LAYERS * 2 * LENGTH * WIDTH * 4  # and the outputs
    assert [output.shape for output in seen.outputs] == [(2, HEADS, LENGTH, WIDTH // HEADS)] * LAYERS


def test_errors(model, inputs, seen):
    with torch.no_grad(), regard.watch(model) as without:
        model(**inputs)
    with pytest.raises(UnsupportedError) as error:
        without.relevance()
    assert str(error.value) == (
        "relevance: need the values of bert.encoder.layer.2.attention.self; not kept; use watch(model, values=True)."
    )
    with torch.no_grad(), regard.watch(model, values=True) as before:
        model(**inputs)
    with pytest.raises(UnsupportedError) as error:
        before.relevance()
    assert str(error.value) == (
        "relevance: need the gradient of the output of bert.encoder.layer.2.attention.self; there is none; call "
        "backward() on what is to be explained, with gradients on, before asking, or give gradients."
    )
    with pytest.raises(UnsupportedError) as error:
        before.outputs  # noqa: B018
    assert str(error.value) == ("outputs: need a model that ran with gradients on; it ran without; run it so.")
    with pytest.raises(OutOfRangeError):
        seen.rollout(LENGTH)
    with pytest.raises(ShapeError) as error:
        seen.summary(special=[True])
    assert str(error.value) == (
        "summary: need special of shape (11,) or (2, 11); got (1,); say which tokens of each example are meant."
    )
    with regard.watch(model) as both:
        model(**inputs)
        model(inputs["input_ids"][:, :7])
    with pytest.raises(ShapeError) as error:
        both.rollout()
    assert str(error.value) == (
        "rollout: need self-attentions of one length; got 3 of 11 x 11 and 3 of 7 x 7; choose with "
        "seen.only('encoder.*'), say."
    )
    with (
        pytest.raises(UnsupportedError, match="need all heads to keep values"),
        regard.watch(model, heads=[0], values=True),
    ):
        model(**inputs)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("kind", ["boolean", "numbers"])
def test_multihead_attention_and_transformer_encoders_of_pytorch(mode, kind):
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(24, 4, 31, batch_first=True, dropout=0.0)
    model = getattr(torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), mode)()
    states = torch.randn(2, 9, 24)
    padding = torch.zeros(2, 9, dtype=torch.bool)
    padding[1, 6:] = True
    if kind == "numbers":
        padding = torch.zeros(2, 9).masked_fill(padding, -torch.inf)
    with torch.set_grad_enabled(mode == "train"):
        expected = model(states, src_key_padding_mask=padding)
        with regard.watch(model) as seen:
            output = model(states, src_key_padding_mask=padding)
        attention = model.layers[0].self_attn
        weights = attention(states, states, states, key_padding_mask=padding, average_attn_weights=False)[1]
    real = ~torch.isinf(padding) if kind == "numbers" else ~padding
    torch.testing.assert_close(output[real], expected[real], atol=1e-6, rtol=1e-5)
    assert seen.names == ["layers.0.self_attn", "layers.1.self_attn"]
    close(seen[0].dense().detach(), weights.detach())


def test_relevance_of_multihead_attention():
    torch.manual_seed(0)
    attention = torch.nn.MultiheadAttention(12, 3)
    states = torch.randn(7, 2, 12, requires_grad=True)
    causal = torch.nn.Transformer.generate_square_subsequent_mask(7)
    with regard.watch(attention, values=True) as seen:
        output, weights = attention(states, states, states, attn_mask=causal, average_attn_weights=False)
    output[-1].pow(2).sum().backward()
    close(seen[0].dense().detach(), weights.detach())

    query, key, value = (
        torch.nn.functional.linear(states.detach(), matrix).unflatten(-1, (3, 4)).permute(1, 2, 0, 3)
        for matrix in attention.in_proj_weight.detach().chunk(3)
    )
    weights = torch.softmax(query @ key.mT / 2 + causal, -1).requires_grad_()
    heads = (weights @ value).permute(2, 0, 1, 3).flatten(-2)
    torch.nn.functional.linear(heads, attention.out_proj.weight, attention.out_proj.bias)[-1].pow(2).sum().backward()
    expected = torch.eye(7) + (weights * weights.grad).clamp(min=0).mean(1)
    close(seen.relevance(-1).detach(), expected[:, -1].detach())


def test_multihead_attention_that_adds_keys_is_refused():
    attention = torch.nn.MultiheadAttention(12, 3, add_zero_attn=True)
    states = torch.randn(7, 2, 12)
    with (
        pytest.raises(UnsupportedError, match="need a MultiheadAttention without add_bias_kv"),
        regard.watch(attention),
    ):
        attention(states, states, states)
