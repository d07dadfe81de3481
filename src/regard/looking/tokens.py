"""Tokens as a reader writes them: many vocabularies hold bytes, of which a Chinese character has three."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
"""How sentencepiece writes a byte of what its vocabulary lacks."""
_PART = re.compile(r"(.)\(([1-4])/[2-4]\)")
"""How a character is written that is parted over several tokens, with which of its parts a token has."""
_KEPT = [*range(33, 127), *range(161, 173), *range(174, 256)]
_ALPHABET = {chr(byte): byte for byte in _KEPT}
_ALPHABET |= {chr(256 + n): byte for n, byte in enumerate(sorted({*range(256)} - {*_KEPT}))}
"""The letters that GPT-2's byte pairs stand for bytes with -> the bytes."""
_SPACE = "\u0120"
"""A space among them: the mark of a token that begins a word."""


def readable(tokenizer: Any, ids: Iterable[int]) -> list[str]:
    """Return each token as characters, with its vocabulary's own marks of spaces and joins.

    A character that is parted over several tokens stands in each, with which of its parts that is: `猫(1/3)`. Some
    vocabularies are smaller than their models': what is beyond is its number.
    """
    numbers = list(ids)
    tokens = tokenizer.convert_ids_to_tokens(numbers)
    tokens = [f"[{number}]" if token is None else token for token, number in zip(tokens, numbers, strict=True)]
    added = {*tokenizer.get_added_vocab()} if hasattr(tokenizer, "get_added_vocab") else set()
    letters = _ALPHABET if _holds_bytes(tokenizer) else {}
    pieces = [_bytes_of(token, {} if token in added else letters) for token in tokens]
    found: list[str] = []
    for is_text, run in groupby(zip(tokens, pieces, strict=True), key=lambda pair: pair[1] is None):
        some = list(run)
        found += (
            [token for token, _ in some] if is_text else _decoded([piece for _, piece in some if piece is not None])
        )
    return [_marked(text, token, bool(letters)) for text, token in zip(found, tokens, strict=True)]


def is_rest(token: str) -> bool:
    """Tell whether a readable token begins with the rest of a character that the one before it holds a part of."""
    found = _PART.match(token)
    return found is not None and found[2] != "1"


def together(tokens: Sequence[str]) -> str:
    """Return readable tokens behind each other as one text: a character that they share stands there once."""
    return _PART.sub(lambda found: found[1] if found[2] == "1" else "", "".join(tokens))


def _holds_bytes(tokenizer: Any) -> bool:
    """Tell whether a vocabulary writes bytes as letters, as GPT-2's does."""
    decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
    return "ByteLevel(" in repr(decoder) or hasattr(tokenizer, "byte_decoder")


def _bytes_of(token: str, letters: dict[str, int]) -> bytes | None:
    """The bytes of a token; None for one that is a text already."""
    if byte := _BYTE.fullmatch(token):
        return bytes([int(byte[1], 16)])
    return bytes(letters[sign] for sign in token) if token and all(sign in letters for sign in token) else None


def _decoded(pieces: Sequence[bytes]) -> list[str]:
    """The characters of which each piece holds all or a part; bytes of none are written in hexadecimal."""
    whole = b"".join(pieces)
    owners = [number for number, piece in enumerate(pieces) for _ in piece]
    found, start = [""] * len(pieces), 0
    while start < len(whole):
        character, size = _first(whole[start : start + 4])
        holders = list(dict.fromkeys(owners[start : start + size]))
        for part, holder in enumerate(holders, start=1):
            found[holder] += character if len(holders) == 1 else f"{character}({part}/{len(holders)})"
        start += size
    return found


def _first(some: bytes) -> tuple[str, int]:
    """The first character of some bytes, and how many it has."""
    for size in range(1, len(some) + 1):
        try:
            return some[:size].decode(), size
        except UnicodeDecodeError:
            continue
    return f"\\x{some[0]:02x}", 1


def _marked(text: str, token: str, letters: bool) -> str:
    """A token of letters with the mark of its space; one that is nothing but spaces and line ends stays as it is."""
    if not letters or not text.strip():
        return text if text.strip() else token
    return _SPACE + text[1:] if text.startswith(" ") else text
