"""SpeechT5 as it is trained: guided to read along the text, and asked at each validation how far it does."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
import transformers
from transformers.models.speecht5.modeling_speecht5 import shift_spectrograms_right

from regard.looking.transformers.voices import make_visible, no_speaker

BAND = 0.1
"""How far from the diagonal attention counts as on it, as a share of the whole."""


class SpeechT5ForTextToSpeech(transformers.SpeechT5ForTextToSpeech):
    """transformers' model, of its name so that what is saved is an ordinary checkpoint.

    One speaker, whose embedding is zeros. The loss is transformers': the absolute error of the spectrogram before and
    behind the postnet, cross-entropy of where to stop, and the guided attention of Tachibana et al. 2017, arXiv
    1710.08969, equation 5, if the configuration has it. In evaluation the prenet, which drops out always, does so by
    a seed, so that losses can be compared.

    While it learns, a share of the frames that its decoder goes on from are its own, as when it speaks: scheduled
    sampling (Bengio et al. 2015, arXiv 1506.03099), in one more pass of the decoder for all moments at once (Duckworth
    et al. 2019, arXiv 1906.04331, with one pass and a share that does not change).
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        make_visible(self)

    def forward(  # type: ignore[override]
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **given: Any,
    ) -> Any:
        """Return the loss of spectrograms `(B, T, mels)` padded by -100, and `masses` as logits.

        Without labels, what transformers returns.
        """
        if labels is None:
            return super().forward(input_ids=input_ids, attention_mask=attention_mask, **given)  # type: ignore[misc]
        step, speaker = self.config.reduction_factor, no_speaker(self, len(labels))
        labels = torch.nn.functional.pad(labels, (0, 0, 0, -labels.shape[1] % step), value=-100.0)
        with nullcontext() if self.training else torch.random.fork_rng():
            if not self.training:
                torch.manual_seed(0)
            elif self.config.scheduled_sampling:
                given |= self._hear(input_ids, attention_mask, labels, speaker)
            outputs: Any = super().forward(  # type: ignore[misc]
                input_ids=input_ids,
                attention_mask=attention_mask,
                labels=labels,
                speaker_embeddings=speaker,
                output_attentions=True,
                use_cache=False,
                return_dict=True,
                **given,
            )
        real = labels[:, step - 1 :: step, 0] != -100
        with torch.no_grad():
            return {"loss": outputs.loss, "logits": masses(outputs.cross_attentions, attention_mask, real.sum(1))}

    def _hear(self, ids: Any, mask: Any, labels: torch.Tensor, speaker: torch.Tensor) -> dict[str, Any]:
        """Return what the decoder goes on from, frames of the recording and its own, and the encoder's outputs."""
        recorded, _ = shift_spectrograms_right(labels, self.config.reduction_factor)
        encoded = self.speecht5.encoder(input_values=ids, attention_mask=mask, output_attentions=True, return_dict=True)
        with torch.no_grad():
            states = self.speecht5.decoder(
                input_values=recorded,
                encoder_hidden_states=encoded.last_hidden_state,
                encoder_attention_mask=mask,
                speaker_embeddings=speaker,
                use_cache=False,
                return_dict=True,
            ).last_hidden_state
            # Of each step the last frame, before the postnet: what it is given to go on from when it speaks.
            said = self.speech_decoder_postnet.feat_out(states)[:, :, -labels.shape[-1] :]
            said = torch.nn.functional.pad(said[:, :-1], (0, 0, 1, 0)).to(recorded.dtype)
            own = torch.rand(*recorded.shape[:2], 1, device=recorded.device) < self.config.scheduled_sampling
        return {"decoder_input_values": torch.where(own, said, recorded), "encoder_outputs": encoded}


def masses(across: Any, mask: Any, steps: torch.Tensor) -> torch.Tensor:
    """Return for each example its steps, and for each layer and head how much of their attention is on the diagonal.

    Step t of T is on it with token s of S if (t + 1/2) / T and (s + 1/2) / S differ by `BAND` at most.

    Args:
        across: for each layer `(B, H, T, S)`.
        mask: which tokens are no padding, `(B, S)`.
        steps: how many of T are no padding, `(B,)`.

    Source: the diagonal attention rate of Chen et al. 2020, arXiv 2006.04664.
    """
    weights = torch.stack(list(across), 1).float()
    tokens, device = mask.sum(1), weights.device
    read = (torch.arange(weights.shape[-1], device=device) + 0.5) / tokens[:, None]
    said = (torch.arange(weights.shape[-2], device=device) + 0.5) / steps[:, None]
    near = (said[:, :, None] - read[:, None, :]).abs() <= BAND
    counted = near & (said < 1)[:, :, None] & mask.bool()[:, None, :]
    found = (weights * counted[:, None, None]).sum((-1, -2)).flatten(1)
    return torch.cat([steps[:, None].float(), found], 1)
