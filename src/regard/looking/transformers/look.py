"""Any model of transformers, shown one text, picture or sound: what it attends to while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from regard.errors import UnsupportedError
from regard.looking.looked import Looked
from regard.looking.pictures import PICTURES
from regard.looking.sounds import OTHER_SOUNDS, SOUNDS
from regard.looking.transformers.pictures import look_at_picture
from regard.looking.transformers.sounds import listen
from regard.looking.transformers.texts import read
from regard.looking.transformers.voices import is_speaker, look_for_frames


def look(model: Any, processor: Any, given: str, gradients: bool = False) -> Looked:
    """Shows a model a text, or the file of a picture or a sound.

    Args:
        model, processor: as `load` gives them.
        given: a text, or the path of a picture or of a WAV file.
        gradients: keep what `seen.relevance` needs: the most likely answer is differentiated.

    Raises:
        DataError: A file that does not decode, or is not there.
        UnsupportedError: No attention can be seen, or there is nothing to differentiate.
    """
    ending = Path(given).suffix.lower() if len(given) < 500 else ""
    if ending in PICTURES:
        return look_at_picture(model, processor, given, gradients)
    if ending in (*SOUNDS, *OTHER_SOUNDS):
        if gradients:
            raise UnsupportedError("relevance: need a text or a picture; got a sound; use --method rollout.")
        return listen(model, processor, given)
    if is_speaker(model):
        return look_for_frames(model, processor, given)
    return read(model, processor, given, gradients)
