"""Fonts for letters that Matplotlib's own lacks: found among those installed, and named where there is none."""

from __future__ import annotations

import os
import warnings
from functools import cache, lru_cache

from matplotlib import font_manager

from regard._language import script
from regard.errors import ConfigError

OWN = "DejaVu Sans"
FILE = "REGARD_FONT"
"""The environment's variable that names the file of a font, which then comes first behind Matplotlib's own."""
# What is installed of these comes first, so that all of a text is drawn by one font; others are looked through.
PREFERRED = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Source Han Sans SC",
    "PingFang SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Noto Sans Arabic",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
    "Noto Emoji",
    "Arial Unicode MS",
)
_CHINESE = ("Noto Sans CJK SC", "fonts-noto-cjk")
_TO_INSTALL = {"CJK": _CHINESE, "HIRAGANA": _CHINESE, "KATAKANA": _CHINESE, "HANGUL": _CHINESE}
"""Script -> a font that has it, and Debian's package of that."""


def families(first: str = OWN) -> list[str]:
    """The families to draw with, in order; those that were looked for and found are the last."""
    return [first, *_known(), *_FOUND]


_FOUND: list[str] = []
"""Families that had a letter which none of the preferred has."""


@lru_cache(maxsize=1)
def _known() -> list[str]:
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return [*_own_file(), *(name for name in PREFERRED if name in installed)]


def _own_file() -> list[str]:
    """The family of the font whose file is named."""
    path = os.environ.get(FILE)
    if not path:
        return []
    try:
        return [_added(path)]
    except (OSError, RuntimeError):
        raise ConfigError(f"{FILE}: need the file of a font (.ttf, .otf, .ttc); got '{path}'; correct it.") from None


def _added(path: str) -> str:
    """Make a font known to Matplotlib, and return its family."""
    listed = font_manager.fontManager.ttflist
    known = next((font.name for font in listed if font.fname == path), None)
    if known is None:
        font_manager.fontManager.addfont(path)
        known = listed[-1].name
    return known


@lru_cache(maxsize=65_536)
def has(sign: str) -> bool:
    """Tell whether a font is there that draws a sign; of letters, where there is none, say once which to install."""
    if any(ord(sign) in _signs(font_manager.findfont(family)) for family in families()):
        return True
    for path in _files():
        if ord(sign) in _signs(path):
            _FOUND.append(_added(path))
            return True
    if sign.isalpha():
        _tell(script(sign))
    return False


@lru_cache(maxsize=1)
def _files() -> list[str]:
    """The files of all fonts: Matplotlib keeps its list, and what was installed since is not in it."""
    listed = [font.fname for font in font_manager.fontManager.ttflist if "LastResort" not in font.fname]
    return list(dict.fromkeys([*listed, *sorted(font_manager.findSystemFonts())]))


@cache
def _signs(path: str) -> frozenset[int]:
    """The signs that the file of a font has."""
    try:
        return frozenset(font_manager.get_font(path).get_charmap())
    except (OSError, RuntimeError):  # one that is damaged, or gone since Matplotlib listed it
        return frozenset()


@cache
def _tell(name: str) -> None:
    letters = "Chinese" if name == "CJK" else name.title()
    font, package = _TO_INSTALL.get(name, (f"Noto Sans {letters}", "fonts-noto-core"))
    warnings.warn(
        f"plots: need a font with {letters} letters, such as {font}; got none installed; install one (Debian's "
        f"{package}), or name its file in {FILE}; boxes stand in their place.",
        stacklevel=2,
    )
