"""What a word and a sentence are, in whatever language a text is written.

Chinese, Japanese, Thai, Lao, Khmer, Burmese and Tibetan put no spaces between words: there, each character counts as a
word, with the marks that it bears. Everywhere else, a word is a run of letters, marks and digits. So every text has
words, several languages in one of them too, without a dictionary and without being told what it is written in.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice, pairwise
from typing import Any

SPACELESS = {
    "zh": "Chinese",
    "ja": "Japanese",
    "th": "Thai",
    "lo": "Lao",
    "km": "Khmer",
    "my": "Burmese",
    "bo": "Tibetan",
}
"""Languages without spaces between words."""
ENGLISH, KOREAN = "en", "ko"
_NAMES = {**SPACELESS, ENGLISH: "English", KOREAN: "Korean", "el": "Greek", "he": "Hebrew"}
_OWN_SCRIPTS = {
    "CJK": "zh",
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "THAI": "th",
    "LAO": "lo",
    "KHMER": "km",
    "MYANMAR": "my",
    "TIBETAN": "bo",
    "HANGUL": KOREAN,
    "GREEK": "el",
    "HEBREW": "he",
}
"""How names of letters begin -> the language that has these for itself, or nearly so."""
_SHARED_SCRIPTS = {"LATIN": "und-Latn", "CYRILLIC": "und-Cyrl", "ARABIC": "und-Arab", "DEVANAGARI": "und-Deva"}
"""Letters of many languages; which it is matters to nothing that is counted, but for English."""
UNKNOWN = "und"
CUT = "\ufffd"
"""What decoders write for a part of a character."""
_CODES = {
    **{"zho": "zh", "cmn": "zh", "yue": "zh", "chi": "zh", "cantonese": "zh", "mandarin": "zh", "jpn": "ja"},
    **{"tha": "th", "lao": "lo", "khm": "km", "mya": "my", "bur": "my", "myanmar": "my", "bod": "bo", "tib": "bo"},
    **{"kor": KOREAN, "eng": ENGLISH},
    **{name.lower(): code for code, name in _NAMES.items()},
}
"""Other names of languages that are treated otherwise than by their spaces."""
_OF_ENGLISH = {
    *("the", "and", "to", "for", "with", "that", "this", "are", "from", "by", "or", "an", "be", "on", "can"),
    *("it", "as", "not", "you", "which"),
}
"""Words that are frequent in English, and in no other language of Latin letters."""
_SHARE_OF_ENGLISH = 0.08
_SHARE_OF_KANA = 0.1  # of Japanese; what Chinese has are names
_SAMPLE = 5_000
"""Texts that are enough to know a language by."""

_SCRIPTS = "".join(rf"\p{{{n}}}" for n in ("Han", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan"))
_CHARACTER = rf"[[{_SCRIPTS}ー]&&[\p{{L}}\p{{N}}]]"
_WORD = rf"{_CHARACTER}\p{{M}}*|(?:(?!{_CHARACTER})[\p{{L}}\p{{N}}\p{{M}}])+"
_NEEDLESS = rf"(?<=[{_SCRIPTS}])\s+|\s+(?=[{_SCRIPTS}])"
_PIECE = re.compile(r"[（“]*(?:[⺀-鿿]|[^\s⺀-鿿（“，。；：、）”]+)[，。；：、）”]*\s*")
"""What no line ends in: a word, or a Chinese character, with the marks at it."""
_CLOSING = r"[”’\"')\]」』）》】〉›»]*"
SENTENCE_END = re.compile(
    rf"[。！？．｡]+{_CLOSING}\s*|[.!?…؟۔։।॥።]+{_CLOSING}\s+|[။།]+\s*|[។៕]+\s*"
    r"|(?<=[\u0e00-\u0eff])\s+(?=[\u0e00-\u0eff])|\s*\n\s*\n\s*"
)
"""What parts two sentences, the sign that ends the first included; in Thai and Lao a space does."""


@lru_cache(maxsize=16)
def _compiled(pattern: str) -> Any:
    import regex

    return regex.compile(pattern, regex.V1)


def words(text: str) -> list[str]:
    """Return the words of a text, as they are compared: in small letters and one way to write each (NFKC)."""
    return _compiled(_WORD).findall(unicodedata.normalize("NFKC", text).casefold())


def terms(text: str) -> list[str]:
    """Return what a bag of words holds: the words, and where characters count as words, each two neighbours too."""
    single = words(text)
    pairs = [one + other for one, other in pairwise(single) if is_spaceless(one[0]) and is_spaceless(other[0])]
    return single + pairs


def is_spaceless(sign: str) -> bool:
    """Tell whether a sign is a letter of a language without spaces between words."""
    return sign.isalnum() and _OWN_SCRIPTS.get(script(sign)) in SPACELESS


def begins_word(before: str, after: str) -> bool:
    """Tell whether a part of a text begins a word, behind another; either may end inside of a character, in `CUT`."""
    if not before or after.startswith(" "):
        return True
    if not after:
        return False
    return is_spaceless(after[0]) or (is_spaceless(before[-1]) and (after[0].isalnum() or after[0] == CUT))


def sentences(text: str) -> list[str]:
    """Return the sentences of a text."""
    starts = [0, *(found.end() for found in SENTENCE_END.finditer(text))]
    parts = (text[start:stop].strip() for start, stop in zip(starts, [*starts[1:], None], strict=True))
    return [part for part in parts if part]


def unspaced(text: str) -> str:
    """Return a text without spaces beside characters that have none between words."""
    return _compiled(_NEEDLESS).sub("", text)


def joined(parts: Iterable[str]) -> str:
    """Return parts of one text behind each other, with a space between them where there is one between words."""
    return unspaced(" ".join(parts))


def extent(text: str) -> int:
    """Return how much a text says, in letters: one of Chinese or of Japanese says as much as three of an alphabet."""
    return sum(3 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)


def width(text: str) -> int:
    """Return how many columns of a terminal a text takes: Chinese characters two each, marks on letters none."""
    return sum(
        0 if unicodedata.category(sign) in ("Mn", "Me") else 2 if unicodedata.east_asian_width(sign) in "WF" else 1
        for sign in text
    )


def wrap(text: str, columns: int) -> list[str]:
    """Part a text into lines of at most so many columns: between words, and between Chinese characters."""
    lines = [""]
    for piece in _PIECE.findall(text):
        if lines[-1] and width(lines[-1] + piece.rstrip()) > columns:
            lines.append("")
        lines[-1] += piece
    return [line.rstrip() for line in lines]


def found(texts: Iterable[str]) -> str:
    """Return the language that most words of some texts are of, by their letters.

    Returns:
        Its code, `und-Latn` and the like for letters of many languages, or `und`.
    """
    sample = [word for text in islice(texts, _SAMPLE) for word in words(text)]
    scripts = Counter(script(next((sign for sign in word if sign.isalpha()), "")) for word in sample)
    kana = scripts["HIRAGANA"] + scripts["KATAKANA"]
    known = {**_OWN_SCRIPTS, **_SHARED_SCRIPTS}
    if kana > _SHARE_OF_KANA * (kana + scripts["CJK"]):
        known["CJK"] = "ja"
    languages: Counter[str] = Counter()
    for name in scripts.keys() & known.keys():
        languages[known[name]] += scripts[name]
    most = max(languages, key=lambda language: (languages[language], language), default=UNKNOWN)
    english = sum(word in _OF_ENGLISH for word in sample)
    return ENGLISH if most == "und-Latn" and english >= _SHARE_OF_ENGLISH * languages[most] else most


@lru_cache(maxsize=65_536)
def script(sign: str) -> str:
    """Return how the names of a letter's script begin, such as CJK or LATIN; nothing of no sign."""
    return unicodedata.name(sign, "").split(" ")[0] if sign else ""


def code(name: str) -> str | None:
    """Return the code of a language by its code or its English name, `zh` for `zho_Hans` too; None if it is neither."""
    first = re.split(r"[-_]", name.strip().lower())[0]
    return _CODES.get(first) or (first if re.fullmatch(r"[a-z]{2,3}", first) else None)


def told(language: str) -> str:
    """Return a language as a sentence names it."""
    shared = next((name for name, tag in _SHARED_SCRIPTS.items() if tag == language), None)
    if shared:
        return f"a language in {shared.title()} letters"
    return f"{_NAMES[language]} ({language})" if language in _NAMES else f"the language '{language}'"
