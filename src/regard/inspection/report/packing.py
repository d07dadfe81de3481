"""Attention weights and tokens in the form in which the page carries them: few bytes, exact to a stated step."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np

from regard.errors import ShapeError
from regard.inspection.report.content import TokenAttention

MAX_TOKENS = 128  # more do not fit on a screen, token by token
MAX_BYTES = 4 * 2**20  # of one example's weights, one byte each
MAX_FINE_BYTES = 2**20  # up to which two bytes are spent on a weight


@dataclass(frozen=True)
class Piece:
    """A token as it is shown; `joined` where it continues the word before it, `special` for a tokeniser's mark."""

    text: str
    joined: bool = False
    special: bool = False


@dataclass(frozen=True)
class PackedAttention:
    """One example's weights for the page.

    `data` is base64 of a C-ordered (layers, heads, n, n) array, `format` either `"float16"` (little-endian) or
    `"uint8"` (weight times 255, rounded). Where tokens were pooled, `block` tokens make one row and column.
    """

    layers: int
    heads: int
    pieces: list[Piece]
    format: str
    data: str
    token_count: int
    block: int = 1
    not_finite: int = 0


def pieces(tokens: list[str]) -> list[Piece]:
    """Tokens without their tokeniser's marks for "a word starts" (`Ġ`, `▁`) or "a word goes on" (`##`)."""
    marks = ("Ġ", "▁")
    marked = any(token.startswith(marks) for token in tokens)
    shown: list[Piece] = []
    for position, token in enumerate(tokens):
        special = token.startswith(("[", "<")) and token.endswith(("]", ">")) and len(token) > 2
        if special:
            shown.append(Piece(token, special=True))
        elif token.startswith("##") and len(token) > 2:
            shown.append(Piece(token[2:], joined=position > 0))
        elif token.startswith(marks):
            shown.append(Piece(token[1:] or "␣"))
        else:
            before_is_special = position == 0 or tokens[position - 1].startswith(("[", "<"))
            shown.append(Piece(token or "␣", joined=marked and not before_is_special))
    return shown


def pool(weights: np.ndarray, block: int) -> np.ndarray:
    """Weights among blocks of `block` tokens: the mean over the block's queries, the sum over its keys.

    Rows keep their sum, so a row still says how one unit of attention is divided.
    """
    n = weights.shape[-1]
    starts = np.arange(0, n, block)
    sizes = np.diff(np.append(starts, n))
    rows = np.add.reduceat(weights, starts, axis=-2, dtype=np.float32) / sizes[:, None].astype(np.float32)
    return np.add.reduceat(rows, starts, axis=-1)


def _block_size(n: int, head_count: int) -> int:
    most = max(1, min(MAX_TOKENS, int((MAX_BYTES / max(1, head_count)) ** 0.5)))
    return -(-n // most)


def _block_text(block: list[Piece]) -> str:
    """The whole text of a short block, the first and last piece of a long one."""
    if len(block) > 3:
        return f"{block[0].text}…{block[-1].text}"
    return "".join(piece.text if piece.joined else f" {piece.text}" for piece in block).strip()


def _pool_pieces(shown: list[Piece], block: int) -> list[Piece]:
    blocks = [shown[start : start + block] for start in range(0, len(shown), block)]
    return [Piece(_block_text(part), joined=part[0].joined) for part in blocks]


def pack(attention: TokenAttention) -> PackedAttention:
    """`attention` in few bytes: two a weight where that is cheap, else one; pooled where the tokens are many.

    Raises:
        ShapeError: unless the weights are (layers, heads, n, n) with one row for each token.
    """
    weights, n = np.asarray(attention.weights), len(attention.tokens)
    if weights.ndim != 4 or weights.shape[2:] != (n, n) or 0 in weights.shape:
        raise ShapeError(
            f"write_report: need weights of shape (layers, heads, n, n) with n = {n}, the number of tokens; "
            f"got {weights.shape}; give every token one row and one column, without padding."
        )
    layers, heads = weights.shape[:2]
    finite = np.isfinite(weights)
    bad = int(weights.size - finite.sum())
    if bad:
        weights = np.where(finite, weights, 0)
    shown, block = pieces(list(attention.tokens)), _block_size(n, layers * heads)
    if block > 1:
        weights, shown = pool(weights, block), _pool_pieces(shown, block)
    fine = 2 * weights.size <= MAX_FINE_BYTES
    packed = weights.astype("<f2") if fine else np.rint(np.clip(weights, 0, 1) * 255).astype(np.uint8)
    return PackedAttention(
        layers=layers,
        heads=heads,
        pieces=shown,
        format="float16" if fine else "uint8",
        data=base64.b64encode(np.ascontiguousarray(packed).tobytes()).decode("ascii"),
        token_count=n,
        block=block,
        not_finite=bad,
    )
