"""Whether a model computes its padding."""

from __future__ import annotations

from typing import Any, Literal

from regard.errors import DtypeError, UnsupportedError
from regard.models.unpad import unpad


def without_padding(model: Any, wanted: Literal["auto"] | bool) -> bool:
    """Unpad a model in place if that is wanted, and say whether it is now; `auto` wants it where its family allows.

    Raises:
        UnsupportedError: it is wanted, and not possible.
        DtypeError: likewise, of something that is no model of transformers.
    """
    if wanted is False:
        return False
    try:
        unpad(model, logits="labelled")  # from labels nothing is made but a loss
    except (UnsupportedError, DtypeError):
        if wanted is True:
            raise
        return False
    from regard.models.transformers_unpad import is_unpadded

    return is_unpadded(model)  # not where the head needs padding
