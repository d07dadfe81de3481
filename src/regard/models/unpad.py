"""`unpad`: the same model and the same outputs, with no computation on padding; `pad`: back."""

from __future__ import annotations

import sys
from typing import Any, Literal, TypeVar

from regard.errors import ConfigError, DtypeError

Model = TypeVar("Model")


def unpad(model: Model, *, logits: Literal["all", "labelled"] = "all") -> Model:
    """Lets an encoder compute real tokens only, from its embeddings to its last block; inputs and outputs stay padded.

    The real tokens of a batch become one sequence, in which each text sees itself alone and has the positions it had.
    Hidden states come back padded, with zeros where the padded model has numbers, so what reads real tokens alone sees
    no difference; a call whose head reads more runs padded. The head of a masked language model, which often takes
    longer than the encoder, computes real tokens only, too. On a CPU the fused kernel runs once for all texts of one
    length.

    Args:
        model: A transformers model whose encoder is BERT, RoBERTa, XLM-RoBERTa, CamemBERT, ELECTRA, ALBERT,
            DistilBERT, ModernBERT or EuroBERT, alone or with a head; or BART, mBART, Marian, Pegasus, T5 or mT5. It
            may be inside peft's.
        logits: With "labelled", a masked language model that is given labels computes the logits of labelled tokens
            alone, some 15 %: `logits[labels != -100]`, with the same loss. Other models are the same either way.

    Returns:
        The same model, changed in place; `pad` undoes it. Saving and loading are not affected.

    Raises:
        UnsupportedError: A family that is not known to come out right, or has nothing to gain; a decoder alone.
        DtypeError: Something that is no transformers model.
        ConfigError: There is no such choice of logits.

    Edges:
        A call with attentions as outputs, with embeddings instead of ids, with a cache, causal, with no padding in it,
        or inside `regard.watch` runs padded, as it did before. So does one whose head reads padding:
        - of a head or a pooler that takes the first column, a batch in which some text is padded there, on the left;
        - of a head that judges each token, a batch with labels other than -100 at padding (ELECTRA's discriminator
          ignores them);
        - of a mean over tokens, and of an encoder-decoder, a batch with a text without any token;
        - of ModernBERT, T5 and mT5, which count the tokens between two, a batch with padding inside a text;
        - every call of a head for question answering on an encoder, which normalises over all columns, of one that
          guesses the next token, and of a head of your own, which may read anything.
        To unpad the encoder under a head of your own, that reads real tokens alone, pass `model.base_model`.
        A text without any token comes back as zeros. Nothing at padding has an influence, a NaN there neither.
        Dropout draws other random numbers than in the padded model.

    Cost:
        Time is proportional to the real tokens (and the sum of the squares of the texts' lengths).

    Source:
        Krell et al. 2021, arXiv 2107.02027; ModernBERT (Warner et al. 2024, arXiv 2412.13663), section 2.1.2.

    Example:
        >>> import torch, transformers, regard
        >>> config = transformers.BertConfig(
        ...     vocab_size=50, hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
        ... )
        >>> model = transformers.BertModel(config).eval()
        >>> ids, mask = torch.ones(2, 7, dtype=torch.long), torch.tensor([[1] * 7, [1] * 3 + [0] * 4])
        >>> padded = model(ids, attention_mask=mask).last_hidden_state
        >>> unpadded = regard.unpad(model)(ids, attention_mask=mask).last_hidden_state
        >>> bool(torch.allclose(padded[mask == 1], unpadded[mask == 1], atol=1e-5))
        True
    """
    if logits not in ("all", "labelled"):
        raise ConfigError(f"unpad: need logits to be 'all' or 'labelled'; got {logits!r}; choose one.")
    return _adapter("unpad", model).unpad(model, logits)


def pad(model: Model) -> Model:
    """The model as it was before `unpad`, in place; a model that was not unpadded stays as it is."""
    return _adapter("pad", model).pad(model)


def _adapter(who: str, model: Any) -> Any:
    if "transformers" in sys.modules:
        from regard.models.transformers import unpad as unpadding

        if unpadding.is_model(model):
            return unpadding
    raise DtypeError(f"{who}: need a model of transformers; got {type(model).__name__}; pass the model itself.")
