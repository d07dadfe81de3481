"""A conversation as a chat model reads it: its turns in the text that the model's own template makes of them."""

from __future__ import annotations

import json
from typing import Any

from regard.errors import DataError, UnsupportedError

Turns = list[tuple[str, int, int]]


def messages_in(text: str) -> list[dict[str, str]] | None:
    """The messages of a conversation, a list of `{"role": ..., "content": ...}`, also under "messages"; else None."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    found = found.get("messages") if isinstance(found, dict) else found
    if not isinstance(found, list) or not found:
        return None
    return found if all(isinstance(each, dict) and "role" in each and "content" in each for each in found) else None


def rendered(processor: Any, messages: list[dict[str, str]], asks: bool) -> tuple[str, Turns]:
    """The text of a conversation, and where each turn's content stands in it; `asks`: it ends where a model answers.

    Raises:
        DataError: A turn is no text, or the template refuses the conversation.
        UnsupportedError: The tokenizer has no template.
    """
    tokenizer = getattr(processor, "tokenizer", processor)
    if not getattr(tokenizer, "chat_template", None):
        raise UnsupportedError(
            "explore: need a model with a chat template for a conversation; got one without; give it a text."
        )
    for number, each in enumerate(messages):
        if not isinstance(each["role"], str) or not isinstance(each["content"], str):
            raise DataError(
                f"explore: need texts as 'role' and 'content'; got others in message {number}; correct them."
            )
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=asks)
    except Exception as error:  # a template raises what it likes for roles that it does not know
        told = " ".join(str(error).split())[:120]
        raise DataError(
            f"explore: need a conversation that the model's chat template takes; got one that it refuses ({told}); "
            "correct its roles."
        ) from None
    turns, at = [], 0
    for each in messages:
        content = each["content"].strip()  # templates cut spaces off
        start = text.find(content, at) if content else -1
        if start >= 0:
            at = start + len(content)
            turns.append((each["role"], start, at))
    return text, turns
