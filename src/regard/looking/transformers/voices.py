"""SpeechT5 of transformers, which speaks: seen by `watch`, speaking the same each time, and shown a text."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.nn import functional
from transformers import EncoderDecoderCache
from transformers.models.speecht5.modeling_speecht5 import SpeechT5Attention, shift_spectrograms_right

from regard.looking.tokens import readable
from regard.models.watch import watch

FRAMES_A_TOKEN = 20.0
"""Frames that a model may take for each token, where it was not trained here."""


class SeenAttention(SpeechT5Attention):
    """transformers' own, which multiplies and sums by itself, on PyTorch's kernel, where `watch` sees it."""

    def forward(  # type: ignore[override]
        self,
        hidden_states: torch.Tensor,
        key_value_states: torch.Tensor | None = None,
        past_key_values: Any = None,
        attention_mask: torch.Tensor | None = None,
        position_bias: torch.Tensor | None = None,
        output_attentions: bool = False,
        **_: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend from `(B, T, d)`; weights `(B, H, T, S)` only if they are asked for."""
        query = self._heads(self.q_proj(hidden_states))
        key, value = self._keys(hidden_states, key_value_states, past_key_values)
        bias = attention_mask
        if position_bias is not None:  # (T, S, d): Shaw et al. 2018, arXiv 1803.02155, equation 4
            relative = torch.einsum("bhid,ijd->bhij", query * self.scaling, position_bias)
            bias = relative if bias is None else bias + relative
        rate = (self.dropout or 0.0) if self.training else 0.0
        attended = functional.scaled_dot_product_attention(query, key, value, bias, rate, scale=self.scaling)
        weights = None
        if output_attentions:
            scores = query @ key.transpose(-1, -2) * self.scaling
            weights = (scores if bias is None else scores + bias).softmax(-1)
        return self.out_proj(attended.transpose(1, 2).flatten(2)), weights

    def _heads(self, states: torch.Tensor) -> torch.Tensor:
        return states.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)

    def _keys(self, own: torch.Tensor, other: torch.Tensor | None, cache: Any) -> tuple[torch.Tensor, torch.Tensor]:
        across, both = other is not None, cache
        if isinstance(cache, EncoderDecoderCache):
            cache = both.cross_attention_cache if across else both.self_attention_cache
            if across and both.is_updated.get(self.layer_idx):
                return cache.layers[self.layer_idx].keys, cache.layers[self.layer_idx].values
        states = own if other is None else other
        key, value = self._heads(self.k_proj(states)), self._heads(self.v_proj(states))
        if cache is not None:
            key, value = cache.update(key, value, self.layer_idx)
            if across:
                both.is_updated[self.layer_idx] = True
        return key, value


def make_visible(model: Any) -> Any:
    """Let `watch` see a SpeechT5's attentions; its parameters and outputs stay as they are."""
    for module in model.modules():
        if type(module) is SpeechT5Attention:
            module.__class__ = SeenAttention
    return model


def is_speaker(model: Any) -> bool:
    """Tell whether a model makes speech of texts as SpeechT5 does."""
    return getattr(getattr(model, "config", None), "model_type", "") == "speecht5" and hasattr(
        model, "speech_decoder_postnet"
    )


class Spoken(NamedTuple):
    """What was said.

    Attributes:
        spectrogram: of `(frames, mels)`, log10 of magnitudes.
        across: the decoder's attention to the tokens, `(layers, heads, steps, tokens)`, a step for several frames.
        finished: whether the model stopped by itself.
    """

    spectrogram: torch.Tensor
    across: torch.Tensor
    finished: bool


def no_speaker(model: Any, count: int) -> torch.Tensor:
    """The speaker embedding of models of one speaker: zeros, `(B, d)`."""
    return torch.zeros(count, model.config.speaker_embedding_dim, device=model.device)


@torch.no_grad()
def speak(model: Any, ids: torch.Tensor, mask: torch.Tensor, seed: int = 0) -> list[Spoken]:
    """Say a few texts, the same each time: SpeechT5's prenet drops out also when it speaks, by the seed here.

    Args:
        model: a SpeechT5.
        ids: its tokens, `(B, S)`.
        mask: which of them are no padding, `(B, S)`.
        seed: of the dropout.
    """
    count, ratio = len(ids), getattr(model.config, "frames_per_token", FRAMES_A_TOKEN)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        spectrograms, lengths, across = model.generate(
            input_ids=ids,
            attention_mask=mask,
            speaker_embeddings=no_speaker(model, count),
            maxlenratio=ratio,
            output_cross_attentions=True,
            return_output_lengths=True,
        )
    # transformers 5.23 puts layers together before examples, and then takes them apart the other way round.
    across = across.reshape(-1, count, *across.shape[2:]).transpose(0, 1)
    step, tokens = model.config.reduction_factor, mask.sum(1).tolist()
    most = [int(own * ratio / step) * step for own in tokens]  # by itself; a batch goes on for its longest
    lengths = [min(int(length), limit) for length, limit in zip(lengths, most, strict=True)]
    return [
        Spoken(spectrograms[n, : lengths[n]], across[n, :, :, : lengths[n] // step, : tokens[n]], lengths[n] < most[n])
        for n in range(count)
    ]


def look_for_frames(model: Any, processor: Any, text: str) -> Any:
    """Say a text, and see what each moment of the speech attends to in it."""
    from regard.looking.looked import Looked

    tokenizer, extractor = processor.tokenizer, processor.feature_extractor
    make_visible(model).eval()
    batch = tokenizer(text, return_tensors="pt", truncation=True, max_length=model.config.max_text_positions)
    ids, mask = batch["input_ids"].to(model.device), batch["attention_mask"].to(model.device)
    spoken = speak(model, ids, mask)[0]
    before, _ = shift_spectrograms_right(spoken.spectrogram[None], model.config.reduction_factor)
    with torch.no_grad(), torch.random.fork_rng(), watch(model) as seen:
        torch.manual_seed(0)
        model(input_ids=ids, attention_mask=mask, decoder_input_values=before, speaker_embeddings=no_speaker(model, 1))
    seconds = extractor.hop_length / 1000
    step = seconds * model.config.reduction_factor
    return Looked(
        "text",
        readable(tokenizer, ids[0].tolist()),
        seen.only("*encoder.*"),
        f"{len(spoken.spectrogram) * seconds:.2f} s of speech",
        cut=max(len(tokenizer(text, verbose=False)["input_ids"]) - ids.shape[1], 0),
        written=[f"{number * step:.2f} s" for number in range(before.shape[1])],
        across=seen.only("*.encoder_attn"),
    )
